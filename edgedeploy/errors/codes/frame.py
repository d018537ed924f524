"""E380-E399: how a worker can end."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E382": Explanation(
        "A stage needs more memory than its limit",
        "Every stage runs under a memory limit that grows with the size of its inputs, so that a "
        "hostile or broken model cannot take the machine down. Look for constants that expand to "
        "huge shapes (ConstantOfShape, Expand, Tile) and for a batch dimension that is bound too "
        "large.",
    ),
    "E383": Explanation(
        "A worker crashed",
        "The process that ran a stage ended without a result: a converter crashed (SIGSEGV, "
        "SIGABRT), or something killed it. The message has the signal and what the worker said "
        "last; --debug shows more of its log. SIGKILL often means that the system ran out of "
        "memory: free some, or build with -j 1. The other targets and the store are unharmed.",
    ),
    "E384": Explanation(
        "A stage used more CPU time than its limit",
        "The stage was stopped after the CPU time it may use. Converters run that long on a model "
        "that makes them loop; simplify the part that it was working on, or report it.",
    ),
    "E385": Explanation(
        "A stage wrote a file larger than its limit",
        "The largest file that a stage may write grows with the size of its inputs. A converter "
        "that unrolls a loop or copies shared weights can exceed it. Look for repeated weights or "
        "a loop with a huge trip count in the model.",
    ),
    "E386": Explanation(
        "A stage did not end in time",
        "The stage was stopped after its deadline; it, and all that it started, was ended. The "
        "converter hangs, or waits for something that never comes. Build again; if it hangs again, "
        "report it with the output of `edgedeploy inspect` for the model.",
    ),
    "E387": Explanation(
        "A stage wrote what cannot be kept",
        "The result of a stage must be plain files and folders with UTF-8 names. A link, a pipe, a "
        "hard link to a file elsewhere or far too many files cannot be kept and shipped. This "
        "comes from a plug-in or a user function: let it copy what it links.",
    ),
    "E388": Explanation(
        "An input keeps changing",
        "A file of the project changed while a stage was reading it, several times in a row, so no "
        "result can be said to come from it. Wait until the program that writes it has finished, "
        "or build from a copy.",
    ),
    "E389": Explanation(
        "Not built because of --fail-fast",
        "Another target failed first, and `--fail-fast` says to start nothing new after that. "
        "Build without it to see everything that fails in one run.",
    ),
}
