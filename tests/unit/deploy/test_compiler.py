"""The native runner is made by a real compiler of this machine, or it is said why not."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from edgedeploy.deploy.compiler import build_runner, needed_glibc
from edgedeploy.devices.local import LocalRemote
from edgedeploy.devices.platform import DevicePlatform, ask_platform
from edgedeploy.errors import DeviceError, ToolError

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DevicePlatform:
    """Return this machine as a device; the cache is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return ask_platform(LocalRemote())


def test_two_builds_are_the_same_bytes(
    here: DevicePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere, at another time; the second use of a cache compiles nothing."""
    first = build_runner(here)
    before = first.path.stat()
    assert build_runner(here) == first
    assert first.path.stat() == before
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    assert build_runner(here).path.read_bytes() == first.path.read_bytes()
    assert str(tmp_path).encode() not in first.path.read_bytes()


def test_what_it_needs_of_glibc_is_what_objdump_says(here: DevicePlatform) -> None:
    """Binutils are the independent reader; they come with the compiler."""
    program = build_runner(here).path
    said = subprocess.run(["objdump", "-T", program], capture_output=True, text=True, check=True)
    wanted = max(
        tuple(int(part) for part in word.strip("()").removeprefix("GLIBC_").split(".")[:2])
        for word in said.stdout.split()
        if word.strip("()").startswith("GLIBC_")
    )
    assert needed_glibc(program.read_bytes()) == wanted <= here.libc_version


def test_a_runner_for_a_newer_glibc_is_not_used(
    here: DevicePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither fresh from the compiler nor out of the cache."""
    only_system(monkeypatch)
    build_runner(here)
    with pytest.raises(ToolError) as error:
        build_runner(replace(here, libc_version=(2, 4)))
    found = error.value.diagnostics[0]
    assert found.code == "E511" and "needs glibc 2." in found.message
    assert "edgedeploy[native]" in str(found.hint)


def test_no_compiler(here: DevicePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    only_system(monkeypatch)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolError) as error:
        build_runner(here)
    assert error.value.diagnostics[0].code == "E511"


@pytest.mark.parametrize(
    "change", [{"libc": "musl", "libc_version": (1, 2)}, {"machine": "armv7l"}]
)
def test_devices_that_no_runner_is_made_for(
    here: DevicePlatform, change: dict[str, object]
) -> None:
    with pytest.raises(DeviceError) as error:
        build_runner(replace(here, **change))  # type: ignore[arg-type]
    assert error.value.diagnostics[0].code == "E464"


def test_the_sources_have_no_warning(tmp_path: Path) -> None:
    """As C99 with every warning that the project keeps to."""
    sources = sorted((Path(__file__).parents[3] / "edgedeploy/native").glob("*.c"))
    flags = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
    done = subprocess.run(
        ["gcc", *flags, "-o", tmp_path / "runner", *sources, "-ldl"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def only_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide a zig that is installed."""
    from edgedeploy.deploy import compiler

    real = compiler.importlib.util.find_spec
    monkeypatch.setattr(
        compiler.importlib.util,
        "find_spec",
        lambda name: None if name == "ziglang" else real(name),
    )
