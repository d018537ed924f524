"""A device that is none: a folder on this machine, for dry runs of one's own set-up.

What is pushed really lands there, and every command really runs, here. Nothing measured on it says
anything about a device; ``pretended`` tells everybody.
"""

from __future__ import annotations

import os
from pathlib import Path

from edgedeploy.devices.inventory import Device
from edgedeploy.devices.local import LocalRemote
from edgedeploy.errors import DeviceError


class FakeRemote(LocalRemote):
    """A pretended device.

    Args:
        device: Of kind ``fake``.

    Raises:
        DeviceError: Its folder cannot be made (E407).
    """

    def __init__(self, device: Device) -> None:
        home = fake_home(device.name)
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise DeviceError(
                f"cannot make the folder of the fake device {device.name}: {error.strerror}",
                code="E407",
                subject=str(home),
                hint="make its parent writable, or set XDG_CACHE_HOME to a folder that is",
            ) from error
        super().__init__(device.name, home=home)

    @property
    def pretended(self) -> bool:
        """Nothing here is a device."""
        return True


def fake_home(name: str) -> Path:
    """Return the home folder of a fake device, below the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says that a relative value is to be ignored.
    root = Path(base) if base.startswith("/") else Path.home() / ".cache"
    return root / "edgedeploy" / "fake" / name
