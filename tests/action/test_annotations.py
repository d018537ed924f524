"""Diagnostics as commands: GitHub's runner reads back what we say, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.errors import Diagnostic, Place
from edgedeploy.errors.annotations import annotation
from edgedeploy.errors.render import printable
from tests.action.commands import read_command, read_commands

WORDS = st.text(alphabet=st.one_of(st.sampled_from("%:,=\r\n\0]#025DAC3 "), st.characters()))
SEVERITIES = {"error": "error", "warning": "warning", "note": "notice"}


@given(
    message=WORDS,
    hint=st.none() | WORDS,
    file=WORDS.filter(lambda text: text.strip() == text != ""),
    line=st.integers(1, 10**6),
    column=st.integers(1, 10**6),
    severity=st.sampled_from(sorted(SEVERITIES)),
)
def test_the_runner_reads_what_was_meant(message, hint, file, line, column, severity) -> None:
    """Whatever the text holds: one line, and each part as it was."""
    place = Place(file=file, line=line, column=column)
    told = annotation(
        Diagnostic(code="E104", message=message, hint=hint, place=place, severity=severity), None
    )
    assert "\n" not in told and "\r" not in told
    found = read_command(told)
    assert found is not None and found.name == SEVERITIES[severity]
    assert found.properties == {
        "file": file,
        "line": str(line),
        "col": str(column),
        "title": "edgedeploy E104",
    }
    expected = printable(message) + ("" if hint is None else f"\nhint: {printable(hint)}")
    assert found.data == expected


def test_text_of_a_model_is_no_command() -> None:
    """A name that would end the line and start another command stays inside its own."""
    told = annotation(
        Diagnostic(code="E200", message="bad", subject="a\n::add-mask::b%0A::error::c"), None
    )
    assert told.count("\n") == 0
    found = read_command(told)
    assert found is not None
    assert found.data == "a\\n::add-mask::b%0A::error::c: bad"


@pytest.mark.parametrize("current", [".", "sub", "sub/deep"])
def test_a_path_is_the_one_in_the_checkout(
    current: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From every folder, through a link to the checkout too."""
    (tmp_path / "real/sub/deep").mkdir(parents=True)
    (tmp_path / "linked").symlink_to("real")
    monkeypatch.chdir(tmp_path / "linked" / current)
    profile = tmp_path / "real/sub/model.yaml"
    profile.write_text("edgedeploy: 1\n")
    for path in (str(profile), os.path.relpath(profile.resolve(), Path.cwd())):
        place = Place(file=path, line=3, column=2)
        told = annotation(
            Diagnostic(code="E104", message="m", place=place), str(tmp_path / "linked")
        )
        found = read_command(told)
        assert found is not None and found.properties["file"] == "sub/model.yaml"


def test_a_file_outside_of_the_checkout_keeps_its_path(tmp_path: Path) -> None:
    place = Place(file="/etc/other.yaml", line=1, column=1)
    told = annotation(Diagnostic(code="E104", message="m", place=place), str(tmp_path))
    found = read_command(told)
    assert found is not None and found.properties["file"] == "/etc/other.yaml"


def test_the_command_line_prints_both_forms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The text for those who read the log, a command per finding, the document untouched."""
    from edgedeploy.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    Path("p.yaml").write_text("edgedeploy: 1\nname: p\nmodel: {source: m.onnx}\ntarget: []\n")
    for option in (["--annotations", "github"], ["--annotations=github"]):
        with pytest.raises(SystemExit) as ended:
            main(["check", "p.yaml", "--json", *option])
        assert ended.value.code == 2
        out, err = capsys.readouterr()
        told = json.loads(out)["diagnostics"]
        commands = read_commands(err)
        assert [item["code"] for item in told] == [
            command.properties["title"].removeprefix("edgedeploy ") for command in commands
        ]
        assert [item["place"]["line"] for item in told] == [
            int(command.properties["line"]) for command in commands
        ]
        assert "error[E104]: unknown key `target`" in err


@pytest.mark.parametrize("option", [[], ["--annotations", "gitlab"]])
def test_without_being_asked_none_is_printed(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A form that nobody knows is refused, in plain words."""
    from edgedeploy.cli.main import main

    with pytest.raises(SystemExit) as ended:
        main(["check", "nothing.yaml", *option])
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert "error[E10" in err and "::error" not in err
