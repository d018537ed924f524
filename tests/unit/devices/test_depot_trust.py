"""A depot that trusts keys: the same check with Python and with a shell and the native runner."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgedeploy.devices.depot import Allowed, Depot
from edgedeploy.devices.version import ENVELOPE, SIGNED
from edgedeploy.release.statements import Statement, state
from edgedeploy.release.trust import Trust
from tests.unit.devices.depots import KINDS, Box, refused
from tests.unit.devices.trusting import (
    ACME,
    APP,
    CONTENTS,
    KEY,
    OTHER,
    build_runner,
    files_of,
    give_runner,
    release_of,
    stage,
    trust_bytes,
)

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")

DEVELOPMENT, DOWNGRADE = Allowed(development=True), Allowed(downgrade=True)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the native runner."""
    return build_runner(tmp_path_factory.mktemp("native"))


@pytest.fixture(params=sorted(KINDS))
def box(request: pytest.FixtureRequest, tmp_path: Path, runner: Path) -> Iterator[Box]:
    """A depot of each kind of agent; the shell's has the runner beside it."""
    give_runner(tmp_path, runner)
    found = Box(tmp_path / APP, KINDS[request.param])
    yield found
    found.close()


def trusting(depot: Depot, trust: Trust = ACME) -> None:
    depot.entrust(trust_bytes(trust))


def activate(depot: Depot, version: str, allowed: Allowed | None = None) -> None:
    depot.activate(version, 60, allowed or Allowed())
    depot.confirm()


def test_a_signed_release_becomes_active(box: Box) -> None:
    with box.locked() as depot:
        assert depot.trust() is None
        trusting(depot)
        assert depot.trust() == trust_bytes(ACME)
        version = stage(depot, files_of(release_of()))
        depot.admit(version)
        activate(depot, version)
        assert depot.hello().current == version
        assert depot.fsck(repair=False) == ()
        memory = json.loads((box.folder / "releases.json").read_bytes())
        digest = release_of().digest
        assert memory["counters"] == {KEY.id: {APP: {"counter": 7, "digest": digest}}}
    box.check()
    assert not (box.folder / "releases.next").exists()


def test_nobody_trusts_then_nothing_is_asked(box: Box) -> None:
    files = files_of(release_of(), keys=(OTHER,))
    with box.locked() as depot:
        activate(depot, stage(depot, {**files, "main/model.ort": b"other"}))
        activate(depot, stage(depot, {"main/model.ort": b"x"}, kind="development"))
    assert not (box.folder / "releases.json").exists()


def test_a_development_version_needs_a_word(box: Box) -> None:
    with box.locked() as depot:
        version = stage(depot, {"main/model.ort": b"x"}, kind="development")
        activate(depot, version)
        trusting(depot)
        other = stage(depot, {"main/model.ort": b"y"}, kind="development")
        for act in (depot.admit, lambda name: activate(depot, name)):
            with refused("E755"):
                act(other)
        assert depot.hello().current == version
        depot.admit(other, DEVELOPMENT)
        activate(depot, other, DEVELOPMENT)
        assert depot.rollback() == version  # it was active here
    box.check()


SPOILED: dict[str, tuple[dict[str, bytes | None], str, str]] = {
    "changed": ({"main/model.ort": b"bad"}, "E735", "main/model.ort"),
    "swapped": ({"main/a/weights.bin": b"\1" * 3000}, "E735", "main/a/weights.bin"),
    "added": ({"main/more.bin": b"x"}, "E735", "main/more.bin"),
    "of another board": ({"main/model.ort": b"of another board"}, "E735", "main/model.ort"),
    "missing": ({"main/Ünï.bin": None}, "E735", "main/"),
    "no envelope": ({ENVELOPE: None}, "E735", ENVELOPE),
    "no manifest": ({SIGNED: None}, "E735", SIGNED),
    "nonsense": ({ENVELOPE: b"{}"}, "E732", ""),
}


def test_what_nobody_signed_is_refused_when_staged(box: Box) -> None:
    """Row F275."""
    right = files_of(release_of())
    with box.locked() as depot:
        trusting(depot)
        for name, (change, code, subject) in SPOILED.items():
            files = {**right, **change}
            given = {path: content for path, content in files.items() if content is not None}
            with refused(code) as caught:
                stage(depot, given)
            assert subject in str(caught.value), name
        assert depot.hello().versions == ()


def test_a_folder_that_is_not_there_may_miss(box: Box) -> None:
    """As the engines of other platforms do."""
    files = files_of(release_of())
    del files["main/b/weights.bin"]
    with box.locked() as depot:
        trusting(depot)
        activate(depot, stage(depot, files))


def test_damage_on_the_disk_is_found_before_it_is_active(box: Box) -> None:
    """Row F276: the object was right when it was staged."""
    with box.locked() as depot:
        trusting(depot)
        version = stage(depot, files_of(release_of()))
        place = box.folder / "versions" / version / "main/model.ort"
        place.chmod(0o644)
        content = bytearray(place.read_bytes())
        content[1000] ^= 1
        place.write_bytes(content)
        for act in (depot.admit, lambda name: activate(depot, name)):
            with refused("E735") as caught:
                act(version)
            assert "main/model.ort" in str(caught.value)
        assert depot.hello().current is None


def test_only_keys_of_the_trust_file_are_believed(box: Box) -> None:
    by_other = files_of(release_of(8), keys=(OTHER,))
    rotated = ACME.taking(
        state(Statement(act="rotate", key=KEY.id, public=OTHER.public.hex()), KEY)
    )
    with box.locked() as depot:
        version = stage(depot, by_other)
        trusting(depot)
        with refused("E736"):
            stage(depot, by_other)
        with refused("E736"):
            activate(depot, version)
        trusting(depot, rotated)
        activate(depot, version)
        old = stage(depot, files_of(release_of(9)))
        trusting(depot, rotated.without(KEY.id, "stolen"))
        with refused("E746") as caught:
            activate(depot, old)
        assert "stolen" in str(caught.value)
        activate(depot, stage(depot, files_of(release_of(10), keys=(KEY, OTHER))))
        assert depot.hello().previous == version


def test_a_revoked_release_does_not_come_back(box: Box) -> None:
    """Not by a roll-back either; what a revoked key used up of counters is forgotten."""
    both = ACME.with_key("other", OTHER.public)
    with box.locked() as depot:
        trusting(depot, both)
        activate(depot, stage(depot, files_of(release_of(900), keys=(OTHER,))))
        trusting(depot, both.without(OTHER.id, "a thief"))
        new = stage(depot, files_of(release_of(8)))
        activate(depot, new)
        with refused("E746"):
            depot.rollback()
        assert depot.hello().current == new


def test_an_older_release_needs_a_word(box: Box) -> None:
    with box.locked() as depot:
        trusting(depot)
        old, new = (stage(depot, files_of(release_of(counter))) for counter in (7, 8))
        activate(depot, old)
        activate(depot, new)
        with refused("E738"):
            depot.admit(old)
        with refused("E738"):
            activate(depot, old)
        with refused("E738"):
            stage(depot, files_of(release_of(6)))
        assert depot.rollback() == old  # it was active here
        assert depot.rollback() == new
        activate(depot, old, DOWNGRADE)
        with refused("E738"):  # the newest is remembered all the same
            depot.admit(stage(depot, files_of(release_of(6)), downgrade=True))
        contents = {**CONTENTS, "bom.cdx.json": b"[]"}
        with refused("E739"):
            stage(depot, files_of(release_of(8, contents=contents)))


def test_what_was_only_tried_is_not_remembered(box: Box) -> None:
    with box.locked() as depot:
        trusting(depot)
        old, new = (stage(depot, files_of(release_of(counter))) for counter in (7, 8))
        activate(depot, old)
        depot.activate(new, 60)
        depot.revert()
        assert depot.hello().current == old
        depot.activate(old, 60)
        depot.confirm()
        depot.admit(new)
    memory = json.loads((box.folder / "releases.json").read_bytes())
    assert memory["counters"][KEY.id][APP]["counter"] == 7


def test_a_release_of_another_application(box: Box) -> None:
    with box.locked() as depot:
        trusting(depot)
        with refused("E776"):
            stage(depot, files_of(release_of(name="intercom")))


DAMAGED = [
    ("trust.json", b"", "E743"),
    ("trust.json", b'{"keys":[],"schema":2,"statements":[]}', "E743"),
    ("trust.json", trust_bytes(ACME) + b"\n", "E743"),
    ("releases.json", b"", "E740"),
    ("releases.json", b'{"counters":{},"schema":1}\n', "E740"),
    ("releases.json", b'{"counters":{"ab":{"a":{"counter":1,"digest":"ab"}}},"schema":1}', "E740"),
]


def test_damaged_files_are_refused(box: Box) -> None:
    """Row F278: nothing is begun anew in silence."""
    with box.locked() as depot:
        trusting(depot)
        version = stage(depot, files_of(release_of()))
        for name, content, code in DAMAGED:
            place = box.folder / name
            before = place.read_bytes() if place.exists() else None
            place.write_bytes(content)
            with refused(code):
                depot.activate(version, 60)
            place.unlink()
            if before is not None:
                depot.entrust(before)
        assert depot.hello().current is None


def test_a_file_that_others_may_write_is_none(box: Box) -> None:
    with box.locked() as depot:
        trusting(depot)
        version = stage(depot, files_of(release_of()))
        (box.folder / "trust.json").chmod(0o666)
        with refused("E743"):
            activate(depot, version)


def test_both_agents_share_one_memory(tmp_path: Path, runner: Path) -> None:
    """A device that loses its Python, or gets one."""
    give_runner(tmp_path, runner)
    python, shell = (Box(tmp_path / APP, KINDS[kind]) for kind in ("agent", "busybox"))
    with python.locked() as depot:
        trusting(depot)
        activate(depot, stage(depot, files_of(release_of(7))))
        old = stage(depot, files_of(release_of(8), keys=(KEY, OTHER)))
    with shell.locked() as depot:
        depot.entrust(trust_bytes(ACME.with_key("other", OTHER.public)))
        activate(depot, old)
        new = stage(depot, files_of(release_of(9), keys=(OTHER,)))
        activate(depot, new)
    with python.locked() as depot:
        with refused("E738"):
            depot.admit(old)
        assert depot.hello().current == new
        assert depot.fsck(repair=False) == ()
    memory = json.loads((tmp_path / APP / "releases.json").read_bytes())
    taken = {key: names[APP]["counter"] for key, names in memory["counters"].items()}
    assert taken == {KEY.id: 8, OTHER.id: 9}


def test_a_device_that_cannot_check_takes_nothing(tmp_path: Path, runner: Path) -> None:
    """Row F277: no Python, and no runner or one that knows no such check."""
    box = Box(tmp_path / APP, KINDS["busybox"])
    with box.locked() as depot:
        version = stage(depot, files_of(release_of()))
        trusting(depot)
        with refused("E754"):
            activate(depot, version)
        place = give_runner(tmp_path, runner)
        activate(depot, version)
        place.write_text("#!/bin/sh\necho 'failed job x'\nexit 2\n")
        with refused("E754"):
            depot.admit(version)
        place.write_text("#!/bin/sh\nexit 0\n")
        with refused("E754"):
            depot.admit(version)
    box.close()
