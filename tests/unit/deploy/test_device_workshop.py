"""Which devices build engines, what is told of those that cannot, and who takes over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgedeploy.deploy.engines import DeviceWorkshop
from edgedeploy.deploy.gpu import survey_folder
from edgedeploy.devices.gpu_facts import GpuSurvey, Way
from edgedeploy.devices.inventory import LOCAL, Device, Inventory, load_inventory
from edgedeploy.devices.link import failure
from edgedeploy.errors import DeviceError, ProfileError, UsageError
from edgedeploy.events import EventLog, Note
from edgedeploy.node import Node
from edgedeploy.records import add_record
from edgedeploy.remote import Remote
from edgedeploy.stage import Made
from edgedeploy.store import Store
from edgedeploy.target.library import TargetLibrary
from edgedeploy.worker.launch import Stopped

GOING = threading.Event()


def survey_of(name: str, **changes: Any) -> GpuSurvey:
    found = GpuSurvey(
        device=name,
        system="linux",
        arch="x86-64",
        gpu="NVIDIA L4",
        compute_capability="8.9",
        driver="580.95.05",
        installed={},
        ways=(Way(kind="trtexec", path="/opt/trtexec", version="10.14.1"),),
    )
    return replace(found, **changes)


def item_for(target: str = "nvidia-l4/tensorrt", **options: str) -> Any:
    use = SimpleNamespace(options=options, target=target)
    found = TargetLibrary().load(target)
    return SimpleNamespace(name=f"main -> {target}", use=use, target=found)


class Fleet:
    """An inventory whose devices answer, or do not, as a test says."""

    def __init__(self, folder: Path, answers: Mapping[str, GpuSurvey | DeviceError]) -> None:
        self.answers = dict(answers)
        self.asked: list[str] = []
        self.notes: list[str] = []
        self.store = Store(folder / "store")
        devices = {
            name: Device(name=name, kind="ssh", host="10.1.2.3", user="pi", board="nvidia-l4")
            for name in answers
        }
        devices.setdefault(LOCAL, Device(name=LOCAL, kind="local"))
        self.inventory = Inventory(file=None, devices=devices, groups={})

    def workshop(self, **more: Any) -> DeviceWorkshop:
        """Return a new workshop of it, as each build has its own."""

        def told(event: object) -> None:
            if isinstance(event, Note):
                self.notes.append(event.text)

        return DeviceWorkshop(
            self.inventory,
            lambda device: SimpleNamespace(name=device.name, close=lambda: None),  # type: ignore[arg-type,return-value]
            self.store,
            EventLog(told),
            probe=self._probe,
            **more,
        )

    def _probe(self, remote: Remote, python: str | None, store: Store | None) -> GpuSurvey:
        self.asked.append(remote.name)
        found = self.answers[remote.name]
        if isinstance(found, DeviceError):
            raise found
        self.keep(remote.name)
        return found

    def keep(self, name: str) -> None:
        """Write what a device is to the store, as a survey does."""
        found = self.answers[name]
        assert isinstance(found, GpuSurvey)
        record = {"created": f"2026-01-01T00:00:{len(self.asked):02d}", "survey": found.to_json()}
        add_record(self.store, survey_folder(self.store, name).name, record, ())


def lost(words: str = "10.1.2.3 is off", code: str = "E401") -> DeviceError:
    return failure(words, code, "switch it on", retryable=True)


def test_equal_devices_are_one_platform(tmp_path: Path) -> None:
    """The name of the device is no part of it; the version of TensorRT is."""
    newer = (Way(kind="trtexec", path="/x", version="10.15.0"),)
    fleet = Fleet(
        tmp_path,
        {"a": survey_of("a"), "b": survey_of("b"), "c": survey_of("c", ways=newer)},
    )
    found = fleet.workshop().platforms(item_for(), GOING)
    assert [platform.tensorrt for platform in found] == ["10.14.1", "10.15.0"]
    assert sorted(fleet.asked) == ["a", "b", "c"] and not fleet.notes


def test_a_device_is_asked_once(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, {"a": survey_of("a")})
    workshop = fleet.workshop()
    assert workshop.platforms(item_for(), GOING) == workshop.platforms(item_for(), GOING)
    assert fleet.asked == ["a"]


def test_one_of_several_that_is_away_is_a_note(tmp_path: Path) -> None:
    """And no host or user stands in what a report may keep."""
    fleet = Fleet(tmp_path, {"a": survey_of("a"), "b": lost()})
    assert len(fleet.workshop().platforms(item_for(), GOING)) == 1
    assert any("nothing is built on b: b was not reached" in text for text in fleet.notes)


def test_all_away_is_an_error_without_addresses(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, {"a": lost(), "b": lost()})
    with pytest.raises(DeviceError) as error:
        fleet.workshop().platforms(item_for(), GOING)
    assert error.value.retryable and {item.subject for item in error.value.diagnostics} == {
        "a",
        "b",
    }
    assert "10.1.2.3" not in str([item.to_json() for item in error.value.diagnostics])
    assert any("10.1.2.3" in text for text in fleet.notes)  # who runs it reads it


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"compute_capability": "8.6"}, "E488", "SM86"),
        ({"ways": (Way(kind="trtexec", path="/x", version="8.5.1"),)}, "E489", "8.5.1"),
        ({"ways": ()}, "E486", "no TensorRT"),
        ({"gpu": "", "compute_capability": ""}, "E485", "GPU"),
    ],
)
def test_a_device_that_does_not_fit_builds_nothing(
    changes: dict[str, Any], code: str, words: str, tmp_path: Path
) -> None:
    fleet = Fleet(tmp_path, {"a": survey_of("a", **changes)})
    with pytest.raises(DeviceError) as error:
        fleet.workshop().platforms(item_for(), GOING)
    assert error.value.diagnostics[0].code == code and words in str(error.value)
    assert not error.value.retryable


def test_devices_of_other_boards_are_left_alone(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, {"a": survey_of("a")})
    assert fleet.workshop().platforms(item_for("nvidia-h100/tensorrt"), GOING) == ()
    assert fleet.asked == []


def test_only_chosen_devices_are_reached(tmp_path: Path) -> None:
    """What the others were at their last survey is known."""
    fleet = Fleet(tmp_path, {"a": survey_of("a"), "b": survey_of("b", driver="590.1")})
    fleet.keep("b")
    workshop = fleet.workshop(chosen={"a"})
    assert [item.driver for item in workshop.platforms(item_for(), GOING)] == ["580.95.05"]
    assert [item.driver for item in workshop.away(item_for())] == ["590.1"]
    assert fleet.asked == ["a"]


def test_chosen_devices_of_other_boards_are_named(tmp_path: Path) -> None:
    """Retryable: an engine that the store has of another device stays."""
    fleet = Fleet(tmp_path, {"a": survey_of("a"), "b": survey_of("b")})
    with pytest.raises(DeviceError, match="none was chosen: a is nvidia-l4") as error:
        fleet.workshop(chosen={"a"}).platforms(item_for("nvidia-h100/tensorrt"), GOING)
    assert error.value.diagnostics[0].code == "E482" and error.value.retryable
    assert fleet.asked == []


def test_what_was_asked_is_not_away(tmp_path: Path) -> None:
    """A device that was upgraded is what it is now, whatever it was."""
    fleet = Fleet(tmp_path, {"a": survey_of("a", driver="570.1")})
    fleet.keep("a")
    fleet.answers["a"] = survey_of("a")
    workshop = fleet.workshop()
    assert [item.driver for item in workshop.platforms(item_for(), GOING)] == ["580.95.05"]
    assert workshop.away(item_for()) == ()


def test_this_machine_compiles_where_the_profile_says_so(tmp_path: Path) -> None:
    """It needs no board in the inventory, and is asked whichever devices were chosen."""
    fleet = Fleet(tmp_path, {"a": survey_of("a"), LOCAL: survey_of(LOCAL, driver="1")})
    fleet.inventory.devices[LOCAL] = Device(name=LOCAL, kind="local")  # type: ignore[index]
    item = item_for(compile_on="local")
    found = fleet.workshop(chosen={"a"}).platforms(item, GOING)
    assert [item.driver for item in found] == ["1"] and fleet.asked == [LOCAL]


def test_a_fake_device_builds_nothing_real(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, {"a": survey_of("a")})
    fleet.inventory.devices["a"] = Device(name="a", kind="fake", board="nvidia-l4")  # type: ignore[index]
    (platform,) = fleet.workshop().platforms(item_for(), GOING)
    assert platform.simulated


def test_asking_can_be_given_up(tmp_path: Path) -> None:
    """A device that does not answer keeps nobody."""
    fleet = Fleet(tmp_path, {"a": survey_of("a")})
    blocked, stop = threading.Event(), threading.Event()
    workshop = fleet.workshop()
    workshop._probe = lambda *_: blocked.wait(60) and None  # type: ignore[assignment]
    threading.Timer(0.3, stop.set).start()
    with pytest.raises(Stopped):
        workshop.platforms(item_for(), stop)
    blocked.set()


# -- At work ---------------------------------------------------------------------------------------


@pytest.fixture
def built_on(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Sequence[str]]:
    """Return what makes an engine and says on which devices that was tried."""
    tried: list[str] = []

    def make(fleet: Fleet, outcomes: Mapping[str, Exception | None]) -> Sequence[str]:
        def build(remote: Remote, *_: Any) -> Made:
            tried.append(remote.name)
            failing = outcomes.get(remote.name)
            if failing is not None:
                raise failing
            return Made()

        monkeypatch.setattr("edgedeploy.deploy.engines.build_engine", build)
        workshop = fleet.workshop(order=lambda survey, program: None)
        (platform,) = workshop.platforms(item_for(), GOING)
        node = Node(id="main.engine", kind="engine", params={"platform": platform.to_json()})
        work = SimpleNamespace(inputs={"program": Path()}, outputs={})
        try:
            workshop.make(node, work, threading.Event())  # type: ignore[arg-type]
        finally:
            fleet.asked.clear()
        return tried

    return make


def test_a_lost_device_gives_way_to_an_equal_one(
    built_on: Callable[..., Sequence[str]], tmp_path: Path
) -> None:
    fleet = Fleet(tmp_path, {name: survey_of(name) for name in ("a", "b", "c")})
    assert built_on(fleet, {"a": lost(code="E403")}) == ["a", "b"]
    assert any("goes on on another device: a was not reached" in text for text in fleet.notes)


def test_what_tensorrt_refuses_is_not_tried_elsewhere(
    built_on: Callable[..., Sequence[str]], tmp_path: Path
) -> None:
    fleet = Fleet(tmp_path, {name: survey_of(name) for name in ("a", "b")})
    with pytest.raises(DeviceError):
        built_on(fleet, {"a": DeviceError("no room", code="E423")})


def test_the_last_one_that_is_lost_is_told(
    built_on: Callable[..., Sequence[str]], tmp_path: Path
) -> None:
    fleet = Fleet(tmp_path, {name: survey_of(name) for name in ("a", "b")})
    with pytest.raises(DeviceError) as error:
        built_on(fleet, {"a": lost(), "b": lost()})
    assert error.value.retryable and error.value.diagnostics[0].subject == "b"


def test_builds_spread_over_equal_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two engines at once for one platform: each device gets one."""
    fleet = Fleet(tmp_path, {name: survey_of(name) for name in ("a", "b")})
    meeting = threading.Barrier(2, timeout=30)
    used: list[str] = []

    def build(remote: Remote, *_: Any) -> Made:
        used.append(remote.name)
        meeting.wait()
        return Made()

    monkeypatch.setattr("edgedeploy.deploy.engines.build_engine", build)
    workshop = fleet.workshop(order=lambda survey, program: None)
    (platform,) = workshop.platforms(item_for(), GOING)
    work: Any = SimpleNamespace(inputs={"program": Path()}, outputs={})
    nodes = [Node(id=name, kind="engine", params={"platform": platform.to_json()}) for name in "12"]
    threads = [
        threading.Thread(target=workshop.make, args=(node, work, threading.Event()))
        for node in nodes
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(used) == ["a", "b"]


# -- The inventory ---------------------------------------------------------------------------------


def test_an_inventory_says_where_another_would_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a build notices one that appears; also while there is none."""
    monkeypatch.chdir(tmp_path)
    assert tmp_path / "devices.yaml" in load_inventory(None, tmp_path).places
    named = tmp_path / "mine.yaml"
    named.write_text("devices: {a: {host: a, board: nvidia-l4}}\n")
    assert load_inventory(named, tmp_path).places == (named,)
    monkeypatch.setenv("EDGEDEPLOY_DEVICES", str(named))
    assert load_inventory(None, tmp_path).places == (named,)


@pytest.mark.parametrize("name", ["b", "@none"])
def test_devices_that_are_not_there_are_refused_at_once(name: str, tmp_path: Path) -> None:
    from edgedeploy.cli.fleet import workshop_of

    file = tmp_path / "devices.yaml"
    file.write_text("devices: {a: {host: a, board: nvidia-l4}}\n")
    options = {"devices": (name,), "inventory": file, "accept_new": False, "no_input": True}
    find = workshop_of(options, tmp_path, EventLog())
    plan: Any = SimpleNamespace(items=[item_for()])
    with pytest.raises(UsageError):
        find(plan, Store(tmp_path / "store"))


def test_a_plan_without_engines_reads_no_inventory(tmp_path: Path) -> None:
    """A broken devices.yaml concerns nobody who builds for a Raspberry Pi."""
    from edgedeploy.cli.fleet import workshop_of

    file = tmp_path / "devices.yaml"
    file.write_text("nonsense: [\n")
    options = {"devices": (), "inventory": file, "accept_new": False, "no_input": True}
    find = workshop_of(options, tmp_path, EventLog())
    store = Store(tmp_path / "store")
    assert find(SimpleNamespace(items=[item_for("rpi5/ort")]), store) is None  # type: ignore[arg-type]
    with pytest.raises(ProfileError):
        find(SimpleNamespace(items=[item_for()]), store)  # type: ignore[arg-type]
