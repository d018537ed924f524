"""Verifying: extraction that is whole or none, and the memory against older releases."""

import json
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgedeploy.errors import EdgedeployError, IntegrityError, StoreError, UsageError
from edgedeploy.release import extracting
from edgedeploy.release.opening import Bundle, open_bundle
from edgedeploy.release.verify_file import VerifyError
from edgedeploy.release.verify_file import verify as verify_alone
from edgedeploy.release.verifying import Verified, VerifyOptions, verify
from tests.unit.release import made
from tests.unit.release.test_release_mutations import public, tree

ROOT = os.geteuid() == 0


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """A folder with the publisher's key."""
    public(tmp_path)
    return tmp_path


def checked(
    box: Path, bundle: Path, *, extract: Path | None = None, allow_downgrade: bool = False
) -> Verified:
    """Verify a bundle with the box's memory."""
    return verify(
        bundle,
        VerifyOptions(
            keys=(box / "key.pub",),
            state=box / "state/releases.json",
            extract=extract,
            allow_downgrade=allow_downgrade,
        ),
    )


def code_of(box: Path, bundle: Path, **how: object) -> str:
    """Return the code with which a bundle is refused."""
    with pytest.raises(EdgedeployError) as caught:
        checked(box, bundle, **how)  # type: ignore[arg-type]
    return caught.value.diagnostics[0].code


def test_an_extracted_bundle_is_whole_and_can_be_checked_again(box: Path) -> None:
    """Every file, equal contents under each of their paths; whatever the umask is."""
    before = os.umask(0o077)
    try:
        found = checked(box, made.write(box), extract=box / "deep/out")
    finally:
        os.umask(before)
    out = box / "deep/out"
    assert found.folder == out and found.release == made.release_of()
    assert {path: (out / path).read_bytes() for path in made.CONTENTS} == made.CONTENTS
    assert len([path for path in out.rglob("*") if path.is_file()]) == len(made.CONTENTS) + 3
    for path in (out, *out.rglob("*")):
        mode = path.lstat().st_mode
        assert stat.S_IMODE(mode) == (0o755 if stat.S_ISDIR(mode) else 0o644), path
    done = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=out, check=False)
    assert done.returncode == 0
    assert verify_alone(str(out), [made.KEY.public])["digest"] == found.release.digest
    assert sorted(os.listdir(box / "deep")) == ["out"]  # noqa: PTH208


@pytest.mark.parametrize("change", ["more", "less", "other", "link", "folder link", "pipe", "sums"])
def test_an_extracted_folder_that_changed_is_refused(box: Path, change: str) -> None:
    """Before every load: what is there is what was signed, and no link leads elsewhere."""
    out = box / "out"
    checked(box, made.write(box), extract=out)
    path = out / "rpi5/ort/main/model.ort"
    if change == "more":
        (out / "more").write_bytes(b"")
    elif change == "other":
        path.write_bytes(b"\1" + path.read_bytes()[1:])
    elif change == "sums":
        (out / "SHA256SUMS").write_bytes(b"")
    elif change == "folder link":
        (out / "doc").rename(box / "elsewhere")
        (out / "doc").symlink_to(box / "elsewhere")
    else:
        content = path.read_bytes()
        path.unlink()
        if change == "link":
            (box / "model.ort").write_bytes(content)
            path.symlink_to(box / "model.ort")
        elif change == "pipe":
            os.mkfifo(path)
    with pytest.raises(VerifyError) as caught:
        verify_alone(str(out), [made.KEY.public])
    assert caught.value.code == "E735"


@pytest.mark.parametrize("there", ["file", "full", "link", "broken link", "dots"])
def test_nothing_is_extracted_over_anything(box: Path, there: str) -> None:
    """A folder of the bundle's own, or none at all (E742); and no memory of it."""
    out = box / "out"
    if there == "file":
        out.write_bytes(b"mine")
    elif there == "full":
        out.mkdir()
        (out / "mine").write_bytes(b"mine")
    elif there == "link":
        (box / "elsewhere").mkdir()
        out.symlink_to(box / "elsewhere")
    elif there == "broken link":
        out.symlink_to(box / "nowhere")
    else:
        (box / "x").mkdir()
        out = box / "x/.."
    bundle = made.write(box)
    before = tree(box)
    assert code_of(box, bundle, extract=out) == "E742"
    assert tree(box) == before


def test_an_empty_folder_is_taken(box: Path) -> None:
    (box / "out").mkdir(mode=0o700)
    checked(box, made.write(box), extract=box / "out")
    assert (box / "out/empty").read_bytes() == b""


def test_a_bundle_that_changes_while_it_is_extracted(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is hashed again as it is written; what was written goes."""
    contents = {**made.CONTENTS, "rpi5/ort/main/model.ort": bytes(range(256)) * 800}
    bundle = made.write(box, made.release_of(contents), contents=contents)
    content = bundle.read_bytes()
    parts = Bundle.parts

    def late(self: Bundle, path: str) -> Iterator[bytes]:
        if path == "rpi5/ort/main/model.ort":
            at = content.index(bytes(range(256)) * 2) + 150_000  # behind what is buffered
            with open(bundle, "r+b") as file:
                file.seek(at)
                file.write(b"worse")
        return parts(self, path)

    monkeypatch.setattr(Bundle, "parts", late)
    before = tree(box)
    assert code_of(box, bundle, extract=box / "out") == "E735"
    assert tree(box) == before


def test_no_link_is_followed_while_it_is_extracted(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder becomes one that leads elsewhere: it fails, and nothing is outside."""
    (box / "outside").mkdir()
    write = extracting._write

    def struck(root: int, path: str, parts: Iterator[bytes]) -> None:
        if path == "rpi5/ort/main/model.ort":
            (part,) = box.glob(".part.*")
            (part / "rpi5/ort/main").rename(box / "moved")
            (part / "rpi5/ort/main").symlink_to(box / "outside")
        write(root, path, parts)

    monkeypatch.setattr(extracting, "_write", struck)
    assert code_of(box, made.write(box), extract=box / "out") == "E602"
    assert not any((box / "outside").iterdir())
    assert not (box / "out").exists() and not list(box.glob(".part.*"))


def test_a_full_disk_leaves_nothing(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder goes, and the release was not taken."""
    fsync, calls = os.fsync, 0

    def full(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise OSError(28, "No space left on device")
        fsync(handle)

    bundle = made.write(box)
    before = tree(box)
    monkeypatch.setattr(os, "fsync", full)
    assert code_of(box, bundle, extract=box / "out") == "E601"
    assert tree(box) == before


DYING = """
import os, signal, sys
from pathlib import Path
from edgedeploy.release import extracting
from edgedeploy.release.verifying import VerifyOptions, verify
extracting.os.rename = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
bundle, box = map(Path, sys.argv[1:])
verify(bundle, VerifyOptions(keys=(box / "key.pub",), state=box / "other", extract=box / "out"))
"""


def test_what_a_killed_extraction_left_goes_with_the_next(box: Path) -> None:
    bundle = made.write(box)
    command = [sys.executable, "-c", DYING, str(bundle), str(box)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert len(list(box.glob(".part.*"))) == 1 and not (box / "out").exists()
    checked(box, bundle, extract=box / "out")
    assert not list(box.glob(".part.*")) and (box / "out").is_dir()


def test_an_older_release_is_refused(box: Path) -> None:
    """By name and key; what was taken on purpose does not lower what is remembered."""
    new, old = made.write(box), made.write(box, made.release_of(counter=6, version="0.9"))
    other_name = made.write(box, made.release_of(counter=1, name="gate"))
    checked(box, old)
    checked(box, new)
    checked(box, new)
    checked(box, other_name)
    assert code_of(box, old, extract=box / "out") == "E738"
    assert not (box / "out").exists()
    checked(box, old, allow_downgrade=True, extract=box / "out")
    assert code_of(box, old) == "E738"
    with pytest.raises(VerifyError, match="counter 6, but 7 was taken"):
        verify_alone(str(old), [made.KEY.public], str(box / "state/releases.json"))
    assert json.loads((box / "state/releases.json").read_bytes()) == {
        "schema": 1,
        "counters": {
            made.KEY.id: {
                "doorbell": {"counter": 7, "digest": made.release_of().digest},
                "gate": {"counter": 1, "digest": made.release_of(counter=1, name="gate").digest},
            }
        },
    }


def test_two_releases_of_one_counter(box: Path) -> None:
    """The first that came is the one; even a downgrade on purpose does not change that."""
    one, other = made.write(box), made.write(box, made.release_of(version="1.0.1"))
    checked(box, one)
    assert code_of(box, other) == "E739"
    assert code_of(box, other, allow_downgrade=True) == "E739"
    checked(box, one)


def test_an_old_key_does_not_bring_back_what_a_new_one_replaced(box: Path) -> None:
    """The newest release of a name counts, whichever of the believed keys signed it."""
    state, keys = str(box / "state.json"), [made.KEY.public, made.OTHER.public]
    old = made.write(box)
    new = made.write(box, made.release_of(counter=8), keys=(made.OTHER,))
    verify_alone(str(old), keys, state)
    verify_alone(str(new), keys, state)
    with pytest.raises(VerifyError) as caught:
        verify_alone(str(old), keys, state)
    assert caught.value.code == "E738"
    # Who believes one of them alone is not held up by what the other says.
    verify_alone(str(old), keys[:1], state)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b'{"counters":{}}',
        b'{"counters":{},"schema":2}',
        b'{"counters":{}, "schema":1}',
        b'{"counters":{"a":{}},"schema":1,"x":1}',
        b'{"counters":{"a":{"b":{"counter":1,"digest":"c"}}},"schema":1}',
        b'{"counters":[],"schema":1}',
        b"[" * 100_000,
        b"\xff" * 30,
    ],
)
def test_a_damaged_memory_is_not_believed(box: Path, content: bytes) -> None:
    """It is never begun anew in silence (E740)."""
    (box / "state").mkdir()
    (box / "state/releases.json").write_bytes(content)
    bundle = made.write(box)
    before = tree(box)
    assert code_of(box, bundle, extract=box / "out") == "E740"
    assert tree(box) == before
    assert (box / "state/releases.json").read_bytes() == content


def test_a_memory_that_others_may_write_is_not_believed(box: Path) -> None:
    bundle = made.write(box)
    checked(box, bundle)
    (box / "state/releases.json").chmod(0o666)
    assert code_of(box, bundle) == "E740"


@pytest.mark.parametrize("way", ["folder", "link", "full", "no folder", "pipe"])
def test_a_memory_that_cannot_be_kept_takes_nothing(
    box: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release that cannot be remembered is not extracted: an older one could follow."""
    bundle, state = made.write(box), box / "state/releases.json"
    if way == "no folder":
        (box / "state").write_bytes(b"")
    else:
        (box / "state").mkdir()
    if way == "folder":
        state.mkdir()
    elif way == "link":
        state.symlink_to(box / "elsewhere")
    elif way == "pipe":
        os.mkfifo(state)
    elif way == "full":
        monkeypatch.setattr(os, "replace", refusing)
    with pytest.raises(StoreError if way != "pipe" else IntegrityError):
        checked(box, bundle, extract=box / "out")
    assert not (box / "out").exists() and not (box / "elsewhere").exists()
    assert not list(box.glob(".part.*"))


def refusing(source: str, goal: str) -> None:
    raise OSError(28, "No space left on device")


def test_a_read_only_memory_serves_what_it_knows(box: Path) -> None:
    """A device whose memory lies in a read-only image loads what it was made with, no more."""
    bundle = made.write(box)
    checked(box, bundle)
    (box / "state/releases.json.lock").unlink()
    (box / "state/releases.json.lock").mkdir()  # no lock can be had
    checked(box, bundle)
    assert code_of(box, made.write(box, made.release_of(counter=8))) == "E741"
    checked(box, bundle)


def one_of_many(folder: str, counter: int) -> str:
    """Take a release in a process of its own; return what came of it."""
    release = made.release_of(counter=counter)
    bundle = Path(folder) / f"{release.digest[:8]}-{release.file_name}"
    try:
        verify_alone(str(bundle), [made.KEY.public], f"{folder}/state.json")
    except VerifyError as error:
        return error.code
    return "taken"


def test_many_at_once_forget_nothing(box: Path) -> None:
    """Whoever is last, the memory holds the newest that anybody took."""
    for counter in range(1, 9):
        made.write(box, made.release_of(counter=counter))
    jobs = [(str(box), counter) for counter in (3, 8, 1, 5, 2, 7, 4, 6)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        said = pool.starmap(one_of_many, jobs)
    assert set(said) <= {"taken", "E738"} and said[1] == "taken"
    kept = json.loads((box / "state.json").read_bytes())
    assert kept["counters"][made.KEY.id]["doorbell"]["counter"] == 8
    assert not (box / "state.json.part").exists()


def cli(*words: object, home: Path) -> tuple[int, str, str]:
    """Run the command line with a home of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "edgedeploy", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "HOME": str(home), "NO_COLOR": "1"},
    )
    return done.returncode, done.stdout, done.stderr


def test_the_command_line(box: Path) -> None:
    """What it prints, its JSON, its exit status, and the memory in the user's home."""
    bundle, old = made.write(box), made.write(box, made.release_of(counter=6))
    code, said, why = cli("verify", bundle, "--key", box / "key.pub", home=box)
    assert (code, why) == (0, "")
    assert said.splitlines() == [
        "doorbell 1.0.0, counter 7, is right",
        f"sha256     {made.release_of().digest}",
        f"signed by  {made.KEY.id}",
        "for        rpi5/ort",
        "files      7, 8.14 kB",
    ]
    assert (box / ".local/state/edgedeploy/releases.json").exists()
    key = ("--key", box / "key.pub", "--json")
    code, said, why = cli("verify", old, *key, "--extract", box / "out", home=box)
    assert code == 7 and json.loads(said)["diagnostics"][0]["code"] == "E738"
    code, said, _ = cli(
        *("verify", old, *key, "--allow-downgrade", "--extract", box / "out"), home=box
    )
    found = json.loads(said)["verified"]
    assert code == 0 and found["folder"] == str(box / "out") and found["counter"] == 6
    assert (box / "out/manifest.json").exists()


def test_what_is_no_file_does_not_hang(box: Path) -> None:
    """A pipe without a writer, a device that never ends, a folder."""
    os.mkfifo(box / "pipe")
    for path in (box / "pipe", Path("/dev/zero")):
        assert code_of(box, path) == "E731"
        with pytest.raises(VerifyError, match="no regular file"):
            verify_alone(str(path), [made.KEY.public])
    with pytest.raises(IntegrityError, match="is a folder") as caught:
        checked(box, box)
    assert (caught.value.diagnostics[0].code, caught.value.diagnostics[0].subject) == (
        "E731",
        str(box),
    )
    assert code_of(box, box / "missing") == "E602"
    with pytest.raises(UsageError):
        verify(made.write(box), VerifyOptions(keys=(box / "none",), state=box / "s"))
    with open_bundle(made.write(box), made.TRUSTED) as bundle, pytest.raises(KeyError):
        bundle.read("../etc/passwd")
