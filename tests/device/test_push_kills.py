"""SIGKILL of the pushing process at random moments; the long form is tests/soak."""

from pathlib import Path

from tests.device.killing import Target
from tests.lab.sshd import Sshd

CUTS = 6


def test_a_killed_push_leaves_the_device_as_it_was(sshd: Sshd, tmp_path: Path) -> None:
    """Row 34: `current` and every object are right, and the same command then succeeds."""
    target = Target(sshd, tmp_path / "versions", seed=20)
    cut = tries = 0
    while cut < CUTS and tries < 3 * CUTS:  # one that had ended by then does not count
        cut += target.kill_one()
        tries += 1
    assert cut == CUTS
