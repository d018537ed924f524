"""Debian's own tool on a package: dpkg, in a scratch root."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg") is None, reason="needs dpkg")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: dpkg gives files to it")


class Root:
    """A scratch root with a dpkg database; scripts run outside of it, told where it is.

    Args:
        place: Folder of the root; need not exist.
        name: Of the release, whose packages install below ``/opt``.

    Attributes:
        app: The folder that they install.
    """

    def __init__(self, place: Path, name: str = "doorbell") -> None:
        self.place = place
        self.app = place / "opt" / name
        admin = place / "var/lib/dpkg"
        for name in ("info", "updates", "triggers"):
            (admin / name).mkdir(parents=True)
        (admin / "status").touch()
        self._command = [
            "dpkg",
            f"--instdir={place}",
            f"--admindir={admin}",
            f"--log={place}/dpkg.log",
            "--force-script-chrootless",
            "--force-architecture",
        ]

    def dpkg(self, *words: str | Path, status: int | None = 0) -> str:
        """Run dpkg on this root and return what it prints."""
        command = [*self._command, *map(str, words)]
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
        ran = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
        assert status in (None, ran.returncode), ran.stdout + ran.stderr
        return ran.stdout


def field(deb: Path, name: str) -> str:
    """Return a field as dpkg-deb reads it."""
    return subprocess.check_output(["dpkg-deb", "--field", deb, name], text=True).strip()
