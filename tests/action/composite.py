"""Runs the steps of a composite action as GitHub's runner does, as they stand in the file.

A ``run`` step goes to bash by the runner's own command line, with the environment files of a step.
Of the actions that are used, GitHub's cache alone is known: it packs a folder by tar, with the
options of ``@actions/cache``, into a folder that stands for GitHub's service. Source: "Metadata
syntax", "Workflow syntax" and "Variables" in GitHub's documentation.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.action.commands import Command, read_commands
from tests.action.expressions import holds, substituted

BASH = ["bash", "--noprofile", "--norc", "-eo", "pipefail"]
CACHE = re.compile(r"actions/cache/(restore|save)@[0-9a-f]{40}")


@dataclass(kw_only=True)
class Job:
    """How the action ended."""

    outputs: dict[str, str]
    summary: str
    logs: dict[str, str]
    failed: str | None
    steps: dict[str, str] = field(default_factory=dict)

    @property
    def commands(self) -> list[Command]:
        """The annotations that all steps asked for."""
        return [found for log in self.logs.values() for found in read_commands(log)]


class Runner:
    """One machine that runs jobs.

    Args:
        action: Folder of the action.
        workspace: The checkout that the action works on.
        temp: The runner's folder for temporary files.
        service: Folder that stands for GitHub's cache.
        system: What ``runner.os`` is.
    """

    def __init__(
        self, action: Path, workspace: Path, temp: Path, service: Path, system: str = "Linux"
    ) -> None:
        self.action, self.workspace, self.temp, self.service = action, workspace, temp, service
        self.definition = yaml.safe_load((action / "action.yml").read_text(encoding="utf-8"))
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ["HOME"],
            "LANG": "C.UTF-8",
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(action),
            "GITHUB_WORKSPACE": str(workspace),
            "RUNNER_TEMP": str(temp),
            "RUNNER_OS": system,
            "PIP_NO_INDEX": "1",
            "OMP_NUM_THREADS": "1",
        }
        self.system = system

    def run(self, **given: str) -> Job:
        """Run the action with the inputs of a ``with``; one that it does not have is an error."""
        declared = self.definition["inputs"]
        named = {name.replace("_", "-"): value for name, value in given.items()}
        assert named.keys() <= declared.keys()
        inputs = {name: str(about.get("default", "")) for name, about in declared.items()} | named
        contexts: dict[str, Any] = {
            "inputs": inputs,
            "runner": {"os": self.system, "arch": "X64", "temp": str(self.temp)},
            "steps": {},
        }
        summary = self.temp / "summary.md"
        summary.write_text("")
        job = Job(outputs={}, summary="", logs={}, failed=None)
        for step in self.definition["runs"]["steps"]:
            key = step.get("id", step["name"])
            outputs: dict[str, str] = {}
            contexts["steps"][key] = {"outputs": outputs}
            if not holds(step.get("if"), contexts, failed=job.failed is not None):
                job.steps[step["name"]] = "skipped"
                continue
            ended = self._step(step, contexts, outputs, summary, job)
            job.steps[step["name"]] = "success" if ended else "failure"
            if not ended:
                job.failed = job.failed or step["name"]
        job.summary = summary.read_text(encoding="utf-8")
        job.outputs = {
            name: substituted(about["value"], contexts)
            for name, about in self.definition["outputs"].items()
        }
        return job

    def _step(
        self,
        step: dict[str, Any],
        contexts: dict[str, Any],
        outputs: dict[str, str],
        summary: Path,
        job: Job,
    ) -> bool:
        if "uses" in step:
            match = CACHE.fullmatch(step["uses"])
            assert match is not None, step["uses"]
            given = {name: substituted(text, contexts) for name, text in step["with"].items()}
            getattr(self, f"_{match[1]}")(given, outputs)
            return True
        assert step["shell"] == "bash" and step.keys() <= {
            "name",
            "id",
            "if",
            "shell",
            "env",
            "run",
        }
        script, written = self.temp / "step.sh", self.temp / "step-output"
        script.write_text(step["run"], encoding="utf-8")
        written.write_text("")
        own = {name: substituted(str(text), contexts) for name, text in step.get("env", {}).items()}
        files = {"GITHUB_OUTPUT": str(written), "GITHUB_STEP_SUMMARY": str(summary)}
        done = subprocess.run(
            [*BASH, str(script)],
            cwd=self.workspace,
            env={**self.environment, **files, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=600,
            check=False,
        )
        job.logs[step["name"]] = done.stdout
        for line in written.read_text(encoding="utf-8").splitlines():
            name, sign, value = line.partition("=")
            assert sign and re.fullmatch(r"[a-z-]+", name), line
            outputs[name] = value
        return done.returncode == 0

    def _restore(self, given: dict[str, str], outputs: dict[str, str]) -> None:
        """Unpack the cache of the key, or the newest of the first fitting prefix."""
        assert given.keys() == {"path", "key", "restore-keys"}
        kept = sorted(self.service.glob("*.tar"), key=lambda file: -file.stat().st_mtime_ns)
        prefixes = [line for line in given["restore-keys"].split("\n") if line]
        fits = [file for file in kept if file.stem == given["key"]]
        for prefix in prefixes:
            fits += [file for file in kept if file.stem.startswith(prefix)]
        outputs["cache-primary-key"] = given["key"]
        outputs["cache-hit"] = ""
        if fits:
            outputs["cache-hit"] = str(fits[0].stem == given["key"]).lower()
            self._tar(["-xf", str(fits[0])])

    def _save(self, given: dict[str, str], outputs: dict[str, str]) -> None:
        """Pack a folder under a key that was not used before."""
        file = self.service / f"{given['key']}.tar"
        assert given.keys() == {"path", "key"} and given["key"] and not file.exists()
        path = os.path.relpath(given["path"], self.workspace)
        self._tar(["--posix", "-cf", str(file)], path)

    def _tar(self, first: list[str], *more: str) -> None:
        place = ["-P", "-C", str(self.workspace)]
        subprocess.run(["tar", *first, *place, *more], check=True)
