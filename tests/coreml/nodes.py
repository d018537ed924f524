"""The node tests of ONNX (onnx.backend.test.case.node) through the whole Core ML path.

``python -m tests.coreml.nodes [OPERATOR or CASE ...]`` runs those of these operators, or all that
are in scope, prints what did not pass, and the sums. ``--table`` writes docs/coreml-operators.md.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx

from edgedeploy.errors import EdgedeployError
from tests.coreml.harness import Converted
from tests.coreml.scope import cases, listed, operator

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
    "CastLike": (1,),
    "CenterCropPad": (1,),
    "ConstantOfShape": (0,),
    "Col2Im": (1, 2),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "CumProd": (1,),
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
    "QLinearConv": (1, 2, 3, 4, 5, 6, 7, 8),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
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


def run(name: str, *, ios: int = 17) -> Result:
    """Run one case."""
    case = cases()[name]
    op = operator(case)
    try:
        for given, wanted in case.data_sets:
            said = _difference(case, given, wanted, ios)
            if said:
                return Result(name, op, "wrong", said)
    except EdgedeployError as error:
        reason = "; ".join(item.message for item in error.diagnostics)
        codes = sorted({str(item.code) for item in error.diagnostics})
        refused = all(code.startswith(("E34", "E2")) for code in codes) and "E342" not in codes
        outcome: Outcome = "refused" if refused else "failed"
        return Result(name, op, outcome, f"{'/'.join(codes)} {reason}")
    except Exception as error:
        return Result(name, op, "failed", f"{type(error).__name__}: {error}")
    return Result(name, op, "passed")


def run_all(names: Iterable[str], *, ios: int = 17, processes: int = 1) -> Iterator[Result]:
    """Run cases one after the other, or several at once; the results come in order."""
    if processes == 1:
        yield from (run(name, ios=ios) for name in names)
        return
    # spawned: a fork would share the locks and threads of ONNX Runtime
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context) as pool:
        waiting = [pool.submit(run, name, ios=ios) for name in names]
        for future in waiting:
            yield future.result()


def _difference(case: Any, given: Any, wanted: Any, ios: int) -> str:
    """Return in words how the outputs differ; empty where they do not."""
    graph = case.model.graph
    names = [item.name for item in graph.input]
    inputs = {name: _array(value) for name, value in zip(names, given, strict=True)}
    places = CONSTANTS.get(operator(case), ()) if len(graph.node) == 1 else ()
    node = graph.node[-1]
    fixed = {node.input[place] for place in places if place < len(node.input)} & set(inputs)
    constants = {name: inputs.pop(name) for name in fixed}
    found = Converted(case.model, ios=ios, constants=constants).run(inputs)
    said = (
        difference(found[item.name], _array(value))
        for item, value in zip(graph.output, wanted, strict=True)
    )
    return "; ".join(
        f"{item.name}: {words}" for item, words in zip(graph.output, said, strict=True) if words
    )


def _array(value: Any) -> np.ndarray:
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return np.asarray(value)


def difference(made: np.ndarray, wanted: np.ndarray) -> str:
    """Return in words how an output differs from what is wanted; empty where it does not.

    Type and shape must be the same; integers and booleans must be equal, floats near.
    """
    if made.dtype != wanted.dtype:
        return f"type {made.dtype}, not {wanted.dtype}"
    if made.shape != wanted.shape:
        return f"shape {list(made.shape)}, not {list(wanted.shape)}"
    tolerance = {"rtol": RTOL, "atol": ATOL}
    if wanted.dtype == np.float16:
        tolerance = {"rtol": 5e-3, "atol": 1e-3}
    if wanted.dtype.kind != "f":
        return "" if (made == wanted).all() else f"{int((made != wanted).sum())} elements differ"
    ours, theirs = made.astype(np.float64), wanted.astype(np.float64)
    near = np.isclose(ours, theirs, equal_nan=True, **tolerance)
    if near.all():
        return ""
    with np.errstate(invalid="ignore"):
        worst = np.max(np.abs(ours - theirs)[~near])
    return f"{int((~near).sum())} of {near.size} elements differ, by up to {worst:.3g}"


def chosen(words: list[str]) -> list[str]:
    """Return the cases in scope that are named, or whose operators are; all by default."""
    return [name for name in listed() if not words or {name, operator(cases()[name])} & set(words)]


def main(words: list[str]) -> None:
    """Run cases and print what did not pass, and the sums."""
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*", metavar="OPERATOR or CASE")
    parser.add_argument("--ios", type=int, default=17)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="write docs/coreml-operators.md")
    options = parser.parse_args(words)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    results = []
    for result in run_all(chosen(options.words), ios=options.ios, processes=options.processes):
        results.append(result)
        if result.outcome != "passed":
            print(f"{result.outcome:8} {result.name}: {result.reason[:300]}", flush=True)
    print(dict(collections.Counter(result.outcome for result in results)))
    if options.table:
        from tests.coreml.table import write

        write(results, ios=options.ios)


if __name__ == "__main__":
    main(sys.argv[1:])
