"""E600-E699: the store and the local disk."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E600": Explanation(
        "The store failed",
        "The folder in which results are kept could not be used, and nothing more exact is known. "
        "Set EDGEDEPLOY_STORE to a folder of your own on a local disk and try again.",
    ),
    "E601": Explanation(
        "The disk is full",
        "The disk (or your quota on it) has no room for a result or for a worker's files. Nothing "
        "unfinished became visible and the store is unharmed: free space, for example with "
        "`edgedeploy cache gc`, or set EDGEDEPLOY_STORE to a folder on a bigger disk, and run the "
        "same command again.",
    ),
    "E602": Explanation(
        "The disk refuses",
        "A file or folder could not be read or written; the message has the system's reason, such "
        "as missing permission, a read-only file system or an input/output error. Check the path "
        "that is named and the disk's health. The store is unharmed: a result is visible only "
        "when all of it is on disk.",
    ),
    "E603": Explanation(
        "The store's file system cannot lock files",
        "Builds that share a store keep out of each other's way by file locks (flock). Some "
        "network and user-space file systems have none, or grant the same lock twice. Set "
        "EDGEDEPLOY_STORE to a folder on a local disk.",
    ),
    "E604": Explanation(
        "The store belongs to another user or others may write to it",
        "Whoever can write to the store can put another result in the place of a right one. So "
        "the folder must be yours and writable by you alone. Set EDGEDEPLOY_STORE to a folder of "
        "your own, or `chmod 700` this one when you are sure of what is in it.",
    ),
    "E605": Explanation(
        "The folder is no store of this version",
        "EDGEDEPLOY_STORE names a folder that holds something else, or a store of a format that "
        "this edgedeploy does not read. Such a folder is left alone. Name an empty or a new "
        "folder, or move the old one away: a store can always be built anew.",
    ),
    "E606": Explanation(
        "A build is using the store",
        "Cleaning and repairing need the store for themselves, so that no result is removed while "
        "a build reads it. Run the command again when no build is running.",
    ),
    "E607": Explanation(
        "The events cannot be written",
        "The file given to --events could not be opened or written; the message has the system's "
        "reason. Give another file, or free space.",
    ),
}
