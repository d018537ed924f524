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
}
