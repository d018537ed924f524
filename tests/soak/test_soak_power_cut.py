"""The long form: every call that changes the disk, of every operation, cut in every way."""

from __future__ import annotations

from datetime import date

import pytest

from tests.device.cutting import CASES, Agent, How, can_cut_power, cuts


@pytest.mark.parametrize("agent", ["python", "shell"])
@pytest.mark.parametrize("how", ["kill", "flush", "lose"])
@pytest.mark.parametrize("name", CASES)
def test_cut_at_every_call(name: str, how: How, agent: Agent) -> None:
    if how != "kill" and not can_cut_power():
        pytest.skip("needs root")
    count = cuts(name, how, 0, agent)
    print(f"\n{date.today()}: {agent}, {name}, {how}: {count} cuts, all healed")
