"""Engines from devices, the whole way over real SSH: built, taken home, pushed, refused, killed.

TensorRT is played by stand-ins (tests/lab/tensorrt): nothing is built, and everything that comes of
it must say so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.device.engine_kills import KINDS, PROFILE, Target
from tests.lab import capabilities
from tests.lab.device import LabDevice, write_inventory
from tests.lab.lab import Lab
from tests.lab.sshd import Sshd, running
from tests.lab.tensorrt.machines import INSTALLED, MACHINES, TRTEXEC, Machine, change
from tests.lab.tensorrt.playing import lab_device, server_lines
from tests.unit.deploy.engine_desk import write_model

pytestmark = pytest.mark.slow

ORIN = MACHINES["orin-trt10.3"]
L4 = MACHINES["server-trt10.14"]
MAGIC = b"edgedeploy stand-in engine: not executable\n"
SEED = 20261128


@dataclass
class Project:
    """A profile and its folders, built by the command line."""

    folder: Path
    board: str

    def __post_init__(self) -> None:
        self.folder.mkdir()
        write_model(self.folder / "small.onnx")
        (self.folder / "small.yaml").write_text(PROFILE.format(board=self.board))

    def run(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run the command line; it must end with a status."""
        done = subprocess.run(
            [sys.executable, "-m", "edgedeploy", *words],
            cwd=self.folder,
            env={
                **os.environ,
                "EDGEDEPLOY_STORE": str(self.folder / "store"),
                "PYTHONPATH": str(Path(__file__).parents[2]),
            },
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    @property
    def document(self) -> Mapping[str, Any]:
        """What build.json says of the target."""
        data = json.loads((self.folder / "build/small/build.json").read_text())
        (target,) = data["models"][0]["targets"]
        assert isinstance(target, dict)
        return target

    def engines(self) -> dict[str, Mapping[str, Any]]:
        """Return the provenance of each published engine, by platform."""
        place = self.folder / "build/small/main" / self.board / "tensorrt/engines"
        found = {}
        for folder in sorted(place.iterdir()):
            assert (folder / "model.engine").read_bytes().startswith(MAGIC)
            found[folder.name] = json.loads((folder / "engine.json").read_text())
        return found


@pytest.fixture(scope="module")
def orin(lab: Lab) -> LabDevice:
    capabilities.require("cut")
    return lab_device(lab, ORIN, "orin", build_s=0.2, run_s=0)


@pytest.fixture(scope="module")
def project(orin: LabDevice, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One for all tests of the device: what does not change is made once."""
    made = Project(tmp_path_factory.mktemp("engines") / "project", "jetson-orin-nano")
    write_inventory(made.folder, [orin], {"board": made.board})
    return made


# -- One device ------------------------------------------------------------------------------------


def test_a_profile_becomes_an_engine(project: Project, orin: LabDevice) -> None:
    """Item 2 of the whole: probe, upload, progress, engine, provenance; then nothing to do."""
    done = project.run("build", "small.yaml", "--events", "events.jsonl")
    events = [json.loads(line) for line in (project.folder / "events.jsonl").open()]
    progress = [item for item in events if item["event"] == "EngineProgress"]
    doing = list(dict.fromkeys(item["doing"] for item in progress))
    assert doing == ["uploading", "building", "pulling"]
    ((name, said),) = project.engines().items()
    assert name.startswith("orin-nano-8gb-sm87-trt10.3.0.30-")
    platform = said["platform"]
    assert platform["jetpack"] == "R36.4.3" and platform["driver"] == ORIN.driver
    assert (said["way"], said["power_mode"]) == ("trtexec", "15W")
    assert said["command"][0] == "trtexec" and "--stronglyTyped" in said["command"]
    told = json.dumps(said)
    assert "/home/" not in told and orin.host not in told and str(project.folder) not in told
    assert said["timing_cache"]["sha256_before"] is None
    assert said["timing_cache"]["sha256_after"] is not None
    assert "building on orin" in done.stderr

    # All of it says that nobody built anything.
    assert said["simulated"] is True and platform["simulated"] is True
    assert "SIMULATED, no GPU made it" in (project.folder / "build/small/report.txt").read_text()
    page = (project.folder / "build/small/report.html").read_text().lower()
    assert "simulated" in page
    assert [item["platform"]["simulated"] for item in project.document["engines"]] == [True]

    # What is up to date needs no device: it is built again beside a cut cable.
    orin.cut_link()
    try:
        project.run("build", "small.yaml")
        project.run("build", "small.yaml", "--events", "again.jsonl")
    finally:
        orin.restore_link()
    again = [json.loads(line) for line in (project.folder / "again.jsonl").open()]
    assert not [item for item in again if item["event"] in ("EngineProgress", "StageStarted")]


def test_an_engine_is_pushed_to_its_own_kind_alone(project: Project, orin: LabDevice) -> None:
    """Mismatch is found before anything travels, and said in words."""
    project.run("build", "small.yaml")
    project.run("push", "small.yaml", "-d", "orin")
    before = len(list((orin.home / ".edgedeploy/small/versions").iterdir()))
    newer = replace(ORIN, release="10.7.0", build=23)
    header = orin.root / "usr/include/aarch64-linux-gnu/NvInferVersion.h"
    kept = header.read_text()
    header.write_text(kept.replace("MINOR 3", "MINOR 7").replace("BUILD 30", "BUILD 23"))
    change(newer, orin.root, build_s=0.2)
    try:
        done = project.run("push", "small.yaml", "-d", "orin", status=4)
    finally:
        change(ORIN, orin.root, build_s=0.2)
        header.write_text(kept)
    words = " ".join(done.stderr.split())
    assert "10.3" in words and "10.7" in words and "SM87" in words
    assert len(list((orin.home / ".edgedeploy/small/versions").iterdir())) == before


def test_no_real_device_gets_a_simulated_engine(project: Project, orin: LabDevice) -> None:
    """A device whose trtexec does not say that it stands in counts as real."""
    project.run("build", "small.yaml")
    programs = [orin.root / TRTEXEC / "trtexec", orin.root / INSTALLED / "trtexec-log.sh"]
    kept = [path.read_text() for path in programs]
    for path, text in zip(programs, kept, strict=True):
        path.write_text(text.replace("edgedeploy stand-in", "TensorRT"))
    try:
        done = project.run("push", "small.yaml", "-d", "orin", status=4)
    finally:
        for path, text in zip(programs, kept, strict=True):
            path.write_text(text)
    assert "simulated" in done.stderr and "real" in done.stderr


@pytest.mark.parametrize(
    ("mode", "status", "said"),
    [
        ("oom", 3, "set `workspace` lower"),
        ("killed", 4, "give the device more memory"),
        ("garbage", 4, ""),
        ("nofile", 4, "left no engine"),
    ],
)
def test_a_build_that_fails_there_says_why(
    mode: str, status: int, said: str, project: Project, orin: LabDevice
) -> None:
    driver = f"541.{len(mode)}"  # another platform: its engine was not built before
    change(replace(ORIN, driver=driver), orin.root, build_s=0.1, fail=mode)
    try:
        done = project.run("build", "small.yaml", status=status)
    finally:
        change(ORIN, orin.root, build_s=0.2)
    assert "error[E" in done.stderr and said in done.stderr
    assert "Traceback" not in done.stderr
    assert max(map(len, done.stderr.splitlines())) < 5000
    assert all(letter.isprintable() or letter == "\n" for letter in done.stderr)
    place = orin.home / ".edgedeploy/.tensorrt"
    assert not list(place.glob("run-*"))


# -- Several devices -------------------------------------------------------------------------------


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[dict[str, Sshd]]:
    """Two servers of one kind and one with another TensorRT, all with the same card."""
    capabilities.require("sshd")
    kinds = {
        "a": L4,
        "b": L4,
        "c": replace(
            MACHINES["server-trt11.1"], gpu=L4.gpu, compute=L4.compute, memory_mib=L4.memory_mib
        ),
    }
    with _playing(tmp_path, kinds) as made:
        yield made


class _playing:
    """Servers that play machines, until the block ends."""

    def __init__(self, folder: Path, kinds: Mapping[str, Machine]) -> None:
        self._folder, self._kinds = folder, kinds

    def __enter__(self) -> dict[str, Sshd]:
        self._open = []
        made = {}
        for name, machine in self._kinds.items():
            place = self._folder / f"sshd-{name}"
            lines = server_lines(
                machine, self._folder / f"play-{name}", place / "home", build_s=0.2, run_s=0
            )
            server = running(place, lines=lines)
            made[name] = server.__enter__()
            self._open.append(server)
        return made

    def __exit__(self, *error: object) -> None:
        for server in self._open:
            server.__exit__(None, None, None)


def test_equal_devices_share_an_engine_and_others_get_their_own(
    servers: dict[str, Sshd], tmp_path: Path
) -> None:
    project = Project(tmp_path / "project", "nvidia-l4")
    config = project.folder / "ssh_config"
    config.write_text(
        "".join(
            f"Host {name}\n  HostName {server.host}\n  Port {server.port}\n"
            f"  User {server.user}\n  IdentityFile {server.key}\n"
            f"  UserKnownHostsFile {server.known_hosts}\n  GlobalKnownHostsFile /dev/null\n"
            for name, server in servers.items()
        )
    )
    devices = {name: {"host": name, "board": "nvidia-l4"} for name in servers}
    (project.folder / "devices.yaml").write_text(
        yaml.safe_dump({"ssh_config": str(config), "devices": devices})
    )
    project.run("build", "small.yaml", "--events", "events.jsonl")
    events = [json.loads(line) for line in (project.folder / "events.jsonl").open()]
    ran = {
        item["node"]
        for item in events
        if item["event"] == "StageFinished" and ".engine[" in item["node"]
    }
    engines = project.engines()
    assert len(ran) == len(engines) == 2
    assert sorted(said["platform"]["tensorrt"] for said in engines.values()) == [
        "10.14.1.48",
        "11.1.0.106",
    ]
    commands = {said["platform"]["tensorrt"]: said["command"] for said in engines.values()}
    assert "--stronglyTyped" in commands["10.14.1.48"]
    assert "--stronglyTyped" not in commands["11.1.0.106"]
    for name, own in (("a", "trt10.14"), ("b", "trt10.14"), ("c", "trt11.1")):
        project.run("push", "small.yaml", "-d", name)
        versions = servers[name].home / ".edgedeploy/small/versions"
        (there,) = versions.glob("*/main/engines/*")
        assert own in there.name, "a version holds its device's engine alone"


# -- Killing ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def target(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    capabilities.require("cut")
    device = lab_device(lab, ORIN, "killed", build_s=0.4, run_s=0)
    folder = tmp_path_factory.mktemp("killed") / "project"
    made = Target(device, ORIN, "jetson-orin-nano", folder, SEED)
    yield made
    made.close()


def test_kills_leave_the_device_clean_and_the_store_right(target: Target) -> None:
    """One seeded moment of each kind; test_engine_kills.py has each step, tests/soak hundreds."""
    for kind in KINDS:
        target.kill_one(kind)
    assert sum(count for name, count in target.counts.items() if name.endswith(": cut"))
