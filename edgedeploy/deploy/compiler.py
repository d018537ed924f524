"""Building the native runner for a device with whatever C compiler is here."""

from __future__ import annotations

import importlib.util
import os
import platform as here
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgedeploy.devices.platform import DevicePlatform
from edgedeploy.errors import DeviceError, StoreError, ToolError
from edgedeploy.manifest import digest, file_sha256, write_atomic
from edgedeploy.places import user_cache
from edgedeploy.toolchain import PACKAGE, tool_version

SOURCES = PACKAGE / "native"
COMPILE_S = 600.0

# No path, time or random number gets into the program. -ldl: dlopen was apart before glibc 2.34.
_FLAGS = ("-std=c99", "-O2", "-fno-ident", "-s", "-Wl,--build-id=none")

# The oldest glibc that any ONNX Runtime wheel with a C library asks for (manylinux_2_27).
_GLIBC = (2, 27)

TARGETS: Mapping[str, str] = {"aarch64": "aarch64-linux-gnu", "x86_64": "x86_64-linux-gnu"}
"""Machine -> what GNU and zig call programs for it; those that ONNX Runtime has wheels for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiler:
    """A C compiler that makes programs for a device.

    Attributes:
        name: What it is, with its version and what it makes programs for.
        command: Its command line, up to the sources.
    """

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltRunner:
    """The runner for a device.

    Attributes:
        path: The program, here.
        compiler: What made it.
        source: Digest of its source (64 hex digits).
    """

    path: Path
    compiler: str
    source: str


def build_runner(platform: DevicePlatform) -> BuiltRunner:
    """Return the native runner for a device, from the cache or compiled now.

    Raises:
        DeviceError: The device has no glibc, which the runtime's library needs, or a processor
            that no runner is made for (E464).
        ToolError: No compiler here can make it (E511).
        StoreError: The cache cannot be written (E602).
    """
    if platform.libc != "glibc" or platform.machine not in TARGETS:
        raise DeviceError(
            f"there is no native runner for {platform.text}",
            code="E464",
            hint=f"it is made for glibc on {' and '.join(sorted(TARGETS))}, like the runtime",
        )
    sources = sorted(SOURCES.glob("*.[ch]"))
    source = digest("runner source", [[path.name, file_sha256(path)] for path in sources])
    troubles = []
    for compiler in compilers(platform.machine):
        key = digest("runner", [source, compiler.name, *_FLAGS])
        goal = user_cache() / "runtimes" / "runners" / key
        trouble = None if goal.exists() else _compile(compiler, sources, goal)
        if trouble is None:
            needs = needed_glibc(goal.read_bytes())
            if needs <= platform.libc_version:
                return BuiltRunner(path=goal, compiler=compiler.name, source=source)
            trouble = f"what it makes needs glibc {needs[0]}.{needs[1]}"
        troubles.append(f"{compiler.name}: {trouble}")
    raise ToolError(
        f"no C compiler here makes programs for {platform.text}"
        + "".join(f"; {trouble}" for trouble in troubles),
        code="E511",
        subject="ziglang",
        hint="pip install 'edgedeploy[native]' (410 MB), or install "
        f"{TARGETS[platform.machine]}-gcc",
    )


def compilers(machine: str) -> Iterator[Compiler]:
    """Yield the compilers here that may make programs for devices, the best first.

    zig comes first: it makes programs for an old glibc wherever it runs.

    Args:
        machine: The devices' architecture, a key of :data:`TARGETS`.
    """
    if importlib.util.find_spec("ziglang") is not None:
        target = f"{TARGETS[machine]}.{_GLIBC[0]}.{_GLIBC[1]}"
        yield Compiler(
            name=f"zig {tool_version('ziglang')} {target}",
            command=(sys.executable, "-m", "ziglang", "cc", "-target", target),
        )
    names = [f"{TARGETS[machine]}-gcc"]
    if sys.platform == "linux" and here.machine() == machine:
        names += ["gcc", "cc"]
    seen = set()
    for name in names:
        path = shutil.which(name)
        if path is None or Path(path).resolve() in seen:
            continue
        seen.add(Path(path).resolve())
        version = _version_of(path)
        if version:
            yield Compiler(name=version, command=(path,))


def _version_of(path: str) -> str:
    try:
        done = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace").partition("\n")[0][:100]


def _compile(compiler: Compiler, sources: list[Path], goal: Path) -> str | None:
    """Compile the sources to ``goal``; return why that did not work, None when it did."""
    with tempfile.TemporaryDirectory(prefix="edgedeploy-runner-") as name:
        folder = Path(name)
        for path in sources:  # named relative to their folder: no path gets into the program
            shutil.copyfile(path, folder / path.name)
        names = [path.name for path in sources if path.suffix == ".c"]
        command = [*compiler.command, *_FLAGS, "-o", "runner", *names, "-ldl"]
        caches = {"ZIG_GLOBAL_CACHE_DIR": name, "ZIG_LOCAL_CACHE_DIR": name}
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env={**os.environ, **caches, "SOURCE_DATE_EPOCH": "0", "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=COMPILE_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            return said[-1][:300] if said else f"status {done.returncode}"
        content = (folder / "runner").read_bytes()
    try:
        goal.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(goal, content)
    except OSError as error:
        raise StoreError(
            f"cannot keep the runner: {error.strerror}",
            code="E602",
            subject=str(goal.parent),
            hint="make room, or set XDG_CACHE_HOME to a folder that can be written",
        ) from error
    return None


def needed_glibc(program: bytes) -> tuple[int, int]:
    """Return the newest glibc that a program's symbols ask for.

    The names of symbol versions lie in the program as text. Source: LSB Core, Symbol Versioning.
    """
    found = re.findall(rb"\0GLIBC_([0-9]{1,2})\.([0-9]{1,3})(?:\.[0-9]+)?(?=\0)", program)
    return max(((int(major), int(minor)) for major, minor in found), default=(2, 0))
