"""Pushing to devices of the lab while their link, server, disk or host fails.

Each test runs on a device with Python and on one without. Times are bounds against hanging, not
speeds.
"""

import fcntl
import os
import shutil
import signal
import time
from collections.abc import Iterator

import labapp
import pytest
from labapp import Application, check_clean, check_depot, depot, when_sent

from lab import capabilities
from lab.device import LabDevice, write_inventory
from lab.lab import Lab

NOISE_BYTES = 24 << 20
RATE_BITS_S = 100_000_000  # the noise takes two seconds at least
RETRANSFER_BYTES = 8 << 20

PUSH_S = 2.0
"""What a push of nothing sends and waits for besides, at most; see `test_a_push_arrives`."""


@pytest.fixture(scope="module")
def devices(lab: Lab) -> dict[str, LabDevice]:
    """One device of each kind."""
    capabilities.require("cut", "rate")
    return {kind: lab.device(f"amd64-{kind}") for kind in ("python", "minimal")}


@pytest.fixture(scope="module")
def app(devices: dict[str, LabDevice], tmp_path_factory: pytest.TempPathFactory) -> Application:
    """The application, built."""
    folder = tmp_path_factory.mktemp("lab")
    return labapp.make(folder / "app", write_inventory(folder, list(devices.values())), NOISE_BYTES)


@pytest.fixture(params=["python", "minimal"])
def device(request: pytest.FixtureRequest, devices: dict[str, LabDevice]) -> Iterator[LabDevice]:
    """A device without a depot, behind a link of a known rate."""
    found = devices[request.param]
    found.set_rate(RATE_BITS_S)
    yield found
    found.restore_link()
    found.set_rate(None)
    found.empty_disk()
    shutil.rmtree(found.home / ".edgedeploy", ignore_errors=True)


def lock_is_free(device: LabDevice) -> bool:
    """Whether nobody holds the depot's lock."""
    with open(depot(device) / "lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def sent(device: LabDevice) -> int:
    """Return the bytes that went to a device so far."""
    return device.bytes_on_link().to_device


@pytest.mark.parametrize("part", [0.1, 0.9])
def test_a_link_that_stays_cut_is_an_error_in_time(
    app: Application, device: LabDevice, part: float
) -> None:
    """Row 1: exit 4 within 15 s of the cut; what arrived is kept and the next push goes on."""
    at: list[float] = []

    def cut() -> None:
        device.cut_link("down")
        at.append(time.monotonic())

    watch = when_sent(device, int(part * NOISE_BYTES), cut)
    done = app.push(device)
    watch.join()
    assert done.status == 4 and done.document["retryable"], done.said
    assert time.monotonic() - at[0] < 15 + PUSH_S
    check_depot(device)
    device.restore_link()
    before = sent(device)
    assert app.push(device).status == 0
    check_clean(device)
    left = (1 - part) * NOISE_BYTES
    assert sent(device) - before <= left * 1.05 + RETRANSFER_BYTES


def test_a_link_that_comes_back_is_no_error(app: Application, device: LabDevice) -> None:
    """Row 2: three seconds of silence; the push ends by itself and sends little twice."""
    before = sent(device)

    def blink() -> None:
        device.cut_link()
        time.sleep(3)
        device.restore_link()

    watch = when_sent(device, NOISE_BYTES // 2, blink)
    done = app.push(device)
    watch.join()
    assert done.status == 0, done.said
    check_clean(device)
    assert sent(device) - before <= NOISE_BYTES * 1.05 + RETRANSFER_BYTES


def test_a_link_that_flaps(app: Application, device: LabDevice) -> None:
    """Row 3: as long as something arrives in between, the push gets there."""
    before = sent(device)
    stop: list[bool] = []

    def flap() -> None:
        for _ in range(4):
            device.cut_link("down")
            time.sleep(1)
            device.restore_link()
            time.sleep(2)
            if stop:
                return

    watch = when_sent(device, NOISE_BYTES // 10, flap)
    done = app.push(device)
    stop.append(True)
    watch.join()
    assert done.status == 0, done.said
    check_clean(device)
    assert sent(device) - before <= NOISE_BYTES * 1.3 + RETRANSFER_BYTES


def test_a_server_that_is_gone_is_told_from_silence(app: Application, device: LabDevice) -> None:
    """Row 5: refused, no answer and no route are three different messages."""
    device.stop_sshd()
    refused = app.push(device)
    device.start_sshd()
    device.cut_link("down")
    no_route = app.push(device)
    device.restore_link()
    device.cut_link("silent")
    silent = app.push(device)
    for done in (refused, no_route, silent):
        assert done.status == 4 and done.document["retryable"]
        assert done.seconds < 15 + PUSH_S + 5
    assert "refuse" in refused.said
    assert len({done.document["devices"][0]["text"] for done in (refused, no_route, silent)}) == 3


def test_a_device_that_reboots_is_found_again(app: Application, device: LabDevice) -> None:
    """Row 7: its kernel forgot the connection, and nobody was told; the push goes on."""
    before = sent(device)
    watch = when_sent(device, NOISE_BYTES // 2, device.reboot)
    done = app.push(device)
    watch.join()
    assert done.status == 0, done.said
    check_clean(device)
    assert sent(device) - before <= NOISE_BYTES * 1.05 + RETRANSFER_BYTES


def test_a_full_disk_is_seen_before_anything_is_sent(app: Application, device: LabDevice) -> None:
    """Row 9: the message says how much is needed and how much there is."""
    device.fill_disk(NOISE_BYTES // 2)
    before = sent(device)
    done = app.push(device)
    assert done.status == 4 and "E423" in labapp.codes(done.document), done.said
    assert sent(device) - before < 1 << 20
    check_depot(device)
    device.empty_disk()
    assert app.push(device).status == 0
    check_clean(device)


def test_a_disk_that_fills_meanwhile(app: Application, device: LabDevice) -> None:
    """Row 10: no space is what it says; nothing is visible, and room is all that it needs."""
    watch = when_sent(device, NOISE_BYTES // 2, lambda: device.fill_disk(1 << 20))
    done = app.push(device)
    watch.join()
    assert done.status == 4 and "E423" in labapp.codes(done.document), done.said
    check_depot(device)
    device.empty_disk()
    assert app.push(device).status == 0
    check_clean(device)


def test_a_builder_that_is_killed_frees_the_lock(app: Application, device: LabDevice) -> None:
    """Row 17: at once, so the next push waits for nobody."""
    with app.pushing(device) as process:
        watch = when_sent(device, NOISE_BYTES // 2, lambda: process.send_signal(signal.SIGKILL))
        assert process.wait(60) == -signal.SIGKILL
        watch.join()
    deadline = time.monotonic() + 5
    while not lock_is_free(device):
        assert time.monotonic() < deadline
    check_depot(device)
    assert app.push(device).status == 0
    check_clean(device)


def test_ctrl_c_frees_the_lock_at_once(app: Application, device: LabDevice) -> None:
    """130 within 3 s, and nothing is held."""
    with app.pushing(device) as process:
        watch = when_sent(device, NOISE_BYTES // 2, lambda: process.send_signal(signal.SIGINT))
        watch.join()
        start = time.monotonic()
        assert process.wait(30) == 130
        assert time.monotonic() - start < 3
    deadline = time.monotonic() + 3
    while not lock_is_free(device):
        assert time.monotonic() < deadline
    check_depot(device)


def test_a_lease_ends_without_its_holder(app: Application, devices: dict[str, LabDevice]) -> None:
    """Row 18: host and link are gone while the lock is held; after 30 s it is free by itself."""
    both = list(devices.values())
    started = time.monotonic()
    for device in both:
        device.set_rate(RATE_BITS_S)
        with app.pushing(device) as process:
            when_sent(device, NOISE_BYTES // 2, device.cut_link).join(60)
            process.send_signal(signal.SIGKILL)
    try:
        for device in both:
            assert not lock_is_free(device), "the lock must outlive a short absence"
            while not lock_is_free(device):
                assert time.monotonic() - started < 120
                time.sleep(0.2)
            check_depot(device)
    finally:
        for device in both:
            device.restore_link()
            device.set_rate(None)
    done = app.push(*both)
    assert done.status == 0, done.said
    for device in both:
        check_clean(device)
        shutil.rmtree(device.home / ".edgedeploy")


def test_a_slow_link_is_no_fault(app: Application, devices: dict[str, LabDevice]) -> None:
    """Row 8: a frame takes longer than any silence may last, and nothing is taken for silence."""
    both = list(devices.values())
    small = app.folder / "small"
    if not small.exists():
        shutil.copytree(app.folder, small, ignore=shutil.ignore_patterns("small"))
    slow = Application(small, app.inventory)
    (small / "noise.bin").write_bytes(os.urandom(4 << 20))
    slow.build()
    for device in both:
        device.set_rate(2_000_000)
    try:
        done = slow.run("push", *slow.on(*both), "-j", "2", limit_s=240)
    finally:
        for device in both:
            device.set_rate(None)
    assert done.status == 0, done.said
    assert done.seconds > 16, "4 MiB at 2 Mbit/s take that long"
    for device in both:
        check_clean(device)
        shutil.rmtree(device.home / ".edgedeploy")
