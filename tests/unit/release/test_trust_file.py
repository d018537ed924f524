"""The check by a trust file on a device: without the package, the same answer as with it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgedeploy.errors import EdgedeployError
from edgedeploy.manifest import canonical
from edgedeploy.plaindata import to_plain
from edgedeploy.release import trust_file, verify_file
from edgedeploy.release.statements import Statement, state
from edgedeploy.release.trust import Trust, change_trust
from edgedeploy.release.verifying import VerifyOptions, verify
from tests.unit.release import made

OLD, NEW = made.KEY, made.OTHER
ENROLLED = Trust().with_key("acme", OLD.public)
ROTATED = ENROLLED.taking(state(Statement(act="rotate", key=OLD.id, public=NEW.public.hex()), OLD))


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """A folder with the two programs and nothing else of the package."""
    for module in (trust_file, verify_file):
        shutil.copy(str(module.__file__), tmp_path)
    return tmp_path


def run(device: Path, *words: object) -> tuple[int, str, str]:
    """Run the program as a device does."""
    done = subprocess.run(
        [sys.executable, "-S", "-E", "trust_file.py", *map(str, words)],
        cwd=device,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def both(device: Path, bundle: Path) -> str:
    """Return the code that both checks refuse a bundle with; empty where both take it."""
    status, _, why = run(device, bundle, "--trust", "trust.json", "--state", "state/there.json")
    try:
        trust, memory = device / "trust.json", device / "state/here.json"
        verify(bundle, VerifyOptions(trust=trust, state=memory))
    except EdgedeployError as error:
        code = error.diagnostics[0].code
        assert (status, why.partition(":")[0]) == (int(error.exit_code), code), why
        return code
    assert status == 0, why
    return ""


def test_a_device_believes_what_its_trust_file_says(device: Path) -> None:
    """From the first key to its successor, with the memory of older releases."""
    path = device / "trust.json"
    by_old = made.write(device, made.release_of(counter=1), keys=(OLD,))
    by_new = made.write(device, made.release_of(counter=2), keys=(NEW,))
    by_both = made.write(device, made.release_of(counter=3), keys=(OLD, NEW))
    change_trust(path, lambda _: ENROLLED)
    assert [both(device, bundle) for bundle in (by_old, by_new)] == ["", "E736"]
    change_trust(path, lambda _: ROTATED)
    assert [both(device, bundle) for bundle in (by_new, by_old)] == ["", "E738"]
    change_trust(path, lambda before: before.without(OLD.id, "löst"))
    assert [both(device, bundle) for bundle in (by_old, by_both)] == ["E746", ""]
    status, said, why = run(device, by_old, "--trust", path)
    assert (status, said) == (7, "")
    assert why == f"E746: {OLD.id[:16]} signed it, and was revoked: l\\xf6st\n"
    change_trust(path, lambda before: before.without(NEW.id, "too"))
    assert [both(device, bundle) for bundle in (by_new, by_both)] == ["E746", "E746"]
    spoiled = bytearray(by_new.read_bytes())
    spoiled[spoiled.index(b"cat\ndog\n")] ^= 1
    by_new.write_bytes(spoiled)
    assert run(device, by_new, "--trust", path)[2].startswith("E736: ")


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"more": 1},
        {"keys": [{"public": OLD.public.hex()}]},
        {"keys": [{"by": None, "name": "acme", "public": "00" * 32, "revoked": None}]},
        {"keys": [{"by": None, "name": "acme", "public": OLD.public.hex(), "revoked": False}]},
        {"keys": {}},
        {"keys": [1]},
    ],
)
def test_a_damaged_trust_file_is_refused(device: Path, change: dict[str, object]) -> None:
    path = device / "trust.json"
    path.write_bytes(canonical(to_plain(ENROLLED) | change))
    path.chmod(0o644)
    bundle = made.write(device)
    assert run(device, bundle, "--trust", path)[2].startswith("E743: ")


def test_what_it_needs_is_said(device: Path) -> None:
    path, bundle = device / "trust.json", made.write(device)
    assert run(device, bundle)[0] == 2
    assert run(device, bundle, "--trust", path)[0] == 6
    change_trust(path, lambda _: ENROLLED)
    assert run(device, bundle, "--trust", path)[0] == 0
    path.chmod(0o666)
    status, _, why = run(device, bundle, "--trust", path)
    assert (status, why.partition(":")[0]) == (7, "E743")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"\n")
    assert run(device, bundle, "--trust", path)[2].startswith("E743: ")
    (device / "verify_file.py").unlink()
    status, _, why = run(device, bundle, "--trust", path)
    assert (status, why) == (5, "not possible here: verify_file.py is not beside this file\n")
