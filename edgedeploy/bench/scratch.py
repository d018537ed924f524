"""A private folder on a device for one run: made, filled, read and removed whatever happens."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import Self

from edgedeploy.errors import DeviceError
from edgedeploy.remote import Remote, get_file, printable, put_file

_REMOVING_S = 20.0
_INTERRUPTED_S = 4.0
_PATH = 4096


class Scratch:
    """A new folder below ``place`` on a device; use as a context manager.

    What an earlier run left behind when its connection broke is removed after a day.

    Args:
        remote: The device.
        place: Folder in which to make it, absolute or below ``~/``; made when missing, 0700.
    """

    def __init__(self, remote: Remote, place: str) -> None:
        self._remote = remote
        self._place = place
        self._name = f"run-{os.urandom(8).hex()}"
        self.path = ""
        """Absolute path of the folder."""

    def __enter__(self) -> Self:
        home = '"$HOME"/' if self._place.startswith("~/") else ""
        place = home + quote(self._place.removeprefix("~/") if home else self._place)
        finished = self._remote.run(
            f"umask 077 && mkdir -p {place} && cd {place} && {{ "
            "find . -mindepth 1 -maxdepth 1 -name 'run-*' -mtime +0 -exec rm -rf {} + 2>/dev/null; "
            f'mkdir {self._name} && cd {self._name} && printf "\\n%s\\n" "$(pwd -P)"; }}'
        )
        # A login shell may print before it; the name, made just now, tells the line.
        for line in printable(finished.stdout).splitlines():
            if line.startswith("/") and line.endswith(f"/{self._name}") and len(line) < _PATH:
                self.path = line
        if finished.status != 0 or not self.path:
            said = printable(finished.stderr).strip()[-200:] or "it does not say why"
            raise DeviceError(
                f"{self._remote.name}: no folder can be made in {self._place}: {said}",
                code="E476",
                subject=self._remote.name,
                hint="check `root:` in devices.yaml, its permissions and the free space there",
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Who interrupts does not wait for long; what is left is removed by the run of another day.
        ended = kind is None or issubclass(kind, Exception)
        timeout_s = _REMOVING_S if ended else _INTERRUPTED_S
        with contextlib.suppress(DeviceError):  # a broken connection
            self._remote.run(f"rm -rf {quote(self.path)}", timeout_s=timeout_s)

    def of(self, name: str) -> str:
        """Return the absolute path of a file in the folder."""
        return f"{self.path}/{name}"

    def put(self, source: Path, name: str) -> None:
        """Copy a file into the folder; raises as :func:`edgedeploy.remote.put_file`."""
        put_file(self._remote, source, self.of(name))

    def write(self, data: bytes, name: str) -> None:
        """Write a file in the folder; raises as :meth:`put`."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            self.put(Path(file.name), name)

    def get(self, name: str, goal: Path, limit_bytes: int) -> bool:
        """Copy a file out of the folder; return False when there is none.

        Raises:
            DeviceError: The connection fails, or the file is larger than ``limit_bytes`` (E405).
        """
        try:
            get_file(self._remote, self.of(name), goal, limit_bytes)
        except DeviceError as error:
            if error.diagnostics[0].code != "E407":
                raise
            return False
        return True
