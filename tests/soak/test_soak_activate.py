"""The long form: 200 kills and cuts at random moments of an activation over real SSH.

In parts, so that a test that hangs is told from one that is long.
"""

from __future__ import annotations

import collections
from datetime import date
from pathlib import Path

import pytest

from tests.lab.proxy import Proxy
from tests.lab.sshd import running
from tests.soak.activation import World, behind, moments

SEED = 20261128
BLOWS = 10
PARTS = {"kill": 10, "cut": 6, "session": 3, "silence": 1}
"""Of the command; of the connection (RST); of the server's process; a cable pulled out."""


@pytest.mark.parametrize(
    ("kind", "part"), [(kind, part) for kind, count in PARTS.items() for part in range(count)]
)
def test_a_device_survives_blows_at_any_moment_of_an_activation(
    tmp_path: Path, kind: str, part: int
) -> None:
    with (
        running(tmp_path / "sshd") as server,
        Proxy(server.host, server.port) as proxy,
    ):
        world = World(tmp_path, behind(server, proxy), lambda: proxy.connections)
        whole_s = world.undisturbed()

        def silence() -> None:
            proxy.silent = True

        def mend() -> None:
            proxy.silent = False
            proxy.cut()

        cuts = {"cut": proxy.cut, "session": server.kill_sessions, "silence": silence}
        blows = [
            world.strike(kind, after_s, cuts.get(kind, proxy.cut), mend)
            for after_s in moments(SEED + part, BLOWS, whole_s)
        ]
    ends = collections.Counter(blow.state or f"status {blow.status}" for blow in blows)
    told = ", ".join(f"{count} {state}" for state, count in sorted(ends.items()))
    print(f"\n{date.today()}: {len(blows)} x {kind} during an activation: {told}; all sound")
