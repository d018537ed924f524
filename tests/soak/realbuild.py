"""Kills, interruptions and crowds over real builds of a small project, in any number."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

from edgedeploy import store_care
from edgedeploy.store import Store
from tests.proof.small import OPENVINO, ORT, PROFILE, Project
from tests.soak import kill

# Two profiles whose artifacts differ; a build goes from one to the other, from the store.
STYLES = ("fixed", "runtime")
TARGETS = f"targets:\n  {ORT}: {{options: {{optimization_style: STYLE}}}}\n  {OPENVINO}:\n"

PUBLISHING = ("publish.copied", "publish.exchanged", "publish.done", "lock.written")
RUNNING = (
    "worker.started",
    "worker.before-result:2",
    "store.tree-hashed",
    "store.tree-synced:2",
    "store.tree-renamed:3",
    "store.record-written",
    "executor.before-run",
    "executor.after-run:2",
)
LOST = ("compile", "calibrate")


class RealBuild:
    """A small project built in both styles, and the command that builds the wanted one."""

    def __init__(self, base: Path) -> None:
        self.project = Project(base)
        self.right: dict[str, dict[str, bytes]] = {}
        self.wanted = STYLES[0]
        for style in STYLES:
            self.want(style)
            done = self.project.build()
            assert done.status == 0, done.err
            self.right[style] = self.project.published()
        assert self.right[STYLES[0]] != self.right[STYLES[1]]

    @property
    def command(self) -> list[str]:
        return self.project.arguments("build")

    @property
    def env(self) -> dict[str, str]:
        return self.project.env

    def want(self, style: str) -> None:
        head = PROFILE.partition("targets:\n")[0]
        self.project.profile.write_text(head + TARGETS.replace("STYLE", style))
        self.wanted = style

    def switch(self, index: int = 0) -> None:
        """Want the other style, all of which is stored: only publishing is to be done."""
        self.want(STYLES[self.wanted == STYLES[0]])

    def lose(self, index: int = 0) -> None:
        """Want the other style, and lose some stages' results."""
        self.switch()
        store = Store(self.project.store)
        for item in store_care.list_actions(store):
            if item.record.kind in LOST:
                store.drop_action(item.record.key)
                for tree in item.record.outputs.values():
                    store.remove_tree(tree.digest)

    def start_anew(self, index: int = 0) -> None:
        """Leave nothing but the project."""
        shutil.rmtree(self.project.store, ignore_errors=True)
        shutil.rmtree(self.project.output, ignore_errors=True)

    def check(self, done: object = None) -> None:
        """Look at what a kill left, build, and look again."""
        project = self.project
        kill.wait_until_gone(project.store)
        if (project.store / "format").exists():
            found = store_care.verify(Store(project.store))
            assert (found.damaged, found.dangling) == ((), ()), done
        for target in (ORT, OPENVINO):
            assert self.of(target, project.published()) in (
                {},
                *(self.of(target, right) for right in self.right.values()),
            ), (done, target)
        again = project.build()
        assert again.status == 0, (done, again.err)
        assert project.published() == self.right[self.wanted], done
        assert self.left() == [], done
        found = store_care.verify(Store(project.store))
        assert (found.damaged, found.dangling) == ((), ()), done

    @staticmethod
    def of(target: str, files: dict[str, bytes]) -> dict[str, bytes]:
        """Return one target's files; an unfinished copy beside it is no part of it."""
        return {name: content for name, content in files.items() if name.startswith(f"{target}/")}

    def left(self) -> list[str]:
        """Return whatever a build left behind that is no result: files and processes."""
        project = self.project
        found = kill.left_behind(project.store) + kill.processes_of(project.store)
        for folder in (project.root, project.output):
            for pattern in (".part.*", ".new-*"):
                found += map(str, folder.rglob(pattern))
        for place in (project.home, project.tmp):
            found += map(str, place.iterdir())
        return found

    def interrupt(self, after: str | float, *signals: int) -> tuple[int, float, str]:
        """Send signals to a build: when a stage of that kind starts, or after some seconds.

        Returns:
            Its exit status, the seconds that it took to end, and its stderr.
        """
        events = self.project.base / "events.jsonl"
        events.unlink(missing_ok=True)
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # A shell starts what runs in the background so, and children would inherit it.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        with subprocess.Popen(
            [*self.command, "--events", str(events)],
            cwd=self.project.root,
            env=self.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            wait_for(events, after, process)
            sent = time.monotonic()
            for number in signals:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(number)
                time.sleep(0.05)
            said = process.communicate(timeout=60)[1]
            return process.returncode, time.monotonic() - sent, said

    def crowd(self, builders: int) -> None:
        """Start builders together on a new store; each action runs once, all make the same."""
        self.start_anew()
        base = self.project.base
        logs = [base / f"events-{index}.jsonl" for index in range(builders)]
        outputs = [base / f"out-{index}" for index in range(builders)]
        crowd = []
        for log, output in zip(logs, outputs, strict=True):
            log.unlink(missing_ok=True)
            command = [*self.command, "-o", str(output), "--events", str(log)]
            crowd.append(
                subprocess.Popen(
                    command,
                    cwd=self.project.root,
                    env=self.env,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                )
            )
        errors = [process.communicate()[1] for process in crowd]
        assert [process.returncode for process in crowd] == [0] * builders, errors
        lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
        ran = Counter(line["node"] for line in lines if line.get("state") == "ran")
        assert len(ran) == 16 and set(ran.values()) == {1}, ran
        for output in outputs:
            self.project.output = output
            assert self.project.published() == self.right[self.wanted]
            shutil.rmtree(output)
        self.project.output = base / "out"
        assert self.left() == []


def wait_for(events: Path, after: str | float, process: subprocess.Popen[str]) -> None:
    """Wait for some seconds, or until a stage whose name ends so is running."""
    if isinstance(after, float):
        time.sleep(after)
        return
    while process.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            lines = map(json.loads, events.read_text().splitlines())
            if any(line["node"].endswith(after) and "state" not in line for line in lines):
                return
        time.sleep(0.01)


def moments(seed: int, count: int, span_s: float) -> list[float]:
    """Return seeded random moments of a build."""
    source = random.Random(seed)
    return [source.uniform(0.0, span_s) for _ in range(count)]
