"""This machine as a device that has a shell and small tools, but no Python."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from shlex import quote

from edgedeploy.devices.depot import Depot
from edgedeploy.devices.local import LocalPipe, LocalRemote
from edgedeploy.devices.shell_depot import ShellDepot

SHELLS = {name: path for name in ("dash", "bash", "busybox") if (path := shutil.which(name))}
"""What ``sh`` may be. Under that name, bash is a POSIX shell; busybox brings all the tools."""

SHELL = next(iter(SHELLS))
"""The one for tests that need not run in each."""

TOOLS = frozenset(
    """cat chmod cut date dd df find flock gzip head ln ls mkdir mv readlink rm sed sha256sum sleep
    sync tail timeout touch tr wc""".split()  # noqa: SIM905 - a list of 25 lines says no more
)
"""What the shell agent uses."""


class ShellRemote(LocalRemote):
    """This machine with nothing but the commands in ``tools``, one of which is ``sh``."""

    def __init__(self, tools: Path) -> None:
        super().__init__()
        self.tools = tools

    def open(self, command: str) -> LocalPipe:
        """Start a command in the device's shell."""
        home = quote(os.environ["HOME"])
        return super().open(
            f"exec env -i HOME={home} PATH={quote(str(self.tools))} "
            f"{quote(str(self.tools / 'sh'))} -c {quote(command)}"
        )


def tools_of(shell: str, without: Iterable[str] = ()) -> Path:
    """Make a folder of the commands that a device with that shell has."""
    cache = Path(os.environ["XDG_CACHE_HOME"])  # removed when the tests end
    cache.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{shell}-", dir=cache))
    applets: set[str] = set()
    if shell == "busybox":
        listed = subprocess.run([SHELLS[shell], "--list"], capture_output=True, text=True)
        applets = set(listed.stdout.split())
    for name in TOOLS - set(without):
        goal = SHELLS[shell] if name in applets else shutil.which(name)
        if goal is not None:
            (folder / name).symlink_to(goal)
    (folder / "sh").symlink_to(SHELLS[shell])
    return folder


@functools.cache
def remote(shell: str) -> ShellRemote:
    """Return this machine as a device with that shell."""
    return ShellRemote(tools_of(shell))


def open_with(shell: str, folder: str) -> Depot:
    """Open a depot there; by its agent, as this machine may have a Python besides."""
    return ShellDepot(remote(shell), folder)
