"""Which operations of a program compute in float16, and which stay in float32.

Core ML's fast units compute in float16: 11 bits of mantissa, 65504 at most, nothing below 6e-8. An
operation stays in float32 where

1. the front end says so (:func:`float32`): its integers have more than 11 bits;
2. its constants do not survive float16 (:func:`survives`), such as an epsilon of 1e-12: known from
   the program alone;
3. a run of the program shows that its result does not survive it (:mod:`edgedeploy.mil.half`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np

from edgedeploy.backends.apple.mil_api import ScopeInfo, ScopeSource, Var, mb

_MARK = "edgedeploy.float32"

LARGEST_LOSS = 2.0**-8
"""How far a constant may be off in float16, as a share of its largest element: 8 roundings."""


@contextlib.contextmanager
def float32(wanted: bool) -> Iterator[None]:
    """Mark the operations that are made inside as ones that stay in float32, where wanted."""
    if not wanted:
        yield
        return
    with mb.scope(ScopeInfo(source=ScopeSource.TORCHSCRIPT_MODULE_NAME, data=[_MARK])):
        yield


def survives(array: np.ndarray) -> bool:
    """Return whether a float constant keeps its meaning in float16.

    Infinite elements do. Finite ones beyond 65504 do not, for they become infinite: the lowest
    float32, of which masks are made, times 0 is then no number.
    """
    values = np.asarray(array, np.float64)
    finite = np.abs(values[np.isfinite(values)])
    largest = finite.max(initial=0.0)
    if not largest:
        return True
    with np.errstate(over="ignore"):
        half = finite.astype(np.float16).astype(np.float64)
    return bool(np.abs(half - finite).max() <= LARGEST_LOSS * largest)


def selector(keep: Collection[str] = ()) -> Callable[[Any], bool]:
    """Return what ``ct.transform.FP16ComputePrecision`` asks of each operation.

    Args:
        keep: Names of operations that stay in float32.
    """
    decided: dict[str, bool] = {}

    def computes_in_half(operation: Any) -> bool:
        # Where a compressed weight comes, all that read it are still as they were: afterwards casts
        # stand between.
        if operation.name not in decided:
            group = _sharing(operation)
            half = all(_can_be_half(member, keep) for member in group)
            decided.update(dict.fromkeys((member.name for member in group), half))
        return decided[operation.name]

    return computes_in_half


def _can_be_half(operation: Any, keep: Collection[str]) -> bool:
    marks = operation.scopes.get(ScopeSource.TORCHSCRIPT_MODULE_NAME, ())
    if _MARK in marks or operation.name in keep:
        return False
    return all(_survives(var) for item in operation.inputs.values() for var in _vars(item))


def _sharing(operation: Any) -> list[Any]:
    """Return the operations that compressed weights join: no cast may stand behind such a weight.

    coremltools wants a constant or a ``constexpr`` itself as the weight of most operations.
    """
    found = [operation]
    for member in found:
        near = [
            var.op
            for item in member.inputs.values()
            for var in _vars(item)
            if var is not None and var.op is not None and _is_compressed(var.op)
        ]
        if _is_compressed(member):
            near += [child for var in member.outputs for child in var.child_ops]
        found += [item for item in dict.fromkeys(near) if item not in found]
    return found


def _is_compressed(operation: Any) -> bool:
    return str(operation.op_type).startswith("constexpr_")


def _vars(item: Any) -> list[Var]:
    return list(item) if isinstance(item, (list, tuple)) else [item]


def _survives(var: Var) -> bool:
    known = None if var is None else var.val
    if known is None or var.op is None or var.op.op_type != "const":
        return True
    array = np.asarray(known)
    return array.dtype != np.float32 or survives(array)
