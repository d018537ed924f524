"""Any order of operations does what a model of ten lines does; I1 and I2 hold after each."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.unit.devices.depots import KINDS, Box, content, push, refused

SEEDS = st.integers(0, 4)


class DepotMachine(RuleBasedStateMachine):
    """One depot on disk and one in memory."""

    kind = "agent"

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.box = Box(self.folder / "depot", KINDS[self.kind])
        self.depot = self.box.open()
        self.depot.lock()
        self.names: dict[int, str] = {}
        self.versions: list[str] = []
        self.current: str | None = None
        self.previous: str | None = None
        self.trial: tuple[str, str | None] | None = None

    @initialize(seeds=st.sets(SEEDS, min_size=2))
    def begin(self, seeds: set[int]) -> None:
        for seed in sorted(seeds):
            self.push(seed)

    @rule(seed=SEEDS)
    def push(self, seed: int) -> None:
        name = push(self.depot, {"f": content(seed, 900), "g/h": content(seed // 2, 70)})
        self.names[seed] = name
        if name not in self.versions:
            self.versions.append(name)

    def end_trial(self) -> None:
        if self.trial is not None:
            self.current = self.trial[1]
            self.trial = None

    @rule(seed=SEEDS)
    def activate(self, seed: int) -> None:
        name = self.names.get(seed, "0" * 64)
        if name not in self.versions:
            with refused("E425"):
                self.depot.activate(name, 600)
            return
        self.depot.activate(name, 600)
        self.end_trial()
        self.trial, self.current = (name, self.current), name

    @rule()
    def confirm(self) -> None:
        if self.trial is None:
            with refused("E426"):
                self.depot.confirm()
            return
        self.depot.confirm()
        if self.trial[1] not in (None, self.current):
            self.previous = self.trial[1]
        self.trial = None

    @rule()
    def revert(self) -> None:
        self.depot.revert()
        self.end_trial()

    @rule()
    def rollback(self) -> None:
        if self.previous is None:
            with refused("E427"):
                self.depot.rollback()
            self.end_trial()
            return
        self.end_trial()
        assert self.depot.rollback() == self.previous
        self.current, self.previous = self.previous, self.current or self.previous

    @rule(keep=st.integers(0, 3))
    def collect(self, keep: int) -> None:
        self.depot.collect(keep)
        newest = self.versions[len(self.versions) - keep :] if keep else []
        needed = {self.current, self.previous, *newest, *(self.trial or ())}
        self.versions = [name for name in self.versions if name in needed]

    @rule()
    def check_all(self) -> None:
        assert self.depot.fsck(repair=True) == ()

    @precondition(lambda self: self.trial is None)
    @rule()
    def unlock_and_lock(self) -> None:
        self.depot.unlock()
        self.depot.lock()

    @rule()
    def connect_again(self) -> None:
        self.depot.close()
        self.end_trial()
        self.depot = self.box.open()
        self.depot.lock(wait_s=5)

    @invariant()
    def agree(self) -> None:
        self.box.check()
        state = self.depot.hello()
        assert state.versions == tuple(self.versions)
        assert (state.current, state.previous) == (self.current, self.previous)
        assert state.pending == (self.trial[0] if self.trial else None)
        assert list((self.box.folder / "tmp").iterdir()) == []

    def teardown(self) -> None:
        self.box.close()
        shutil.rmtree(self.folder)


@pytest.mark.parametrize("kind", KINDS)
def test_any_order_of_operations(kind: str) -> None:
    machine = type("Machine", (DepotMachine,), {"kind": kind})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=8 if kind == "agent" else 2,  # a shell takes a tenth of a second a step
            stateful_step_count=15,
            deadline=None,
        ),
    )
