"""Whole builds whose engines devices make, by stand-ins for trtexec: nothing real is built."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from edgedeploy import api
from edgedeploy.api import BuildOptions, BuildResult, Request
from edgedeploy.building import BuildRun
from edgedeploy.deploy.engines import DeviceWorkshop
from edgedeploy.deploy.gpu import latest_survey, survey_folder
from edgedeploy.devices.inventory import Device, Inventory, load_inventory
from edgedeploy.devices.link import failure
from edgedeploy.errors import ExitCode, ProfileError
from edgedeploy.events import EngineProgress, Event, EventLog, StageFinished
from edgedeploy.freshness import still_fresh
from edgedeploy.records import add_record
from edgedeploy.remote import Remote
from edgedeploy.store import Store
from tests.lab.tensorrt.machines import MACHINES, Machine
from tests.unit.deploy.engine_desk import Desk, write_model

pytestmark = pytest.mark.slow

L4 = MACHINES["server-trt10.14"]
PROFILE = """edgedeploy: 1
name: small
model: {source: small.onnx}
quantize: none
targets: [nvidia-l4/tensorrt]
"""


@dataclass
class Project:
    """A profile, its store, and the devices that a test gives it."""

    folder: Path
    desks: dict[str, Desk] = field(default_factory=dict)
    off: set[str] = field(default_factory=set)
    reached: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    surveys: int = 0

    def give(self, folder: Path, **machines: Machine) -> None:
        """Take these devices in place of those before."""
        self.desks = {
            name: Desk(folder / name, machine, name) for name, machine in machines.items()
        }
        self.off, self.reached, self.events = set(), [], []
        lines = [f"  {name}: {{host: {name}, board: nvidia-l4}}" for name in machines]
        (self.folder / "devices.yaml").write_text("\n".join(["devices:", *lines, ""]))

    def build(
        self, *, fresh: Path | None = None, locked: bool = False, **changes: Any
    ) -> BuildResult:
        """Build the profile with the devices that it has."""
        self.reached.clear()
        self.events.clear()
        options = BuildOptions(
            output=self.folder / "build", store=self.folder / "store", locked=locked
        )
        request = Request(profile=self.folder / "small.yaml", **changes)
        log = EventLog(self.events.append)
        return api.build(
            request, options, log, fresh=fresh, workshop=lambda _, store: self.workshop(store, log)
        )

    def workshop(self, store: Store, log: EventLog) -> DeviceWorkshop:
        """Return the devices of devices.yaml: the desks."""
        found: Inventory = load_inventory(None, self.folder)
        return DeviceWorkshop(found, self._connect, store, log, probe=self._probe)

    def _connect(self, device: Device) -> Remote:
        self.reached.append(device.name)
        if device.name in self.off:
            raise failure(f"{device.name} is off", "E401", "switch it on", retryable=True)
        return self.desks[device.name].remote

    def _probe(self, remote: Remote, python: str | None, store: Store | None) -> Any:
        """Keep what was found as `survey_device` does; its clock would be too coarse here."""
        found = self.desks[remote.name].survey
        assert store is not None
        if latest_survey(store, remote.name) != found:
            self.surveys += 1
            record = {"created": f"2026-01-01T{self.surveys:06d}", "survey": found.to_json()}
            add_record(store, survey_folder(store, remote.name).name, record, ())
        return found

    @property
    def ran(self) -> list[str]:
        """The kinds of engine stages that ran."""
        found = [item for item in self.events if isinstance(item, StageFinished)]
        return [item.node for item in found if item.state == "ran" and ".engine[" in item.node]

    @property
    def builders(self) -> set[str]:
        """The devices that built."""
        return {item.device for item in self.events if isinstance(item, EngineProgress)}

    def published(self) -> set[str]:
        """The platforms whose engines lie in the build folder."""
        place = self.folder / "build/small/main/nvidia-l4/tensorrt/engines"
        return {path.parent.name for path in place.glob("*/model.engine")}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a project whose stages on this machine are run once for all tests."""
    folder = tmp_path_factory.mktemp("project")
    write_model(folder / "small.onnx")
    (folder / "small.yaml").write_text(PROFILE)
    return Project(folder)


@pytest.fixture
def project(shared: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(shared.folder)
    (shared.folder / "small.yaml").write_text(PROFILE)
    (shared.folder / "edgedeploy.lock").unlink(missing_ok=True)
    return shared


def upgraded(driver: str) -> Machine:
    """Return the machine with another driver: no engine of other tests is for it."""
    return replace(L4, driver=driver)


def test_equal_devices_share_an_engine(project: Project, tmp_path: Path) -> None:
    """And another platform gets one of its own, in the same artifact."""
    one, other = upgraded("1.1"), upgraded("1.2")
    project.give(tmp_path, a=one, b=one, c=other)
    result = project.build()
    assert result.exit_code == ExitCode.DONE
    wanted = {project.desks[name].platform.id for name in "abc"}
    assert len(project.ran) == 2 and project.published() == wanted and len(wanted) == 2
    assert len(project.builders) == 2 and "c" in project.builders
    (outcome,) = result.outcomes
    assert outcome.chosen is not None and outcome.chosen.size_bytes < 2 * 4096 + 4096


def test_what_did_not_change_touches_no_device(project: Project, tmp_path: Path) -> None:
    """Until the inventory changes, or a device is found to be another one."""
    project.give(tmp_path, a=upgraded("2.1"))
    fresh = project.folder / "store" / "memory" / "a.fresh"
    project.build(fresh=fresh)
    assert still_fresh(fresh) is not None
    store = Store(project.folder / "store")
    add_record(store, survey_folder(store, "a").name, {"created": "2025-01-01"}, ())
    assert still_fresh(fresh) is None  # a push found that its TensorRT is another
    project.build(fresh=fresh)
    assert project.reached == ["a"] and still_fresh(fresh) is not None and not project.ran
    text = (project.folder / "devices.yaml").read_text()
    (project.folder / "devices.yaml").write_text(f"{text}  new: {{host: new, board: rpi5}}\n")
    assert still_fresh(fresh) is None


def test_the_engine_of_a_device_that_is_off_stays(project: Project, tmp_path: Path) -> None:
    """A program that changed needs it, though."""
    project.give(tmp_path, a=upgraded("3.1"), b=upgraded("3.2"))
    project.build()
    both = project.published()
    project.off = {"b"}
    assert project.build().exit_code == ExitCode.DONE and project.published() == both
    project.off = {"a", "b"}
    assert project.build().exit_code == ExitCode.DONE and project.published() == both
    options = ("targets.nvidia-l4/tensorrt.options.optimisation_level=2",)
    (project.folder / "small.yaml").write_text(
        PROFILE.replace("[nvidia-l4/tensorrt]", "{nvidia-l4/tensorrt: {}}")
    )
    result = project.build(sets=options)
    assert result.exit_code == ExitCode.DEVICE
    assert {item.code for trial in result.outcomes[0].trials for item in trial.diagnostics} == {
        "E401"
    }


def test_nobody_who_could_build_is_a_devices_failure(project: Project, tmp_path: Path) -> None:
    project.give(tmp_path)
    (project.folder / "devices.yaml").write_text("devices: {pi: {host: pi, board: rpi5}}\n")
    result = project.build()
    assert result.exit_code == ExitCode.DEVICE and project.reached == []
    (trial,) = result.outcomes[0].trials
    assert trial.diagnostics[0].code == "E482" and "nvidia-l4" in str(trial.diagnostics[0].hint)


def test_what_tensorrt_refuses_fails_the_stage(project: Project, tmp_path: Path) -> None:
    """Nothing of it is stored: the next build tries again."""
    project.give(tmp_path, a=upgraded("5.1"))
    project.desks["a"].play(fail="oom")
    result = project.build()
    assert result.exit_code == ExitCode.BUILD and project.desks["a"].left == []
    assert result.outcomes[0].trials[0].diagnostics[0].code == "E339"
    project.desks["a"].play(build_s=0.1)
    assert project.build().exit_code == ExitCode.DONE and len(project.ran) == 1


def test_a_lock_holds_program_and_platform(project: Project, tmp_path: Path) -> None:
    """The engine's digest is there to be looked up: the same program gives another one."""
    project.give(tmp_path / "1", a=upgraded("6.1"))
    project.build()
    lock = json.loads((project.folder / "edgedeploy.lock").read_text())["profiles"]["small"]
    (engines,) = lock["engines"].values()
    assert set(engines) == {project.desks["a"].platform.id} == project.published()
    (files,) = lock["artifacts"].values()
    assert set(files) == {"program/model.onnx", "program/recipe.json"}
    assert lock["schemes"] == {}
    for path in (project.folder / "store" / "actions").rglob("*.json"):
        if '"kind": "engine"' in path.read_text() or '"kind":"engine"' in path.read_text():
            path.unlink()
    project.desks["a"].play(build_s=0.2)  # the engine is made again, and differs
    assert project.build(locked=True).exit_code == ExitCode.DONE and len(project.ran) == 1
    project.give(tmp_path / "2", a=upgraded("6.2"))
    with pytest.raises(ProfileError) as error:
        project.build(locked=True)
    assert error.value.diagnostics[0].code == "E184" and "platforms" in str(error.value)


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Project], None]:
    """Return what interrupts the next build of a project as soon as a device builds."""

    def next_build(project: Project) -> None:
        runs: list[BuildRun] = []
        init = BuildRun.__init__

        def kept(self: BuildRun, *given: Any, **more: Any) -> None:
            init(self, *given, **more)
            runs.append(self)

        monkeypatch.setattr(BuildRun, "__init__", kept)

        def watch() -> None:
            while not project.builders:
                threading.Event().wait(0.05)
            runs[0].builder.stop()

        threading.Thread(target=watch, daemon=True).start()

    return next_build


def test_an_interrupted_build_leaves_no_engine(
    project: Project, tmp_path: Path, interrupted: Callable[[Project], None]
) -> None:
    """Neither here nor there; the next one makes it."""
    from edgedeploy.worker.launch import Stopped

    project.give(tmp_path, a=upgraded("7.1"))
    project.desks["a"].play(build_s=60)
    interrupted(project)
    with pytest.raises(Stopped):
        project.build()
    assert project.desks["a"].left == []
    project.desks["a"].play(build_s=0.1)
    assert project.build().exit_code == ExitCode.DONE and len(project.ran) == 1
