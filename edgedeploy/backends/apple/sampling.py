"""Sampling a tensor between its elements, in parts that any program has.

The elements around each point are gathered and weighted, one gather per combination of neighbours:
two per axis for linear interpolation, four for cubic, one for the nearest.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgedeploy.backends.apple.mil_api import Var, mb, types

CUBIC = -0.75
"""Parameter of the cubic convolution of ONNX, PyTorch and OpenCV (Keys, 1981)."""


def number(value: float, like: Var) -> Any:
    """Return a number in the type of a value."""
    return types.nptype_from_builtin(like.dtype)(value)


def taps(position: Var, mode: str) -> list[tuple[Var, Var | None]]:
    """Return the indices around positions on one axis, each with its weight.

    Args:
        position: In elements; not whole.
        mode: ``nearest`` (halves go to the even neighbour), ``linear`` or ``cubic``.
    """
    if mode == "nearest":
        return [(mb.cast(x=mb.round(x=position), dtype="int32"), None)]
    base = mb.floor(x=position)
    rest = mb.sub(x=position, y=base)
    first = mb.cast(x=base, dtype="int32")
    offsets = (0, 1) if mode == "linear" else (-1, 0, 1, 2)
    weights = _linear(rest) if mode == "linear" else _cubic(rest)
    return [
        (mb.add(x=first, y=np.int32(offset)), weight)
        for offset, weight in zip(offsets, weights, strict=True)
    ]


def _linear(rest: Var) -> list[Var]:
    return [mb.sub(x=number(1, rest), y=rest), rest]


def _cubic(rest: Var) -> list[Var]:
    other = mb.sub(x=number(1, rest), y=rest)
    near = (CUBIC + 2, -(CUBIC + 3), 0.0, 1.0)
    far = (CUBIC, -5 * CUBIC, 8 * CUBIC, -4 * CUBIC)
    beyond = mb.add(x=rest, y=number(1, rest)), mb.add(x=other, y=number(1, rest))
    return [
        _polynomial(beyond[0], far),
        _polynomial(rest, near),
        _polynomial(other, near),
        _polynomial(beyond[1], far),
    ]


def _polynomial(x: Var, factors: Sequence[float]) -> Var:
    """Return a polynomial with the highest power's factor first."""
    made = mb.mul(x=x, y=number(factors[0], x))
    for factor in factors[1:-1]:
        made = mb.mul(x=mb.add(x=made, y=number(factor, x)), y=x)
    return mb.add(x=made, y=number(factors[-1], x))


def weighted(
    rows: Var,
    axes: Sequence[Sequence[tuple[Var, Var | None, Var | None]]],
    sizes: Sequence[int],
    checked: dict[str, bool],
) -> Var:
    """Return the weighted sum of the elements at all combinations of taps.

    Args:
        rows: [batch, channels, elements + 1]; the last element is what lies outside.
        axes: Per spatial axis its taps: index [batch, points], weight (or None for 1), and whether
            the index lies inside (or None for always).
        sizes: Number of elements per spatial axis.
        checked: What ``gather`` gets beside.
    """
    total = None
    for combination in itertools.product(*axes):
        flat = None
        weight = None
        inside = None
        for (index, part, valid), size in zip(combination, sizes, strict=True):
            flat = index if flat is None else mb.add(x=mb.mul(x=flat, y=np.int32(size)), y=index)
            weight = _both(weight, part, mb.mul)
            inside = _both(inside, valid, mb.logical_and)
        if inside is not None:
            # Outside, the index becomes that of the last element.
            within = mb.cast(x=inside, dtype="int32")
            last = np.int32(np.prod(sizes))
            flat = mb.add(x=mb.mul(x=mb.sub(x=flat, y=last), y=within), y=last)
        found = mb.gather(x=rows, indices=flat, axis=2, batch_dims=1, **checked)
        if weight is not None:
            found = mb.mul(x=found, y=mb.expand_dims(x=weight, axes=[1]))
        total = found if total is None else mb.add(x=total, y=found)
    return total


def _both(first: Var | None, second: Var | None, join: Any) -> Var | None:
    if first is None or second is None:
        return second if first is None else first
    return join(x=first, y=second)
