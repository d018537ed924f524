"""Codes of running artifacts on devices: bench and parity there (E470-E479)."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E470": Explanation(
        "The runtime died on the device",
        "The process that ran the artifact there was ended by the signal that the message names. "
        "SIGKILL mostly means that the device ran out of memory, SIGILL that the runtime uses an "
        "instruction that the CPU lacks, SIGSEGV and SIGABRT a fault of the runtime or of the "
        "artifact. Other models go on, and the active version is untouched. Give the device more "
        "memory, or try another scheme or another version of the runtime.",
    ),
    "E471": Explanation(
        "The runtime on the device refuses the artifact or its inputs",
        "Loading or running the artifact raised the runtime's own error, which the message "
        "repeats. The usual causes are a runtime that is older than the target says, a CPU of "
        "another kind, and an artifact optimised for another one. `edgedeploy devices probe` shows "
        "what the device is and has.",
    ),
    "E472": Explanation(
        "A run on the device did not end in time",
        "The run was ended at its deadline, and its process with it. Either the runtime hangs, or "
        "the model is so slow there that the least time and count of the mode cannot be reached. "
        "Use the mode `quick`.",
    ),
    "E473": Explanation(
        "A run on the device left no result",
        "The process ended without a signal and wrote nothing. The usual causes are a full disk "
        "and a Python without NumPy. The message repeats the last line that it printed.",
    ),
    "E474": Explanation(
        "The device sent a result that cannot be",
        "Fields are missing or of another type, figures are out of range or contradict each other, "
        "or outputs have other shapes and sizes than they say. Nothing of it was used or kept. See "
        "what runs on the device under the runtime's name.",
    ),
    "E475": Explanation(
        "The runtime cannot be started on the device",
        "The program or its package is not there, is made for another processor or C library, or "
        "may not be run. `edgedeploy devices provision` installs one that fits.",
    ),
    "E476": Explanation(
        "No folder for a run can be made on the device",
        "Each run uses a folder of its own below the device's `root`, and removes it. Check `root` "
        "in devices.yaml, its permissions and the free space.",
    ),
    "E477": Explanation(
        "The device is not the board that it is said to be",
        "Its processor has another architecture than the board that devices.yaml gives it. Figures "
        "from it would be taken for that board's. Correct `board:` of the device.",
    ),
    "E478": Explanation(
        "The profile has nothing for the device",
        "`bench -d` measures the targets of the profile whose board is the device's, as `board:` "
        "in devices.yaml says. Set it, or add a target for that board to the profile.",
    ),
}
