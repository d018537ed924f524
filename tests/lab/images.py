"""Root file systems of devices: unpacked packages and what their scripts would have set up.

An image is made once per machine, in the cache, and never written afterwards: devices put a layer
of their own above it. A folder that exists is whole: it is renamed into place when it is done.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.lab import emulation
from tests.lab.packages import fetch, unpack
from tests.lab.place import LabError, appearing, cache, call, locked

USER, USER_ID = "edge", 6100
"""The account that devices are used with; its home is /home/edge."""

_RECIPE = 1  # another number makes all images anew

PACKAGES: Mapping[str, tuple[str, ...]] = {
    # What `ssh board` finds on a Debian or Raspberry Pi OS without a desktop.
    "python": (
        "base-files",
        "bash",
        "coreutils",
        "dash",
        "diffutils",
        "findutils",
        "grep",
        "gzip",
        "hostname",
        "libc-bin",
        "libstdc++6",
        "mawk",
        "openssh-server",
        "procps",
        "python3",
        "sed",
        "tar",
        "util-linux",
    ),
    # A small appliance: one binary for all tools, dropbear for SSH, no Python, no sftp. The C++
    # library is there because runtimes need one.
    "minimal": ("busybox-static", "dropbear-bin", "libstdc++6"),
}
"""Packages of each kind of image; what they need comes with them."""

# Debian's busybox lacks flock; those that boards come with (Buildroot, OpenWrt, Alpine) have it.
_SINGLE_FILES: Mapping[str, tuple[str, str]] = {"minimal": ("util-linux", "usr/bin/flock")}

_SHELL = {"python": "/bin/bash", "minimal": "/bin/sh"}
_UNUSED = ("doc", "info", "locale", "man", "lintian", "zoneinfo")


def image(architecture: str, kind: str) -> Path:
    """Return the root folder of an image, made when it is not there yet.

    Args:
        architecture: `amd64` or `arm64`.
        kind: A key of :data:`PACKAGES`.

    Raises:
        LabError: Packages cannot be fetched or unpacked.
    """
    recipe = [_RECIPE, architecture, kind, PACKAGES[kind], _SINGLE_FILES.get(kind), _distribution()]
    digest = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()
    goal = cache() / "images" / f"{architecture}-{kind}-{digest[:12]}"
    with locked(goal.with_suffix(".lock")):
        if not goal.exists():
            with tempfile.TemporaryDirectory(dir=cache()) as debs, appearing(goal) as root:
                unpack(fetch(architecture, PACKAGES[kind], Path(debs, "files")), root)
                if kind in _SINGLE_FILES:
                    package, file = _SINGLE_FILES[kind]
                    found = fetch(architecture, [package], Path(debs, "more"))
                    unpack([deb for deb in found if deb.name.startswith(f"{package}_")], Path(debs))
                    shutil.copy2(Path(debs, file), root / file)
                _set_up(root, architecture, kind)
    return goal


def _distribution() -> str:
    """Return which release the packages come from: the machine's own."""
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2]
    raise LabError("this is no Debian: /etc/os-release names no release")


def _set_up(root: Path, architecture: str, kind: str) -> None:
    """Do what the packages' scripts would have done, and add the accounts."""
    for name in _UNUSED:
        shutil.rmtree(root / "usr/share" / name, ignore_errors=True)
    for name in ("bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "var/tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    if kind == "minimal":
        _link_applets(root, architecture)
    else:
        _link(root / "bin/sh", "dash")
        _link(root / "usr/bin/awk", "mawk")
    _add_accounts(root, _SHELL[kind])


def _link(path: Path, goal: str) -> None:
    if not path.exists():
        path.unlink(missing_ok=True)
        path.symlink_to(goal)


def _link_applets(root: Path, architecture: str) -> None:
    """Give every tool of busybox its name; asks the binary itself, through qemu if need be."""
    binary = root / "bin/busybox"
    through = [] if emulation.is_native(architecture) else [str(emulation.find_qemu())]
    for name in call([*through, binary, "--list-full"]).split():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _link(path, "/bin/busybox")


def _add_accounts(root: Path, shell: str) -> None:
    accounts = [
        f"root:x:0:0:root:/root:{shell}",
        "sshd:x:6101:6101::/run/sshd:/usr/sbin/nologin",
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin",
        f"{USER}:x:{USER_ID}:{USER_ID}::/home/{USER}:{shell}",
    ]
    files = {
        "passwd": accounts,
        "group": ["root:x:0:", "tty:x:5:", "sshd:x:6101:", "nogroup:x:65534:", f"{USER}:x:6100:"],
        # `*`: no password fits, and the account is not locked, which `!` would mean.
        "shadow": [f"{line.partition(':')[0]}:*:19000:0:99999:7:::" for line in accounts],
        "shells": ["/bin/sh", shell],
        "hosts": ["127.0.0.1 localhost"],
        "nsswitch.conf": ["passwd: files", "group: files", "hosts: files"],
    }
    for name, lines in files.items():
        (root / "etc" / name).write_text("\n".join(lines) + "\n")
    (root / "etc/shadow").chmod(0o600)
    home = root / "home" / USER
    home.mkdir(mode=0o755, exist_ok=True)
    shutil.chown(home, USER_ID, USER_ID)


def python_version(root: Path) -> str:
    """Return the version of an image's Python, such as `3.11`.

    Raises:
        LabError: It has none.
    """
    found = sorted((root / "usr/lib").glob("python3.*"))
    if not found:
        raise LabError(f"{root.name} has no Python")
    return found[0].name.removeprefix("python")
