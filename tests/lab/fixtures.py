"""Fixtures for tests on devices: a lab, or a server that any user can start."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import capabilities
from tests.lab.lab import Lab
from tests.lab.sshd import Sshd, running


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Return a lab whose devices end with the file of tests."""
    capabilities.require("lab")
    with Lab() as made:
        yield made


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """Return an SSH server on 127.0.0.1 that needs no root, with a home of its own."""
    capabilities.require("sshd")
    with running(tmp_path / "sshd") as server:
        yield server
