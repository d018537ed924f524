"""The node tests of ONNX (onnx.backend.test.case.node) through the whole Core ML path.

``python -m tests.coreml.nodes [OPERATOR ...]`` runs those of these operators, or all, and prints
what did not pass; ``--table`` prints docs/coreml-operators.md.
"""

from __future__ import annotations

import argparse
import collections
import functools
import sys
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edgedeploy.errors import EdgedeployError
from tests.coreml.harness import Converted

Outcome = Literal["passed", "refused", "wrong", "failed"]
"""``refused``: a typed error with a reason; ``wrong``: other values; ``failed``: another error."""

RTOL, ATOL = 1e-3, 1e-5

REDUCTIONS = (
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
    "ReduceSum ReduceSumSquare"
)
# Inputs that real models have as constants and that these tests feed: they are made constants.
CONSTANTS: dict[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "BatchNormalization": (1, 2, 3, 4),
    "CenterCropPad": (1,),
    "ConstantOfShape": (0,),
    "Col2Im": (1, 2),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "CumSum": (1,),
    "DequantizeLinear": (1, 2),
    "Dropout": (1, 2),
    "Expand": (1,),
    "GRU": (1, 2, 3),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LSTM": (1, 2, 3, 7),
    "LayerNormalization": (1, 2),
    "MaxUnpool": (2,),
    "NonMaxSuppression": (2, 3, 4),
    "OneHot": (1, 2),
    "Pad": (1, 2, 3),
    "QuantizeLinear": (1, 2),
    "RNN": (1, 2, 3),
    "Range": (0, 1, 2),
    "RMSNormalization": (1,),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
    **dict.fromkeys(REDUCTIONS.split(), (1,)),
}


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one case."""

    name: str
    op: str
    outcome: Outcome
    reason: str = ""


@functools.cache
def cases() -> dict[str, Any]:
    """Return every node test by name."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in collect_testcases(None)}


def operator(case: Any) -> str:
    """Return the operator that a case tests: its only one, or the last."""
    return str(case.model.graph.node[-1].op_type)


def run(case: Any, *, ios: int = 17) -> Result:
    """Run one case."""
    name, op = case.name, operator(case)
    try:
        for given, wanted in case.data_sets:
            said = _difference(case, given, wanted, ios)
            if said:
                return Result(name, op, "wrong", said)
    except EdgedeployError as error:
        reason = "; ".join(item.message for item in error.diagnostics)
        codes = {item.code for item in error.diagnostics}
        refused = all(str(code).startswith(("E34", "E2")) for code in codes) and "E342" not in codes
        outcome: Outcome = "refused" if refused else "failed"
        return Result(name, op, outcome, f"{'/'.join(sorted(map(str, codes)))} {reason}")
    except Exception as error:
        return Result(name, op, "failed", f"{type(error).__name__}: {error}")
    return Result(name, op, "passed")


def _difference(case: Any, given: Any, wanted: Any, ios: int) -> str:
    """Return in words how the outputs differ; empty where they do not."""
    graph = case.model.graph
    names = [item.name for item in graph.input]
    inputs = {name: np.asarray(value) for name, value in zip(names, given, strict=True)}
    places = CONSTANTS.get(operator(case), ()) if len(graph.node) == 1 else ()
    node = graph.node[-1]
    fixed = {node.input[place] for place in places if place < len(node.input)} & set(inputs)
    constants = {name: inputs.pop(name) for name in fixed}
    found = Converted(case.model, ios=ios, constants=constants).run(inputs)
    for item, value in zip(graph.output, wanted, strict=True):
        made, value = found[item.name], np.asarray(value)
        if made.shape != value.shape:
            return f"{item.name}: shape {made.shape}, not {value.shape}"
        tolerance = {"rtol": RTOL, "atol": ATOL}
        if value.dtype == np.float16:
            tolerance = {"rtol": 5e-3, "atol": 1e-3}
        if value.dtype.kind not in "fc":
            tolerance = {"rtol": 0, "atol": 0}
        if not np.allclose(
            made.astype(np.float64), value.astype(np.float64), equal_nan=True, **tolerance
        ):
            worst = np.abs(made.astype(np.float64) - value.astype(np.float64)).max()
            return f"{item.name}: off by {worst:.3g}"
    return ""


def main(words: list[str]) -> None:
    """Run cases and print what did not pass, and the sums."""
    parser = argparse.ArgumentParser()
    parser.add_argument("operators", nargs="*")
    parser.add_argument("--ios", type=int, default=17)
    chosen = parser.parse_args(words)
    results = []
    for name, case in sorted(cases().items()):
        wanted = not chosen.operators or operator(case) in chosen.operators or name in words
        if not wanted or name.endswith("_expanded") or "_expanded_" in name:
            continue
        results.append(run(case, ios=chosen.ios))
        if results[-1].outcome != "passed":
            print(f"{results[-1].outcome:8} {name}: {results[-1].reason[:300]}", flush=True)
    print(dict(collections.Counter(result.outcome for result in results)))


if __name__ == "__main__":
    main(sys.argv[1:])
