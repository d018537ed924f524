"""E770-E779: deltas between releases."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E770": Explanation(
        "A delta cannot be applied",
        "The file is no delta of this edgedeploy, is damaged or cut off, or makes something else "
        "than the bundle whose digest it names. Nothing was written. Get it again from where it "
        "was published, or get the new bundle whole.",
    ),
    "E771": Explanation(
        "A delta was made from another bundle",
        "A delta turns the bytes of one bundle into those of another, and the bundle that was "
        "given is not that one: another version, one that was signed again, or a damaged file. "
        "Nothing was written. Give the bundle of the version that is named, as it was published.",
    ),
    "E773": Explanation(
        "zstandard is not installed",
        "Deltas are compressed by zstd unless told otherwise, and Python before 3.14 has none of "
        "its own. Install edgedeploy[zstd] where deltas are made and applied; or make them with "
        "`--delta-codec lzma`, which needs nothing beside Python and is a little larger.",
    ),
    "E774": Explanation(
        "A bundle cannot be the base of a delta",
        "A delta leads from one version of a release to another. The bundle given with "
        "`--delta-from` is of another name, or of the version that is released now. Give the "
        "bundle of an earlier version of the same profile.",
    ),
}
