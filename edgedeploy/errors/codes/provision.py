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
    "E464": Explanation(
        "There is no runtime for such a device",
        "No wheel exists for the device's processor, C library and Python together, or the native "
        "runner is not made for it. Runtimes come as wheels for glibc on x86-64 and 64-bit Arm, "
        "for the Pythons of their time: an older Python gets an older runtime. musl (Alpine, "
        "OpenWrt) and 32-bit Arm have none; such a device needs another system image, or a "
        "runtime that you build yourself, in a Python that devices.yaml names.",
    ),
    "E465": Explanation(
        "Targets do not allow this version of a runtime",
        "The runtime's target file states the versions that artifacts are made for; --version "
        "lies outside. Choose one inside; without the option the newest that fits is taken.",
    ),
    "E466": Explanation(
        "A runtime cannot be made ready on the device",
        "It arrived, but unpacking the wheels or making the runner executable failed; the message "
        "says what the device said. Mostly the disk is full, or the folder lies on a file system "
        "without permissions. Make room or change `root:` in devices.yaml, and run it again: what "
        "arrived is not sent a second time.",
    ),
    "E468": Explanation(
        "The native runner cannot do this",
        "It runs tensors of numbers on the CPU with ONNX Runtime: no text inputs, no other "
        "execution providers, no OpenVINO. Where the device has a Python, provision the runtime "
        "for it without --native.",
    ),
    "E510": Explanation(
        "pip cannot fetch a runtime",
        "pip chooses and downloads the wheels for a device on this machine. It is missing here, or "
        "reaches no package index: the message holds what it said. Behind a proxy or without "
        "internet, configure pip as usual (PIP_INDEX_URL, PIP_FIND_LINKS); edgedeploy adds no "
        "index of its own.",
    ),
    "E511": Explanation(
        "No C compiler can make the native runner",
        "A device without Python gets a small program, compiled here for its processor. The extra "
        "`native` installs a compiler that can do so for every device; a cross compiler of your "
        "system, or its own for a device of the same kind, does as well when what it makes runs "
        "with the device's glibc.",
    ),
}
