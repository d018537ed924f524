"""Running two models on the same inputs and comparing what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedeploy.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class Equality:
    """How two models' outputs compare.

    Attributes:
        equal: Whether all outputs are equal within the tolerance.
        samples: Number of input sets.
        max_abs: Largest absolute difference by output (0.0 for equal texts and objects).
    """

    equal: bool
    samples: int
    max_abs: Mapping[str, float]


def verify_equal(
    before: Path,
    after: Path,
    feeds: Iterable[Mapping[str, np.ndarray]],
    *,
    rtol: float = 1e-4,
    atol: float = 1e-5,
) -> Equality:
    """Return how the outputs of two models compare on the same inputs.

    Both run in onnxruntime on the CPU with all optimisation off. Inputs that ``after`` no longer
    has (they became constants) are left out of its feed; outputs that it dropped are not compared.

    Raises:
        ModelError: A model does not load or run (E225).
    """
    first, second = open_session(before), open_session(after)
    taken = {item.name for item in second.get_inputs()}
    names = [item.name for item in second.get_outputs()]
    max_abs = dict.fromkeys(names, 0.0)
    equal, samples = True, 0
    for feed in feeds:
        samples += 1
        wanted = _run(first, names, dict(feed), before)
        given = {name: array for name, array in feed.items() if name in taken}
        found = _run(second, names, given, after)
        for name, left, right in zip(names, wanted, found, strict=True):
            same, distance = _compare(left, right, rtol, atol)
            equal = equal and same
            max_abs[name] = max(max_abs[name], distance)
    return Equality(equal=equal, samples=samples, max_abs=max_abs)


def open_session(path: Path) -> Any:
    """Return a reference session: the CPU, one thread, no optimisation.

    Raises:
        ModelError: The runtime does not load the model (E225).
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _refusal(path, error) from error


def _refusal(path: Path, error: Exception) -> ModelError:
    return ModelError(
        f"the reference runtime refuses the model: {str(error).replace(str(path), path.name)}",
        code="E225",
        subject=path.name,
        hint="check that the model runs in onnxruntime as it was exported",
    )


def _run(session: Any, names: list[str], feed: dict[str, np.ndarray], path: Path) -> list[Any]:
    try:
        results: list[Any] = session.run(names, feed)
    except Exception as error:
        raise _refusal(path, error) from error
    return results


def _compare(left: Any, right: Any, rtol: float, atol: float) -> tuple[bool, float]:
    if not isinstance(left, np.ndarray) or left.dtype.kind in "OUS":
        same = bool(np.array_equal(left, right)) if isinstance(left, np.ndarray) else left == right
        return same, 0.0 if same else float("inf")
    if left.shape != right.shape or left.dtype != right.dtype:
        return False, float("inf")
    if not left.size:
        return True, 0.0
    same = bool(np.allclose(left, right, rtol=rtol, atol=atol, equal_nan=True))
    distance = np.abs(left.astype(np.float64) - right.astype(np.float64))
    return same, float(np.nan_to_num(distance, nan=0.0).max())
