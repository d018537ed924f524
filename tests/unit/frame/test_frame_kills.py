"""Point 4: whatever moment a builder dies, the store is whole and the next build is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedeploy.crashpoint import NAMES
from tests.soak.diamond import POINTS, SEEN, Diamond
from tests.soak.kill import campaign


def test_points_are_known() -> None:
    assert {point.partition(":")[0] for point in (*POINTS, SEEN)} <= set(NAMES)


@pytest.mark.parametrize("point", POINTS)
def test_kill_at_named_point(tmp_path: Path, point: str) -> None:
    diamond = Diamond(tmp_path)
    done = campaign(
        diamond.command, diamond.env, diamond.check, prepare=diamond.prepare, points=[point]
    )
    # A worker's death is the build's typed failure; the builder's own is its end.
    assert done[0].status == (3 if point.startswith("worker.") else -9)


def test_kill_while_a_check_is_remembered(tmp_path: Path) -> None:
    diamond = Diamond(tmp_path)
    (done,) = campaign(
        diamond.command,
        diamond.env,
        diamond.check,
        prepare=diamond.prepare_settled,
        points=[SEEN],
    )
    assert done.hit


def test_kill_at_random_moments(tmp_path: Path) -> None:
    diamond = Diamond(tmp_path)
    done = campaign(
        diamond.command, diamond.env, diamond.check, prepare=diamond.prepare, kills=8, seed=7
    )
    assert sum(kill.hit for kill in done) == 8


def test_eight_builders_share_a_store(tmp_path: Path) -> None:
    diamond = Diamond(tmp_path)
    for _ in range(2):
        diamond.crowd(8)
