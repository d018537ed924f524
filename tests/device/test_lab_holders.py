"""Pushing to devices of the lab while its disk is full or its host ends.

Every test pushes to a device with Python and to one without, at once. Times are bounds against
hanging, not speeds.
"""

import re
import signal
import time

import pytest

from tests.device import labapp
from tests.device.labapp import (
    NOISE_BYTES,
    RATE_BITS_S,
    Application,
    Pair,
    check_clean,
    check_depot,
    lock_is_free,
    push_with,
    sent,
    when_sent,
)
from tests.lab.device import write_inventory
from tests.lab.lab import Lab

pytestmark = pytest.mark.slow

LEASE_S = 30.0


@pytest.fixture(scope="module")
def app(lab: Lab, pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Application:
    """The application, built; its inventory holds two more devices, for the lease."""
    folder = tmp_path_factory.mktemp("lab")
    others = [lab.device(f"amd64-{kind}", name=f"held-{kind}") for kind in ("python", "minimal")]
    inventory = write_inventory(folder, [*pair, *others])
    return labapp.make(folder / "app", inventory, NOISE_BYTES)


@pytest.fixture(scope="module", autouse=True)
def held(lab: Lab, app: Application) -> tuple[Pair, float]:
    """Devices whose lock's holder lost its link and was killed, and when; for the last test."""
    both = lab.devices["held-python"], lab.devices["held-minimal"]
    for device in both:
        device.set_rate(RATE_BITS_S)
    with app.pushing(*both) as process:
        for watch in [when_sent(device, 1 << 20, device.cut_link) for device in both]:
            watch.join(60)
        process.send_signal(signal.SIGKILL)
    assert not any(lock_is_free(device) for device in both)
    return both, time.monotonic()


def test_a_full_disk_is_seen_before_anything_is_sent(app: Application, devices: Pair) -> None:
    """Row 9: the message says how much is needed and how much there is."""
    for device in devices:
        device.fill_disk(NOISE_BYTES // 2)
    before = sent(devices)
    done = app.push(*devices)
    assert done.status == 4, done.said
    for device, now, then in zip(devices, sent(devices), before, strict=True):
        assert "E423" in labapp.codes(done.row(device))
        told = re.findall(r"([\d.]+) MB are", done.row(device)["text"])
        needed, free = (float(size) * 1e6 for size in told)
        assert needed > NOISE_BYTES > 2 * free - (1 << 20)
        assert now - then < 1 << 20
        check_depot(device)


def test_a_disk_that_fills_meanwhile(app: Application, devices: Pair) -> None:
    """Row 10: no space is what it says; nothing is visible, and room is all that it needs."""
    done = push_with(app, devices, lambda device: device.fill_disk(1 << 20))
    assert done.status == 4, done.said
    for device in devices:
        assert "E423" in labapp.codes(done.row(device)), done.said
        check_depot(device)
        device.empty_disk()
    assert app.push(*devices).status == 0
    for device in devices:
        check_clean(device)


@pytest.mark.parametrize(("how", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_builder_that_ends_frees_its_locks(
    app: Application, devices: Pair, how: signal.Signals, status: int
) -> None:
    """Row 17, and Ctrl-C: it ends within 3 s, the locks are free at once, the next push goes on."""
    with app.pushing(*devices) as process:
        for watch in [when_sent(device, NOISE_BYTES // 2, lambda: None) for device in devices]:
            watch.join(60)
        process.send_signal(how)
        start = time.monotonic()
        assert process.wait(30) == status
        assert time.monotonic() - start < 3 * 3  # a hang bound, with slack for a busy machine
    deadline = time.monotonic() + 15
    while not all(lock_is_free(device) for device in devices):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for device in devices:
        check_depot(device)
    assert app.push(*devices).status == 0
    for device in devices:
        check_clean(device)


def test_a_lease_ends_without_its_holder(app: Application, held: tuple[Pair, float]) -> None:
    """Row 18: host and link went while the lock was held; after the lease it is free by itself."""
    both, since = held
    while not all(lock_is_free(device) for device in both):
        assert time.monotonic() - since < LEASE_S * 3
        time.sleep(0.2)
    for device in both:
        check_depot(device)
        device.restore_link()
    assert app.push(*both).status == 0
    for device in both:
        check_clean(device)
