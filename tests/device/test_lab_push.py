"""Pushing to devices of the lab while their link, server, disk or host fails.

Every test pushes to a device with Python and to one without, at once. Times are bounds against
hanging, not speeds.
"""

import fcntl
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import labapp
import pytest
import yaml
from labapp import Application, check_clean, check_depot, depot, when_sent

from lab import capabilities
from lab.device import LabDevice, write_inventory
from lab.lab import Lab

pytestmark = pytest.mark.slow

NOISE_BYTES = 16 << 20
RATE_BITS_S = 50_000_000  # the noise takes 2.7 s
RESENT_BYTES = 8 << 20

CUT_S = 15.0
"""A cut link is an error within this."""

START_S = 8.0
"""What starting a command and ending it may take besides, on a busy machine."""

LEASE_S = 30.0

Pair = tuple[LabDevice, LabDevice]


@pytest.fixture(scope="module")
def pair(lab: Lab) -> Pair:
    """A device with Python and one without."""
    capabilities.require("cut", "rate")
    return lab.device("amd64-python"), lab.device("amd64-minimal")


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


@pytest.fixture
def devices(pair: Pair) -> Iterator[Pair]:
    """Both without a depot, behind links of a known rate."""
    for device in pair:
        device.set_rate(RATE_BITS_S)
    yield pair
    for device in pair:
        device.restore_link()
        device.set_rate(None)
        device.empty_disk()
        shutil.rmtree(device.home / ".edgedeploy", ignore_errors=True)


def lock_is_free(device: LabDevice) -> bool:
    """Whether nobody holds the depot's lock."""
    with open(depot(device) / "lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def sent(devices: Sequence[LabDevice]) -> list[int]:
    """Return the bytes that went to each device so far."""
    return [device.bytes_on_link().to_device for device in devices]


def push_with(
    app: Application, devices: Pair, fault: Callable[[LabDevice], object], part: float = 0.5
) -> labapp.Done:
    """Push; do something to each device when so much of the noise went to it."""
    count = int(part * NOISE_BYTES)

    def acting(device: LabDevice) -> Callable[[], object]:
        return lambda: fault(device)

    watches = [when_sent(device, count, acting(device)) for device in devices]
    done = app.push(*devices)
    for watch in watches:
        watch.join(30)
    return done


def test_a_link_that_stays_cut_is_an_error_in_time(app: Application, devices: Pair) -> None:
    """Row 1: exit 4 within 15 s of the cut; what arrived is kept, and the next push goes on."""
    cut_at: list[float] = []

    def cut(device: LabDevice) -> None:
        device.cut_link("down")
        cut_at.append(time.monotonic())

    done = push_with(app, devices, cut, part=0.9)
    assert time.monotonic() - max(cut_at) < CUT_S + START_S
    assert done.status == 4, done.said
    for device in devices:
        row = done.row(device)
        assert row["retryable"] and row["seconds"] < NOISE_BYTES * 8 / RATE_BITS_S + CUT_S + 3
        check_depot(device)
        device.restore_link()
    before = sent(devices)
    # The device may not know yet that the holder of its lock is gone.
    assert app.push(*devices, wait_s=LEASE_S + 10).status == 0
    for device, now, then in zip(devices, sent(devices), before, strict=True):
        check_clean(device)
        assert now - then <= 0.1 * NOISE_BYTES * 1.05 + RESENT_BYTES


def test_a_link_that_comes_back_is_no_error(app: Application, devices: Pair) -> None:
    """Row 2: three seconds of silence; the push ends by itself and sends little twice."""

    def blink(device: LabDevice) -> None:
        device.cut_link()
        time.sleep(3)
        device.restore_link()

    before = sent(devices)
    done = push_with(app, devices, blink)
    assert done.status == 0, done.said
    for device, now, then in zip(devices, sent(devices), before, strict=True):
        check_clean(device)
        assert now - then <= NOISE_BYTES * 1.05 + RESENT_BYTES


def test_a_link_that_flaps(app: Application, devices: Pair) -> None:
    """Row 3: as long as something arrives in between, the push gets there."""

    def flap(device: LabDevice) -> None:
        for _ in range(3):
            device.cut_link("down")
            time.sleep(1)
            device.restore_link()
            time.sleep(1.5)

    before = sent(devices)
    done = push_with(app, devices, flap, part=0.1)
    assert done.status == 0, done.said
    for device, now, then in zip(devices, sent(devices), before, strict=True):
        check_clean(device)
        assert now - then <= NOISE_BYTES * 1.3 + RESENT_BYTES


def test_a_device_that_reboots_is_found_again(app: Application, devices: Pair) -> None:
    """Row 7: its kernel forgot the connection, and nobody was told; the push goes on."""
    before = sent(devices)
    done = push_with(app, devices, LabDevice.reboot)
    assert done.status == 0, done.said
    for device, now, then in zip(devices, sent(devices), before, strict=True):
        check_clean(device)
        assert now - then <= NOISE_BYTES * 1.05 + RESENT_BYTES


def test_the_message_says_how_a_device_is_gone(app: Application, devices: Pair) -> None:
    """Row 5: one refuses, one has no route; both are told apart, and both may be tried again."""
    refusing, away = devices
    refusing.stop_sshd()
    away.cut_link("down")
    done = app.push(*devices)
    refusing.start_sshd()
    assert done.status == 4 and done.seconds < CUT_S + START_S
    assert "refuse" in done.row(refusing)["text"] and "refuse" not in done.row(away)["text"]
    assert all(done.row(device)["retryable"] for device in devices)


def test_a_full_disk_is_seen_before_anything_is_sent(app: Application, devices: Pair) -> None:
    """Row 9: the message says how much is needed and how much there is."""
    for device in devices:
        device.fill_disk(NOISE_BYTES // 2)
    before = sent(devices)
    done = app.push(*devices)
    assert done.status == 4, done.said
    for device, now, then in zip(devices, sent(devices), before, strict=True):
        assert "E423" in labapp.codes(done.row(device))
        needed, free = map(int, re.findall(r"(\d+) (?:bytes )?are", done.row(device)["text"]))
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


def test_a_build_for_another_processor_is_refused(
    lab: Lab, app: Application, devices: Pair, tmp_path: Path
) -> None:
    """Row 26: each device is said to be of the other architecture; nothing is sent to it."""
    capabilities.require("arm64")
    other = lab.device("arm64-minimal")
    inventory = write_inventory(tmp_path, devices, {"board": "linux-arm64"})
    named = yaml.safe_load(inventory.read_text())
    entries = {other.name: {**other.inventory_entry(), "board": "linux-x86-64"}}
    settings = "".join(device.ssh_config.read_text() for device in (*devices, other))
    Path(named["ssh_config"]).write_text(settings)
    inventory.write_text(yaml.safe_dump({**named, "devices": {**named["devices"], **entries}}))
    three = (*devices, other)
    before = sent(three)
    done = Application(app.folder, inventory).push(*three)
    assert done.status == 4, done.said
    for device, now, then in zip(three, sent(three), before, strict=True):
        assert "E451" in labapp.codes(done.row(device)) and not done.row(device)["retryable"]
        assert "architecture" in done.row(device)["text"]
        assert now - then < 64 << 10 and not depot(device).exists()
    lab.remove(other)


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
        assert time.monotonic() - start < 3
    deadline = time.monotonic() + 5
    while not all(lock_is_free(device) for device in devices):
        assert time.monotonic() < deadline
    for device in devices:
        check_depot(device)
    assert app.push(*devices).status == 0
    for device in devices:
        check_clean(device)


def test_a_slow_link_is_no_fault(app: Application, devices: Pair) -> None:
    """Row 8: one frame takes longer than a device may be silent, and is not taken for silence."""
    slow = Application(app.folder / "slow", app.inventory)
    shutil.copytree(app.folder, slow.folder)
    (slow.folder / "noise.bin").write_bytes(os.urandom(4 << 20))
    slow.build()
    for device in devices:
        device.set_rate(2_000_000)
    done = slow.push(*devices)
    assert done.status == 0, done.said
    assert done.seconds > 16, "4 MiB at 2 Mbit/s take that long"
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
