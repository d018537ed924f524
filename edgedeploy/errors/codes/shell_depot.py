"""E480-E481: depots on devices without Python."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E480": Explanation(
        "The device lacks a tool",
        "The device has no Python 3.6, so a shell program keeps its depot, and that needs small "
        "tools as busybox has them; the message names the one that is missing. Install it, or "
        "Python, on the device. Some busybox builds leave out flock: util-linux has it too.",
    ),
    "E481": Explanation(
        "The device cannot switch versions in one step",
        "A version is activated by renaming a link over another. The device's mv was tried on two "
        "links and did something else, so a power cut could leave nothing active. Install the mv "
        "of busybox, toybox or coreutils, or Python 3.6 or newer, on the device.",
    ),
}
