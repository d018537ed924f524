"""Devices over SSH: a real server on this machine for each test that asks for one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sshd import SSHD, Sshd, running


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """An OpenSSH server with a home of its own; ``sshd.device()`` is what connects to it."""
    if SSHD is None:
        pytest.skip("needs OpenSSH server")
    with running(tmp_path / "sshd") as server:
        yield server
