"""Power cuts and kills at a sample of the calls that change the disk; `make soak` takes all."""

from __future__ import annotations

import pytest

from tests.device.cutting import How, can_cut_power, cuts

COUNT = 4


@pytest.mark.parametrize("how", ["flush", "lose"])
@pytest.mark.parametrize("name", ["push", "activate", "rollback"])
def test_power_cut(name: str, how: How) -> None:
    """Old or new, whole, and the same command then succeeds."""
    if not can_cut_power():
        pytest.skip("needs root")
    assert cuts(name, how, COUNT) == COUNT


@pytest.mark.parametrize("how", ["kill", "flush"])
def test_a_release_that_is_active_is_remembered(how: How) -> None:
    """Row F279: whatever is cut, no older one can follow it."""
    if how == "flush" and not can_cut_power():
        pytest.skip("needs root")
    assert cuts("release", how, 2) == 2


@pytest.mark.parametrize(("name", "how"), [("push", "lose"), ("activate", "flush")])
def test_power_cut_of_a_device_without_python(name: str, how: How) -> None:
    """The same where a shell keeps the depot."""
    if not can_cut_power():
        pytest.skip("needs root")
    assert cuts(name, how, 2, "shell") == 2


@pytest.mark.parametrize("name", ["push", "activate", "rollback"])
def test_killed_agent(name: str) -> None:
    """The same without a power cut: SIGKILL on any file system."""
    assert cuts(name, "kill", COUNT) == COUNT


@pytest.mark.parametrize("name", ["push", "activate"])
def test_the_cut_shows_what_is_not_synced(name: str) -> None:
    """Without its syncs the agent fails this: what it says is done is lost."""
    if not can_cut_power():
        pytest.skip("needs root")
    with pytest.raises(AssertionError, match="assert"):
        cuts(name, "lose", 1, "unsynced")
