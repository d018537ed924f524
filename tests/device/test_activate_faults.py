"""Activation over real SSH, killed and cut at any moment: the old version or the new one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import capabilities
from tests.lab.proxy import Proxy
from tests.lab.sshd import Sshd, running
from tests.soak.activation import World, behind, moments

SEED = 20261128


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Sshd, Proxy, float]]:
    """A device, its server, what can be cut, and how long an undisturbed activation takes."""
    capabilities.require("sshd")
    base = tmp_path_factory.mktemp("activation")
    with running(base / "sshd") as server, Proxy(server.host, server.port) as proxy:
        found = World(base, behind(server, proxy), lambda: proxy.connections)
        yield found, server, proxy, found.undisturbed()


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("kind", ["kill", "cut"])
def test_a_blow_at_any_moment_leaves_the_old_version_or_the_new_one(world, kind, at):
    """Rows 17, 33 and 34 for `activate`; 200 of them are in `tests/soak/test_soak_activate.py`."""
    place, _, proxy, whole_s = world
    (after_s,) = moments(SEED + len(kind) + at, 1, whole_s)
    place.strike(kind, after_s, proxy.cut)


@pytest.mark.parametrize("at", range(2))
def test_the_device_ends_the_session(world, at):
    """Row 4: the server's process is killed; a connection can be made again at once."""
    place, server, _, whole_s = world
    (after_s,) = moments(SEED + 100 + at, 1, whole_s)
    place.strike("session", after_s, server.kill_sessions)
