"""SIGKILL of the pushing process at random moments; the long form is tests/soak."""

from pathlib import Path

from tests.device.killing import Target
from tests.lab.sshd import Sshd


def test_a_killed_push_leaves_the_device_as_it_was(sshd: Sshd, tmp_path: Path) -> None:
    """Row 34: `current` and every object are right, and the same command then succeeds."""
    target = Target(sshd, tmp_path / "versions", seed=20)
    longest_s = 1.1 * target.time()
    cut = sum(target.kill_one(longest_s) for _ in range(6))
    assert cut >= 3
