"""Keys from the command line: a publisher's and a reader's side, and what verify makes of it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgedeploy.cli.main import main
from edgedeploy.release.keys import read_signing_key
from tests.unit.release import made

Told = Callable[..., dict[str, Any]]


@pytest.fixture
def told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Told:
    """Return what runs a verb in a folder with the keys ``old`` and ``new``; the JSON it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def run(*arguments: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--json"])
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert found["exit_code"] == ended.value.code
        return found

    for name in ("old", "new"):
        assert run("keys", "new", name)["ok"]
    return run


def bundle(counter: int, *keys: str) -> str:
    """Write a release signed by keys of the folder; return its path."""
    release = made.release_of(counter=counter, version=f"{counter}.0")
    signers = [read_signing_key(Path(key)) for key in keys]
    return str(made.write(Path(), release, keys=signers))


def code(found: dict[str, Any]) -> str:
    """Return the code of a failure."""
    return str(found["diagnostics"][0]["code"])


def test_a_publisher_changes_keys_and_readers_follow(told: Told) -> None:
    """The whole life of a key, with the trust file in its usual place."""
    first, second = bundle(1, "old"), bundle(2, "new")
    refused = told("verify", first)
    assert (code(refused), refused["exit_code"]) == ("E753", 2)
    (key,) = told("keys", "enrol", "old.pub", "--name", "acme")["keys"]
    old = read_signing_key(Path("old")).id
    assert (key["id"], key["name"], key["by"], key["revoked"]) == (old, "acme", None, None)
    assert told("verify", first)["verified"]["signers"] == [old]
    assert code(told("verify", second)) == "E736"

    stated = told("keys", "rotate", "old", "new.pub", "-o", "acme.statement")["statement"]
    assert [key["id"] for key in told("keys", "enrol", "acme.statement")["keys"]] == [
        old,
        stated["new"],
    ]
    assert told("verify", second)["verified"]["signers"] == [stated["new"]]
    assert code(told("verify", first)) == "E738", "the old key cannot bring back what it released"

    third = bundle(3, "old")
    assert told("verify", third)["ok"], "until it is revoked"
    arguments = ("--by", "new", "-o", "gone.statement", "--reason", "lost on a train")
    assert told("keys", "revoke", "old.pub", *arguments)["ok"]
    assert told("keys", "enrol", "gone.statement")["keys"][0]["revoked"] == "lost on a train"
    refused = told("verify", third)
    assert (code(refused), refused["exit_code"]) == ("E746", 7)
    assert "lost on a train" in refused["diagnostics"][0]["message"]
    assert told("verify", bundle(4, "old", "new"))["verified"]["signers"] == [stated["new"]]


def test_a_revoked_key_is_not_believed_whoever_names_it(told: Told) -> None:
    first = bundle(1, "old")
    trust = ("--trust", "trust.json")
    assert told("keys", "enrol", "old.pub", "--name", "acme", *trust)["ok"]
    assert told("verify", first, *trust)["ok"]
    assert told("keys", "revoke", "acme", "--reason", "stolen", *trust)["keys"][0]["revoked"]
    assert code(told("verify", first, *trust)) == "E746"
    assert code(told("verify", first, *trust, "--key", "old.pub")) == "E746"
    assert code(told("verify", first, *trust, "--key", "new.pub")) == "E746"
    assert told("verify", first, "--key", "old.pub")["ok"], "no trust file was asked"
    assert told("verify", bundle(2, "new"), *trust, "--key", "new.pub")["ok"]
    assert code(told("keys", "enrol", "old.pub", "--name", "acme", *trust)) == "E747"
    assert told("keys", "list", *trust)["keys"][0]["revoked"] == "stolen"


def test_what_a_thief_releases_does_not_stand_in_the_way_afterwards(told: Told) -> None:
    """A huge counter under a stolen key is forgotten with the key."""
    assert told("keys", "enrol", "old.pub", "--name", "acme")["ok"]
    assert told("verify", bundle(2**53 - 1, "old"))["ok"]
    assert told("keys", "enrol", "new.pub", "--name", "acme")["ok"]
    assert code(told("verify", bundle(5, "new"))) == "E738"
    old = read_signing_key(Path("old")).id
    assert told("keys", "revoke", old, "--reason", "stolen")["ok"]
    assert told("verify", bundle(5, "new"))["ok"]


def test_statements_are_signed_by_a_command_too(told: Told) -> None:
    """The private part lies behind a program; here one that reads the file."""
    Path("sign.py").write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from edgedeploy.release.keys import read_signing_key\n"
        "key = read_signing_key(Path('hidden'))\n"
        "sys.stdout.buffer.write(key.sign(sys.stdin.buffer.read()))\n"
    )
    command = ("--sign-command", f"{sys.executable} sign.py")
    assert told("keys", "rotate", "old", "new", "-o", "by-file")["ok"]
    Path("old").rename("hidden")
    assert told("keys", "rotate", "old.pub", "new.pub", "-o", "by-command", *command)["ok"]
    assert Path("by-command").read_bytes() == Path("by-file").read_bytes()
    revoked = ("--by", "old.pub", "-o", "gone", "--reason", "stolen", *command)
    assert told("keys", "revoke", "old.pub", *revoked)["ok"]
    assert told("keys", "enrol", "old.pub", "--name", "acme")["ok"]
    assert told("keys", "enrol", "gone")["keys"][0]["revoked"] == "stolen"


@pytest.mark.parametrize(
    ("arguments", "status", "found"),
    [
        ("enrol old.pub", 2, "E747"),
        ("enrol said --name acme", 2, "E747"),
        ("enrol old --name acme", 2, "E752"),
        ("enrol none --name acme", 2, "E751"),
        ("enrol said", 7, "E745"),
        ("list", 2, "E753"),
        ("revoke acme --reason x", 2, "E747"),
        ("revoke old.pub --reason x --by old", 2, "E100"),
        ("revoke old.pub --reason x --by old -o f --trust t", 2, "E100"),
        ("revoke none --reason x --by old -o f", 2, "E751"),
        ("revoke old.pub --reason= --by old -o f", 2, "E747"),
        ("rotate old.pub new -o f", 2, "E752"),
        ("rotate old new -o none/f", 6, "E602"),
        ("rotate old old.pub -o f", 2, "E747"),
        ("rotate old new -o new", 2, "E750"),
        ("revoke old.pub --reason x --by old -o old.pub", 2, "E750"),
        ("rotate old new -o f --sign-command false", 5, "E744"),
        ("rotate old new -o f --sign-command true", 7, "E733"),
    ],
)
def test_what_does_not_hold_is_refused(told: Told, arguments: str, status: int, found: str) -> None:
    assert told("keys", "rotate", "old", "new", "-o", "said")["ok"]
    before = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    refused = told("keys", *arguments.split())
    assert (refused["exit_code"], code(refused)) == (status, found)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert not Path("f").exists()
    assert not Path("config").exists() or not list(Path("config").rglob("trust.json"))
