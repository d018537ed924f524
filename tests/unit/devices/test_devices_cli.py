"""``edgedeploy devices list`` and ``show``: what they print, and that they connect to nothing."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = """devices:
  kitchen: {host: 192.0.2.1, board: rpi5, tags: [arm]}
  pretend: {connection: fake, facts: {arch: aarch64}}
groups: {all: [kitchen]}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    (tmp_path / "devices.yaml").write_text(TEXT)
    return tmp_path


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgedeploy", "devices", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), **environment},
        timeout=60,
        check=False,
    )


def test_list_shows_every_device_and_where_it_was_read(project: Path) -> None:
    said = run(project, "list")
    assert said.returncode == 0 and said.stderr == ""
    rows = [line.split() for line in said.stdout.splitlines()]
    assert rows[1] == ["kitchen", "ssh", "192.0.2.1", "rpi5", "@all", "arm"]
    assert rows[2][:2] == ["pretend", "fake"] and rows[3][:2] == ["local", "local"]
    assert rows[-1] == ["read", "from", "devices.yaml"]
    data = json.loads(run(project, "list", "-d", "tag:arm", "--json").stdout)
    assert data["ok"] and [one["name"] for one in data["devices"]] == ["kitchen"]
    assert data["groups"] == {"all": ["kitchen"]} and data["file"] == "devices.yaml"


def test_list_without_an_inventory_shows_how_to_begin(tmp_path: Path) -> None:
    said = run(tmp_path, "list")
    assert said.returncode == 0 and "devices:\n  kitchen-pi:\n    host:" in said.stdout
    said = run(tmp_path, "show", "pi")
    assert said.returncode == 2 and "error[E190]" in said.stderr and "devices.yaml" in said.stderr


def test_show_says_what_a_connection_would_use(project: Path) -> None:
    said = run(project, "show", "kitchen", "--json")
    data = json.loads(said.stdout)["devices"][0]
    assert data["connection"]["host"] == "192.0.2.1" and data["connection"]["port"] == 22
    assert data["connection"]["host_key_name"] == "192.0.2.1"
    text = run(project, "show", "kitchen").stdout
    assert "\n  ssh user   " in text and "rpi5" in text and "\n  ssh accept new      no\n" in text
    assert run(project, "show", "pretend").stdout.startswith("pretend (fake)\n")


def test_a_mistyped_name_gets_the_nearest(project: Path) -> None:
    said = run(project, "show", "kichen")
    assert said.returncode == 2 and "did you mean `kitchen`?" in said.stderr
    said = run(project, "lst")
    assert said.returncode == 2 and "did you mean `list`?" in said.stderr


def test_nothing_connects(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (project / "devices.yaml").write_text(f"devices:\n  a: {{host: 127.0.0.1, port: {port}}}\n")
        assert run(project, "show", "a").returncode == run(project, "list").returncode == 0
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()


def test_nobody_is_asked_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgedeploy.cli.asking import asker

    assert asker(no_input=False) is None  # pytest has no terminal here
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert asker(no_input=True) is None
    asked = asker(no_input=False)
    monkeypatch.setattr("getpass.getpass", lambda prompt: "" if prompt == "empty" else "typed")
    assert asked is not None and asked("x") == "typed" and asked("empty") is None


def test_a_roll_back_of_what_is_not_there_makes_nothing(project: Path) -> None:
    """The row says it once, the finding whose it is; nothing new lies on the device."""
    said = subprocess.run(
        [sys.executable, "-m", "edgedeploy", "rollback", "nosuch", "-d", "pretend"],
        capture_output=True,
        text=True,
        cwd=project,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "XDG_CACHE_HOME": str(project / "cache"),
        },
        timeout=60,
        check=False,
    )
    assert said.returncode == 4
    told = said.stderr.splitlines()
    assert told[0] == "pretend: connecting" and told[1].startswith("error[E443]")
    assert told[2] == " --> pretend" and told[3].startswith("hint: ")
    assert len(said.stdout.splitlines()) == 1 and len(said.stdout.rstrip("\n")) <= 80
    assert not list(project.rglob("format"))


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            {"clock": 0, "event": "activate", "version": "ab" * 32, "before": "cd" * 32},
            "1970-01-01 00:00:00 activate abababababab (before: cdcdcdcdcdcd)",
        ),
        (
            {"clock": 1, "event": "vouched", "details": '{"checks": ["a b", "c"]}'},
            "1970-01-01 00:00:01 vouched a b, c",
        ),
        ({"clock": 0, "event": "\x1b[2Jevil"}, "1970-01-01 00:00:00 ?[2Jevil"),
        ({"clock": 1e300, "event": "x"}, '{"clock": 1e+300, "event": "x"}'),
        ({"clock": 0, "event": 5}, '{"clock": 0, "event": 5}'),
        (["no", "object"], '["no", "object"]'),
    ],
)
def test_a_journal_is_shown_for_people(line: object, shown: str) -> None:
    """What is no event of ours, or would steer a terminal, does no harm."""
    from edgedeploy.cli.devices.fsck import _event

    assert _event(json.dumps(line)) == shown


def test_a_missing_sub_verb_shows_what_there_is(project: Path) -> None:
    said = run(project)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith("Usage:") and "  probe" in said.stderr
    document = json.loads(run(project, "--json").stdout)
    assert (document["ok"], document["exit_code"]) == (False, 2)
