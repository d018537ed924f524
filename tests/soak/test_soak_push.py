"""The long forms for pushes: 200 kills at random moments, and a link that flaps for a minute."""

from __future__ import annotations

import threading
from datetime import date
from pathlib import Path

import pytest

from tests.device.killing import Target
from tests.device.pusher import contents_of, push
from tests.lab.proxy import Proxy
from tests.lab.sshd import running

PARTS = 5
KILLS = 40
SEED = 20261128


@pytest.mark.parametrize("part", range(PARTS))
def test_device_survives_kills_of_a_push(tmp_path: Path, part: int) -> None:
    with running(tmp_path / "sshd") as server:
        target = Target(server, tmp_path / "versions", seed=SEED + part)
        cut = sum(target.kill_one() for _ in range(KILLS))
    print(f"\n{date.today()}: {KILLS} kills of a push, {cut} of them while it ran: all healed")


def test_link_that_flaps_for_a_minute(tmp_path: Path) -> None:
    """Row 3: 2 s up, 2 s silent, again and again; the bytes that pass stay near the file's."""
    with running(tmp_path / "sshd") as server, Proxy(server.host, server.port) as proxy:
        server.know_at(proxy.port)
        target = Target(server, tmp_path / "versions", seed=SEED)
        for _ in range(5):
            folder = target.next_version()  # changes pile up, so that more travels
        proxy.rate_bytes_s = 300e3
        over = threading.Event()

        def flap() -> None:
            while not over.wait(2.0):
                proxy.silent = not proxy.silent

        thread = threading.Thread(target=flap)
        thread.start()
        try:
            name = push(proxy.port, server.client, folder)
        finally:
            over.set()
            thread.join()
        target.check()
        assert name == contents_of(folder).version.name
        missing = 5 * 8 * (256 << 10)
        print(f"\n{date.today()}: flapping link: {proxy.sent} bytes for at most {missing}")
        assert proxy.sent <= 1.3 * missing + (1 << 20)
