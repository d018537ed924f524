"""Poolings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from edgedeploy.backends.apple.mil_api import Var, mb
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.registry import op
from edgedeploy.backends.apple.scalars import is_float, like
from edgedeploy.backends.apple.windows import Windows, check_reach, hung_over, windows


@op("MaxPool")
def max_pool(node: Node) -> list[Var | None]:
    """Return the highest element of every window, and where it was.

    Integers are pooled as floats, which is exact for the 8 bits that ONNX allows.
    Source: ONNX MaxPool-22; MIL ``max_pool``.
    """
    given = node.var(0)
    x = given if is_float(given) else mb.cast(x=given, dtype="fp32")
    found, extra = _pool_windows(node)
    if node.wants(1):
        made, places = _with_places(node, x, found)
        return [_as(given, made), places]
    if found.dilated:
        made = _by_taps(node, x, found, mb.maximum, -np.inf)
    else:
        made = mb.max_pool(x=x, **_parameters(found), **extra)
    return [_as(given, made), None]


@op("AveragePool")
def average_pool(node: Node) -> Var:
    """Return the mean of every window, of its padding too where ``count_include_pad`` is set.

    What ``ceil_mode`` adds beyond the padding never counts.
    Source: ONNX AveragePool-22; MIL ``avg_pool``.
    """
    x = node.var(0)
    found, extra = _pool_windows(node)
    included = bool(node.attribute("count_include_pad", 0))
    if found.dilated:
        total = _by_taps(node, x, found, mb.add, 0.0)
        return mb.mul(x=total, y=like(x, 1 / _counts(found, included)))
    made = mb.avg_pool(
        x=x, **_parameters(found), **extra, exclude_padding_from_average=not included
    )
    if included and any(found.overhang):
        share = np.prod(found.kernel) / _counts(found, included)
        made = mb.mul(x=made, y=like(x, share))
    return made


@op("LpPool")
def lp_pool(node: Node) -> Var:
    """Return the p-norm of every window: ``sum(|x| ** p) ** (1 / p)``.

    Source: ONNX LpPool-22; MIL ``l2_pool``, else ``avg_pool`` of the powers.
    """
    x = node.var(0)
    found, extra = _pool_windows(node)
    p = node.attribute("p", 2)
    if p == 2 and not found.dilated and len(found.kernel) <= 2:
        return mb.l2_pool(x=x, **_parameters(found), **extra)
    powers = _powers(x, p)
    if found.dilated:
        total = _by_taps(node, powers, found, mb.add, 0.0)
    else:
        mean = mb.avg_pool(
            x=powers, **_parameters(found), **extra, exclude_padding_from_average=False
        )
        total = mb.mul(x=mean, y=like(x, np.prod(found.kernel)))
    return _root(total, p)


@op("GlobalAveragePool")
def global_average_pool(node: Node) -> Var:
    """Return the mean over all spatial axes of ``[N, C, *D]``."""
    return mb.reduce_mean(x=node.var(0), axes=_spatial(node), keep_dims=True)


@op("GlobalMaxPool")
def global_max_pool(node: Node) -> Var:
    """Return the highest element over all spatial axes of ``[N, C, *D]``."""
    return mb.reduce_max(x=node.var(0), axes=_spatial(node), keep_dims=True)


@op("GlobalLpPool")
def global_lp_pool(node: Node) -> Var:
    """Return the p-norm over all spatial axes of ``[N, C, *D]``."""
    p = node.attribute("p", 2)
    powers = _powers(node.var(0), p)
    return _root(mb.reduce_sum(x=powers, axes=_spatial(node), keep_dims=True), p)


@op("MaxUnpool")
def max_unpool(node: Node) -> Var:
    """Return zeros with the values of input 0 at the places of input 1.

    Source: ONNX MaxUnpool-22; MIL ``scatter_along_axis`` on the flattened output.
    """
    sizes = node.static_shape(0)
    kernel = node.attribute("kernel_shape")
    found = windows(node, sizes[2:], kernel)
    full = [
        (size - 1) * stride + taps - before - after
        for size, stride, taps, (before, after) in zip(
            found.sizes, found.strides, found.kernel, found.pads, strict=True
        )
    ]
    shape = [*sizes[:2], *full]
    if node.given(2) and list(node.need_constant(2, "output_shape")) != shape:
        node.refuse(
            "an output_shape other than the pool's input, for which its indices do not hold",
            "leave output_shape out and pad the result",
        )
    x = node.var(0)
    checked = {"validate_indices": False} if node.ios >= 17 else {}
    made = mb.scatter_along_axis(
        data=np.zeros(int(np.prod(shape)), like(x, 0).dtype),
        indices=mb.reshape(x=node.var(1), shape=[-1]),
        updates=mb.reshape(x=x, shape=[-1]),
        axis=0,
        mode="update",
        **checked,
    )
    return mb.reshape(x=made, shape=shape)


def _spatial(node: Node) -> list[int]:
    rank = node.rank(0)
    if rank < 3:
        node.refuse(f"a pool over rank {rank}", "repair the model")
    return list(range(2, rank))


def _pool_windows(node: Node) -> tuple[Windows, dict[str, bool]]:
    """Return a pool's windows, and the parameters for ``ceil_mode`` where MIL must find them."""
    axes = len(_spatial(node))
    if axes > 3:
        node.refuse(f"{axes} spatial axes", "Core ML pools over 1 to 3")
    found = windows(node, node.shape(0)[2:], node.attribute("kernel_shape") or ())
    check_reach(node, found)
    auto = node.attribute("auto_pad", "NOTSET")
    if found.dilated and auto.startswith("SAME"):
        node.refuse(
            "auto_pad of dilated windows, which ONNX Runtime pads as if they were not",
            "give pads",
        )
    if not node.attribute("ceil_mode", 0) or auto.startswith("SAME"):
        return found, {}
    if not found.open:
        return hung_over(found), {}
    # MIL's ceil_mode is PyTorch's, which is ONNX's, but for the share of what hangs over.
    symmetric = all(before == after for before, after in found.pads)
    counted = node.op == "AveragePool" and node.attribute("count_include_pad", 0)
    if not symmetric or counted or found.dilated or axes > 2:
        node.refuse("this form of ceil_mode with open sizes", "bind the model's dims")
    return found, {"ceil_mode": True}


def _parameters(found: Windows) -> dict[str, Any]:
    return {"kernel_sizes": found.kernel, "strides": found.strides, **found.padding()}


def _counts(found: Windows, included: bool) -> np.ndarray:
    """Return how many elements each window averages: ``[1, 1, *outputs]``, float64."""
    made = np.ones((1, 1), np.float64)
    for size, (before, after), taps, stride, step, count in zip(
        found.sizes,
        found.pads,
        found.kernel,
        found.strides,
        found.dilations,
        found.outputs(),
        strict=True,
    ):
        places = np.arange(count)[:, None] * stride + np.arange(taps) * step
        low, high = (0, before + size + after) if included else (before, before + size)
        made = made[..., None] * ((places >= low) & (places < high)).sum(axis=1)
    return made


def _powers(x: Var, p: int) -> Var:
    if p == 1:
        return mb.abs(x=x)
    if p == 2:
        return mb.mul(x=x, y=x)
    return mb.pow(x=mb.abs(x=x), y=like(x, float(p)))


def _root(x: Var, p: int) -> Var:
    if p == 1:
        return x
    return mb.sqrt(x=x) if p == 2 else mb.pow(x=x, y=like(x, 1 / p))


def _as(given: Var, made: Var) -> Var:
    """Return a result in the type of the input."""
    return made if is_float(given) else mb.cast(x=made, dtype="int32")


def _padded(node: Node, x: Var, found: Windows, fill: float) -> Var:
    """Return ``x`` with its pads filled in; refuse open sizes, for which taps are not known."""
    if found.open or not found.pads:
        node.refuse("dilation or indices with open sizes", "bind the model's dims")
    pad = found.padding().get("pad")
    if pad is None:
        return x
    return mb.pad(x=x, pad=[0, 0, 0, 0, *pad], mode="constant", constant_val=like(x, fill))


def _tap(x: Var, axes: Sequence[int], places: Sequence[int], found: Windows) -> Var:
    """Return what one tap of all windows sees, as a strided slice along ``axes``.

    Args:
        x: The padded input.
        axes: Spatial axes, counted from 0, that are sliced.
        places: The tap on each of them.
        found: The windows.
    """
    outputs = found.outputs()
    begin, end, stride = [0] * x.rank, [0] * x.rank, [1] * x.rank
    whole = [True] * x.rank
    for axis, place in zip(axes, places, strict=True):
        begin[axis + 2] = place * found.dilations[axis]
        stride[axis + 2] = found.strides[axis]
        end[axis + 2] = begin[axis + 2] + (outputs[axis] - 1) * found.strides[axis] + 1
        whole[axis + 2] = False
    return mb.slice_by_index(x=x, begin=begin, end=end, stride=stride, end_mask=whole)


def _by_taps(node: Node, x: Var, found: Windows, combine: Callable[..., Var], fill: float) -> Var:
    """Return a pooling as elementwise operations on slices: MIL's own know no dilation.

    One axis after the other, which is exact for sums and maxima.
    """
    x = _padded(node, x, found, fill)
    for axis, taps in enumerate(found.kernel):
        slices = [_tap(x, [axis], [place], found) for place in range(taps)]
        x = reduce(lambda a, b: combine(x=a, y=b), slices)
    return x


def _with_places(node: Node, x: Var, found: Windows) -> tuple[Var, Var]:
    """Return the maxima and their places in the flattened input, the first of equals.

    Source: ONNX MaxPool-22, ``Indices``; ``storage_order`` 1 counts columns first.
    """
    sizes = node.static_shape(0)
    padded = _padded(node, x, found, -np.inf)
    column_major = bool(node.attribute("storage_order", 0))
    flat = np.arange(np.prod(sizes[2:])).reshape(sizes[2:], order="F" if column_major else "C")
    before_after = found.padding().get("pad", [0] * (2 * len(found.kernel)))
    flat = np.pad(flat, list(zip(before_after[::2], before_after[1::2], strict=True)))
    best, place = None, None
    for taps in np.ndindex(*found.kernel):
        seen = _tap(padded, range(len(taps)), taps, found)
        where = _tap_of(flat, taps, found)[None, None].astype(np.int32)
        if best is None:
            best, place = seen, where
            continue
        better = mb.cast(x=mb.greater(x=seen, y=best), dtype="int32")
        # place + better * (where - place): MIL's select would need all at full size.
        place = mb.add(x=place, y=mb.mul(x=better, y=mb.sub(x=where, y=place)))
        best = mb.maximum(x=best, y=seen)
    channels = np.arange(sizes[0] * sizes[1], dtype=np.int32) * int(np.prod(sizes[2:]))
    offsets = channels.reshape(*sizes[:2], *[1] * len(found.kernel))
    return best, mb.add(x=place, y=offsets)


def _tap_of(flat: np.ndarray, taps: Sequence[int], found: Windows) -> np.ndarray:
    index = tuple(
        slice(place * step, place * step + (count - 1) * stride + 1, stride)
        for place, step, stride, count in zip(
            taps, found.dilations, found.strides, found.outputs(), strict=True
        )
    )
    return flat[index]
