"""Codes of the depot on a device: E420-E434, and E720-E729 for what is not its digest there."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E420": Explanation(
        "The device's answer is none",
        "What came back is not what the program that edgedeploy runs on the device says, or that "
        "program ended in the middle: it was killed, ran out of memory, or something on the device "
        "prints into the conversation. The message holds the end of what it said. Nothing is "
        "concluded from such an answer; run the same command again, and `devices fsck` if it fails "
        "again.",
    ),
    "E421": Explanation(
        "Another run holds the depot's lock",
        "Only one run at a time changes an application's depot on a device. The message says who "
        "holds the lock and since when, by the device's clock. It is free as soon as that run "
        "ends, and at most 30 s after its connection is lost.",
    ),
    "E422": Explanation(
        "The depot's lock is not held any more",
        "The device heard nothing from this run for 30 s, so it gave up the lock, reverted a trial "
        "that was running, and changes nothing more for it. That happens when this machine slept "
        "or the link was cut; run the same command again.",
    ),
    "E423": Explanation(
        "The device's disk is full",
        "The file system of the depot has no room for what was to be written; the message says how "
        "much is needed and how much is free. What was active stays active. Free space there, or "
        "put the depot on a larger disk with `root:` in devices.yaml; bytes that arrived are not "
        "sent again.",
    ),
    "E424": Explanation(
        "The device's file system refuses",
        "It is read-only, over quota, has no hard links or locks, or reports an error of the disk; "
        "the message holds the file and the system's own words. What could not be made durable "
        "counts as not written. Look at the device's kernel log and mount options.",
    ),
    "E425": Explanation(
        "The version is not on the device",
        "The depot holds no complete version of that name; it was never pushed there, was removed, "
        "or is damaged. Push it first; a push sends only what is missing.",
    ),
    "E426": Explanation(
        "No version is on trial",
        "The trial of the activated version had ended before it was confirmed, so the device "
        "switched back to the version before. Activate it again.",
    ),
    "E427": Explanation(
        "There is nothing to roll back to",
        "No version was active before the current one, or that version is not complete any more. "
        "Nothing was changed; push and activate the version that you want.",
    ),
    "E428": Explanation(
        "The device's Python does not run",
        "The interpreter that devices.yaml names with `python:` could not be started or is older "
        "than 3.6; the message holds what was said. Correct the path, or leave it out: then a "
        "usable Python is looked for, and a device without one is served through its shell.",
    ),
    "E429": Explanation(
        "The folder on the device is no depot",
        "It, or a name in it, is something else than edgedeploy makes there, or was made by "
        "another version of edgedeploy. It is left as it is. Name another folder with `root:` in "
        "devices.yaml, or move what is there away.",
    ),
    "E430": Explanation(
        "The depot is not this user's alone",
        "Its folder belongs to another user, or others may write to it: they could replace what "
        "this device runs. Log in as its owner, or take the right to write away from group and "
        "others.",
    ),
    "E431": Explanation(
        "The device did not understand a request",
        "Both ends come from the same edgedeploy, so this is a fault of it: please report it with "
        "the message. Nothing was changed by the request.",
    ),
    "E432": Explanation(
        "An incoming stream is not as long as it was",
        "Bytes that had arrived for this push are gone; another run may have used or removed them. "
        "Run the same command again: it asks the device what is there.",
    ),
    "E433": Explanation(
        "A part that the device should have is missing",
        "An object or bytes that a new object or version is made of are not on the device any "
        "more, because a check or a clean-up removed them meanwhile. Run the same command again; "
        "it sends what is missing.",
    ),
    "E434": Explanation(
        "A version's manifest is refused",
        "It lists a file outside the version, the same path twice, a name with control characters, "
        "or is no manifest at all; the message says which. Devices make no such version, whoever "
        "asks.",
    ),
    "E720": Explanation(
        "A file on the device is not what its digest says",
        "Bytes were changed on the way or on the device's disk. They are not used: a new object is "
        "discarded, and what was found damaged is removed, so that the same command sends it "
        "again. If it fails again, test the device's disk and memory; `devices fsck --repair` "
        "checks all.",
    ),
}
