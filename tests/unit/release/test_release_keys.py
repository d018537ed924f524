"""Keys that sign: files, and commands that hold the private part somewhere else."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgedeploy.cli.main import main
from edgedeploy.errors import EdgedeployError, IntegrityError, ToolError, UsageError
from edgedeploy.release import keys
from edgedeploy.release.keys import (
    new_key,
    read_public_key,
    read_public_part,
    signed_by,
    signing_key,
)
from edgedeploy.release.signing import is_signed, key_id, sign
from edgedeploy.release.verify_file import read_key

OPENSSL = ("openssl", "pkeyutl", "-sign", "-rawin", "-in", "/dev/stdin", "-inkey")


def code_of(error: pytest.ExceptionInfo[EdgedeployError]) -> str:
    """Return the code of a failure."""
    return error.value.diagnostics[0].code


def status(*arguments: str) -> int:
    """Run the command line and return its exit status."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(str(ended.value.code))


def prints(text: str) -> tuple[str, ...]:
    """Return a command of one Python statement; ``given`` is its standard input."""
    return (sys.executable, "-c", f"import sys; given = sys.stdin.buffer.read(); {text}")


def test_a_new_key_is_two_files_that_every_reader_knows(tmp_path: Path) -> None:
    made = new_key(tmp_path / "key")
    public = tmp_path / "key.pub"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    parts = (read_public_part(tmp_path / "key"), read_public_part(public), read_key(str(public)))
    assert set(parts) == {made.public}
    assert made.id == key_id(made.public)
    with pytest.raises(UsageError) as caught:
        new_key(tmp_path / "key")
    assert code_of(caught) == "E750"


@pytest.mark.parametrize("place", ["key", "key.pub"])
def test_a_new_key_takes_no_file_of_others_away(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one that appears in between, nor a link that leads nowhere."""
    monkeypatch.setattr(os.path, "lexists", lambda path: False)
    (tmp_path / place).write_text("theirs")
    with pytest.raises(UsageError) as caught:
        new_key(tmp_path / "key")
    assert code_of(caught) == "E750"
    assert [path.name for path in tmp_path.iterdir()] == [place]
    assert (tmp_path / place).read_text() == "theirs"
    monkeypatch.undo()
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(UsageError) as caught:
        new_key(tmp_path / "link")
    assert code_of(caught) == "E750" and (tmp_path / "link").is_symlink()


def test_an_interrupted_key_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(keys, "sync_folder", interrupted)
    with pytest.raises(KeyboardInterrupt):
        new_key(tmp_path / "key")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_private_key_that_others_may_read_signs_nothing(tmp_path: Path, mode: int) -> None:
    new_key(tmp_path / "key")
    (tmp_path / "key").chmod(mode)
    for read in (signing_key, read_public_part):
        with pytest.raises(UsageError) as caught:
            read(tmp_path / "key")
        assert code_of(caught) == "E751"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_signs_as_the_file_does(tmp_path: Path) -> None:
    """Ed25519 is not randomised: whoever signs, the bytes are the same."""
    by_file = new_key(tmp_path / "key")
    by_command = signing_key(tmp_path / "key.pub", (*OPENSSL, str(tmp_path / "key")))
    for payload in (b"", b"\0\xff" * 50_000):
        made = sign(payload, by_command.public, by_command.sign)
        assert made == sign(payload, by_file.public, by_file.sign)
    shown = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", tmp_path / "key.pub", "-outform", "DER"],
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    assert shown.endswith(by_file.public)


def test_a_command_gets_what_is_signed_and_no_shell(tmp_path: Path) -> None:
    copy = prints("sys.stdout.buffer.write(given + sys.argv[1].encode())")
    assert signed_by((*copy, "$HOME;`id`"), b"a\nb\0") == b"a\nb\0$HOME;`id`"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("no-such-program-of-ours",), "No such file"),
        ((os.devnull,), "cannot be started"),
        (("true\0",), "cannot be started"),
        (prints("sys.exit(3)"), "status 3"),
        (prints("import os; os.kill(os.getpid(), 9)"), "status -9"),
    ],
)
def test_a_command_that_fails_is_named(command: tuple[str, ...], why: str) -> None:
    with pytest.raises(ToolError, match=why) as caught:
        signed_by((*command, "--pin", "1234"), b"data")
    assert code_of(caught) == "E744"
    assert "1234" not in str(caught.value.diagnostics[0])


def test_a_command_that_hangs_ends() -> None:
    with pytest.raises(ToolError, match="longer") as caught:
        signed_by(prints("import time; time.sleep(60)"), b"data", timeout_s=0.2)
    assert code_of(caught) == "E744"


@pytest.mark.parametrize("text", ["pass", "print('x' * 64, end='')", "print('x' * 9999)"])
def test_what_a_command_prints_is_checked(tmp_path: Path, text: str) -> None:
    new_key(tmp_path / "key")
    key = signing_key(tmp_path / "key.pub", prints(text))
    with pytest.raises(IntegrityError) as caught:
        sign(b"data", key.public, key.sign)
    assert code_of(caught) == "E733"


def test_another_key_behind_the_command_is_found_out(tmp_path: Path) -> None:
    mine, other = new_key(tmp_path / "mine"), new_key(tmp_path / "other")
    signature = sign(b"data", other.public, other.sign).sig
    assert is_signed(b"data", other.public, signature)
    key = signing_key(
        tmp_path / "mine.pub",
        prints(f"sys.stdout.buffer.write(bytes.fromhex('{signature.hex()}'))"),
    )
    with pytest.raises(IntegrityError) as caught:
        sign(b"data", mine.public, key.sign)
    assert code_of(caught) == "E733"


def test_keys_new_and_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "key"
    assert status("keys", "new", str(file), "--json") == 0
    made = json.loads(capsys.readouterr().out)["key"]
    for path in (file, made["public"]):
        assert status("keys", "show", str(path), "--json") == 0
        shown = json.loads(capsys.readouterr().out)["key"]
        assert shown == {"id": made["id"], "raw": read_public_key(Path(made["public"])).hex()}
    assert status("keys", "new", str(file)) == 2
    (tmp_path / "text").write_text("no key")
    assert status("keys", "show", str(tmp_path / "text")) == 2
    assert status("keys", "new", str(tmp_path / "none" / "key")) == 6
    assert status("keys", "new", "") == 2


@pytest.mark.parametrize("given", ["", "  ", "openssl 'unclosed"])
def test_a_command_line_that_is_none_is_refused(
    given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("release", "x.yaml", "--key", "k", "--sign-command", given) == 2
    assert "--sign-command" in capsys.readouterr().err
