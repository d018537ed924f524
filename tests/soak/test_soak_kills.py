"""The long forms: 200 kills that hit a running build, and 20 rounds of 8 builders on one store.

In parts, so that a test that hangs is told from one that is long.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from tests.soak.diamond import POINTS, SEEN, Diamond
from tests.soak.kill import Kill, campaign

PARTS = 5
KILLS = 40
ROUNDS = 4
BUILDERS = 8
SEED = 20261124

killed: list[Kill] = []


@pytest.mark.parametrize("part", range(PARTS))
def test_store_survives_kills_at_any_moment(tmp_path: Path, part: int) -> None:
    diamond = Diamond(tmp_path)
    killed.extend(
        campaign(
            diamond.command,
            diamond.env,
            diamond.check,
            prepare=diamond.prepare,
            points=POINTS if part == 0 else (),
            kills=KILLS,
            seed=SEED + part,
        )
    )
    if part == 0:
        killed.extend(
            campaign(
                diamond.command,
                diamond.env,
                diamond.check,
                prepare=diamond.prepare_settled,
                points=[SEEN],
            )
        )
    named = sum(isinstance(kill.at, str) for kill in killed)
    hit = sum(kill.hit for kill in killed if not isinstance(kill.at, str))
    print(
        f"\n{date.today()}: {named} kills at named points, {hit} at random moments of a running "
        f"build ({len(killed) - named - hit} more came after its end): all healed"
    )


@pytest.mark.parametrize("part", range(PARTS))
def test_eight_builders_share_a_store(tmp_path: Path, part: int) -> None:
    diamond = Diamond(tmp_path)
    for _ in range(ROUNDS):
        diamond.crowd(BUILDERS)
    print(
        f"\n{date.today()}: {(part + 1) * ROUNDS} rounds of {BUILDERS} builders on one store: "
        "same digests, each action run once"
    )
