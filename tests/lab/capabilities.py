"""What this machine can do: each capability of tests/capabilities.toml, really tried, once.

A test calls :func:`require`. Where a capability is absent and the file allows that in this place,
the test skips with the file's reason; otherwise with one that fails the run when `CI` is set
(`ALLOWED_SKIPS` in tests/conftest.py).
"""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab import emulation
from tests.lab.ext4 import PowerCutDisk
from tests.lab.images import image
from tests.lab.lab import Lab
from tests.lab.network import Network, check_free
from tests.lab.place import RUN, LabError, cache, call, locked
from tests.lab.sshd import running

FILE = Path(__file__).parents[1] / "capabilities.toml"

_PROBE_NUMBER = 990
"""Devices have smaller numbers; probes of processes at one time take turns with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """One thing that a machine can or cannot do.

    Attributes:
        name: Its key in the file.
        says: What it is.
        probe: Which probe tries it.
        needs: Names of others that must be there first.
        absent: Reason to skip by place; a place that is not in it must have the capability.
    """

    name: str
    says: str
    probe: str
    needs: tuple[str, ...]
    absent: Mapping[str, str]


@functools.cache
def listed() -> Mapping[str, Capability]:
    """Return the capabilities of the file, in its order."""
    with open(FILE, "rb") as file:
        entries = tomllib.load(file)
    return {
        name: Capability(
            name=name,
            says=entry["says"],
            probe=entry["try"],
            needs=tuple(entry.get("needs", ())),
            absent=entry["absent"],
        )
        for name, entry in entries.items()
    }


def place() -> str:
    """Return what kind of place this is; the file says which."""
    if sys.platform != "linux":
        return "elsewhere"
    return "root" if is_root() and shutil.which("apt-get") else "user"


@functools.cache
def is_root() -> bool:
    """Return whether we are root and may make namespaces: in many containers root may not."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    tried = subprocess.run(["unshare", "-m", "-n", "true"], capture_output=True)
    return tried.returncode == 0


@functools.cache
def missing(name: str) -> str | None:
    """Return why a capability is absent, in the words of what failed; None when it is there."""
    capability = listed()[name]
    for other in capability.needs:
        if missing(other) is not None:
            return f"without `{other}`"
    try:
        PROBES[capability.probe]()
    except (LabError, OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None


def require(*names: str) -> None:
    """Skip the calling test, or module, unless this machine has these capabilities."""
    for name in names:
        why = missing(name)
        if why is None:
            continue
        allowed = listed()[name].absent.get(place())
        reason = f"{allowed}: {why}" if allowed else f"this machine must have `{name}`: {why}"
        pytest.skip(reason, allow_module_level=True)


def report() -> list[str]:
    """Return a line about this place and one about each capability."""
    lines = [f"capabilities ({place()}), listed in tests/{FILE.name}:"]
    for name, capability in listed().items():
        why = missing(name)
        allowed = place() in capability.absent
        state = "yes" if why is None else f"no{'' if allowed else ', but must'} ({why})"
        lines.append(f"  {name:14} {state}")
    return lines


# Probes: each does the thing, cheaply, and raises when that fails.


def _root() -> None:
    if not is_root():
        raise LabError("not root" if os.geteuid() != 0 else "root without CAP_SYS_ADMIN")


def _sshd() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="edgedeploy-lab-") as folder,
        running(Path(folder, "sshd")) as server,
    ):
        call([*server.ssh(), "true"])  # some accounts may not log in, whatever their key


def _rsync() -> None:
    for program in ("rsync", "scp"):
        if shutil.which(program) is None:
            raise LabError(f"{program} is missing")


def _apt() -> None:
    # Makes the smallest image, whose packages are fetched when they are not in the cache.
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise LabError("there is no apt")
    image("arm64", "minimal")


def _on_a_network(act: Callable[[Network], None]) -> None:
    """Make a network, do something with it and remove it."""
    network = Network(_PROBE_NUMBER)
    with locked(cache() / "probe.lock"):
        network.remove()  # left by one that was killed
        check_free(_PROBE_NUMBER)
        try:
            network.make()
            act(network)
        finally:
            network.remove()


def _network() -> None:
    _on_a_network(lambda network: None)


def _cut() -> None:
    def act(network: Network) -> None:
        network.cut("silent")
        network.restore()

    _on_a_network(act)


def _rate() -> None:
    _on_a_network(lambda network: network.set_rate(1_000_000))


def _overlay() -> None:
    with tempfile.TemporaryDirectory(prefix="edgedeploy-lab-") as folder:
        # In a mount namespace of its own, so that nothing is left, whatever happens.
        script = (
            'cd "$1" && mkdir low disk all && mount -t tmpfs -o size=1m tmpfs disk'
            " && mkdir disk/upper disk/work && mount -t overlay"
            " -o lowerdir=low,upperdir=disk/upper,workdir=disk/work overlay all && : >all/file"
        )
        call(["unshare", "-m", "sh", "-c", script, "sh", folder])


def _ext4_shutdown() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="edgedeploy-lab-") as folder,
        PowerCutDisk(Path(folder, "disk"), 8 << 20) as disk,
    ):
        (disk.folder / "lost").write_text("x")
        disk.cut()
        disk.start()
        if (disk.folder / "lost").exists():
            raise LabError("what was not synced survived a power cut")


def _arm64() -> None:
    with Lab(), locked(RUN / "lock"):
        emulation.register()


def _arm64_compiler() -> None:
    compiler = "gcc" if emulation.is_native("arm64") else "aarch64-linux-gnu-gcc"
    if shutil.which(compiler) is None:
        raise LabError(f"{compiler} is missing")
    with tempfile.TemporaryDirectory(prefix="edgedeploy-lab-") as folder:
        program = '#include <stdio.h>\nint main(void) { return puts("") < 0; }\n'
        call([compiler, "-x", "c", "-", "-o", Path(folder, "program")], stdin=program)


def _lab() -> None:
    with Lab() as lab:
        lab.device("amd64-minimal" if emulation.is_native("amd64") else "arm64-minimal")


PROBES: Mapping[str, Callable[[], None]] = {
    "root": _root,
    "sshd": _sshd,
    "rsync": _rsync,
    "apt": _apt,
    "network": _network,
    "cut": _cut,
    "rate": _rate,
    "overlay": _overlay,
    "ext4_shutdown": _ext4_shutdown,
    "arm64": _arm64,
    "arm64_compiler": _arm64_compiler,
    "lab": _lab,
}
