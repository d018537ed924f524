"""What every depot does: switching, trials, going back, and what is left over when one dies."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.unit.devices.depots import ABSENT, Box, content, push, refused

SETTLE = Path(__file__).parents[3] / "edgedeploy/devices/settle.sh"


def versions(box: Box, count: int) -> list[str]:
    """Push versions; the first is active and confirmed."""
    with box.locked() as depot:
        names = [push(depot, {"f": content(seed, 100), "same": b"x"}) for seed in range(count)]
        depot.activate(names[0], 60)
        depot.confirm()
    return names


def test_activate_and_confirm(box: Box) -> None:
    with box.locked() as depot:
        one, two = (push(depot, {"f": content(seed, 100)}) for seed in range(2))
        depot.activate(one, 60)
        state = depot.hello()
        assert (state.current, state.previous, state.pending) == (one, None, one)
        depot.confirm()
        state = depot.hello()
        assert (state.current, state.previous, state.pending) == (one, None, None)
        depot.activate(two, 60)
        depot.confirm()
        state = depot.hello()
        assert (state.current, state.previous, state.pending) == (two, one, None)
        assert (box.folder / "current/f").read_bytes() == content(1, 100)
        with refused("E426"):
            depot.confirm()
        depot.activate(two, 60)  # what is active already
        depot.confirm()
        assert depot.hello().previous == one
    box.check()


def test_revert(box: Box) -> None:
    one, two = versions(box, 2)
    with box.locked() as depot:
        depot.activate(two, 60)
        assert box.current() == two
        depot.revert()
        state = depot.hello()
        assert (state.current, state.previous, state.pending) == (one, None, None)
        assert state.reverted is None  # it was asked for
        depot.revert()  # nothing is on trial: nothing to do
        with refused("E426"):
            depot.confirm()
    assert sorted(path.name for path in box.folder.glob("pending*")) == []


def test_the_first_version_is_reverted_to_none(box: Box) -> None:
    with box.locked() as depot:
        one = push(depot, {"f": b"x"})
        depot.activate(one, 60)
        depot.revert()
        state = depot.hello()
        assert (state.current, state.versions) == (None, (one,))
        with refused("E427"):
            depot.rollback()
    assert not (box.folder / "current").is_symlink()


def test_rollback(box: Box) -> None:
    one, two = versions(box, 2)
    with box.locked() as depot:
        with refused("E427"):
            depot.rollback()
        assert depot.hello().current == one
        depot.activate(two, 60)
        depot.confirm()
        assert depot.rollback() == one
        assert (depot.hello().current, depot.hello().previous) == (one, two)
        assert depot.rollback() == two
        assert (depot.hello().current, depot.hello().previous) == (two, one)
    box.check()


def test_a_trial_of_ones_own_ends_first(box: Box) -> None:
    one, two, three = versions(box, 3)
    with box.locked() as depot:
        depot.activate(two, 60)
        depot.confirm()
        depot.activate(three, 60)
        assert depot.rollback() == one
        depot.activate(three, 60)
        depot.activate(two, 60)
        depot.confirm()
        assert (depot.hello().current, depot.hello().previous) == (two, one)


def test_what_is_not_there_is_not_activated(box: Box) -> None:
    one, two = versions(box, 2)
    with box.locked() as depot:
        with refused("E425"):
            depot.activate(ABSENT, 60)
        (box.folder / "versions" / two / "f").unlink()
        with refused("E425"):
            depot.activate(two, 60)
        assert (depot.hello().current, depot.hello().versions) == (one, (one,))


def test_a_trial_ends_by_itself(box: Box) -> None:
    one, two = versions(box, 2)
    with box.locked() as depot:
        depot.activate(two, 0.5)
        assert box.current() == two
        time.sleep(0.6)
        with refused("E426"):
            depot.confirm()
        state = depot.hello()
        assert (state.current, state.previous, state.pending) == (one, None, None)
        depot.activate(two, 60)  # the lock is still held, and the next may be right
        depot.confirm()
    assert box.current() == two


@pytest.mark.parametrize("leave", ["unlock", "close"])
def test_a_trial_ends_with_its_holder(box: Box, leave: str) -> None:
    one, two = versions(box, 2)
    with box.locked() as depot:
        depot.activate(two, 60)
        getattr(depot, leave)()
    state = box.open().hello()
    assert (state.current, state.previous, state.pending) == (one, None, None)
    box.check()


def test_a_trial_of_another_is_left_alone(box: Box) -> None:
    one, two = versions(box, 2)
    with box.locked() as depot:
        depot.activate(two, 60)
        other = box.open()
        state = other.hello()
        assert (state.current, state.pending, state.reverted) == (two, two, None)
        with refused("E421"):
            other.lock()
        depot.confirm()
        assert other.hello().previous == one


# What a holder that lost power left: the links, `pending`, and what must come of it.
LEFT = {
    "announced": (("one", None), ("trial", "one", "two"), ("one", None), "two"),
    "switched": (("two", None), ("trial", "one", "two"), ("one", None), "two"),
    "switched with a previous": (("two", "three"), ("trial", "one", "two"), ("one", "three"), "two"),
    "confirmation begun": (("two", "one"), ("trial", "one", "two"), ("two", "one"), None),
    "reverted": (("one", "three"), ("trial", "one", "two"), ("one", "three"), "two"),
    "first": (("one", None), ("trial", None, "one"), (None, None), "one"),
    "the same": (("one", "two"), ("trial", "one", "one"), ("one", "two"), "one"),
    "rollback announced": (("one", "two"), ("swap", "one", "two"), ("two", "one"), None),
    "rollback half": (("two", "two"), ("swap", "one", "two"), ("two", "one"), None),
    "rollback done": (("two", "one"), ("swap", "one", "two"), ("two", "one"), None),
}


def leave(box: Box, names: dict[str, str], links: tuple, pending: tuple, boot: str) -> None:
    for link, name in zip(("current", "previous"), links, strict=True):
        (box.folder / link).unlink(missing_ok=True)
        if name is not None:
            (box.folder / link).symlink_to(f"versions/{names[name]}")
    kind, before, version = pending
    record = {
        "before": names[before] if before else None,
        "boot": boot,
        "deadline": int(time.time()) + 1000,
        "kind": kind,
        "token": "5" * 32,
        "version": names[version],
    }
    text = json.dumps(record, sort_keys=True, separators=(",", ":")) + "\n"
    (box.folder / "pending").write_text(text)
    if before:
        (box.folder / "pending.back").symlink_to(f"versions/{names[before]}")


@pytest.mark.parametrize("case", LEFT)
@pytest.mark.parametrize("contact", ["hello", "lock"])
def test_what_was_left_over_is_settled_at_the_next_contact(
    box: Box, case: str, contact: str
) -> None:
    names = dict(zip(("one", "two", "three"), versions(box, 3), strict=True))
    links, pending, expected, reverted = LEFT[case]
    leave(box, names, links, pending, "another boot")
    depot = box.open()
    if contact == "hello":
        state = depot.hello()
        assert state.reverted == (names[reverted] if reverted else None)
        assert depot.hello().reverted is None
    else:
        depot.lock()
        state = depot.hello()
    found = tuple(names[name] if name else None for name in expected)
    assert (state.current, state.previous, state.pending) == (*found, None)
    assert sorted(path.name for path in box.folder.glob("pending*")) == []
    box.check()


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


SHELLS: dict[str, list[str]] = {
    name: [path, *arguments]
    for name, arguments in (("dash", []), ("bash", ["--posix"]), ("busybox", ["sh"]))
    if (path := shutil.which(name))
}


def settle(folder: Path, shell: str, path: str | None = None) -> int:
    return subprocess.run(
        [*SHELLS[shell], str(folder / "settle.sh")],
        env={**os.environ, "PATH": path or os.environ["PATH"]},
        timeout=60,
    ).returncode


@pytest.mark.parametrize("case", LEFT)
@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_for_the_start_settles_the_same(box: Box, case: str, shell: str) -> None:
    names = dict(zip(("one", "two", "three"), versions(box, 3), strict=True))
    links, pending, expected, _ = LEFT[case]
    leave(box, names, links, pending, "another boot")
    assert (box.folder / "settle.sh").read_bytes() == SETTLE.read_bytes()
    assert settle(box.folder, shell) == 0
    found = tuple(names[name] if name else None for name in expected)
    assert box.current() == found[0]
    state = box.open().hello()
    assert (state.current, state.previous, state.pending) == (*found, None)
    assert state.reverted is None
    assert sorted(path.name for path in box.folder.glob("pending*")) == []
    assert list((box.folder / "tmp").iterdir()) == []


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_for_the_start_leaves_a_living_trial_alone(box: Box, shell: str) -> None:
    one, two = versions(box, 2)
    with box.locked() as depot:
        depot.activate(two, 60)
        assert settle(box.folder, shell) == 0
        depot.confirm()
    assert (box.current(), settle(box.folder, shell)) == (two, 0)


@pytest.mark.parametrize(("boot", "expected"), [("this", 1), ("another", 0)])
def test_the_script_for_the_start_without_flock(
    box: Box, tmp_path: Path, boot: str, expected: int
) -> None:
    """Then the boot in ``pending`` says whether its holder may be alive."""
    names = dict(zip(("one", "two"), versions(box, 2), strict=True))
    links = ("two", None)
    leave(box, names, links, ("trial", "one", "two"), boot_id() if boot == "this" else boot)
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in "cat dirname grep ln mv readlink rm sed sync".split():
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    assert settle(box.folder, "dash", str(tools)) == 0
    assert box.current() == names[("one", "two")[expected]]


def test_a_folder_in_the_place_of_current_is_left_alone(box: Box) -> None:
    with box.locked() as depot:
        one = push(depot, {"f": b"x"})
        (box.folder / "current").mkdir()
        (box.folder / "current" / "file").touch()
        assert depot.hello().current is None
        with refused("E429"):
            depot.activate(one, 60)
        assert (box.folder / "current" / "file").exists()
        assert depot.hello().pending is None


@pytest.mark.parametrize("text", ["", "{}", "no json", '{"version":"../..","kind":"trial"}'])
def test_a_pending_that_says_nothing_does_not_block(box: Box, text: str) -> None:
    one, two = versions(box, 2)
    (box.folder / "pending").write_text(text)
    with box.locked() as depot:
        state = depot.hello()
        assert (state.current, state.pending) == (one, None)
        depot.activate(two, 60)
        depot.confirm()
    assert box.current() == two
