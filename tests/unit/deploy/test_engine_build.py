"""One engine on one device, by a stand-in for trtexec: whole builds, and devices that fail."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any

import pytest

from edgedeploy.deploy import enginebuild
from edgedeploy.deploy.enginebuild import Order, build_engine
from edgedeploy.deploy.engineways import order_for
from edgedeploy.devices import workbench
from edgedeploy.devices.holder import holder
from edgedeploy.devices.local import LocalPipe
from edgedeploy.errors import BuildError, DeviceError, EdgedeployError, IntegrityError
from edgedeploy.events import EngineProgress, Note
from edgedeploy.stage import Made
from edgedeploy.worker.launch import Stopped
from tests.lab.tensorrt.machines import MACHINES
from tests.unit.deploy.engine_desk import Desk, DeskRemote, outputs_in, program_in, provenance


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Return the program of a small model."""
    return program_in(tmp_path / "compiled")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "desk")


def built(
    desk: Desk, program: Path, goal: Path, order: Order | None = None, **wanted: Any
) -> tuple[Made, dict[str, Path]]:
    outputs = outputs_in(goal)
    made = build_engine(
        desk.remote,
        desk.wanted(program, **wanted),
        order or order_for(desk.survey, program),
        outputs,
        desk.log,
        threading.Event(),
    )
    return made, outputs


def refused(desk: Desk, program: Path, goal: Path, **how: Any) -> EdgedeployError:
    """Return the failure of a build, after which the device holds nothing new."""
    before = desk.left if desk.place.exists() else []
    with pytest.raises(EdgedeployError) as error:
        built(desk, program, goal, **how)
    assert desk.left == before
    return error.value


@pytest.mark.parametrize("machine", MACHINES)
def test_a_whole_build(machine: str, program: Path, tmp_path: Path) -> None:
    """Of every version: engine, provenance, layers and log are here; the device keeps the cache."""
    desk = Desk(tmp_path / "desk", MACHINES[machine])
    made, outputs = built(desk, program, tmp_path / "out", conditions={"power_mode": "15W"})
    engine = (outputs["engine"] / "model.engine").read_bytes()
    said = provenance(outputs)
    assert engine.startswith(b"edgedeploy stand-in")
    assert said["sha256"] == hashlib.sha256(engine).hexdigest() == made.summary["sha256"]
    assert said["size_bytes"] == len(engine) and said["way"] == "trtexec"
    assert said["simulated"] is True and said["platform"]["simulated"] is True
    assert said["platform"]["tensorrt"] == desk.machine.release and said["power_mode"] == "15W"
    assert said["command"][:2] == ["trtexec", "--onnx=model.onnx"]
    assert str(tmp_path) not in json.dumps(said)
    layers = json.loads((outputs["report"] / "layers.json").read_bytes())
    assert {node for layer in layers["layers"] for node in layer["nodes"]} == {"mm", "relu"}
    assert "Engine built in" in (outputs["report"] / "build.log").read_text()
    assert desk.left == [desk.cache] and desk.doing == ["uploading", "building", "pulling"]


def test_the_timing_cache_is_used_again(desk: Desk, program: Path, tmp_path: Path) -> None:
    """And told by its digests; the stand-in is quicker with one, which its log says."""
    _, first = built(desk, program, tmp_path / "1")
    kept = hashlib.sha256((desk.place / desk.cache).read_bytes()).hexdigest()
    _, second = built(desk, program, tmp_path / "2")
    assert provenance(first)["timing_cache"] == {"sha256_before": None, "sha256_after": kept}
    assert provenance(second)["timing_cache"]["sha256_before"] == kept
    assert "bytes of timing cache from" in (second["report"] / "build.log").read_text()


def test_a_cache_of_another_platform_is_never_taken(program: Path, tmp_path: Path) -> None:
    """The driver was upgraded: the same device, another platform."""
    desk = Desk(tmp_path / "desk")
    built(desk, program, tmp_path / "1")
    desk.machine = replace(desk.machine, driver="590.1")
    _, outputs = built(desk, program, tmp_path / "2")
    assert provenance(outputs)["timing_cache"]["sha256_before"] is None
    assert len(desk.left) == 2


def test_few_caches_are_kept(desk: Desk, program: Path, tmp_path: Path) -> None:
    for number in range(enginebuild.CACHES + 3):
        old = desk.place / f"old-{number}" / "timing.cache"
        old.parent.mkdir(parents=True)
        old.write_bytes(b"x")
        os.utime(old, (number + 1, number + 1))
    built(desk, program, tmp_path / "out")
    assert len(desk.left) == enginebuild.CACHES
    assert desk.cache in desk.left and "old-0/timing.cache" not in desk.left


def test_a_cache_without_bounds_is_not_kept(
    desk: Desk, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enginebuild, "CACHE_BYTES", 3)
    built(desk, program, tmp_path / "out")
    assert desk.left == []


def test_a_profile_without_timings_keeps_none(desk: Desk, tmp_path: Path) -> None:
    program = program_in(tmp_path / "c", {"timing_cache": False})
    _, outputs = built(desk, program, tmp_path / "out")
    assert desk.left == [] and "--noBuilderCache" in provenance(outputs)["command"]


@pytest.mark.parametrize("version", ["8.6.1", "11.4.0"])
def test_a_whole_build_by_python(version: str, desk: Desk, program: Path, tmp_path: Path) -> None:
    """It tells more than `trtexec`: the signature, and the steps of the builder."""
    order = order_for(desk.python_way(version), program)
    made, outputs = built(desk, program, tmp_path / "out", order)
    said = provenance(outputs)
    assert said["way"] == "python" and said["simulated"] is True
    assert said["typed"] == ("weak" if version == "8.6.1" else "strong")
    (given,) = said["signature"]["inputs"]
    assert (given["name"], given["shape"]) == ("x", [4, 16])
    assert said["sha256"] == made.summary["sha256"] and said["timing_cache"]["sha256_after"]
    assert str(tmp_path) not in json.dumps(said)
    layers = json.loads((outputs["report"] / "layers.json").read_bytes())
    assert layers["detail"] == "full" and layers["layers"]
    log = (outputs["report"] / "build.log").read_text()
    assert '{"event"' not in log
    told = {event.detail for event in desk.events if isinstance(event, EngineProgress)}
    assert {"load", "parse", "configure", "build", "inspect"} <= told
    assert desk.left == [desk.cache]


@pytest.mark.parametrize(
    ("where", "code", "words"),
    [
        ("import", "E484", "(missing)"),
        ("builder", "E484", "(device)"),
        ("parse MatMul", "E339", "does not parse"),
        ("build", "E339", "refuses it"),
        ("memory", "E484", "(memory)"),
        ("killed", "E484", "SIGKILL"),
        ("load", "E484", "(load)"),
    ],
)
def test_what_python_refuses_is_typed(
    where: str, code: str, words: str, desk: Desk, program: Path, tmp_path: Path
) -> None:
    order = order_for(desk.python_way("10.3.0", fail=where), program)
    error = refused(desk, program, tmp_path / "out", order=order)
    assert error.diagnostics[0].code == code and words in str(error)


# -- Devices that fail ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "kind", "code", "words"),
    [
        ("oom", BuildError, "E339", "`workspace`"),
        ("killed", DeviceError, "E484", "SIGKILL"),
        ("full", DeviceError, "E484", "make room"),
        ("empty", BuildError, "E339", "empty engine"),
        ("nofile", DeviceError, "E484", "no engine"),
    ],
)
def test_what_fails_there_is_typed(
    mode: str, kind: type[EdgedeployError], code: str, words: str,
    desk: Desk, program: Path, tmp_path: Path,
) -> None:  # fmt: skip
    desk.play(build_s=0.1, fail=mode)
    error = refused(desk, program, tmp_path / "out")
    assert isinstance(error, kind) and error.diagnostics[0].code == code
    assert words in f"{error} {error.diagnostics[0].hint}"


def test_a_build_that_hangs_is_ended(desk: Desk, program: Path, tmp_path: Path) -> None:
    desk.play(fail="hang")
    error = refused(desk, program, tmp_path / "out", deadline_s=1.0)
    assert error.diagnostics[0].code == "E483" and "within 1 s" in str(error)


def test_a_device_without_room_is_asked_for_nothing(
    desk: Desk, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enginebuild, "SPARE_BYTES", 1 << 60)
    error = refused(desk, program, tmp_path / "out")
    assert error.diagnostics[0].code == "E423" and desk.doing == []


def test_an_engine_out_of_all_proportion_stays_there(
    desk: Desk, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enginebuild, "_ENGINE_BYTES", -(1 << 20))
    error = refused(desk, program, tmp_path / "out")
    assert error.diagnostics[0].code == "E484" and "the most" in str(error)
    assert "pulling" not in desk.doing


class BadLine(DeskRemote):
    """A link, or a disk, that changes a byte of what it hands out."""

    def open(self, command: str) -> LocalPipe:
        if command.startswith("cat < ") and "model.engine" in command:
            command = f"{command} | tr e f"
        return super().open(command)


def test_a_damaged_engine_is_not_taken(desk: Desk, program: Path, tmp_path: Path) -> None:
    desk.remote = BadLine(desk.name, desk.folder / "home")
    error = refused(desk, program, tmp_path / "out")
    assert isinstance(error, IntegrityError) and error.diagnostics[0].code == "E720"


def test_what_claims_to_be_real_and_is_not_is_refused(
    desk: Desk, program: Path, tmp_path: Path
) -> None:
    """The probe found no stand-in, and one answers: its engine must not count as one."""
    way = replace(desk.survey.ways[0], simulated=False)
    order = order_for(replace(desk.survey, ways=(way,)), program)
    error = refused(desk, program, tmp_path / "out", order=order)
    assert error.diagnostics[0].code == "E484" and "stand-in" in str(error)


def test_layers_that_are_none_are_refused(desk: Desk, program: Path, tmp_path: Path) -> None:
    order = order_for(desk.survey, program)
    order = replace(order, command=f"{order.command} && echo '[1]' > layers.json")
    error = refused(desk, program, tmp_path / "out", order=order)
    assert error.diagnostics[0].code == "E484" and "layers" in str(error)


def test_a_flood_of_output_is_bounded(desk: Desk, program: Path, tmp_path: Path) -> None:
    """Its beginning and its end are kept; control characters are not."""
    order = order_for(desk.survey, program)
    flood = "yes 'all work and no play' | head -n 100000; printf '\\033[2J\\n'"
    order = replace(order, command=f"{flood}; {order.command}")
    _, outputs = built(desk, program, tmp_path / "out", order=order)
    log = (outputs["report"] / "build.log").read_text()
    assert len(log) < 1 << 20 and "lines ..." in log and "\x1b" not in log
    assert log.startswith("all work") and "PASSED" in log.splitlines()[-1]


# -- Giving up -----------------------------------------------------------------------------------


@pytest.mark.parametrize("doing", ["uploading", "building", "pulling"])
def test_who_gives_up_leaves_nothing(doing: str, desk: Desk, program: Path, tmp_path: Path) -> None:
    desk.play(build_s=60 if doing == "building" else 0.1)
    stop = threading.Event()

    def told(event: object) -> None:
        if isinstance(event, EngineProgress) and event.doing == doing:
            stop.set()

    desk.log = type(desk.log)(told)
    outputs = outputs_in(tmp_path / "out")
    order = order_for(desk.survey, program)
    began = time.monotonic()
    with pytest.raises(Stopped):
        build_engine(desk.remote, desk.wanted(program), order, outputs, desk.log, stop)
    assert time.monotonic() - began < 30  # the build alone would take 60
    assert desk.left == [] and not (outputs["engine"] / "engine.json").exists()


def test_two_builds_on_one_device_take_turns(desk: Desk, program: Path, tmp_path: Path) -> None:
    """And the second says for whom it waits."""
    desk.play(build_s=1)
    results: list[Any] = []

    def one(name: str) -> Callable[[], None]:
        return lambda: results.append(built(desk, program, tmp_path / name)[0].summary["sha256"])

    threads = [threading.Thread(target=one(name)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 2
    waits = [event.text for event in desk.events if isinstance(event, Note)]
    assert waits == ["desk: waiting until it has built another engine of this profile"]
    assert desk.left == [desk.cache]


def test_an_earlier_build_that_was_cut_off_is_waited_for(
    desk: Desk, program: Path, tmp_path: Path
) -> None:
    """The device has not noticed yet that the link is gone; whose build it was is known here."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    who = holder().replace(f".pid{os.getpid()}", f".pid{dead.pid}")
    place = quote(str(desk.place))
    ghost = desk.remote.open(f"exec sh -c {quote(workbench.program())} hold {place} 00 {who} 30")
    assert ghost.read().startswith(b"at ")
    threading.Timer(1.5, ghost.end_input).start()
    built(desk, program, tmp_path / "out")
    waits = [event.text for event in desk.events if isinstance(event, Note)]
    assert waits == ["desk: waiting until the device lets go of an earlier build that was cut off"]
    assert desk.left == [desk.cache]
    ghost.close()


def test_timings_that_cannot_be_kept_lose_no_engine(
    desk: Desk, program: Path, tmp_path: Path
) -> None:
    """A file is in the way of the folder; the engine is here, and that is said."""
    desk.place.mkdir(parents=True)
    (desk.place / desk.platform.id).write_bytes(b"in the way")
    made, _ = built(desk, program, tmp_path / "out")
    (note,) = [event.text for event in desk.events if isinstance(event, Note)]
    assert made.summary["sha256"] and note.startswith("desk: timings are not kept there")
