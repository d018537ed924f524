"""How long a build takes when nothing changed, against importing its three lightest needs.

    python benchmarks/noop.py [PROFILE] [--runs N]

The commands run alternately in fresh processes. Medians are shown, and the ratio is the median of
the ratios within each round, so that slow drift of the machine hits all alike. The build is made
before, unmeasured. Exit status 1 when it takes over 1.6 times the CPU time of the imports.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT_RATIO = 1.6
BASELINE = [sys.executable, "-c", "import yaml, pydantic, click"]
HELP = [sys.executable, "-m", "edgedeploy", "--help"]


def timed(command: list[str]) -> tuple[float, float]:
    """Return (wall seconds, CPU seconds) of one run of ``command``."""
    before = os.times()
    started = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - started
    after = os.times()
    cpu = after.children_user - before.children_user
    return wall, cpu + after.children_system - before.children_system


def main() -> None:
    """Print the table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profile", nargs="?", default="profiles/quickstart.yaml")
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="noop-") as folder:
        store = os.environ.get("EDGEDEPLOY_STORE", f"{folder}/store")
        build = [sys.executable, "-m", "edgedeploy", "build", options.profile, "--no-bench"]
        build += ["-o", f"{folder}/build", "--store", store]
        subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        commands = {"import yaml, pydantic, click": BASELINE, "build, all hits": build}
        commands["--help"] = HELP
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(options.runs):
            for name, command in commands.items():
                times[name].append(timed(command))
    medians = {
        name: tuple(statistics.median(column) for column in zip(*rows, strict=True))
        for name, rows in times.items()
    }
    first = times["import yaml, pydantic, click"]
    ratios = {
        name: [
            statistics.median(row[unit] / base[unit] for row, base in zip(rows, first, strict=True))
            for unit in (0, 1)
        ]
        for name, rows in times.items()
    }
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {options.runs} rounds")
    print(f"{'command':<30} {'wall s':>8} {'CPU s':>8} {'ratio (wall)':>13} {'ratio (CPU)':>12}")
    for name, (wall, cpu) in medians.items():
        print(f"{name:<30} {wall:8.3f} {cpu:8.3f} {ratios[name][0]:13.2f} {ratios[name][1]:12.2f}")
    sys.exit(int(ratios["build, all hits"][1] > LIMIT_RATIO))


if __name__ == "__main__":
    main()
