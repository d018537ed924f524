"""Runs coremltools' own operation tests, from the installed wheel, against the interpreter.

``python -m tests.coreml.apple_tests [OPERATION ...]`` runs the tests whose source names one of
these MIL operations, or all (19 758; ``--share 1`` keeps one parametrization of each), and prints
what failed, what was not harvested and why, and the sums. Some of the tests take their expected
values from torch: they run where that is installed.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
OPERATIONS = "coremltools.converters.mil.mil.ops.tests"


@dataclass
class Harvest:
    """What a run of the tests gave.

    Attributes:
        probes: By operation, how many comparisons of programs with it agreed.
        compared: How many tests compared something and passed.
        silent: How many passed without comparing anything (types, errors, constants).
        failed: What each failing test said.
        skipped: How many tests were left out, by reason.
        agreed: By operation, how many of coremltools' evaluations of constants agreed.
        differing: What differed from coremltools' evaluation of constants.
        contradicting: By operation, evaluations that contradict the type that coremltools gives.
        unknown: By operation, evaluations that the interpreter has no operation for.
    """

    probes: collections.Counter[str] = field(default_factory=collections.Counter)
    compared: int = 0
    silent: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    skipped: collections.Counter[str] = field(default_factory=collections.Counter)
    agreed: collections.Counter[str] = field(default_factory=collections.Counter)
    differing: list[dict[str, Any]] = field(default_factory=list)
    contradicting: collections.Counter[str] = field(default_factory=collections.Counter)
    unknown: collections.Counter[str] = field(default_factory=collections.Counter)

    def add(self, record: dict[str, Any]) -> None:
        """Count one record of the plugin."""
        if "agreed" in record:
            self.agreed[record["inferred"]] += record["agreed"]
        elif "unknown" in record:
            self.unknown[record["inferred"]] += record["unknown"]
        elif "contradicts" in record:
            self.contradicting[record["inferred"]] += record["contradicts"]
        elif "differs" in record:
            self.differing.append(record)
        elif record["result"] == "failed":
            self.failed[record["test"]] = record["reason"]
        elif record["result"] == "skipped":
            self.skipped[record["reason"].splitlines()[0] if record["reason"] else "xfail"] += 1
        elif record["predicted"]:
            self.compared += 1
            for kinds in record["predicted"]:
                self.probes.update(kinds)
        else:
            self.silent += 1


def harvest(
    operations: Sequence[str] = (),
    *,
    share: int = 0,
    sample: bool = False,
    arguments: Sequence[str] = (),
) -> Harvest:
    """Run the tests in a process of their own.

    Args:
        operations: Only tests that name one of these in their source; all when empty.
        share: How many parametrizations of each test, drawn with a seed; 0 for all.
        sample: Only one test each, of those that compare, of a hundred classes.
        arguments: More arguments for pytest.

    Raises:
        RuntimeError: pytest did not get to the end.
    """
    environment = {
        **os.environ,
        "PYMIL_TEST_TARGETS": "mlprogram",
        "INCLUDE_MIL_FP32_UNIT_TESTS": "1",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    found = Harvest()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", folder]
        command += ["-p", "no:cacheprovider", "-p", "tests.coreml.apple_plugin", "-W", "ignore"]
        command += ["--records", folder, "--share", str(share), "-q", "--tb=short"]
        command += ["--sample"] if sample else []
        command += [f"--operation={name}" for name in operations]
        command += ["--continue-on-collection-errors", *arguments, "--pyargs", OPERATIONS]
        done = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode not in (0, 1):
            raise RuntimeError(f"pytest ended with {done.returncode}:\n{done.stdout[-3000:]}")
        for file in sorted(Path(folder).glob("*.jsonl")):
            for line in file.read_text(encoding="utf-8").splitlines():
                found.add(json.loads(line))
    return found


def main(words: list[str]) -> int:
    """Run the tests and print what came out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("operations", nargs="*")
    parser.add_argument("--share", type=int, default=0)
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("--save", type=Path, help="file for what tests.coreml.mil_table reads")
    parser.add_argument("--pytest", nargs="*", default=[], help="as in --pytest=-x")
    chosen = parser.parse_args(words)
    found = harvest(
        chosen.operations,
        share=chosen.share,
        sample=chosen.sample,
        arguments=chosen.pytest,
    )
    if chosen.save:
        chosen.save.write_text(json.dumps(vars(found)), encoding="utf-8")
    for test, reason in found.failed.items():
        print(f"failed {test[:160]}\n       {reason[:400]}")
    for record in found.differing:
        print(f"differs from value_inference: {record}"[:600])
    for reason, count in found.skipped.most_common():
        print(f"skipped {count:6}  {reason[:150]}")
    for name, count in sorted(found.probes.items()):
        print(f"{count:6} probes {found.agreed[name]:6} constants  {name}")
    print(
        f"{found.compared} compared, {len(found.failed)} failed, {found.silent} compare nothing, "
        f"{sum(found.skipped.values())} skipped; {sum(found.agreed.values())} evaluations of "
        f"constants agree, {len(found.differing)} differ, {sum(found.unknown.values())} unknown"
    )
    return 1 if found.failed or found.differing else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
