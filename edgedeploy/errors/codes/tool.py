"""E500-E599: tools, runtimes and packages that are missing or too old."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E500": Explanation(
        "A tool is missing or unfit",
        "Something that a target needs is not installed or is of a version outside its range. The "
        "message names it; `edgedeploy doctor` lists what is there and what is wanted.",
    ),
    "E501": Explanation(
        "A Python package is not installed",
        "A stage needs a package that this Python does not have. Install it with the command that "
        "the message shows, or remove the target that needs it from the profile.",
    ),
    "E502": Explanation(
        "A worker cannot be started",
        "Every stage runs in a process of its own, started with this Python or with the one that "
        "the target names. The system refused to start it: the program is not there or may not be "
        "run, or the limit of processes or memory is reached. Check the path, or close what else "
        "is running.",
    ),
}
