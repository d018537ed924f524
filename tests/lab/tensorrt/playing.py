"""Devices that play machines with TensorRT: one of the lab, or this machine's own SSH server."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.lab.device import LabDevice
from tests.lab.lab import Lab
from tests.lab.place import LabError
from tests.lab.tensorrt.machines import INSTALLED, Machine, install, write_program

UNAME = ("usr/bin/uname", "bin/uname")


def lab_device(
    lab: Lab, machine: Machine, name: str, image: str = "amd64-python", **changes: object
) -> LabDevice:
    """Return a new device of the lab that plays a machine.

    Args:
        lab: Makes it.
        machine: Which to play.
        name: The device's.
        image: Of this machine's own architecture, so that nothing is emulated.
        changes: As for :meth:`Machine.settings`.
    """
    device = lab.device(image, name=name)
    try:
        _play(device, machine, **changes)
    except BaseException:
        lab.remove(device)
        raise
    return device


def _play(device: LabDevice, machine: Machine, **changes: object) -> None:
    root = device.root
    install(machine, root, **changes)
    goal = next(path for path in map(root.joinpath, UNAME) if path.is_symlink() or path.exists())
    real = "busybox uname"
    if machine.jetson and device.facts.kind == "minimal":
        raise LabError("busybox's shell has its own uname: its device plays servers alone")
    if device.facts.kind != "minimal":
        real = f"/{INSTALLED}/uname"
        shutil.copy2(goal, root / INSTALLED / "uname")
    write_program("uname", goal, f"/{INSTALLED}", UNAME=real)
    if machine.jetson:
        # A procfs cannot have /proc/device-tree, a link to what is below; probes look at both.
        device.show_folder(root / INSTALLED / "firmware", "/sys/firmware")


def server_lines(machine: Machine, folder: Path, home: Path, **changes: object) -> tuple[str, ...]:
    """Return lines of sshd_config by which a server of :mod:`tests.lab.sshd` plays a machine.

    Args:
        machine: A server: files of a Jetson lie where only root writes.
        folder: For the stand-ins, new.
        home: The server's home folder; only the first ``SetEnv`` of a configuration counts.
        changes: As for :meth:`Machine.settings`.
    """
    programs = install(machine, folder, str(folder), **changes)
    path = f"{programs}:{folder}/usr/bin:/usr/local/bin:/usr/bin:/bin"
    return (f"SetEnv HOME={home} PATH={path}",)
