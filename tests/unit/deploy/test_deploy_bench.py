"""What a device, or a version on it, may not do to who measures and checks there."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgedeploy.artifact import FileEntry
from edgedeploy.deploy.bench import DeviceSite
from edgedeploy.deploy.health import GOLDEN_BYTES, fetch_folder
from edgedeploy.deploy.ondevice import OnDevice
from edgedeploy.deploy.probe import latest_facts, probe_device
from edgedeploy.devices.inventory import Device
from edgedeploy.devices.link import failure
from edgedeploy.devices.local import LocalRemote
from edgedeploy.devices.version import Version, VersionModel
from edgedeploy.errors import DeviceError
from edgedeploy.events import EventLog, Note
from edgedeploy.records import add_record, conditions_key, latest_record
from edgedeploy.store import Store

ROBOT = Device(name="robot-7", kind="ssh", host="10.1.2.3", user="pi", board="robot")


def never(*_: Any) -> Any:
    raise AssertionError("nothing may be run")


@pytest.mark.parametrize("code", ["E401", "E403", "E412"])
def test_hosts_and_users_are_told_and_not_kept(code: str, tmp_path: Path) -> None:
    """What is raised stands in build.json, which travels; who runs it reads the rest."""

    def connect() -> Any:
        raise failure("10.1.2.3 lets pi not in", code, "`ssh-copy-id pi@10.1.2.3`", retryable=True)

    told: list[Any] = []
    site = DeviceSite(ROBOT, connect, events=EventLog(told.append))
    with pytest.raises(DeviceError) as error:
        site.measure(SimpleNamespace(machines=()), tmp_path, print)  # type: ignore[arg-type]
    (item,) = error.value.diagnostics
    assert item.code == code and error.value.retryable and "robot-7" in item.message
    assert not any(word in str(item.to_json()) for word in ("10.1", "pi@", " pi "))
    notes = [item.text for item in told if isinstance(item, Note)]
    assert any("10.1.2.3 lets pi not in" in text for text in notes)


def version_with(runtime: str, *files: FileEntry) -> Version:
    model = VersionModel(
        name="main",
        target="robot/ort",
        runtime=runtime,
        entry="main/model",
        artifact="ab" * 32,
        candidate="float",
    )
    return Version(app="app", board="robot", models=(model,), files=files)


def test_a_runtime_that_is_not_known_here_is_the_versions_fault(tmp_path: Path) -> None:
    """A version by its name alone may be of a newer edgedeploy."""
    version = version_with("tomorrow")
    runs = OnDevice(LocalRemote(), ROBOT, never, never)
    with pytest.raises(DeviceError) as error:
        runs.outputs(version, version.models[0], "/depot", tmp_path, ())
    assert error.value.diagnostics[0].code == "E436"


def test_golden_samples_do_not_fill_this_disk(tmp_path: Path) -> None:
    """Its size is the device's word; nothing of what is too large is fetched."""
    huge = FileEntry(path="golden/in/x", size=GOLDEN_BYTES + 1, sha256="ab" * 32)
    with pytest.raises(DeviceError) as error:
        fetch_folder(never, version_with("ort", huge), "golden/in", "/depot", tmp_path)  # type: ignore[arg-type]
    assert error.value.diagnostics[0].code == "E405"


def test_facts_of_another_edition_are_none(tmp_path: Path) -> None:
    """A push then probes anew, and does not end in a trace."""
    store = Store(tmp_path / "store")
    probe_device(store, LocalRemote("robot-7"))
    assert latest_facts(store, "robot-7") is not None
    key = conditions_key({"kind": "facts", "device": "robot-7"})
    old = latest_record(store, key)
    assert old is not None
    old["facts"]["flux_capacitor"] = True
    add_record(store, key, {**old, "created": "2999-01-01T00:00:00+00:00"}, ())
    assert latest_facts(store, "robot-7") is None
