"""Codes of pushing a version to a device (E435-E442)."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E435": Explanation(
        "A version's manifest is not one",
        "The manifest that lists a version's models and files is malformed or unsafe: a path that "
        "leads out of the version, two names that one file system may take for the same, sizes "
        "that do not add up, or fields that do not belong there. Nothing of it is used. Remove "
        "that version from the device with `edgedeploy devices fsck --repair` and push again.",
    ),
    "E436": Explanation(
        "A version's manifest is of another schema",
        "The version was pushed by another release of edgedeploy, whose manifests this one cannot "
        "read. Use that release, or push the version again with this one.",
    ),
    "E437": Explanation(
        "A file became shorter while it was pushed",
        "Something wrote to the build folder or the store during the push. What arrived is not "
        "used. Build again, then push.",
    ),
    "E438": Explanation(
        "The profile is not built as it stands",
        "A push takes what the last build of the profile published, and runs no stage. There is no "
        "such build, or something it depends on changed since: the profile, the model, data, a "
        "tool, or edgedeploy itself. The message names the first stage that would have to run. Run "
        "`edgedeploy build` with the same options (`--set`, `-t`, `-o`) and push again.",
    ),
    "E439": Explanation(
        "A refused artifact is not pushed",
        "A gate of the profile refused the artifact in the last build. `edgedeploy accept` lists "
        "the gates. There is no option to push it all the same: change the model, or the gate.",
    ),
    "E440": Explanation(
        "Several targets fit the device's board",
        "The profile builds for more than one runtime on this board, and a version holds one of "
        "them. Choose with -t, such as `-t rpi5/ort`.",
    ),
    "E441": Explanation(
        "Nothing was built for this device's board",
        "Every device in devices.yaml says which `board:` it is, and a version goes only to the "
        "board that it was built for. Either the device says none, or the profile has no target "
        "for it. Correct devices.yaml, or add the target to the profile and build.",
    ),
    "E442": Explanation(
        "A file of the profile cannot be pushed",
        "A path under `files:` is missing or cannot be read, leads out of the profile's folder, or "
        "has a name that some file system mixes up with another; or a model is called `files` or "
        "`golden`, which are folders of a version. Rename it or correct the profile.",
    ),
}
