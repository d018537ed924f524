"""Debian packages as files: fetched for any architecture, unpacked without running any of them.

The package source is whatever the machine's own apt settings name. apt gets a state of its own, in
which nothing is installed, so that it fetches everything that a package needs; `dpkg-deb -x` then
unpacks. No maintainer script runs, so no emulator is needed, and a root takes seconds, not the
minutes of debootstrap. What the scripts would have done, images.py does.
"""

from collections.abc import Sequence
from pathlib import Path

from tests.lab.place import LabError, cache, call, locked

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
"""Debian's names of the architectures that the lab has, and the kernel's."""

DOWNLOAD_S = 600.0


def _options(architecture: str, state: Path) -> list[str]:
    """Return the options that keep apt away from the machine's own state."""
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Get::List-Cleanup": "false",
        "APT::Install-Recommends": "false",
        # The folder is root's or the user's own: the account `_apt` could not write to it.
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "Dir::Cache": state / "cache",
        "Dir::Log": state,
        "Dir::State": state,
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dpkg::Use-Pty": "false",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def fetch(architecture: str, names: Sequence[str], goal: Path) -> list[Path]:
    """Download packages and all that they need into a folder; return the .deb files.

    Args:
        architecture: Debian's name, a key of :data:`MACHINES`.
        names: Packages.
        goal: Folder of this download alone.

    Raises:
        LabError: There is no apt, no network, or no such package for the architecture.
    """
    state = cache() / "apt" / architecture
    with locked(cache() / f"apt-{architecture}.lock"):
        for folder in (state / "lists/partial", goal / "partial"):
            folder.mkdir(parents=True, exist_ok=True)
        (state / "status").write_text("")
        options = _options(architecture, state)
        wanted = ["-o", f"Dir::Cache::archives={goal}", "install", "--download-only", "-y", *names]
        try:
            call(["apt-get", "-q", *options, *wanted], timeout_s=DOWNLOAD_S)
        except LabError:
            # No lists yet, or ones so old that the files they name are gone.
            call(["apt-get", "-q", *options, "update"], timeout_s=DOWNLOAD_S)
            call(["apt-get", "-q", *options, *wanted], timeout_s=DOWNLOAD_S)
    return sorted(goal.glob("*.deb"))


def unpack(files: Sequence[Path], goal: Path) -> None:
    """Unpack .deb files into a folder, in order.

    Raises:
        LabError: One of them is damaged.
    """
    for file in files:
        call(["dpkg-deb", "-x", file, goal])
