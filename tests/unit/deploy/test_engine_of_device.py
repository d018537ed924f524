"""Which engine a device gets: a whole build for two platforms, pushed to machines that stand in.

A program called ``trtexec`` that prints the banner of one release, and one called ``nvidia-smi``,
make a GPU server of this machine; the engines are made by a workshop that writes their platform
into a file. All of it says that it is simulated, as it must.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgedeploy import api
from edgedeploy.bench.job import BenchJob
from edgedeploy.choosing import judged
from edgedeploy.deploy.bench import DeviceSite
from edgedeploy.deploy.contents import Built
from edgedeploy.devices.inventory import Device
from edgedeploy.devices.local import LocalRemote
from edgedeploy.devices.version import Version, parse_version
from edgedeploy.errors import BuildError, DeviceError
from edgedeploy.events import EventLog
from edgedeploy.gpu import GpuPlatform
from edgedeploy.measuring import ANSWERS, Session, Taken, board_records
from edgedeploy.node import Node
from edgedeploy.plan import Item, Plan
from edgedeploy.records import add_record
from edgedeploy.remote import DeviceRuntime
from edgedeploy.report.document import TargetReport, read_document
from edgedeploy.stage import Made, Work
from edgedeploy.store import Store

pytestmark = pytest.mark.slow

ARCH = {"x86_64": "x86-64", "aarch64": "arm64"}[os.uname().machine]
TARGET = "bench-gpu/tensorrt"
BOARD = f"""\
id: bench-gpu
title: A machine with an L4
os: linux
arch: {ARCH}
processor: gpu
gpu:
  compute_capabilities: ["8.9"]
  source: made up for a test
"""
PROFILE = f"""\
edgedeploy: 1
name: tiny
model: {{source: tiny.onnx}}
quantize: none
gates: {{cosine: 0.9, size: 1 MB}}
targets: [{TARGET}]
"""
OLD = GpuPlatform(
    system="linux",
    arch=ARCH,
    gpu="NVIDIA L4",
    compute_capability="8.9",
    tensorrt="10.3.0",
    driver="560.35.03",
    simulated=True,
)
NEW = replace(OLD, tensorrt="10.7.0")


@dataclass
class Workshop:
    """Makes engines that name their platform; counts what it made."""

    known: Sequence[GpuPlatform]
    made: list[str] = field(default_factory=list)
    reads: tuple[Path, ...] = ()

    def platforms(self, item: Item, stop: threading.Event) -> Sequence[GpuPlatform]:
        """Return what it was given."""
        return self.known

    def away(self, item: Item) -> Sequence[GpuPlatform]:
        """Return nothing."""
        return ()

    def make(self, node: Node, work: Work, stop: threading.Event) -> Made:
        """Write an engine and its provenance."""
        platform = GpuPlatform.from_json(node.params["platform"])
        self.made.append(platform.id)
        engine = f"edgedeploy stand-in {platform.id}".encode().ljust(600_000, b".")
        (work.outputs["engine"] / "model.engine").write_bytes(engine)
        told = {"way": "trtexec", "build_s": 42.4, "power_mode": None, "clocks": None}
        (work.outputs["engine"] / "engine.json").write_text(json.dumps(told))
        (work.outputs["report"] / "layers.json").write_text(
            json.dumps({"schema": 1, "detail": "none", "layers": []})
        )
        (work.outputs["report"] / "build.log").write_text("")
        return Made()


def write_model(path: Path) -> None:
    """Write one matrix product."""
    weight = numpy_helper.from_array(np.eye(8, dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "tiny",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 8])],
        [weight],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def build(
    folder: Path, workshop: Workshop | None, sites: Sequence[Any] = (), **options: Any
) -> api.BuildResult:
    """Build the project; without a workshop nothing may be made."""

    def devices(plan: Plan, store: Store) -> Workshop | None:
        return workshop

    return api.build(
        api.Request(profile=folder / "tiny.yaml"),
        api.BuildOptions(output=folder / "build", store=folder / "store", jobs=1, **options),
        workshop=devices,
        sites=lambda plan: sites,
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project that was built for two platforms."""
    folder = tmp_path_factory.mktemp("engines")
    write_model(folder / "tiny.onnx")
    (folder / "tiny.yaml").write_text(PROFILE)
    (folder / "targets" / "boards").mkdir(parents=True)
    (folder / "targets" / "boards" / "bench-gpu.yaml").write_text(BOARD)
    workshop = Workshop([OLD, NEW])
    assert build(folder, workshop).exit_code == 0
    assert sorted(set(workshop.made)) == sorted([OLD.id, NEW.id])
    return folder


@dataclass
class Machine:
    """This machine, with another GPU and TensorRT each time that a test says so."""

    project: Path
    folder: Path

    def has(
        self, banner: str | None, smi: str = "NVIDIA L4, 560.35.03, 8.9", note: str = ""
    ) -> None:
        """Install a `trtexec` of a release, None for none, and an `nvidia-smi`."""
        rows = f"*index*) echo '0, GPU-aa, {smi}';; *) echo '{smi}, 23034';;"
        self._program("nvidia-smi", f'case "$1" in {rows} esac')
        place = self.folder / "programs" / "trtexec"
        place.unlink(missing_ok=True)
        if banner is not None:
            self._program("trtexec", f"echo '&&&& RUNNING TensorRT.trtexec {banner} # {note}'")

    def _program(self, name: str, text: str) -> None:
        place = self.folder / "programs" / name
        place.write_text(f"#!/bin/sh\n{text}\n")
        place.chmod(0o755)

    def run(self, *words: str) -> tuple[int, Any]:
        """Run a verb of edgedeploy; return its status and document."""
        done = subprocess.run(
            [sys.executable, "-m", "edgedeploy", *words, "--json"],
            cwd=self.project,
            env={
                **os.environ,
                "PATH": f"{self.folder / 'programs'}:{os.environ['PATH']}",
                "EDGEDEPLOY_STORE": str(self.project / "store"),
                "EDGEDEPLOY_DEVICES": str(self.folder / "devices.yaml"),
                "PYTHONPATH": str(Path(__file__).parents[3]),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def version(self) -> Version:
        """Return the one version that was pushed."""
        (place,) = (self.folder / "root" / "tiny" / "versions").glob("*/manifest.json")
        return parse_version(place.read_bytes())


@pytest.fixture
def machine(project: Path, tmp_path: Path) -> Iterator[Machine]:
    """Return a device that is this machine, with TensorRT 10.3.0 that stands in."""
    (tmp_path / "programs").mkdir()
    (tmp_path / "devices.yaml").write_text(
        "devices:\n  local:\n    connection: local\n    board: bench-gpu\n"
        f"    root: {tmp_path / 'root'}\n    python: {sys.executable}\n"
        "    health: {command: 'true'}\n"
    )
    found = Machine(project, tmp_path)
    found.has("[TensorRT v100300]", note="edgedeploy stand-in")
    yield found


def report(project: Path) -> TargetReport:
    """Return what the build says of the target."""
    (model,) = read_document(project / "build" / "tiny" / "build.json").models
    (target,) = model.targets
    return target


def test_reports_tell_of_each_engine_and_that_none_is_real(project: Path) -> None:
    found = report(project)
    assert found.verdict == "accepted" and found.simulated
    assert [GpuPlatform.from_json(item.platform) for item in found.engines] == [OLD, NEW]
    assert {item.size_bytes for item in found.engines} == {600_000}
    assert found.size_bytes is not None and 600_000 < found.size_bytes < 601_000  # not both
    folder = project / "build" / "tiny"
    text = (folder / "report.txt").read_text()
    assert "SIMULATED" in text
    flat = " ".join(text.split())
    assert (
        "SIMULATED, no GPU made it: engine of TensorRT 10.3.0 for NVIDIA L4 (SM89): 600 kB, "
        "by trtexec, in 42 s"
    ) in flat
    assert "simulated</span>" in (folder / "report.html").read_text()


def test_a_build_without_devices_keeps_the_engines(project: Path) -> None:
    """Nothing has to be built, so no device is needed; the document says for what it was."""
    before = report(project)
    assert build(project, None, measure="known").exit_code == 0
    assert report(project) == before
    workshop = Workshop([OLD, NEW])
    build(project, workshop)
    assert workshop.made == []


def test_a_device_gets_the_engine_of_its_platform_alone(machine: Machine) -> None:
    status, told = machine.run("push", "tiny.yaml", "-d", "local")
    assert (status, told["devices"][0]["state"]) == (0, "done"), told
    version = machine.version()
    (model,) = version.models
    assert model.entry == f"main/engines/{OLD.id}/model.engine"
    engines = [file.path for file in version.files if "/engines/" in file.path]
    assert engines == [
        f"main/engines/{OLD.id}/engine.json",
        f"main/engines/{OLD.id}/model.engine",
    ]
    needs = model.needs
    assert needs is not None and (needs.version, needs.simulated) == ("10.3.0", True)
    assert needs.compute_capabilities == ("8.9",) and needs.gpu == "NVIDIA L4"


@pytest.mark.parametrize(
    ("banner", "smi", "note", "code", "words"),
    [
        (
            "[TensorRT v100900]",
            "NVIDIA L4, 560.35.03, 8.9",
            "edgedeploy stand-in",
            "E487",
            "engine built with 10.3.0 for SM89, device has 10.9.0 / SM89",
        ),
        (
            "[TensorRT v100300]",
            "NVIDIA L4, 560.35.03, 8.9",
            "",
            "E487",
            "the engine is simulated, no GPU made it, and the device is real",
        ),
        (
            "[TensorRT v100300]",
            "NVIDIA A10, 560.35.03, 8.6",
            "edgedeploy stand-in",
            "E488",
            "the GPU must be SM89, and is NVIDIA A10 (SM86)",
        ),
        (
            "[TensorRT v8502]",
            "NVIDIA L4, 560.35.03, 8.9",
            "edgedeploy stand-in",
            "E489",
            "the runtime must be >=8.6, and is 8.5.2",
        ),
        (None, "NVIDIA L4, 560.35.03, 8.9", "", "E486", "local has no TensorRT"),
        ("[TensorRT v100300]", "Tesla K80, 470.1, [N/A]", "", "E485", "compute capability"),
    ],
)
def test_a_device_that_loads_no_engine_is_told_before_anything_travels(
    machine: Machine, banner: str | None, smi: str, note: str, code: str, words: str
) -> None:
    machine.has(banner, smi, note)
    status, told = machine.run("push", "tiny.yaml", "-d", "local")
    (row,) = told["devices"]
    assert (status, row["state"]) == (4, "failed")
    (found,) = [item for item in row["diagnostics"] if item["code"] == code]
    assert words in found["message"]
    assert not (machine.folder / "root" / "tiny").exists()


def test_another_card_of_the_same_kind_gets_the_engine(machine: Machine) -> None:
    """The code runs there; that its kernels were chosen elsewhere is told."""
    machine.has("[TensorRT v100700]", "NVIDIA L40S, 570.86.10, 8.9", "edgedeploy stand-in")
    status, _ = machine.run("push", "tiny.yaml", "-d", "local")
    assert status == 0
    assert machine.version().models[0].entry == f"main/engines/{NEW.id}/model.engine"


def test_a_system_that_was_upgraded_after_the_push_activates_nothing(machine: Machine) -> None:
    """Found from the manifest on the device, before the engine is loaded."""
    assert machine.run("push", "tiny.yaml", "-d", "local")[0] == 0
    version = machine.version().name
    machine.has("[TensorRT v100700]", note="edgedeploy stand-in")
    words = ("activate", "tiny.yaml", "-d", "local", "--no-golden", "--version", version)
    status, told = machine.run(*words)
    (row,) = told["devices"]
    assert (status, row["diagnostics"][0]["code"]) == (4, "E487")
    assert "device has 10.7.0 / SM89" in row["diagnostics"][0]["message"]
    assert not (machine.folder / "root" / "tiny" / "current").exists()
    machine.has("[TensorRT v100300]", note="edgedeploy stand-in")
    status, told = machine.run(*words)
    assert (status, told["devices"][0]["state"]) == (0, "done"), told
    machine.has("[TensorRT v100700]", note="edgedeploy stand-in")
    assert machine.run("push", "tiny.yaml", "-d", "local")[0] == 0
    status, told = machine.run("activate", "tiny.yaml", "-d", "local", "--no-golden")
    assert (status, told["devices"][0]["state"]) == (0, "done"), told


def test_probe_and_show_say_what_builds_engines_there(machine: Machine) -> None:
    status, told = machine.run("devices", "probe", "-d", "local")
    assert status == 0
    found = told["devices"][0]["details"]["engines"]
    assert (found["gpu"], found["compute_capability"]) == ("NVIDIA L4", "8.9")
    assert [way["version"] for way in found["ways"]] == ["10.3.0"]
    status, told = machine.run("devices", "show", "local")
    assert status == 0 and told["devices"][0]["engines"]["survey"] == found


class Recorder:
    """What would run artifacts, and notes the job instead."""

    def __init__(self) -> None:
        self.jobs: list[BenchJob] = []

    def measure(self, job: BenchJob, on_progress: Any) -> Any:
        """Note the job; nothing runs here."""
        self.jobs.append(job)
        raise DeviceError("enough is known", code="E471", subject="local", hint="none")


def site(machine: Machine, recorder: Recorder) -> DeviceSite:
    """Return the device as a site of measurements."""
    runtime = DeviceRuntime(
        family="tensorrt", kind="python", version="10.3.0", command="python3", provisioned=None
    )
    unit = Device(
        name="local",
        kind="local",
        board="bench-gpu",
        root=str(machine.folder / "root"),
        python=sys.executable,
    )
    return DeviceSite(
        unit,
        lambda: LocalRemote("local"),
        find=lambda *_: runtime,
        make=lambda *_: recorder,  # type: ignore[arg-type,return-value]
    )


def test_a_bench_loads_the_engine_of_the_devices_platform(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none, before anything is staged, where the device loads none."""
    monkeypatch.setenv("PATH", f"{machine.folder / 'programs'}:{os.environ['PATH']}")
    machine.has("[TensorRT v100900]", note="edgedeploy stand-in")
    recorder = Recorder()
    result = build(machine.project, None, [site(machine, recorder)], measure="known")
    assert "E487" in [item.code for item in result.unmeasured] and recorder.jobs == []
    assert not (machine.folder / "root" / "tiny").exists()

    machine.has("[TensorRT v100700]", note="edgedeploy stand-in")
    build(machine.project, None, [site(machine, recorder)], measure="known")
    (job,) = recorder.jobs
    (artifact,) = job.artifacts
    assert artifact.path.as_posix().endswith(f"engines/{NEW.id}/model.engine")
    assert job.evidence == "simulated" and job.device["platform"] == NEW.id


class Listener:
    """A site that notes what it should measure."""

    name, board = "listener", "bench-gpu"

    def __init__(self) -> None:
        self.sessions: list[Session] = []

    def measure(self, session: Session, folder: Path, progress: Any) -> Taken:
        """Note the session; nothing runs here."""
        self.sessions.append(session)
        raise DeviceError("enough is known", code="E471", subject="listener", hint="none")


def noted(project: Path, *platforms: GpuPlatform) -> Session:
    """Return what is measured of a build for some platforms."""
    listener = Listener()
    build(project, Workshop(platforms), [listener], measure="known")
    return listener.sessions[0]


def test_measurements_are_of_an_engine_and_not_of_its_neighbours(
    project: Path, tmp_path: Path
) -> None:
    """A further device in the fleet changes nothing about what was measured on the first."""
    both = noted(project, OLD, NEW)
    assert both.platforms == (OLD.id, NEW.id)
    alone = noted(project, OLD)
    assert alone.on(OLD.id).board_keys() == both.on(OLD.id).board_keys()
    assert set(both.on(OLD.id).board_keys()).isdisjoint(both.on(NEW.id).board_keys())
    assert set(both.on(NEW.id).board_keys()) < set(both.all_keys())

    store = Store(tmp_path / "store")
    assert board_records(store, both) == ()
    for platform, mean_ms in ((OLD, 9.0), (NEW, 5.0)):
        key = both.on(platform.id).board_key("quick")
        record = {"latency": {"mean_ms": mean_ms}, "validity": {"verdict": "valid"}}
        whole = {"created": "2026-01-01T00:00:00+00:00", "artifacts": {"float": record}}
        add_record(store, key, whole, ())
    found = board_records(store, both)
    assert [each["float"]["latency"]["mean_ms"] for each in found] == [9.0, 5.0]  # slowest first
    build(project, Workshop([OLD, NEW]))  # as the other tests found it


def test_another_platform_in_the_fleet_makes_no_new_version(project: Path) -> None:
    """What a device has stays up to date when another kind of device joins."""
    names = set()
    for platforms in ([OLD], [OLD, NEW]):
        build(project, Workshop(platforms))
        request = api.Request(profile=project / "tiny.yaml")
        built = Built(request, project / "build", Store(project / "store"), EventLog())
        version = built.contents(TARGET).version
        assert OLD.id in version.models[0].entry
        names.add(version.name)
    assert len(names) == 1


@dataclass
class Unfit(Workshop):
    """Its devices cannot build now; the engines of before are in the store."""

    off: bool = False

    def platforms(self, item: Item, stop: threading.Event) -> Sequence[GpuPlatform]:
        """Refuse, as devices do that are off, or of another GPU than the target's."""
        error = DeviceError("not here", code="E401" if self.off else "E488", subject="d", hint="")
        error.retryable = self.off
        raise error

    def away(self, item: Item) -> Sequence[GpuPlatform]:
        """Return what the devices were."""
        return self.known


@pytest.mark.parametrize(("off", "status"), [(True, 0), (False, 4)])
def test_engines_of_before_cover_a_device_that_is_off_not_one_that_does_not_fit(
    off: bool, status: int, project: Path
) -> None:
    result = build(project, Unfit([OLD, NEW], off=off))
    assert int(result.exit_code) == status
    build(project, Workshop([OLD, NEW]))  # as the other tests found it


class Refusing(Workshop):
    """Its TensorRT makes an engine of nothing."""

    def make(self, node: Node, work: Work, stop: threading.Event) -> Made:
        """Refuse."""
        raise BuildError("TensorRT refuses it", code="E339", subject="product", hint="")


def test_a_program_that_no_device_makes_an_engine_of_has_failed(
    project: Path, tmp_path: Path
) -> None:
    """It was evaluated here, but there is no artifact: not refused, and of no size."""
    for name in ("tiny.onnx", "targets"):
        (tmp_path / name).symlink_to(project / name)
    (tmp_path / "tiny.yaml").write_text(PROFILE)
    result = build(tmp_path, Refusing([OLD]))
    assert int(result.exit_code) == 3
    target = read_document(tmp_path / "build" / "tiny" / "build.json").models[0].targets[0]
    assert (target.verdict, target.size_bytes) == ("failed", None)
    assert [item.code for item in target.diagnostics] == ["E339"]


def test_an_engine_that_answers_wrong_is_refused_however_fast_it_is(project: Path) -> None:
    """The slowest platform judges the times; none hides what another one got wrong."""
    outcome = build(project, Workshop([OLD, NEW])).outcomes[0]
    chosen = outcome.chosen
    assert chosen is not None and chosen.evaluation is not None
    right = chosen.evaluation.to_json()
    wrong = {
        **right,
        "outputs": [
            {**item, "cosine_min": -0.5, "cosine_mean": -0.5, "cosine": -0.5}
            for item in right["outputs"]
        ],
    }

    def shown(platform: GpuPlatform, answers: Any) -> dict[str, Any]:
        return {chosen.name: {ANSWERS: answers, "device": {"platform": platform.id}}}

    def verdicts(*each: dict[str, Any]) -> dict[str, tuple[str, str]]:
        found = judged(outcome.item, chosen, chosen.evaluation, each, board_is_host=False)
        return {gate.gate: (gate.state, gate.reason) for gate in found.gates}

    assert verdicts(shown(OLD, right), shown(NEW, right))["cosine_on_device"][0] == "passed"
    state, reason = verdicts(shown(OLD, right), shown(NEW, wrong))["cosine_on_device"]
    assert state == "refused" and NEW.id in reason
    state, reason = verdicts(shown(OLD, wrong), shown(NEW, right))["cosine_on_device"]
    assert state == "refused" and NEW.id not in reason


def test_an_engine_that_was_built_ahead_says_what_it_needs(tmp_path: Path) -> None:
    """TensorRT for RTX built it here: it loads in that release, on the board's GPUs."""
    write_model(tmp_path / "tiny.onnx")
    target = "rtx-40/tensorrt-rtx"
    (tmp_path / "tiny.yaml").write_text(PROFILE.replace(TARGET, target).replace("1 MB", "100 MB"))
    assert build(tmp_path, None).exit_code == 0
    request = api.Request(profile=tmp_path / "tiny.yaml")
    built = Built(request, tmp_path / "build", Store(tmp_path / "store"), EventLog())
    version = built.contents(target).version
    needs = version.models[0].needs
    assert needs is not None
    assert (needs.runtime, needs.compute_capabilities) == ("tensorrt-rtx", ("8.9",))
    assert needs.version == metadata.version("tensorrt-rtx-cu13-libs")
    assert parse_version(version.manifest) == version
