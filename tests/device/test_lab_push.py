"""Pushing to devices of the lab while their link fails.

Every test pushes to a device with Python and to one without, at once. Times are bounds against
hanging, not speeds.
"""

import os
import shutil
import time
from pathlib import Path

import pytest
import yaml

from tests.device import labapp
from tests.device.labapp import (
    NOISE_BYTES,
    START_S,
    Application,
    Pair,
    check_clean,
    check_depot,
    depot,
    push_with,
    sent,
)
from tests.lab import capabilities
from tests.lab.device import LabDevice, write_inventory
from tests.lab.lab import Lab

pytestmark = pytest.mark.slow

RESENT_BYTES = 8 << 20

CUT_S = 15.0
"""A cut link is an error within this."""

LEASE_S = 30.0


@pytest.fixture(scope="module")
def app(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Application:
    """The application, built."""
    folder = tmp_path_factory.mktemp("lab")
    return labapp.make(folder / "app", write_inventory(folder, pair), NOISE_BYTES)


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
        assert row["retryable"]
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
