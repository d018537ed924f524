"""Every verb that reads releases is told in one way whom to believe."""

import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edgedeploy.cli.main import main
from edgedeploy.release.delta import write_delta
from edgedeploy.release.trust import Trust, change_trust
from tests.unit.release import made


@dataclass
class Desk:
    """A reader's machine: two bundles of one key, a delta between them, and key files."""

    folder: Path
    old: Path
    new: Path
    delta: Path

    @property
    def key(self) -> Path:
        """The public key that signed both."""
        return self.folder / "key.pub"

    @property
    def stranger(self) -> Path:
        """One that signed neither."""
        return self.folder / "stranger.pub"

    def trust(self, name: str, change: Callable[[Trust], Trust]) -> Path:
        """Write a trust file."""
        place = self.folder / name
        change_trust(place, change)
        return place

    def words(self, verb: str) -> list[str]:
        """Return a command of a verb that says nothing of whom to believe."""
        state = str(self.folder / "state.json")
        return {
            "verify": ["verify", str(self.new), "--state", state],
            "compare": ["compare", str(self.old), str(self.new)],
            "package": ["package", str(self.new), "--format", "oci", "-o", str(self.folder / "p")],
            "apply": [
                *["apply", str(self.delta), "--to", str(self.old)],
                *["-o", str(self.folder / "made.edpkg")],
            ],
        }[verb]

    def run(self, verb: str, *more: object) -> str:
        """Run a verb; return the code with which it is refused, empty when it is done."""
        out = io.StringIO()
        with (
            redirect_stdout(out),
            redirect_stderr(io.StringIO()),
            pytest.raises(SystemExit) as ended,
        ):
            main([*self.words(verb), "--json", *map(str, more)])
        document = json.loads(out.getvalue())
        codes = [item["code"] for item in document.get("diagnostics", ())]
        assert bool(ended.value.code) == bool(codes)
        return codes[0] if codes else ""


def write_public(place: Path, public: bytes) -> None:
    """Write a public key."""
    key = Ed25519PublicKey.from_public_bytes(public)
    place.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A reader who has enrolled nobody so far."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    old = made.write(tmp_path, made.release_of())
    contents = {**made.CONTENTS, "rpi5/ort/main/model.ort": bytes(range(255, -1, -1)) * 20}
    release = made.release_of(contents, version="1.1.0", counter=8)
    new = made.write(tmp_path, release, contents=contents)
    write_public(tmp_path / "key.pub", made.KEY.public)
    write_public(tmp_path / "stranger.pub", made.OTHER.public)
    return Desk(tmp_path, old, new, write_delta(old, new, tmp_path, "lzma").path)


def enrolled(trust: Trust) -> Trust:
    """Believe the key that signed."""
    return trust.with_key("acme", made.KEY.public)


def revoked(trust: Trust) -> Trust:
    """Believe it no more."""
    return enrolled(trust).without(made.KEY.id, "stolen")


VERBS = ("verify", "compare", "package", "apply")


@pytest.mark.parametrize("verb", VERBS)
def test_a_key_or_a_trust_file_says_whom_to_believe(desk: Desk, verb: str) -> None:
    assert desk.run(verb) == "E753", "nobody is believed"
    assert desk.run(verb, "--key", desk.key) == ""
    assert desk.run(verb, "--key", desk.stranger) == "E736"
    assert desk.run(verb, "--trust", desk.folder / "none.json") == "E753"
    theirs = desk.trust("theirs.json", lambda trust: trust.with_key("b", made.OTHER.public))
    assert desk.run(verb, "--trust", theirs) == "E736"
    assert desk.run(verb, "--trust", theirs, "--key", desk.key) == ""
    desk.trust("config/edgedeploy/trust.json", enrolled)
    assert desk.run(verb) == "", "the one in the user's home"
    assert desk.run(verb, "--trust", theirs) == "E736", "which another one stands for"
    assert desk.run(verb, "--key", desk.stranger) == "E736", "and a key too"


@pytest.mark.parametrize("verb", VERBS)
def test_a_revoked_key_is_believed_by_no_verb(desk: Desk, verb: str) -> None:
    """Whoever names it; and when nobody is left who is believed, that is nobody."""
    trust = desk.trust("gone.json", revoked)
    assert desk.run(verb, "--trust", trust) == "E746"
    assert desk.run(verb, "--trust", trust, "--key", desk.key) == "E746"
    assert not (desk.folder / "made.edpkg").exists() and not (desk.folder / "p").exists()


@pytest.mark.parametrize("verb", VERBS)
def test_a_trust_file_that_others_may_write_serves_no_verb(desk: Desk, verb: str) -> None:
    trust = desk.trust("open.json", enrolled)
    trust.chmod(0o666)
    assert desk.run(verb, "--trust", trust) == "E743"


def test_a_delta_is_applied_unverified_on_demand_alone(desk: Desk) -> None:
    assert desk.run("apply", "--unverified") == ""
    assert (desk.folder / "made.edpkg").read_bytes() == desk.new.read_bytes()
    assert desk.run("apply", "--unverified", "--key", desk.key) == "E100"


def test_a_trust_file_without_a_delta_is_a_mistake_of_who_releases(desk: Desk) -> None:
    words = ["release", "none.yaml", "--key", str(desk.key), "--trust", "trust.json"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2


def test_builds_need_nobody_to_vouch_for_them(desk: Desk) -> None:
    """So a key or a trust file beside two build folders is a mistake."""
    command = ["compare", "one", "two"]
    for more in (["--key", str(desk.key)], ["--trust", "trust.json"]):
        with pytest.raises(SystemExit) as ended:
            main([*command, *more])
        assert ended.value.code == 2
