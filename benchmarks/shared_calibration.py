"""What building both targets together costs, against one after the other in stores of their own.

    python benchmarks/shared_calibration.py [PROFILE] [--runs N]

Every build is cold (a new store). Together, what targets have in common (normal form, calibration,
reference outputs) is made once. The order alternates from run to run, and the ratio is taken
within each run, so that slow drift of the machine hits both alike. From the events of the build of
both it is told how many stages ran at the same time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGETS = ("linux-x86-64/ort", "intel-cpu/openvino")


def timed_build(folder: Path, profile: str, targets: tuple[str, ...]) -> tuple[float, float, Path]:
    """Build cold; return wall seconds, CPU seconds and the file of events."""
    events = folder / "events.jsonl"
    command = [sys.executable, "-m", "edgedeploy", "build", profile, "--no-bench", "-q"]
    command += ["-o", str(folder / "out"), "--store", str(folder / "store")]
    command += ["--events", str(events)]
    # Naming the targets keeps the lock file as it is.
    for target in targets:
        command += ["-t", target]
    before, started = os.times(), time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - started, os.times()
    cpu = after.children_user - before.children_user
    return wall, cpu + after.children_system - before.children_system, events


def together(profile: str) -> tuple[float, float, str]:
    """Return wall and CPU seconds of one build of both targets, and what ran at once."""
    with tempfile.TemporaryDirectory(prefix="shared-") as folder:
        wall, cpu, events = timed_build(Path(folder), profile, TARGETS)
        return wall, cpu, at_once(events)


def apart(profile: str) -> tuple[float, float]:
    """Return wall and CPU seconds of a build of each target, one after the other."""
    walls, cpus = [], []
    for target in TARGETS:
        with tempfile.TemporaryDirectory(prefix="apart-") as folder:
            wall, cpu, _ = timed_build(Path(folder), profile, (target,))
            walls.append(wall)
            cpus.append(cpu)
    return sum(walls), sum(cpus)


def at_once(events: Path) -> str:
    """Return in words the most stages that had started and not ended, and which."""
    running: list[str] = []
    most: list[str] = []
    for line in events.read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "StageStarted":
            running.append(event["node"])
        elif event["event"] == "StageFinished" and event["node"] in running:
            running.remove(event["node"])
        most = max(most, list(running), key=len)
    return f"{len(most)} stages at once: {', '.join(most)}"


def main() -> None:
    """Print the figures of every run and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profile", nargs="?", default="profiles/quickstart.yaml")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} CPUs, {platform.platform()}, load {load:.1f} at the start")
    print(f"{'run':<6} {'together: wall s':>17} {'CPU s':>7} {'apart: wall s':>14} {'CPU s':>7}")
    walls, cpus = [], []
    for run in range(options.runs):
        if run % 2:
            other = apart(options.profile)
            both = together(options.profile)
        else:
            both = together(options.profile)
            other = apart(options.profile)
        walls.append(both[0] / other[0])
        cpus.append(both[1] / other[1])
        print(f"{run:<6} {both[0]:17.1f} {both[1]:7.1f} {other[0]:14.1f} {other[1]:7.1f}")
        print(f"       {both[2]}")
    print(f"together / apart, median: wall {statistics.median(walls):.2f}, ", end="")
    print(f"CPU {statistics.median(cpus):.2f}; load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
