"""Codes of what a device is (E450-E459)."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E450": Explanation(
        "A device cannot be probed",
        "The commands that find out what a device is did not run to their end; the message holds "
        "what it said instead. Log in by hand and see whether its login shell runs `sh`.",
    ),
    "E451": Explanation(
        "The device is another kind of machine than the target",
        "The artifacts of a target run on its system and architecture alone. Name the right board "
        "in devices.yaml, or choose a target that fits: `edgedeploy targets list`.",
    ),
    "E452": Explanation(
        "The device's processor lacks what the target promises",
        "The target's board names processor features (or a vendor) that this processor does not "
        "have, so artifacts may crash or be slow there. Name the right board in devices.yaml.",
    ),
    "E453": Explanation(
        "The device has less memory than the target promises",
        "The target's board names its memory, and the device has under 85 % of it. Name the right "
        "board in devices.yaml, or write a board file with the memory that it has.",
    ),
}
