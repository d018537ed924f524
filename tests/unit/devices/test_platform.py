"""What a device says it is: this machine, machines that are made up, and liars."""

import platform as own
import sys
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.devices.local import LocalRemote
from edgedeploy.devices.platform import DevicePlatform, ask_platform
from edgedeploy.errors import DeviceError
from edgedeploy.remote import Finished


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder whose programs stand before the system's."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_this_machine_is_what_python_says_of_it() -> None:
    """Another way to the same facts: Python's own modules, in the very interpreter."""
    found = ask_platform(LocalRemote(), sys.executable)
    libc, version = own.libc_ver()
    assert found.libc == libc
    assert found.libc_version == tuple(int(part) for part in version.split(".")[:2])
    assert found.machine == sysconfig.get_platform().partition("-")[2]
    assert found.python is not None
    assert found.python.command == sys.executable
    assert found.python.version == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert found.python.implementation == sys.implementation.name


def test_a_machine_without_python_is_known_by_its_loader() -> None:
    found = ask_platform(LocalRemote(), "/no/python")
    assert found.python is None
    assert found.machine == own.machine()
    assert "no Python" in found.text


@pytest.mark.parametrize(
    ("getconf", "ldd", "libc", "version"),
    [
        ("echo glibc 2.31", "exit 1", "glibc", (2, 31)),
        ("exit 1", "echo 'ldd (Debian GLIBC 2.36-9+deb12u10) 2.36'", "glibc", (2, 36)),
        ("exit 1", "echo 'ldd (Ubuntu GLIBC 2.35-0ubuntu3.8) 2.35'", "glibc", (2, 35)),
        ("exit 1", "echo 'ldd (GNU libc) 2.28'", "glibc", (2, 28)),
        (
            "echo getconf: unknown variable >&2; exit 1",
            "printf 'musl libc (aarch64)\\nVersion 1.2.4\\nDynamic Program Loader\\n' >&2; exit 1",
            "musl",
            (1, 2),
        ),
    ],
)
def test_the_c_library(
    tools: Path, getconf: str, ldd: str, libc: str, version: tuple[int, int]
) -> None:
    """As Raspberry Pi OS, Ubuntu, Rocky and Alpine say it."""
    program(tools / "getconf", getconf)
    program(tools / "ldd", ldd)
    found = ask_platform(LocalRemote())
    assert (found.libc, found.libc_version) == (libc, version)


def test_another_system_is_refused(tools: Path) -> None:
    program(tools / "uname", "echo FreeBSD")
    with pytest.raises(DeviceError) as error:
        ask_platform(LocalRemote("bsd"))
    assert error.value.diagnostics[0].code == "E461"
    assert "FreeBSD" in error.value.diagnostics[0].message


class Saying:
    """A device that answers every command with the same bytes."""

    name = "liar"

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def run(self, command: str, **limits: object) -> Finished:
        return Finished(status=0, stdout=self._answer, stderr=b"")


@given(
    st.lists(
        st.sampled_from(["system", "machine", "libc", "loader", "python", "end", "other"]).flatmap(
            lambda key: st.binary(max_size=80).map(lambda value: (key, value))
        ),
        max_size=12,
    )
)
def test_a_liar_is_refused_or_believed_in_form(lines: list[tuple[str, bytes]]) -> None:
    """Whatever comes back, it is a platform of plain words or E461, and steers no terminal."""
    answer = b"".join(b"edgedeploy-%s %s\n" % (key.encode(), value) for key, value in lines)
    try:
        found = ask_platform(Saying(answer))  # type: ignore[arg-type]
    except DeviceError as error:
        assert error.diagnostics[0].code == "E461"
        assert all(letter.isprintable() for letter in error.diagnostics[0].message)
    else:
        assert isinstance(found, DevicePlatform) and found.machine.isidentifier()
