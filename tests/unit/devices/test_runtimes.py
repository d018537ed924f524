"""Which runtime a device has: ours, its own, none, too old, broken, or a lie."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from edgedeploy.devices import runtimes
from edgedeploy.devices.local import LocalRemote
from edgedeploy.devices.runtimes import (
    RuntimeRecord,
    find_runtime,
    in_range,
    runtime_depot,
    shell_path,
    survey,
)
from edgedeploy.errors import DeviceError
from edgedeploy.remote import DeviceRuntime, Finished

NAME = "0123456789abcdef" * 4
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def python_with(folder: Path, version: str | None, extra: str = "") -> str:
    """Return a Python whose onnxruntime is what a test wants, or is not there."""
    folder.mkdir(parents=True)
    if version is not None:
        (folder / "onnxruntime.py").write_text(f"__version__ = {version!r}\n{extra}\n")
    python = folder / "python"
    path = f'PYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}{folder}"'
    python.write_text(f'#!/bin/sh\n{path} exec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    return str(python)


def provisioned(base: Path, record: Any, module: str = "") -> None:
    """Lay a runtime out on this machine as provisioning does."""
    version = base / ".runtimes/ort/versions" / NAME
    version.mkdir(parents=True)
    (version / "runtime.json").write_text(record if isinstance(record, str) else json.dumps(record))
    (base / ".runtimes/ort/current").symlink_to(f"versions/{NAME}")
    tree = base / ".runtimes/trees" / NAME / "onnxruntime"
    tree.mkdir(parents=True)
    (tree / "__init__.py").write_text(module)


def record(version: str = "1.30.0", python: str = HERE) -> dict[str, Any]:
    return RuntimeRecord(
        family="ort", kind="python", version=version, python=python, parts=()
    ).to_json()


def find(base: Path, python: str) -> DeviceRuntime:
    return find_runtime(LocalRemote("robot"), str(base), "ort", python)


def refused(base: Path, python: str) -> tuple[str, str]:
    with pytest.raises(DeviceError) as error:
        find(base, python)
    first = error.value.diagnostics[0]
    assert first.subject == "robot"
    return first.code, f"{first.message} {first.hint}"


def test_the_devices_own(tmp_path: Path) -> None:
    python = python_with(tmp_path / "own", "1.20.1")
    found = find(tmp_path / "base", python)
    assert (found.kind, found.version, found.provisioned) == ("python", "1.20.1", None)
    done = LocalRemote().run(f"{found.command} -c 'import os; print(dict(os.environ))'")
    assert b"'ORT_DISABLE_TELEMETRY': '1'" in done.stdout


def test_none_says_how_to_get_one(tmp_path: Path) -> None:
    code, text = refused(tmp_path / "base", python_with(tmp_path / "own", None))
    assert code == "E460"
    assert "No module named" in text and "devices provision -d robot" in text


def test_too_old_an_own_one_is_refused(tmp_path: Path) -> None:
    code, text = refused(tmp_path / "base", python_with(tmp_path / "own", "1.16.3"))
    assert code == "E462" and "1.16.3" in text and ">=1.17" in text


def test_ours_goes_before_its_own(tmp_path: Path) -> None:
    """And sees to it that the library sends nothing and leaves nothing in its tree."""
    base = tmp_path / "a base"
    told = "import os\nassert os.environ['ORT_DISABLE_TELEMETRY'] == '1'\n__version__ = '1.30.0'\n"
    provisioned(base, record(), told)
    found = find(base, python_with(tmp_path / "own", "1.20.1"))
    assert (found.version, found.provisioned) == ("1.30.0", NAME)
    done = LocalRemote().run(f"{found.command} -c 'import onnxruntime as o; print(o.__file__)'")
    assert str(base / ".runtimes/trees" / NAME) in done.stdout.decode()
    assert not list((base / ".runtimes/trees").rglob("*.pyc"))


@pytest.mark.parametrize(
    ("said", "module", "why"),
    [
        (record(), "raise OSError('libdl.so.9 is missing')", "libdl.so.9 is missing"),
        (record(version="1.31.0"), "__version__ = '1.30.0'", "1.30.0, not 1.31.0"),
        (record(python="3.1"), "__version__ = '1.30.0'", "for Python 3.1"),
        (record(), "import os; os.abort()", "signal 6"),
    ],
)
def test_ours_that_does_not_load(
    tmp_path: Path, said: dict[str, Any], module: str, why: str
) -> None:
    """The device says why; its own is taken instead where it has one."""
    provisioned(tmp_path / "base", said, module)
    code, text = refused(tmp_path / "base", python_with(tmp_path / "none", None))
    assert code == "E463" and why in text and "provision" in text
    if why != "1.30.0, not 1.31.0" and "Python 3.1" not in why:
        assert find(tmp_path / "base", python_with(tmp_path / "own", "1.20.1")).provisioned is None


def test_names_of_folders_run_nothing(tmp_path: Path) -> None:
    """A root with everything that a shell could take for itself."""
    canary = tmp_path / "canary"
    base = tmp_path / f"it's $(touch {canary.name}) `id` ; * \""
    provisioned(base, record(), "__version__ = '1.30.0'")
    assert find(base, sys.executable).provisioned == NAME
    assert not canary.exists() and not Path(canary.name).exists()
    assert shell_path("~/a b") == "\"$HOME\"'/a b'"
    assert runtime_depot("~/.edgedeploy/", "ort") == "~/.edgedeploy/.runtimes/ort"


class Saying:
    """A device that answers every command with the same bytes."""

    name = "liar"

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def run(self, command: str, **limits: object) -> Finished:
        return Finished(status=0, stdout=self._answer, stderr=b"")


GOOD = json.dumps(record()).encode()


@given(
    st.lists(
        st.sampled_from(["link", "root", "record", "ours", "own", "python", "end"]).flatmap(
            lambda key: st.one_of(
                st.binary(max_size=80),
                st.sampled_from(
                    [b"versions/" + NAME.encode(), b"/root", b"python3", b"loads 1.30.0 3.11", GOOD]
                ),
            ).map(lambda value: (key, value))
        ),
        max_size=10,
    )
)
@example([("python", b"python3"), ("link", b"../../x"), ("root", b"/r"), ("end", b"")])
@example([("python", b"sh -c 'rm -rf /'"), ("own", b"loads 1.30.0 3.11"), ("end", b"")])
def test_a_liar_gets_nothing_into_a_command(lines: list[tuple[str, bytes]]) -> None:
    """What is returned is of our own making; anything else is E461."""
    answer = b"".join(b"edgedeploy-%s %s\n" % (key.encode(), value) for key, value in lines)
    try:
        found = survey(Saying(answer), "~/.edgedeploy", "ort")  # type: ignore[arg-type]
    except DeviceError as error:
        assert error.diagnostics[0].code == "E461"
        assert all(letter.isprintable() for letter in error.diagnostics[0].message)
        return
    assert found.python in runtimes.CANDIDATES
    if found.provisioned is not None:
        assert found.provisioned.name == NAME
        assert found.provisioned.root.startswith("/")


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "{", '{"schema": 1}', "[" * 10_000, json.dumps({**record(), "version": "x;"})],
)
def test_a_record_that_is_none_counts_as_nothing(tmp_path: Path, text: str) -> None:
    provisioned(tmp_path / "base", text, "__version__ = '1.30.0'")
    assert survey(LocalRemote(), str(tmp_path / "base"), "ort", sys.executable).provisioned is None


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=4),
    st.lists(st.integers(0, 40), min_size=1, max_size=3),
    st.lists(st.integers(0, 40), min_size=1, max_size=3),
)
def test_ranges_are_those_of_pep_440(
    version: list[int], least: list[int], below: list[int]
) -> None:
    """The known answer is the packaging library's."""
    text, low, high = (".".join(str(part) for part in item) for item in (version, least, below))
    wanted = f">={low},<{high}"
    assert in_range(text, wanted) == SpecifierSet(wanted).contains(text)


PART = {"name": "onnxruntime", "version": "1.30.0", "sha256": "ab" * 32, "license": "MIT"}


def test_parts_that_a_device_tells_can_be_shown() -> None:
    """`devices provision` prints them; a device's words must not steer the terminal or --json."""
    odd = {**PART, "license": "\x1b[2J\n\ud800" + "x" * 999, "file": 5, "more": float("nan")}
    found = RuntimeRecord.from_json({**record(), "parts": [PART, odd]}).to_json()["parts"]
    assert found[0] == PART
    assert found[1].keys() == PART.keys()
    assert all(text.isprintable() and len(text) <= 300 for text in found[1].values())


@pytest.mark.parametrize(
    "parts",
    [
        [None],
        [{}],
        [{"name": "x"}],
        [{**PART, "sha256": "short"}],
        [{**PART, "name": 1}],
        100 * [{}],
    ],
)
def test_parts_that_are_none_are_no_record(parts: Any) -> None:
    with pytest.raises(ValueError, match="part"):
        RuntimeRecord.from_json({**record(), "parts": parts})
