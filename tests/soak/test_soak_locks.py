"""The long form of many at one depot: 50 pairs of pushes; 50 times push, roll-back and cleaning."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path

from tests.unit.deploy.robot import Robot
from tests.unit.deploy.test_deploy_depots import push_two_at_once, triples_at_once

ROUNDS = 50


def test_fifty_pairs_of_pushes(tmp_path: Path) -> None:
    ended = Counter(
        tuple(push_two_at_once(Robot(tmp_path / str(number)))) for number in range(ROUNDS)
    )
    print(
        f"\n{date.today()}: {ROUNDS} pairs of pushes: {dict(ended)} (0 done, 11 told of the lock)"
    )
    assert set(ended) <= {(0, 0), (0, 11)}


def test_fifty_triples(tmp_path: Path) -> None:
    triples_at_once(Robot(tmp_path / "device"), ROUNDS)
    print(f"\n{date.today()}: {ROUNDS} triples of push, roll-back and cleaning: all sound")
