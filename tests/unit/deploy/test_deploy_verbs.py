"""What the verbs on devices decide before they touch one."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from edgedeploy.deploy.activate import Wanted
from edgedeploy.deploy.verbs import without_false_ceilings
from edgedeploy.devices.facts import DeviceFacts
from edgedeploy.devices.local import LocalRemote
from edgedeploy.records import add_record, conditions_key
from edgedeploy.store import Store

WANTED = Wanted(app="app", version="0" * 64, ceilings_ms={("main", "rpi5/ort"): 5.0})


@pytest.mark.parametrize(
    ("emulated", "pretended", "judged"),
    [(False, False, True), (True, False, False), (False, True, False)],
)
def test_only_a_real_device_is_held_to_a_latency(
    tmp_path: Path, emulated: bool, pretended: bool, judged: bool
) -> None:
    store, told = Store(tmp_path / "store"), []
    facts = DeviceFacts(system="linux", arch="arm64", runtimes={}, emulated=emulated)
    record = {"created": "2026-01-01T00:00:00+00:00", "facts": facts.to_json()}
    add_record(store, conditions_key({"kind": "facts", "device": "desk"}), record, ())
    device = SimpleNamespace(name="desk", root="~", python=None)
    remote = LocalRemote("desk")
    remote = SimpleNamespace(name="desk", pretended=pretended, run=remote.run)
    link = SimpleNamespace(remote=remote, say=told.append)
    found = without_false_ceilings(WANTED, store, device, link)
    assert (found == WANTED) is judged and (told == []) is judged
    assert found.ceilings_ms == (WANTED.ceilings_ms if judged else {})
