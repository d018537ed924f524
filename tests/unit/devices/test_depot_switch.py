"""What every depot does: switching, trials, going back, and what is left over when one dies."""

from __future__ import annotations

import time

import pytest

from tests.unit.devices.depots import ABSENT, Box, content, push, refused
from tests.unit.devices.leftovers import LEFT, leave, versions


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
        depot.activate(two, 2.0)
        assert box.current() == two
        time.sleep(2.1)
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


@pytest.mark.parametrize("contact", ["hello", "lock"])
def test_what_was_left_over_is_settled_at_the_next_contact(box: Box, contact: str) -> None:
    names = dict(zip(("one", "two", "three"), versions(box, 3), strict=True))
    for case, left in LEFT.items():
        leave(box, names, left, "another boot")
        depot = box.open()
        if contact == "hello":
            assert depot.hello().reverted == (names[left.reverted] if left.reverted else None), case
            state = depot.hello()
            assert state.reverted is None, case
        else:
            depot.lock()
            state = depot.hello()
        assert (state.current, state.previous, state.pending) == (*left.goal(names), None), case
        assert sorted(path.name for path in box.folder.glob("pending*")) == [], case
        box.check()
        depot.close()


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
