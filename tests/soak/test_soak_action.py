"""The GitHub Action on a machine that has nothing: its environment is really installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.action.checkout import ROOT, make_checkout
from tests.action.composite import Runner

FILES = ("action.yml", "pyproject.toml", "LICENSE", "README.md")
FOLDERS = ("edgedeploy", "targets", "profiles", "requirements")


def test_the_action_installs_what_it_runs(tmp_path: Path) -> None:
    """From the locks, 850 MB; a build by that environment writes a lock that the action follows."""
    action, temp, service = (tmp_path / name for name in ("action", "temp", "service"))
    for folder in (action, temp, service):
        folder.mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, action)
    for name in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, action / name, symlinks=True, ignore=ignored)
    profile = make_checkout(tmp_path / "checkout")
    runner = Runner(action, tmp_path / "checkout", temp, service)
    del runner.environment["PIP_NO_INDEX"]
    job = runner.run(profile=str(profile))
    assert "installing requirements/runtime.txt" in job.logs["Install edgedeploy"]
    assert job.outputs["exit-code"] == "2" and "E182" in job.logs["Build"]
    command = [temp / "edgedeploy/bin/edgedeploy", "build", profile, "--store", tmp_path / "store"]
    subprocess.run([*map(str, command), "--no-bench"], cwd=tmp_path / "checkout", check=True)
    job = runner.run(profile=str(profile))
    assert job.failed is None, job.logs
    assert job.outputs["exit-code"] == "0" and "1 accepted" in job.summary
