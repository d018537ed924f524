"""Fixtures for tests on devices: a lab, or a server that any user can start."""

from collections.abc import Iterator

import pytest

from lab import capabilities
from lab.lab import Lab
from lab.userssh import UserSshd


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Return a lab whose devices end with the file of tests."""
    capabilities.require("lab")
    with Lab() as made:
        yield made


@pytest.fixture(scope="module")
def user_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UserSshd]:
    """Return an SSH server on 127.0.0.1 that needs no root."""
    capabilities.require("sshd")
    server = UserSshd(tmp_path_factory.mktemp("sshd") / "server")
    yield server
    server.close()
