"""Writes docs/mil-operations.md: what holds each operation of the MIL interpreter to its meaning.

``python -m tests.coreml.mil_table FILE ...`` takes what ``tests.coreml.apple_tests --save`` wrote,
in any number of runs, and counts the probes of each. The torch probes are read from the source of
their tests.
"""

from __future__ import annotations

import ast
import collections
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgedeploy.mil.registry import entries

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "mil-operations.md"
TORCH_PROBES = ROOT / "tests" / "with_torch" / "test_mil_anchor.py"

HEAD = """\
# MIL operations that the interpreter runs

Core ML packages are evaluated on Linux by [an interpreter of ML Programs](../edgedeploy/mil/) that
reads the *saved* package. Three oracles, none of which knows our front end, hold each operation to
its meaning:

| column | compared with |
|---|---|
| Apple's tests | the expected values in coremltools' own operation tests, taken from the \
installed package when they run: comparisons that agreed, in packages that hold the operation |
| torch | PyTorch modules, through Apple's PyTorch front end (`tests/with_torch/`): probes named \
after the operation |
| constants | what coremltools itself computes for operations on constants, while the tests above \
build their programs |

Every comparison goes through `ct.convert`, a package on disk, our reader and the interpreter; \
constants are compared directly. Of float32 programs the tolerance is that of Apple's test; of \
float16 programs 1e-2 relative or 2e-3 of the largest value (Apple allows 5e-2 and 5e-1).
"""

TAIL = """
## What this does not show

That Core ML computes the same on a device: no hardware took part. What is known of deviations is
checked by `edgedeploy/mil/rules.py`.

Written by `python -m tests.coreml.mil_table` from runs of `python -m tests.coreml.apple_tests \
--save`; `make soak` runs all of them, `make test` a sample.
"""


def torch_probes() -> collections.Counter[str]:
    """Return how many torch probes each operation has: names are ``operation [form]``."""
    if not TORCH_PROBES.exists():
        return collections.Counter()
    for node in ast.parse(TORCH_PROBES.read_text(encoding="utf-8")).body:
        target = getattr(node, "target", None)
        if isinstance(node, ast.AnnAssign) and getattr(target, "id", "") == "PROBES":
            keys = getattr(node.value, "keys", [])
            return collections.Counter(str(key.value).split()[0] for key in keys)
    raise ValueError("PROBES is not where it was")


def page(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the page for some saved runs."""
    apple: collections.Counter[str] = collections.Counter()
    constants: collections.Counter[str] = collections.Counter()
    skipped: collections.Counter[str] = collections.Counter()
    for run in runs:
        apple.update(run["probes"])
        constants.update(run["agreed"])
        for reason, count in run["skipped"].items():
            skipped[_told(reason)] += count
    torch = torch_probes()
    names = sorted(entries())
    rows = [
        f"| `{name}` | {apple[name] or ''} | {torch[name] or ''} | {constants[name] or ''} |"
        for name in names
    ]
    bare = [name for name in names if not apple[name] + torch[name] + constants[name]]
    sums = {
        key: sum(run[key] if isinstance(run[key], int) else len(run[key]) for run in runs)
        for key in ("compared", "silent", "failed", "differing")
    }
    lines = [
        HEAD,
        f"The runs behind the figures: {sums['compared']} tests of Apple's agree, "
        f"{sums['failed']} do not; {sums['silent']} compare nothing (types, errors, constants); "
        f"{sum(constants.values())} evaluations of constants agree, {sums['differing']} do not.",
        "",
        f"{len(names)} operations; without any probe: {', '.join(f'`{n}`' for n in bare) or '-'}.",
        "",
        "| operation | Apple's tests | torch | constants |",
        "|---|---:|---:|---:|",
        *rows,
        "",
        "## Tests that were not run",
        "",
        "| tests | reason |",
        "|---:|---|",
        *(f"| {count} | {reason} |" for reason, count in skipped.most_common()),
        *_disagreeing(runs),
    ]
    return "\n".join(lines) + "\n" + TAIL


def _disagreeing(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the section that names what did not agree; nothing where all did."""
    failed = {test: reason for run in runs for test, reason in run["failed"].items()}
    rows = [
        *(f"| `{_cell(test)[-90:]}` | {_cell(why)} |" for test, why in sorted(failed.items())),
        *(f"| constants | {_cell(record)} |" for run in runs for record in run["differing"]),
    ]
    if not rows:
        return []
    return ["", "## What does not agree", "", "| test | how it ends |", "|---|---|", *rows]


def _cell(told: Any) -> str:
    """Return words that stay one cell of a table."""
    return re.sub(r"[|\n]+", " ", str(told))[:200]


def _told(reason: str) -> str:
    if reason.startswith(("rdar", "Seg fault")) or "rdar" in reason:
        return "Core ML is known to be wrong there (Apple's own mark)"
    if "not collected" in reason:
        return "a module needs a package that this environment lacks"
    if "PyTorch" in reason or "torch" in reason:
        return "needs torch (runs in `make test-torch`'s environment)"
    if "TensorFlow" in reason:
        return "needs TensorFlow"
    if "empty parameter set" in reason:
        return "no parametrization for this target"
    if "ML Program" in reason or "neuralnetwork" in reason:
        return "predicts with a neural network, not an ML Program"
    return re.sub(r"[|\n]", " ", reason)[:90]


def main(words: list[str]) -> None:
    """Write the page."""
    runs = [json.loads(Path(word).read_text(encoding="utf-8")) for word in words]
    PAGE.write_text(page(runs), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
