"""Codes of runtimes on devices and of provisioning (E460-E469), and of its tools (E510-E511)."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E460": Explanation(
        "A device has no runtime",
        "Neither was the runtime of the target put on the device, nor can the device's own Python "
        "import it. `edgedeploy devices provision` puts it there; the device needs no internet. If "
        "the runtime is in another Python, say so in devices.yaml with `python:`.",
    ),
    "E461": Explanation(
        "A device does not say what it is",
        "The commands that ask for the architecture, the C library, Python or the runtimes gave no "
        "usable answer. Most often the login shell prints or asks something; the message holds "
        "the end of what came back.",
    ),
    "E462": Explanation(
        "The runtime on a device is too old or too new",
        "The device's own package lies outside the versions that the target allows; an artifact "
        "may not load there or compute something else. `edgedeploy devices provision` puts "
        "another one beside it and leaves the device's own alone.",
    ),
    "E463": Explanation(
        "A provisioned runtime does not load",
        "The files are on the device, but the check that loads them failed: the system was "
        "updated to another Python, a library is missing, or the CPU lacks an instruction. The "
        "message says what the device said; provision it again, or choose an older --version.",
    ),
}
