"""Choosing wheels for a device: the real pip, and a folder that stands for the index."""

import sys
from pathlib import Path

import pytest
from packaging.tags import cpython_tags
from packaging.utils import parse_wheel_filename

from edgedeploy.deploy.wheels import choose_wheels, library_of, pip_flags, platform_tags
from edgedeploy.devices.platform import DevicePlatform, DevicePython
from edgedeploy.errors import DeviceError, EdgedeployError, ToolError, UsageError
from tests.unit.deploy.wheelhouse import make_wheel, numpy_module, runtime_module, sha256

MANY = "manylinux_2_28_aarch64"


def device(
    python: str | None = "3.11", glibc: int = 36, machine: str = "aarch64", libc: str = "glibc"
) -> DevicePlatform:
    own = None
    if python is not None:
        own = DevicePython(
            command="python3",
            version=python.removesuffix("t"),
            implementation="cpython",
            free_threaded=python.endswith("t"),
        )
    version = (2, glibc) if libc == "glibc" else (1, glibc)
    return DevicePlatform(
        machine=machine,
        libc="glibc" if libc == "glibc" else "musl",
        libc_version=version,
        python=own,
    )


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of wheels, which is all that pip sees; the cache is empty."""
    folder = tmp_path / "index"
    folder.mkdir()
    for python in ("38", "311"):
        make_wheel(folder, "numpy", "1.24.4", f"cp{python}-cp{python}-{MANY}", numpy_module())
    make_wheel(folder, "numpy", "2.3.0", f"cp311-cp311-{MANY}", numpy_module())
    for version, python in (
        ("1.17.3", "38"),
        ("1.17.3", "311"),
        ("1.19.2", "38"),
        ("1.32.0", "311"),
    ):
        make_wheel(
            folder,
            "onnxruntime",
            version,
            f"cp{python}-cp{python}-{MANY}",
            runtime_module(version),
            needs=("sympy", "numpy (>=1.21.6)" if version < "1.2" else "numpy>=1.21.6"),
        )
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def versions(family: str, platform: DevicePlatform, **more: object) -> dict[str, str]:
    chosen = choose_wheels(family, platform, **more)  # type: ignore[arg-type]
    return {wheel.name: wheel.version for wheel in chosen.wheels}


def refused(platform: DevicePlatform, **more: object) -> EdgedeployError:
    with pytest.raises(EdgedeployError) as error:
        choose_wheels("ort", platform, **more)  # type: ignore[arg-type]
    return error.value


def test_the_newest_for_the_devices_python(index: Path) -> None:
    """An old Python gets an old runtime; a runtime built for NumPy 1 gets NumPy 1."""
    assert versions("ort", device("3.8")) == {"numpy": "1.24.4", "onnxruntime": "1.19.2"}
    old = versions("ort", device("3.11"), version="1.17.3")
    assert old == {"numpy": "1.24.4", "onnxruntime": "1.17.3"}


def test_what_was_chosen_is_kept_with_its_digests(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second device of the kind needs no index; a damaged file is noticed and fetched again."""
    first = choose_wheels("ort", device("3.11"))
    assert [wheel.version for wheel in first.wheels] == ["2.3.0", "1.32.0"]
    assert {wheel.sha256 for wheel in first.wheels} == {
        sha256(first.path(wheel)) for wheel in first.wheels
    }
    assert all(wheel.license == "MIT" for wheel in first.wheels)
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    assert choose_wheels("ort", device()) == first
    assert isinstance(refused(device(), fresh=True), DeviceError)
    damaged = first.path(first.wheels[0])
    damaged.write_bytes(damaged.read_bytes() + b"x")
    assert isinstance(refused(device()), DeviceError)
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    assert choose_wheels("ort", device()) == first


@pytest.mark.parametrize(
    "platform",
    [device("3.11", machine="armv7l"), device("3.11", glibc=27), device("3.11", 2, libc="musl")],
    ids=["32-bit", "glibc 2.27", "musl"],
)
def test_nothing_for_such_a_device(index: Path, platform: DevicePlatform) -> None:
    error = refused(platform)
    assert error.diagnostics[0].code == "E464"
    assert platform.text in error.diagnostics[0].message


@pytest.mark.parametrize("version", ["1.16.3", "0", "2; import os", "--pre", "nothing"])
def test_a_version_that_targets_do_not_allow(index: Path, version: str) -> None:

    error = refused(device(), version=version)
    assert isinstance(error, UsageError) and error.diagnostics[0].code == "E465"


def test_an_index_that_cannot_be_reached_is_no_missing_wheel(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port that nobody listens on."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    error = refused(device())
    assert isinstance(error, ToolError) and error.diagnostics[0].code == "E510"


@pytest.mark.parametrize("python", ["3.8", "3.11", "3.13"])
def test_tags_are_those_of_the_packaging_library(python: str) -> None:
    """What pip is told makes the same set of tags as that library makes for such a device."""
    platform = device(python)
    short = python.replace(".", "")
    flags = pip_flags(platform, native=False)
    abis = [flags[at + 1] for at, word in enumerate(flags) if word == "--abi"]
    known = cpython_tags(
        tuple(int(part) for part in platform.python.version.split(".")),  # type: ignore[union-attr]
        abis=[f"cp{short}"],
        platforms=list(platform_tags(platform)),
    )
    assert abis[0] == f"cp{short}"
    needed = {tag.abi for tag in known} - {"none"}
    assert needed <= set(abis)


def test_platform_tags() -> None:
    """PEP 600: every older glibc, and the names from before it."""
    tags = list(platform_tags(device(glibc=31)))
    assert tags[0] == "manylinux_2_31_aarch64" and tags[-1] == "manylinux2014_aarch64"
    assert "manylinux_2_32_aarch64" not in tags and MANY in tags
    assert "manylinux1_x86_64" in platform_tags(device(machine="x86_64"))
    assert next(platform_tags(device(glibc=2, libc="musl"))) == "musllinux_1_2_aarch64"
    assert "abi3" not in pip_flags(device("3.14t"), native=False)
    assert "cp314t" in pip_flags(device("3.14t"), native=False)


def test_a_native_device_gets_the_library_alone(index: Path, tmp_path: Path) -> None:
    """Out of the wheel for whatever Python, with its licence."""
    content = {
        "onnxruntime/capi/libonnxruntime.so.1.33.0": b"library",
        "onnxruntime/capi/libonnxruntime_providers_shared.so": b"other",
        "onnxruntime/LICENSE": "licence",
    }
    tags = f"cp{sys.version_info.major}{sys.version_info.minor}-none-{MANY}"
    path = make_wheel(index, "onnxruntime", "1.33.0", tags, content)
    chosen = choose_wheels("ort", device(None), native=True)
    assert [(wheel.name, wheel.version) for wheel in chosen.wheels] == [("onnxruntime", "1.33.0")]
    assert parse_wheel_filename(chosen.wheels[0].file)[1].public == "1.33.0"
    goal = tmp_path / "goal"
    goal.mkdir()
    assert library_of(chosen.path(chosen.wheels[0]), goal) == ("LICENSE", "libonnxruntime.so")
    assert (goal / "libonnxruntime.so").read_bytes() == b"library"
    without = make_wheel(tmp_path, "onnxruntime", "1.18.0", tags, runtime_module("1.18.0"))
    with pytest.raises(DeviceError, match="no C library"):
        library_of(without, goal)
    assert path.exists()
