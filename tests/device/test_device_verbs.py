"""The verbs on devices, from the command line: one real build, a device over SSH and this one."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgedeploy.bench.job import PLANS, BenchPlan
from edgedeploy.cli.main import main
from edgedeploy.deploy import ondevice
from tests.lab import capabilities
from tests.lab.proxy import Tarpit
from tests.lab.sshd import Sshd, free_port, running
from tests.unit.deploy.test_deploy_golden import PROFILE, write_model

ROOT = Path(__file__).parents[2]
APP = "sums"

pytestmark = pytest.mark.slow


class Project:
    """A project with a profile, an inventory and a device over SSH."""

    def __init__(self, folder: Path, server: Sshd) -> None:
        self.folder = folder
        self.server = server
        self.depots = folder / "depots"
        self.loaded = folder / "loaded"
        write_model(folder / "sums.onnx")
        self.profile("{cosine: 0.97}")
        self.inventory()

    def profile(self, gates: str) -> None:
        text = PROFILE.replace("{cosine: 0.97}", gates)
        (self.folder / "sums.yaml").write_text(text, encoding="utf-8")

    def ssh(self, name: str, root: Path, **words: Any) -> dict[str, Any]:
        return {
            "host": "127.0.0.1",
            "port": self.server.port,
            "user": self.server.device().user,
            "board": "linux-x86-64",
            "root": str(root),
            "python": sys.executable,
            **words,
        }

    def inventory(self, health: str = "true", **more: Any) -> None:
        """Write devices.yaml: ``board`` is the device, ``more`` further ones."""
        current = self.depots / APP / "current"
        board = self.ssh(
            "board",
            self.depots,
            restart=f"readlink {current} > {self.loaded}",
            health={"command": health, "timeout": "60 s"},
        )
        file = self.folder / "devices.yaml"
        words = {"ssh_config": str(self.server.client), "devices": {"board": board, **more}}
        file.write_text(json.dumps(words))
        file.chmod(0o600)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a verb in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "edgedeploy", *words],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, status: int = 0) -> dict[str, Any]:
        """Run a verb with ``--json`` in this process; return its document."""
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            main([*words, "--json"])
        assert ended.value.code == status, out.getvalue() + err.getvalue()
        found: dict[str, Any] = json.loads(out.getvalue())
        assert found["exit_code"] == status and found["ok"] == (status == 0)
        return found

    def active(self) -> str | None:
        link = self.depots / APP / "current"
        return link.resolve().name if link.is_symlink() else None

    def running(self) -> str:
        return self.loaded.read_text().strip().removeprefix("versions/")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    capabilities.require("sshd")
    base = tmp_path_factory.mktemp("verbs")
    (base / "project").mkdir()
    look = replace(ondevice.QUICK, warmup_max_s=0.3, window_s=0.02, min_s=0.3)
    with pytest.MonkeyPatch.context() as patch, running(base / "sshd") as server:
        patch.setenv("EDGEDEPLOY_STORE", str(base / "store"))
        patch.setattr(ondevice, "QUICK", look)  # what a trial is judged by
        found = Project(base / "project", server)
        found.run("build", "sums.yaml")
        found.run("push", "sums.yaml", "-d", "board")
        yield found


def test_from_a_build_to_an_active_version_and_back(project):
    """Golden outputs are computed by the device's own runtime, over SSH."""
    activated = project.run("activate", "sums.yaml", "-d", "board")
    (row,) = activated["devices"]
    first = row["details"]["version"]
    checks = {check["name"]: check for check in row["details"]["checks"]}
    assert [check["state"] for check in checks.values()] == ["passed"] * 3
    assert "2 samples, error 0" in checks["golden"]["text"]
    assert project.active() == project.running() == first
    assert project.run("activate", "sums.yaml", "-d", "board")["devices"][0]["already"]
    assert project.run("rollback", APP, "-d", "board", status=4)["devices"][0]["retryable"] is False

    project.profile("{cosine: 0.98, latency: {p50: 1 s}}")  # golden: another limit, another version
    project.run("build", "sums.yaml")
    shipped = project.run("ship", "sums.yaml", "-d", "board", "--no-bench")
    (row,) = shipped["devices"]
    second = row["details"]["version"]
    assert second != first and project.active() == project.running() == second
    assert shipped["build"]["models"][0]["targets"][0]["verdict"] == "accepted"
    names = [check["name"] for check in row["details"]["checks"]]
    assert names == ["golden", "latency", "restart", "health"]

    back = project.run("rollback", "sums.yaml", "-d", "board", "--from", second[:12])
    assert back["devices"][0]["details"]["version"] == first == project.active()
    assert project.run("rollback", APP, "-d", "board", "--from", second[:12])["devices"][0][
        "already"
    ]

    found = project.run("devices", "fsck", "-d", "board", "--app", APP, "--gc", "--keep", "0")
    (depot,) = found["devices"][0]["details"]["depots"]
    assert (depot["current"], depot["previous"]) == (first, second)
    assert set(depot["versions"]) == {first, second} and not depot["damage"]


def test_ship_measures_on_the_device_before_it_activates(project, monkeypatch):
    short = BenchPlan(
        warmup_max_s=0.3, window_s=0.02, min_s=0.4, min_count=64, max_s=20, layer_runs=1
    )
    monkeypatch.setitem(PLANS, "quick", short)
    project.profile("{cosine: 0.99}")
    shipped = project.run("ship", "sums.yaml", "-d", "board")
    target = shipped["build"]["models"][0]["targets"][0]
    assert target["bench"]["evidence"] == "device"
    assert project.active() == shipped["devices"][0]["details"]["version"]
    project.profile("{cosine: 0.99, size: 1 kB}")
    refused = project.run("ship", "sums.yaml", "-d", "board", status=1)
    assert refused["stopped"] == "build"
    assert project.active() == shipped["devices"][0]["details"]["version"]


def test_a_latency_ceiling_rolls_nothing_out(project, monkeypatch, tmp_path):
    """Judged in the trial: the build, with a store of its own, has no measurement to refuse by."""
    monkeypatch.setenv("EDGEDEPLOY_STORE", str(tmp_path / "store"))
    project.profile("{cosine: 0.95, latency: {p50: 1 us}}")
    project.run("build", "sums.yaml", "--no-bench")
    project.run("push", "sums.yaml", "-d", "board")
    before = project.active()
    (row,) = project.run("activate", "sums.yaml", "-d", "board", status=1)["devices"]
    assert [item["code"] for item in row["diagnostics"]] == ["E003", "E446"]
    assert project.active() == before


def test_an_interruption_in_the_middle_of_a_trial(project):
    """Ctrl-C: 130 within three seconds, the old version is active, the lock is free."""
    project.profile("{cosine: 0.96}")
    project.run("build", "sums.yaml")
    pushed = project.run("push", "sums.yaml", "-d", "board")["devices"][0]["details"]["version"]
    before = project.active()
    assert before not in (None, pushed)
    project.inventory(health="sleep 60")
    process = project.start("activate", "sums.yaml", "-d", "board", "--json")
    deadline = time.monotonic() + 60
    while project.running() != pushed and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - started < 3 * 3  # a hang bound, with slack for a busy machine
    assert process.returncode == 130 and json.loads(out)["exit_code"] == 130, err
    assert project.active() == before
    deadline = time.monotonic() + 10
    while project.running() != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert project.running() == before  # the application was told to load it again
    project.inventory()
    project.run("activate", "sums.yaml", "-d", "board")  # at once: the lock is free
    assert project.active() == pushed


def test_fifty_devices_some_dead_and_a_tarpit(project):
    """Row 58, through the real connections: rows for all, the others done, counts and exit 4."""
    dead = free_port()
    with Tarpit() as tarpit:
        more: dict[str, Any] = {}
        for number in range(49):
            name, root = f"d{number:02}", project.folder / "fleet" / f"d{number:02}"
            if number == 3:
                more[name] = project.ssh(name, root, port=tarpit.port)
            elif number % 10 == 7:
                more[name] = project.ssh(name, root, port=dead)
            elif number % 6 == 0:
                more[name] = project.ssh(name, root)
            else:
                more[name] = {
                    "connection": "local",
                    "board": "linux-x86-64",
                    "root": str(root),
                    "python": sys.executable,
                }
        project.inventory(**more)
        project.profile("{cosine: 0.94}")
        project.run("build", "sums.yaml")
        started = time.monotonic()
        found = project.run("push", "sums.yaml", "-d", "*", "-j", "8", status=4)
        took = time.monotonic() - started
    assert found["counts"]["done"] == 44 and found["counts"]["unreachable"] == 6
    assert found["retryable"] is True
    rows = {row["device"]: row for row in found["devices"]}
    assert rows["d03"]["state"] == "unreachable" and len(rows) == 50
    slowest = max(row["seconds"] for row in rows.values() if row["state"] == "done")
    assert took < 3 * (slowest + 10.0 + 5.0)  # the tarpit's own limit, and starting up
