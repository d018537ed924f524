"""Choosing and fetching, here, the wheels of a runtime that fit a device.

pip chooses: it is told the device's platform, Python and ABI instead of this machine's. What it
chose is kept with its digests, so that every device of a kind gets the same, and a second one needs
no package index any more.
"""

from __future__ import annotations

import email.message
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from edgedeploy.devices.platform import DevicePlatform
from edgedeploy.devices.runtimes import MODULES, allowed_versions, in_range, is_version
from edgedeploy.errors import DeviceError, StoreError, ToolError, UsageError
from edgedeploy.manifest import canonical, digest, file_sha256, write_atomic
from edgedeploy.places import user_cache

CHOICE = "choice.json"
PIP_S = 1800.0

# What running a model needs besides the runtime. Its other dependencies serve tools that change
# models (sympy, protobuf, flatbuffers) or report usage (openvino-telemetry).
NEEDED = "numpy"

# coremltools imports all that it depends on, and takes images as Pillow's.
_WITH_ALL = ("coreml",)
_IMAGES = "pillow"
_MOST_WHEELS = 50

# Platform tags from before PEP 600 by the glibc that they stand for. Source: PEP 600.
_LEGACY = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}
_OLDEST_GLIBC = {"x86_64": 5, "i686": 5}
_OLDEST_ELSEWHERE = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """One wheel.

    Attributes:
        name: Distribution.
        version: Its version.
        file: File name, as the index has it.
        sha256: Of the file.
        license: As its metadata names it.
    """

    name: str
    version: str
    file: str
    sha256: str
    license: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The wheels for one kind of device, and the folder here that holds them."""

    wheels: tuple[Wheel, ...]
    folder: Path

    def path(self, wheel: Wheel) -> Path:
        """Return where a wheel lies."""
        return self.folder / wheel.file


def choose_wheels(
    family: str,
    platform: DevicePlatform,
    *,
    version: str | None = None,
    native: bool = False,
    fresh: bool = False,
) -> Choice:
    """Return the wheels of a runtime for a device, from the cache or from pip.

    Args:
        family: ``ort`` or ``openvino``.
        platform: What they must fit.
        version: Of the runtime; None for the newest that targets allow and that there is for this
            device.
        native: Only the wheel that has the runtime's C library, whatever its Python.
        fresh: Ask pip even when an earlier answer is kept.

    Raises:
        UsageError: Targets do not allow the version (E465).
        DeviceError: There is none for such a device (E464).
        ToolError: There is no pip here, or it cannot reach the index (E510).
        StoreError: The cache cannot be written (E602).
    """
    wanted = allowed_versions(family)
    if version is not None and not (is_version(version) and in_range(version, wanted)):
        raise UsageError(
            f"{MODULES[family]} {version} lies outside {wanted}, which targets allow",
            code="E465",
            hint=f"give --version in {wanted}, or none for the newest that fits the device",
        )
    exact = f"=={version}" if version else wanted
    flags = pip_flags(platform, native=native)
    key = digest("runtime wheels", [family, exact, flags])
    folder = user_cache() / "runtimes" / "wheels" / key
    kept = None if fresh else _kept(folder)
    if kept is not None:
        return kept
    requirement = f"{MODULES[family]}{exact}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".pip.", dir=folder.parent) as name:
            part = Path(name, "wheels")
            part.mkdir()
            return _chosen(part, requirement, flags, platform, family, native, folder)
    except OSError as error:
        raise StoreError(
            f"cannot keep wheels: {error.strerror or error}",
            code="E602",
            subject=str(folder.parent),
            hint="make room, or set XDG_CACHE_HOME to a folder that can be written",
        ) from error


def pip_flags(platform: DevicePlatform, *, native: bool) -> list[str]:
    """Return pip's options that describe a device."""
    flags = [word for tag in platform_tags(platform) for word in ("--platform", tag)]
    if native or platform.python is None:
        # Only the C library counts, and it is the same in the wheels of every Python.
        minor = f"{sys.version_info.major}.{sys.version_info.minor}"
        return [*flags, "--implementation", "cp", "--python-version", minor]
    python = platform.python
    short = python.version.replace(".", "") + ("t" if python.free_threaded else "")
    abis = [f"cp{short}", *([] if python.free_threaded else ["abi3"]), "none"]
    version = ["--implementation", "cp", "--python-version", python.version]
    return [*flags, *version, *(word for abi in abis for word in ("--abi", abi))]


def platform_tags(platform: DevicePlatform) -> Iterator[str]:
    """Yield the platform tags that a device can use, the nearest first.

    Source: PEP 600 (glibc: every older one fits as well), PEP 656 (musl), and for macOS
    https://packaging.python.org/en/latest/specifications/platform-compatibility-tags (every
    older system; since 11 the major version counts alone).
    """
    major, newest = platform.libc_version
    if platform.libc == "macos":
        oldest_major = 11 if platform.machine == "arm64" else 10
        versions = [(number, 0) for number in range(major, 10, -1)]
        versions += [(10, minor) for minor in range(16, 8, -1)] if oldest_major == 10 else []
        for number, minor in versions:
            yield f"macosx_{number}_{minor}_{platform.machine}"
            yield f"macosx_{number}_{minor}_universal2"
        if oldest_major == 11:  # built for both processors, when Intel's oldest system is older
            yield from (f"macosx_10_{minor}_universal2" for minor in range(16, 8, -1))
        return
    if platform.libc == "musl":
        yield from (
            f"musllinux_{major}_{minor}_{platform.machine}" for minor in range(newest, -1, -1)
        )
        return
    oldest = _OLDEST_GLIBC.get(platform.machine, _OLDEST_ELSEWHERE)
    for minor in range(newest, oldest - 1, -1):
        yield f"manylinux_{major}_{minor}_{platform.machine}"
        if (major, minor) in _LEGACY:
            yield f"{_LEGACY[major, minor]}_{platform.machine}"


def _chosen(
    part: Path,
    requirement: str,
    flags: Sequence[str],
    platform: DevicePlatform,
    family: str,
    native: bool,
    goal: Path,
) -> Choice:
    """Let pip download into ``part``, write the choice down and move it to ``goal``."""
    _download(requirement, flags, part, platform)
    (runtime,) = part.glob("*.whl")
    if family in _WITH_ALL:
        _download(_IMAGES, flags, part, platform)
        _with_dependencies(runtime, flags, part, platform)
    elif not native:
        _download(_numpy_for(runtime), flags, part, platform)
    wheels = tuple(_wheel(path) for path in sorted(part.glob("*.whl")))
    write_atomic(
        part / CHOICE, canonical({"schema": 1, "wheels": [asdict(item) for item in wheels]})
    )
    if goal.exists():
        shutil.rmtree(goal)
    part.replace(goal)
    return Choice(wheels=wheels, folder=goal)


def _with_dependencies(
    runtime: Path, flags: Sequence[str], part: Path, platform: DevicePlatform
) -> None:
    """Download all that a wheel depends on, for the device's Python.

    pip would judge markers such as ``python_version < "3.11"`` by the Python that runs it.
    """
    waiting, there = [runtime], {canonicalize_name(_metadata(runtime)["Name"])}
    while waiting:
        for text in _metadata(waiting.pop()).get_all("Requires-Dist") or ():
            need = Requirement(str(text))
            name = canonicalize_name(need.name)
            if name in there or not (
                need.marker is None or need.marker.evaluate(_marked(platform))
            ):
                continue
            there.add(name)
            if len(there) > _MOST_WHEELS:
                raise _no_wheel(runtime.name, platform, "")
            before = set(part.iterdir())
            _download(f"{need.name}{need.specifier}", flags, part, platform)
            waiting += set(part.iterdir()) - before


def _marked(platform: DevicePlatform) -> dict[str, str]:
    """Return what the markers of dependencies are judged by (PEP 508) on a Mac."""
    python = platform.python.version if platform.python else ""
    return {
        "extra": "",
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": platform.machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Darwin",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "darwin",
    }


def _kept(folder: Path) -> Choice | None:
    """Return an earlier choice whose wheels are all still what they were, else None."""
    try:
        data: Any = json.loads((folder / CHOICE).read_bytes())
        wheels = tuple(Wheel(**item) for item in data["wheels"])
        if all(file_sha256(folder / item.file) == item.sha256 for item in wheels):
            return Choice(wheels=wheels, folder=folder)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _download(requirement: str, flags: Sequence[str], goal: Path, platform: DevicePlatform) -> None:
    if importlib.util.find_spec("pip") is None:
        raise ToolError(
            "this Python has no pip, which chooses the wheels for a device",
            code="E510",
            subject="pip",
            hint=f"`{sys.executable} -m ensurepip`, or `uv pip install pip` in uv's environments",
        )
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input"]
    # With no retry pip does not say that the index was not reached.
    command += [
        "--retries",
        "2",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(goal),
        *flags,
        requirement,
    ]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PIP_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise _pip_failed(requirement, f"pip did not end within {PIP_S:g} s") from error
    if done.returncode == 0:
        return
    said = done.stderr.decode("utf-8", "replace")
    errors = [line[7:] for line in said.splitlines() if line.startswith("ERROR: ")]
    unreached = re.search(r"(?i)retrying|connection|timed? ?out|certificate|proxy", said)
    if "No matching distribution" in said and not unreached:
        raise _no_wheel(requirement, platform, errors[0] if errors else "")
    raise _pip_failed(requirement, errors[-1] if errors else said.strip()[-300:])


def _no_wheel(requirement: str, platform: DevicePlatform, said: str) -> DeviceError:
    versions = re.search(r"from versions: ([^)]*)\)", said)
    there = versions.group(1) if versions and versions.group(1) != "none" else ""
    musl = platform.libc == "musl"
    return DeviceError(
        f"there is no wheel of {requirement} for {platform.text}"
        + (f"; for it there are {there[-200:]}" if there else ""),
        code="E464",
        hint="such a device needs a system with glibc, or a runtime that you build for it"
        if musl
        else "choose another --version, or give the device a Python that there are wheels for",
    )


def _pip_failed(requirement: str, why: str) -> ToolError:
    return ToolError(
        f"pip cannot fetch {requirement}: {why}",
        code="E510",
        subject="pip",
        hint="this machine needs a package index, or a folder of wheels (PIP_FIND_LINKS and "
        "PIP_NO_INDEX=1)",
    )


def _metadata(path: Path) -> email.message.Message:
    with zipfile.ZipFile(path) as archive:
        name = next(
            item for item in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", item)
        )
        return email.message_from_bytes(archive.read(name))


def _wheel(path: Path) -> Wheel:
    about = _metadata(path)
    return Wheel(
        name=str(about["Name"]),
        version=str(about["Version"]),
        file=path.name,
        sha256=file_sha256(path),
        license=_license(about),
    )


def _license(about: email.message.Message) -> str:
    """Return a licence's name; before metadata 2.4 the field may hold its whole text."""
    text = str(about["License-Expression"] or about["License"] or "")
    kinds = [str(item) for item in about.get_all("Classifier") or () if "License ::" in str(item)]
    if text and "\n" not in text:
        return text[:200]
    return kinds[0].rpartition(":: ")[2] if kinds else "not named"


def _numpy_for(runtime: Path) -> str:
    """Return the requirement of NumPy that goes with a runtime's wheel."""
    about = _metadata(runtime)
    found = ""
    for need in about.get_all("Requires-Dist") or ():
        match = re.match(r"numpy\s*\(?([^();]*)\)?\s*$", str(need))
        if match:
            found = match.group(1).strip()
    # Built against NumPy 1, which its metadata does not say. Source: release notes of 1.19.0,
    # "ONNX Runtime now supports NumPy 2".
    if about["Name"] == "onnxruntime" and not in_range(str(about["Version"]), ">=1.19"):
        found = f"{found},<2".lstrip(",")
    return f"{NEEDED}{found}"


def library_of(wheel: Path, goal: Path) -> tuple[str, ...]:
    """Unpack the C library of ONNX Runtime, with its licence, out of a wheel.

    Args:
        wheel: The wheel.
        goal: Existing folder; the library is ``libonnxruntime.so`` in it.

    Returns:
        The names of the files.

    Raises:
        DeviceError: The wheel has none: it is older than 1.19 (E464).
    """
    pattern = re.compile(
        r"onnxruntime/(?:capi/(libonnxruntime\.so)\.[0-9.]+|(LICENSE|ThirdPartyNotices\.txt))"
    )
    found = []
    with zipfile.ZipFile(wheel) as archive:
        for item in archive.infolist():
            match = pattern.fullmatch(item.filename)
            if match:
                name = match.group(1) or match.group(2)
                with archive.open(item) as source, open(goal / name, "wb") as out:
                    shutil.copyfileobj(source, out)
                found.append(name)
    if "libonnxruntime.so" not in found:
        raise DeviceError(
            f"{wheel.name} has no C library that the native runner could load",
            code="E464",
            hint="give a newer --version: wheels have it since 1.19",
        )
    return tuple(sorted(found))
