"""Killing a builder at named points and at random moments, and looking at what it left.

Nothing here knows what is built: a campaign takes a command line, an environment and a function
that checks the world after each kill.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedeploy.crashpoint import VARIABLE

GONE_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One kill: where or when, and how the command ended (``-9`` when it was hit in time)."""

    at: str | float
    status: int

    @property
    def hit(self) -> bool:
        """Whether the command died of it."""
        return self.status == -signal.SIGKILL


def run(command: Sequence[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command undisturbed."""
    return subprocess.run(command, env=dict(env), capture_output=True, text=True, check=False)


def kill_at(command: Sequence[str], env: Mapping[str, str], point: str) -> Kill:
    """Run a command that dies by itself at a crash point (``name`` or ``name:count``)."""
    return Kill(at=point, status=run(command, {**env, VARIABLE: point}).returncode)


def kill_after(command: Sequence[str], env: Mapping[str, str], seconds: float) -> Kill:
    """Run a command and send it SIGKILL after some seconds; its children are left alone."""
    with subprocess.Popen(
        command, env=dict(env), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        return Kill(at=round(seconds, 4), status=process.wait())


def campaign(
    command: Sequence[str],
    env: Mapping[str, str],
    check: Callable[[Kill], None],
    *,
    prepare: Callable[[int], None],
    points: Sequence[str] = (),
    kills: int = 0,
    seed: int = 0,
) -> list[Kill]:
    """Kill a command at each named point and then at random moments of its run.

    Args:
        command: Command line.
        env: Its environment.
        check: Called after each kill; raises when something is wrong.
        prepare: Called with the number of the kill before it, to make the work undone.
        points: Names of crash points.
        kills: How many kills at random moments must hit a running command.
        seed: Of the random moments.
    """
    done: list[Kill] = []
    for point in points:
        prepare(len(done))
        done.append(kill_at(command, env, point))
        check(done[-1])
    if not kills:
        return done
    prepare(0)
    started = time.monotonic()
    finished = run(command, env)
    span_s = 1.1 * (time.monotonic() - started)
    assert finished.returncode == 0, finished.stderr
    moments = random.Random(seed)
    hits = 0
    while hits < kills:
        prepare(len(done))
        done.append(kill_after(command, env, moments.uniform(0, span_s)))
        check(done[-1])
        hits += done[-1].hit
        assert len(done) < len(points) + 10 * kills, "hardly any kill hits"
    return done


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of processes that have to do with a folder."""
    found = []
    needle = os.fsencode(folder)
    for entry in Path("/proc").glob("[0-9]*"):
        if int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes()
            place = os.fsencode((entry / "cwd").readlink())
            if needle in line or needle in place or needle in (entry / "environ").read_bytes():
                found.append(f"{entry.name}: {line.decode(errors='replace')}")
        except OSError:
            continue
    return found


def wait_until_gone(folder: Path) -> None:
    """Wait until no process has to do with a folder; who outlives its builder is an orphan."""
    deadline = time.monotonic() + GONE_WITHIN_S
    while left := processes_of(folder):
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.02)


def left_behind(store: Path) -> list[str]:
    """Return what of unfinished work is still in a store: scratch, locks and part files."""
    return sorted(str(path.relative_to(store)) for path in _unfinished(store))


def _unfinished(store: Path) -> Iterator[Path]:
    yield from (store / "tmp").rglob("*")
    yield from (store / "locks").iterdir()
    yield from store.glob("making")
    for folder in ("", "seen", "actions", "records", "memory"):
        yield from (store / folder).glob("**/.part.*" if folder else ".part.*")
