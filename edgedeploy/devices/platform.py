"""What a device is, as far as choosing a runtime for it goes: processor, C library, Python."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from shlex import quote
from typing import Literal

from edgedeploy.devices.opening import CANDIDATES
from edgedeploy.errors import DeviceError
from edgedeploy.remote import Remote, printable

Libc = Literal["glibc", "musl", "macos"]

_ANSWER_BYTES = 64 << 10
_ASK_S = 60.0

# Names of the dynamic loaders: what user space is, whatever the kernel is.
# Source: glibc, sysdeps/unix/sysv/linux/*/shlib-versions and ldconfig.h.
_LOADERS: Mapping[str, str] = {
    "ld-linux-aarch64.so.1": "aarch64",
    "ld-linux-x86-64.so.2": "x86_64",
    "ld-linux-armhf.so.3": "armv7l",
    "ld-linux-riscv64-lp64d.so.1": "riscv64",
    "ld-linux.so.2": "i686",
}
_MACHINE = re.compile(r"[A-Za-z0-9_]{1,32}")
_GLIBC = re.compile(r"(?i)(?:glibc|version|libc\))\D{0,3}(2\.[0-9]{1,3})")
_MUSL = re.compile(r"(?i)version (1\.[0-9]{1,3})")
_PYTHON = re.compile(
    r"(\S{1,300}) ([a-z]{1,20}) 3\.([0-9]{1,2}) ([A-Za-z0-9_-]{0,64}) "
    r"(?:linux|darwin)-([A-Za-z0-9_]+)"
)

# Held to Python 3.6.
# A universal Python of a Mac runs as what its process is: arm64, or x86_64 translated by Rosetta.
_PYTHON_SAYS = """
import os, sys, sysconfig
soabi = sysconfig.get_config_var("SOABI") or ""
version = "%d.%d" % sys.version_info[:2]
where = "darwin-" + os.uname()[4] if sys.platform == "darwin" else sysconfig.get_platform()
print(sys.argv[1], sys.implementation.name, version, soabi, where)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePython:
    """A device's Python.

    Attributes:
        command: Its path on the device, or a name that is found there.
        version: Such as ``3.11``.
        implementation: Such as ``cpython``.
        free_threaded: Built without the global lock: it needs wheels of its own.
    """

    command: str
    version: str
    implementation: str
    free_threaded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePlatform:
    """What wheels and programs for a device must fit.

    Attributes:
        machine: Of user space, as wheels name it: ``aarch64``, ``arm64``, ``x86_64`` ...
        libc: C library; ``macos``, whose version is the system's, on a Mac.
        libc_version: Major and minor.
        python: None when there is none.
    """

    machine: str
    libc: Libc
    libc_version: tuple[int, int]
    python: DevicePython | None

    @property
    def text(self) -> str:
        """In words, such as ``aarch64, glibc 2.36, Python 3.11``."""
        libc = f"{self.libc} {self.libc_version[0]}.{self.libc_version[1]}"
        python = f"Python {self.python.version}" if self.python else "no Python"
        return f"{self.machine}, {libc}, {python}"


def choose_python(python: str | None) -> str:
    """Return shell text that sets ``py`` to a device's Python, as opening a depot finds it."""
    if python is not None:
        return f"py={quote(python)}"
    names = " ".join(quote(name) for name in CANDIDATES)
    return (
        f'py=python3; for p in {names}; do command -v "$p" >/dev/null && {{ py=$p; break; }}; done'
    )


def ask_platform(remote: Remote, python: str | None = None) -> DevicePlatform:
    """Ask a device in one command what it is.

    Args:
        remote: The device.
        python: Interpreter on the device; None for the first of :data:`.opening.CANDIDATES`.

    Raises:
        DeviceError: It is neither Linux nor a Mac, or its answer tells no C library (E461), or the
            connection fails.
    """
    loaders = " ".join(f"/lib*/{name} /lib/*/{name}" for name in _LOADERS)
    answer = remote.run(
        'printf "edgedeploy-system %s\\n" "$(uname -s)"\n'
        'printf "edgedeploy-machine %s\\n" "$(uname -m)"\n'
        'printf "edgedeploy-macos %s\\n" "$(sw_vers -productVersion 2>/dev/null)"\n'
        "tell() { printf 'edgedeploy-libc %s\\n' "
        '"$("$@" 2>&1 </dev/null | head -n 2 | tr "\\n" " " | head -c 300)"; }\n'
        "tell getconf GNU_LIBC_VERSION; tell ldd --version\n"
        f"for file in {loaders}; do\n"
        '[ -e "$file" ] || continue; printf "edgedeploy-loader %s\\n" "$file"; '
        'tell "$file" --version; tell "${file%/*}/libc.so.6"; done\n'
        f"{choose_python(python)}\n"
        f'printf "edgedeploy-python "; "$py" -c {quote(_PYTHON_SAYS)} "$py" 2>/dev/null '
        "| tail -n 1; echo\necho edgedeploy-end",
        timeout_s=_ASK_S,
        limit_bytes=_ANSWER_BYTES,
    )
    said: dict[str, list[str]] = {}
    for line in answer.stdout.split(b"\n"):
        key, _, value = printable(line).partition(" ")
        if key.startswith("edgedeploy-"):
            said.setdefault(key, []).append(value.strip())
    if "edgedeploy-end" not in said:
        said_all = printable(answer.stderr or answer.stdout).split()
        raise _unclear(remote, f"it said: {' '.join(said_all)[-200:] or 'nothing'}")
    system = said.get("edgedeploy-system", [""])[0]
    if system == "Darwin":
        libc, version = _macos(remote, said.get("edgedeploy-macos", [""])[0])
    elif system == "Linux":
        libc, version = _libc(remote, said.get("edgedeploy-libc", []))
    else:
        raise _unclear(remote, f"its system is {system[:40] or 'not named'}, no Linux or macOS")
    own, machine = _python(said.get("edgedeploy-python", [""])[0], python)
    return DevicePlatform(
        machine=machine or _machine(remote, said), libc=libc, libc_version=version, python=own
    )


def _macos(remote: Remote, said: str) -> tuple[Libc, tuple[int, int]]:
    found = re.fullmatch(r"([0-9]{2})\.([0-9]{1,2})(?:\.[0-9]{1,2})?", said)
    if not found:
        raise _unclear(remote, "it does not say which version of macOS it has")
    return "macos", (int(found.group(1)), int(found.group(2)))


def _libc(remote: Remote, answers: list[str]) -> tuple[Libc, tuple[int, int]]:
    """Return the C library that the first answer that names one is of."""
    for answer in answers:
        kind: Libc = "musl" if "musl" in answer else "glibc"
        found = (_MUSL if kind == "musl" else _GLIBC).search(answer)
        if found:
            major, minor = found.group(1).split(".")
            return kind, (int(major), int(minor))
    raise _unclear(remote, "it names neither glibc nor musl and their version")


def _python(answer: str, wanted: str | None) -> tuple[DevicePython | None, str]:
    """Return Python and the machine that it was built for; 32-bit user space shows here."""
    found = _PYTHON.fullmatch(answer)
    if not found or found.group(1) not in (CANDIDATES if wanted is None else (wanted,)):
        return None, ""
    command, implementation, minor, soabi, machine = found.groups()
    free = bool(re.search(rf"-3{minor}t", soabi))
    python = DevicePython(
        command=command, version=f"3.{minor}", implementation=implementation, free_threaded=free
    )
    return python, machine


def _machine(remote: Remote, said: Mapping[str, list[str]]) -> str:
    """Return the machine of user space: that of the loader, when only one is there."""
    names = {path.rpartition("/")[2] for path in said.get("edgedeploy-loader", [])}
    found = {_LOADERS[name] for name in names if name in _LOADERS}
    machine = said.get("edgedeploy-machine", [""])[0]
    if not _MACHINE.fullmatch(machine):
        raise _unclear(remote, "it names no processor")
    return found.pop() if len(found) == 1 else machine


def _unclear(remote: Remote, what: str) -> DeviceError:
    return DeviceError(
        f"what it is cannot be told: {what}",
        code="E461",
        subject=remote.name,
        hint="runtimes can be put on Linux with glibc or musl, and on macOS; see what `uname -a`, "
        "`ldd --version` and `sw_vers` print on it",
    )
