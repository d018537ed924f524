"""The long forms: 200 random kills, and 20 rounds of 8 builders on one store."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from tests.soak.diamond import POINTS, SEEN, Diamond
from tests.soak.kill import campaign

KILLS = 200
ROUNDS = 20
BUILDERS = 8


def test_store_survives_kills_at_any_moment(tmp_path: Path) -> None:
    diamond = Diamond(tmp_path)
    done = campaign(
        diamond.command,
        diamond.env,
        diamond.check,
        prepare=diamond.prepare,
        points=POINTS,
        kills=KILLS,
        seed=20261124,
    )
    done += campaign(
        diamond.command,
        diamond.env,
        diamond.check,
        prepare=diamond.prepare_settled,
        points=[SEEN],
    )
    hit = sum(kill.hit for kill in done)
    print(f"\n{date.today()}: {len(done)} kills ({hit} hit a running build), all builds healed")


def test_eight_builders_share_a_store(tmp_path: Path) -> None:
    diamond = Diamond(tmp_path)
    for _ in range(ROUNDS):
        diamond.crowd(BUILDERS)
    print(f"\n{date.today()}: {ROUNDS} rounds of {BUILDERS} builders, each action run once")
