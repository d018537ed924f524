"""Wheels for Macs: pip is the real one, the index a folder. No Mac was there to use them."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.tags import mac_platforms

from edgedeploy.deploy.wheels import choose_wheels, platform_tags
from edgedeploy.devices.platform import DevicePlatform, DevicePython
from edgedeploy.errors import DeviceError
from tests.unit.deploy.wheelhouse import make_wheel

ARM = "macosx_11_0_arm64"


def mac(
    version: tuple[int, int] = (14, 5), machine: str = "arm64", python: str = "3.11"
) -> DevicePlatform:
    own = DevicePython(
        command="python3", version=python, implementation="cpython", free_threaded=False
    )
    return DevicePlatform(machine=machine, libc="macos", libc_version=version, python=own)


@pytest.mark.parametrize("version", [(11, 7), (13, 6), (14, 5), (26, 1)])
@pytest.mark.parametrize("machine", ["arm64", "x86_64"])
def test_tags_are_those_of_the_packaging_library(version: tuple[int, int], machine: str) -> None:
    """Less what nobody makes any more: fat binaries, and systems before 10.9."""
    old = {f"macosx_10_{minor}_{kind}" for minor in range(9) for kind in (machine, "universal2")}
    wanted = [
        tag
        for tag in mac_platforms(version, machine)
        if tag not in old and tag.endswith((machine, "universal2"))
    ]
    assert list(platform_tags(mac(version, machine))) == wanted


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    needs = (
        "numpy>=1.14.5", "attrs", "typing-extensions; python_version < '3.10'",
        "winstuff; sys_platform == 'win32'", "tests; extra == 'test'",
    )  # fmt: skip
    for python in ("39", "311"):
        make_wheel(folder, "coremltools", "9.0", f"cp{python}-none-{ARM}", {}, needs)
        make_wheel(folder, "numpy", "2.0.0", f"cp{python}-cp{python}-macosx_14_0_arm64", {})
        make_wheel(folder, "pillow", "11.0", f"cp{python}-cp{python}-{ARM}", {})
    make_wheel(folder, "coremltools", "10.0", f"cp311-none-{ARM}", {})
    make_wheel(folder, "attrs", "26.1", "py3-none-any", {}, needs=("cattrs",))
    make_wheel(folder, "cattrs", "26.2", "py3-none-any", {}, needs=("attrs",))
    make_wheel(folder, "typing_extensions", "4.0", "py3-none-any", {})
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("python", "more"), [("3.11", set()), ("3.9", {"typing_extensions"})])
def test_coremltools_comes_with_all_that_it_imports(
    index: Path, python: str, more: set[str]
) -> None:
    """Markers are judged by the Mac's Python, not by this machine's; circles end."""
    found = choose_wheels("coreml", mac(python=python))
    names = {wheel.name: wheel.version for wheel in found.wheels}
    assert names.keys() == {"coremltools", "numpy", "pillow", "attrs", "cattrs"} | more
    assert names["coremltools"] == "9.0", "not 10.0, which is not tried"
    assert any("macosx_14_0_arm64" in wheel.file for wheel in found.wheels)


@pytest.mark.slow
def test_an_older_mac_gets_no_wheel_of_a_newer_one(index: Path) -> None:
    with pytest.raises(DeviceError) as error:
        choose_wheels("coreml", mac((13, 6)))
    (found,) = error.value.diagnostics
    assert found.code == "E464" and "arm64, macos 13.6" in found.message
