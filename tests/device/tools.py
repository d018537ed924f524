"""The small tools of a device, counted; one of them, on orders, brings the end instead."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

from tests.unit.devices.odd_python import EXT4_IOC_SHUTDOWN
from tests.unit.devices.shells import SHELL, tools_of

CHANGING = ("cat", "chmod", "dd", "ln", "mkdir", "mv", "rm", "sync", "touch")

_SHUT_DOWN = f"""\
import fcntl, os, struct, sys
disk = os.open(sys.argv[1], os.O_RDONLY)
fcntl.ioctl(disk, {EXT4_IOC_SHUTDOWN}, struct.pack("I", int(sys.argv[2])))"""


class ToolCounter:
    """A folder of tools, and what happens before one of those that change the disk starts.

    Attributes:
        tools: The folder, for ``PATH``.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._count, self._order = folder / "count", folder / "order"
        self._names = folder / "names"
        self.tools = tools_of(SHELL)
        for name in CHANGING:
            path = self.tools / name
            real = path.resolve()
            path.unlink()
            path.write_text(self._wrapper(name, real))
            path.chmod(0o755)
        self._write(0, ":")

    def _wrapper(self, name: str, real: Path) -> str:
        count, order = quote(str(self._count)), quote(str(self._order))
        return (
            f"#!/bin/sh\nread -r at end <{order}\n"
            'if [ "$at" -ne 0 ]; then\n'
            f"    read -r n <{count}\n    n=$((n + 1))\n    echo $n >{count}\n"
            f"    [ $at -gt 0 ] || echo {name} >>{quote(str(self._names))}\n"
            '    [ $n -ne $at ] || eval "$end"\n'
            f'fi\nexec {quote(str(real))} "$@"\n'
        )

    def _write(self, at: int, end: str) -> None:
        self._count.write_text("0\n")
        self._order.write_text(f"{at} {end}\n")

    @contextmanager
    def orders(
        self,
        *,
        at: int = -1,
        mount: str = "",
        shutdown: int | None = None,
        kill: bool = False,
        count: str | None = None,
    ) -> Iterator[None]:
        """Let the call ``at`` (from 1) bring the end, or count all and tell them in a file."""
        end = "kill -9 $PPID; exit 1" if kill else ":"
        if shutdown is not None:
            end = f"{sys.executable} -c {quote(_SHUT_DOWN)} {quote(mount)} {shutdown}"
            end = end.replace("\n", ";")
        self._write(at, end)
        self._names.unlink(missing_ok=True)
        try:
            yield
        finally:
            self._write(0, ":")
        if count is not None:
            names = self._names.read_text().split() if self._names.exists() else []
            Path(count).write_text(json.dumps(names))
