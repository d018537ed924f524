"""The lab: makes devices by name, and removes what it made.

What exists is written below :data:`lab.place.RUN`: a folder for each device, whose number names
everything of it. A folder belongs to the process that holds its lock; one whose owner is gone is
swept by the next lab, unless `make lab-up` meant it to stay.
"""

import fcntl
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tests.lab import emulation
from tests.lab.device import BOARDS, Facts, LabDevice, demolish
from tests.lab.images import PACKAGES, image
from tests.lab.network import MOST_DEVICES, Network, check_free
from tests.lab.place import RUN, LabError, locked
from tests.lab.sshd import make_key
from tests.lab.wheels import runtime_layer

DISK_BYTES = 512 << 20
"""Size of a device's disk unless it is told otherwise."""


class Lab:
    """Devices of one process. Use it in a `with` block, or :meth:`close` it."""

    def __init__(self, *, persistent: bool = False) -> None:
        """Remove what labs that were killed have left; make nothing yet.

        Args:
            persistent: Whether devices stay when this process ends, until `lab-down`.

        Raises:
            LabError: This is not root.
        """
        if os.geteuid() != 0:
            raise LabError("the lab needs root: it makes namespaces and mounts")
        self.persistent = persistent
        self.devices: dict[str, LabDevice] = {}
        self._owned: list[IO[str]] = []
        RUN.mkdir(mode=0o755, exist_ok=True)
        with locked(RUN / "lock"):
            sweep()

    def __enter__(self) -> "Lab":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def device(
        self,
        image_name: str,
        *,
        name: str | None = None,
        runtime: bool = False,
        cpu: str = "cortex-a72",
        disk_bytes: int = DISK_BYTES,
    ) -> LabDevice:
        """Make a device and return it when its SSH server answers.

        Args:
            image_name: `<arm64|amd64>-<python|minimal>`.
            name: Its name; that of the image when None.
            runtime: Whether its Python has ONNX Runtime.
            cpu: CPU model that an emulated device has, a key of :data:`lab.emulation.CPUS`.
            disk_bytes: Size of its disk.

        Raises:
            LabError: It cannot be made; then nothing of it is left.
        """
        architecture, _, kind = image_name.partition("-")
        if architecture not in BOARDS or kind not in PACKAGES:
            raise LabError(f"{image_name}: an image is <{'|'.join(BOARDS)}>-<{'|'.join(PACKAGES)}>")
        name = name or image_name
        if name in self.devices:
            raise LabError(f"there is a device {name} already")
        native = emulation.is_native(architecture)
        if not native and architecture != "arm64":
            raise LabError(f"the lab emulates arm64 alone; {image_name} needs another processor")
        layers = [image(architecture, kind)]
        if runtime:
            layers.insert(0, runtime_layer(architecture, layers[0]))
        facts = Facts(
            architecture=architecture,
            kind=kind,
            emulated=not native,
            cpu=None if native else cpu,
            disk_bytes=disk_bytes,
        )
        if facts.cpu is not None and facts.cpu not in emulation.CPUS:
            raise LabError(f"{cpu}: a CPU model is one of {', '.join(emulation.CPUS)}")
        number, folder = self._claim(name, emulated=facts.emulated)
        key = folder / "client_key"
        made = LabDevice(
            name=name,
            folder=folder,
            layers=tuple(layers),
            network=Network(number),
            facts=facts,
            key=key,
            persistent=self.persistent,
        )
        try:
            make_key(key)
            made.make()
        except BaseException:
            self._remove(made)
            raise
        self.devices[name] = made
        return made

    def remove(self, device: LabDevice) -> None:
        """Remove one device."""
        del self.devices[device.name]
        self._remove(device)

    def close(self) -> None:
        """Remove every device of this lab; those of a persistent lab stay."""
        if not self.persistent:
            for device in list(self.devices.values()):
                self.remove(device)
        for file in self._owned:
            file.close()
        self._owned.clear()
        with locked(RUN / "lock"):
            _leave()

    def _claim(self, name: str, *, emulated: bool) -> tuple[int, Path]:
        """Take the lowest free number; return it and the device's new folder."""
        with locked(RUN / "lock"):
            if emulated:
                emulation.register()
            taken = {path.name for path in RUN.glob("device-*")}
            number = next(n for n in range(MOST_DEVICES) if f"device-{n}" not in taken)
            check_free(number)
            folder = RUN / f"device-{number}"
            folder.mkdir(mode=0o755)
            if self.persistent:
                (folder / "persistent").write_text(name)
            owner = open(folder / "owner", "w")  # noqa: SIM115 - its lock says that we live
            fcntl.flock(owner, fcntl.LOCK_EX)
            self._owned.append(owner)
        return number, folder

    def _remove(self, device: LabDevice) -> None:
        with locked(RUN / "lock"):
            device.demolish()


def devices_there() -> list[tuple[int, Path]]:
    """Return number and folder of every device on this machine, whoever made it."""
    found = [(int(path.name.removeprefix("device-")), path) for path in RUN.glob("device-*")]
    return sorted(found)


def sweep() -> None:
    """Remove devices that should have ended with their owner. Call it under the lab's lock."""
    for number, folder in devices_there():
        if not (folder / "persistent").exists() and _abandoned(folder):
            demolish(folder, Network(number))


def tear_down(names: Sequence[str] = ()) -> int:
    """Remove devices of persistent labs, and abandoned ones; return how many.

    Args:
        names: Of devices; all when empty.
    """
    if not RUN.exists():
        return 0
    removed = 0
    with locked(RUN / "lock"):
        sweep()
        for number, folder in devices_there():
            mark = folder / "persistent"
            if mark.exists() and (not names or mark.read_text() in names) and _abandoned(folder):
                demolish(folder, Network(number))
                removed += 1
        _leave()
    return removed


def _abandoned(folder: Path) -> bool:
    """Return whether the process that made a device has ended."""
    with open(folder / "owner", "a") as owner:
        try:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _leave() -> None:
    """Undo what was done to the machine as a whole when the last device is gone."""
    if not devices_there():
        emulation.unregister()
        shutil.rmtree(RUN, ignore_errors=True)
