"""What every depot does: checking, repairing and cleaning."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from edgedeploy.devices.depot import Damage, Depot
from tests.unit.devices.depots import ABSENT, Box, content, push, put, refused, sha

FILES = {"main/model.ort": content(1, 5000), "labels.txt": b"cat\ndog\n"}
OTHER = {"main/model.ort": content(2, 5000), "labels.txt": b"cat\ndog\n"}
THIRD = {"main/model.ort": content(3, 5000), "labels.txt": b"cat\ndog\n"}


def activate(depot: Depot, version: str) -> None:
    depot.activate(version, 60)
    depot.confirm()


def rot(box: Box, data: bytes) -> str:
    """Flip a bit of an object, as a failing disk does; return its path in the depot."""
    path = box.object(sha(data))
    path.chmod(0o644)
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    path.chmod(0o444)
    return str(path.relative_to(box.folder))


def found(damages: tuple[Damage, ...]) -> set[tuple[str, str, bool]]:
    return {(damage.path, damage.what, damage.repaired) for damage in damages}


def test_a_sound_depot(box: Box) -> None:
    with box.locked() as depot:
        assert depot.fsck(repair=True) == ()
        activate(depot, push(depot, FILES))
        activate(depot, push(depot, OTHER))
        put(depot, content(9, 100))
        assert depot.fsck(repair=False) == ()
        assert depot.fsck(repair=True) == ()


def test_bit_rot_in_the_active_version_is_found_and_healed_alone(box: Box) -> None:
    with box.locked() as depot:
        version = push(depot, FILES)
        activate(depot, version)
        path = rot(box, FILES["main/model.ort"])
        bad = {(path, "bad-object"), (f"versions/{version}", "bad-version")}
        assert found(depot.fsck(repair=False)) == {(*one, False) for one in bad}
        assert found(depot.fsck(repair=True)) == {
            (path, "bad-object", True),
            (f"versions/{version}", "bad-version", False),
        }
        state = depot.hello()
        assert (state.current, state.versions) == (version, ())
        missing = set(map(sha, FILES.values())) - depot.have(list(map(sha, FILES.values())))
        assert missing == {sha(FILES["main/model.ort"])}  # this alone is sent again
        assert push(depot, FILES) == version
        assert depot.fsck(repair=False) == ()
        assert depot.hello().versions == (version,)
    box.check()


def test_bit_rot_in_another_version(box: Box) -> None:
    with box.locked() as depot:
        old = push(depot, OTHER)
        version = push(depot, FILES)
        activate(depot, version)
        path = rot(box, OTHER["main/model.ort"])
        assert found(depot.fsck(repair=True)) == {
            (path, "bad-object", True),
            (f"versions/{old}", "bad-version", True),
        }
        assert depot.fsck(repair=False) == ()
        assert depot.hello().versions == (version,)
    box.check()


def test_a_damaged_previous_goes_with_its_link(box: Box) -> None:
    with box.locked() as depot:
        old, version = push(depot, OTHER), push(depot, FILES)
        activate(depot, old)
        activate(depot, version)
        rot(box, OTHER["main/model.ort"])
        repaired = found(depot.fsck(repair=True))
        assert ("previous", "bad-link", True) in repaired
        assert (depot.hello().current, depot.hello().previous) == (version, None)
        assert depot.fsck(repair=False) == ()
        with refused("E427"):
            depot.rollback()
    box.check()


def remove_file(box: Box, version: str) -> None:
    (box.folder / "versions" / version / "labels.txt").unlink()


def remove_object(box: Box, version: str) -> None:
    box.object(sha(FILES["labels.txt"])).unlink()


def copy_file(box: Box, version: str) -> None:
    path = box.folder / "versions" / version / "labels.txt"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [remove_file, remove_object, copy_file])
def test_a_file_and_its_object_are_made_one_again(
    box: Box, damage: Callable[[Box, str], None]
) -> None:
    with box.locked() as depot:
        version = push(depot, FILES)
        activate(depot, version)
        damage(box, version)
        bad = (f"versions/{version}", "bad-version")
        assert found(depot.fsck(repair=False)) == {(*bad, False)}
        assert found(depot.fsck(repair=True)) == {(*bad, True)}
        assert depot.fsck(repair=False) == ()
        assert depot.hello().versions == (version,)
    box.check_version(version)


@pytest.mark.parametrize("text", [b"", b"{}", b"gone"])
def test_a_damaged_manifest(box: Box, text: bytes) -> None:
    with box.locked() as depot:
        old, version = push(depot, OTHER), push(depot, FILES)
        activate(depot, version)
        for name in (old, version):
            path = box.folder / "versions" / name / "manifest.json"
            path.unlink()
            if text != b"gone":
                path.write_bytes(text)
        with refused("E425" if text == b"gone" else "E720"):
            depot.manifest(version)
        assert found(depot.fsck(repair=True)) == {
            (f"versions/{old}", "bad-version", True),
            (f"versions/{version}", "bad-version", False),
        }
        assert depot.hello().current == version
        assert push(depot, FILES) == version
        assert depot.fsck(repair=False) == ()
    box.check()


def test_links_that_lead_nowhere(box: Box) -> None:
    with box.locked() as depot:
        for name in ("current", "previous"):
            (box.folder / name).symlink_to(f"versions/{ABSENT}")
        assert found(depot.fsck(repair=True)) == {
            ("current", "bad-link", False),
            ("previous", "bad-link", True),
        }
        activate(depot, push(depot, FILES))
        assert depot.fsck(repair=False) == ()


def test_what_is_not_ours_is_named_and_left(box: Box) -> None:
    with box.locked() as depot:
        version = push(depot, FILES)
        folders = ("", "objects/", "objects/zz/", "versions/", "incoming/", f"versions/{version}/")
        names = [f"{folder}notes" for folder in folders]
        for name in names:
            (box.folder / name).parent.mkdir(exist_ok=True)
            (box.folder / name).write_text("x")
        expected = {
            (name.replace("objects/zz/notes", "objects/zz"), "foreign", False) for name in names
        }
        assert found(depot.fsck(repair=True)) == expected
        depot.collect(0)
        kept = [name for name in names if not name.startswith(f"versions/{version}")]
        assert all((box.folder / name).exists() for name in kept)


def test_strays_are_taken_away(box: Box) -> None:
    with box.locked() as depot:
        (box.folder / "tmp/1").mkdir()
        (box.folder / "tmp/1/x").touch()
        assert found(depot.fsck(repair=False)) == {("tmp/1", "stray", False)}
        assert found(depot.fsck(repair=True)) == {("tmp/1", "stray", True)}
        assert depot.fsck(repair=False) == ()


def test_collect_keeps_what_is_needed(box: Box) -> None:
    with box.locked() as depot:
        names = [push(depot, {"f": content(seed, 1000), "g": b"same"}) for seed in range(6)]
        activate(depot, names[0])
        activate(depot, names[1])
        loose = put(depot, content(50, 777))
        assert depot.collect(6) == 777
        assert depot.have([loose]) == frozenset()
        freed = depot.collect(2)
        assert depot.hello().versions == (names[0], names[1], names[4], names[5])
        assert 2000 <= freed < 4000  # two objects and two manifests
        depot.activate(names[5], 60)
        depot.collect(0)
        assert depot.hello().versions == (names[0], names[1], names[5])
        depot.revert()
        assert depot.hello().versions == (names[0], names[1], names[5])
        depot.collect(0)
        assert depot.hello().versions == (names[0], names[1])
        assert depot.rollback() == names[0]
        assert depot.fsck(repair=False) == ()
    box.check()


def test_collect_keeps_the_files_of_a_damaged_active_version(box: Box) -> None:
    with box.locked() as depot:
        version = push(depot, FILES)
        activate(depot, version)
        (box.folder / "versions" / version / "manifest.json").unlink()
        depot.collect(0)
        assert len(depot.have(list(map(sha, FILES.values())))) == 2
        assert (box.folder / "current/labels.txt").read_bytes() == FILES["labels.txt"]


def test_old_streams_go(box: Box) -> None:
    with box.locked() as depot:
        for seed, days in ((1, 8), (2, 6), (3, -3000)):
            name = sha(content(seed, 500))
            depot.receive(name, 0, [content(seed, 500)])
            when = time.time() - days * 86400
            os.utime(box.folder / f"incoming/{name}.part", (when, when))
        assert depot.collect(1) == 500
        assert [depot.incoming(sha(content(seed, 500))).length for seed in (1, 2, 3)] == [
            0,
            500,
            500,
        ]
