"""Real power cuts without real power: an ext4 file system in a file, and its shutdown command.

After EXT4_IOC_SHUTDOWN nothing more reaches the disk. Unmounted and mounted again, the file system
replays its journal exactly as after a power cut.
"""

import fcntl
import os
import struct
from pathlib import Path

from tests.lab.place import call

_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32), fs/ext4/ext4.h

LOSE_JOURNAL_TAIL = 2
"""Nothing that was not synced survives: EXT4_GOING_FLAGS_NOLOGFLUSH."""

FLUSH_JOURNAL = 1
"""Renames and lengths survive, data that was not synced does not: EXT4_GOING_FLAGS_LOGFLUSH."""


class PowerCutDisk:
    """An ext4 file system whose power can be cut. Needs root, loop devices and ext4.

    Attributes:
        folder: Where it is mounted.
    """

    def __init__(self, folder: Path, size_bytes: int = 64 << 20) -> None:
        """Make and mount it.

        Args:
            folder: For its files, made if need be.
            size_bytes: Of the file system.

        Raises:
            LabError: The machine cannot do that.
        """
        self.folder, self._image = folder / "mounted", folder / "disk.ext4"
        self.folder.mkdir(parents=True)
        with open(self._image, "wb") as file:
            file.truncate(size_bytes)
        call(["mke2fs", "-q", "-t", "ext4", "-F", self._image])
        self._mount()

    def __enter__(self) -> "PowerCutDisk":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def cut(self, how: int = LOSE_JOURNAL_TAIL) -> None:
        """Cut the power; from now on every write fails, until :meth:`start`.

        Args:
            how: :data:`LOSE_JOURNAL_TAIL` or :data:`FLUSH_JOURNAL`.
        """
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, _SHUTDOWN, struct.pack("I", how))
        finally:
            os.close(handle)

    def start(self) -> None:
        """Power on: mount it again, which replays the journal. Nobody may have files of it open."""
        call(["umount", self.folder])
        self._mount()

    def close(self) -> None:
        """Unmount it; allowed twice."""
        if self.folder.is_mount():
            call(["umount", self.folder])

    def _mount(self) -> None:
        call(["mount", "-o", "loop,data=ordered", self._image, self.folder])
