"""Resizing: exact for every mode where sizes are known, native where MIL does the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgedeploy.backends.apple.interpolation import (
    COORDINATES,
    Axis,
    Method,
    nearest,
    outside,
    weights,
)
from edgedeploy.backends.apple.mil_api import Var, is_symbolic, mb
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.registry import op
from edgedeploy.backends.apple.scalars import is_float, like


@op("Resize")
def resize(node: Node) -> Var:
    """Return the input in other sizes.

    Nearest by whole factors and the usual bilinear forms of the last two axes become MIL's own
    operations (``upsample_nearest_neighbor``, ``upsample_bilinear``, ``resize_bilinear``); for all
    others nearest is a gather, and linear and cubic are products with a matrix, per axis.
    Source: ONNX Resize-19.
    """
    x = node.var(0)
    method = _method(node)
    if method.mode != "nearest" and not is_float(x):
        node.refuse("integers that are interpolated", "cast to float first")
    scales = _scales(node)
    if scales is not None and any(is_symbolic(x.shape[place]) for place in scales):
        return _open(node, x, method, scales)
    axes = _axes(node, scales, method)
    changed = {place: axis for place, axis in axes.items() if _matters(node, axis, method)}
    made = _native(x, changed, method)
    if made is None:
        made = x
        for place, axis in changed.items():
            made = _along(node, made, place, axis, method)
    return _extrapolated(node, made, changed, method)


def _method(node: Node) -> Method:
    told = node.attribute("coordinate_transformation_mode", "half_pixel")
    if told not in COORDINATES:
        node.refuse(f"coordinates of kind {told}", "export with opset 13 or later")
    return Method(
        mode=node.attribute("mode", "nearest"),
        coordinates=told,
        rounding=node.attribute("nearest_mode", "round_prefer_floor"),
        cubic_a=node.attribute("cubic_coeff_a", -0.75),
        exclude_outside=bool(node.attribute("exclude_outside", 0)),
        antialias=bool(node.attribute("antialias", 0)),
    )


def _places(node: Node) -> list[int]:
    """Return the axes that scales, sizes and roi are about."""
    rank = node.rank(0)
    given = node.attribute("axes")
    return list(range(rank)) if given is None else [node.axis(axis, rank) for axis in given]


def _scales(node: Node) -> dict[int, float] | None:
    """Return the scales by axis, without open ones that stay; None where sizes are given."""
    if not node.given(2):
        return None
    values = node.need_constant(2, "scales")
    if not values.size:
        return None
    shape = node.shape(0)
    scales = dict(zip(_places(node), map(float, values), strict=True))
    if node.attribute("coordinate_transformation_mode") == "tf_crop_and_resize":
        return scales
    return {
        place: scale
        for place, scale in scales.items()
        if scale != 1 or not is_symbolic(shape[place])
    }


def _axes(node: Node, scales: dict[int, float] | None, method: Method) -> dict[int, Axis]:
    """Return the axes to resize, whose sizes must be known."""
    shape = node.shape(0)
    places = _places(node) if scales is None else list(scales)
    if any(is_symbolic(shape[place]) for place in places):
        node.refuse("sizes or a crop of open axes", "give scales, or bind the model's dims")
    crops = dict.fromkeys(places, (0.0, 1.0))
    if method.coordinates == "tf_crop_and_resize":
        roi = [float(edge) for edge in node.need_constant(1, "roi")]
        count = len(places)
        crops = dict(zip(places, zip(roi[:count], roi[count:], strict=True), strict=True))
    if scales is None:
        made, scales = _from_sizes(node, shape, places)
    else:
        # In float32, as the scales are given.
        made = {
            place: int(np.float32(shape[place]) * np.float32(scales[place])) for place in places
        }
        _check_corners(node, shape, scales, made, method)
    if not all(made.values()):
        node.refuse("an output without elements", "use larger inputs")
    return {
        place: Axis(size=shape[place], made=made[place], scale=scales[place], crop=crops[place])
        for place in places
    }


def _from_sizes(
    node: Node, shape: Sequence[int], places: Sequence[int]
) -> tuple[dict[int, int], dict[int, float]]:
    """Return sizes and scales by axis, for ``sizes`` and ``keep_aspect_ratio_policy``."""
    wanted = [int(size) for size in node.need_constant(3, "sizes")]
    ratios = [size / shape[place] for place, size in zip(places, wanted, strict=True)]
    policy = node.attribute("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        ratio = min(ratios) if policy == "not_larger" else max(ratios)
        ratios = [ratio] * len(places)
        wanted = [int(np.floor(ratio * shape[place] + 0.5)) for place in places]
    return dict(zip(places, wanted, strict=True)), dict(zip(places, ratios, strict=True))


def _check_corners(
    node: Node,
    shape: Sequence[int],
    scales: dict[int, float],
    made: dict[int, int],
    method: Method,
) -> None:
    """Refuse aligned corners of a size that had to be rounded.

    There the reference implementation and the text of Resize-19 differ: one uses the size before
    rounding.
    """
    rounded = any(
        abs(made[place] - shape[place] * scale) > 1e-4 and scale != 1
        for place, scale in scales.items()
    )
    if rounded and method.coordinates == "align_corners" and method.mode != "nearest":
        node.refuse(
            "align_corners with scales that give no whole sizes, which ONNX does not define alike",
            "give sizes instead of scales",
        )


def _matters(node: Node, axis: Axis, method: Method) -> bool:
    """Return whether resizing an axis changes anything; refuse a crop that runtimes leave out."""
    if axis.made != axis.size or axis.scale != 1:
        return True
    if method.coordinates == "tf_crop_and_resize" and axis.crop != (0.0, 1.0):
        node.refuse(
            "a crop along an axis that keeps its size, which ONNX Runtime leaves out",
            "crop with a Slice instead",
        )
    return False


def _native(x: Var, axes: dict[int, Axis], method: Method) -> Var | None:
    """Return the result of an operation of MIL's that computes the same; None without one."""
    if not axes or not set(axes) <= {x.rank - 2, x.rank - 1} or not _fits(x):
        return None
    if method.mode == "linear":
        return _bilinear(x, axes, method)
    if method.mode != "nearest" or not all(_repeats(axis, method) for axis in axes.values()):
        return None
    factors = {place: axis.made // axis.size for place, axis in axes.items()}
    return _repeated(x, [factors.get(place, 1) for place in (x.rank - 2, x.rank - 1)])


def _fits(x: Var) -> bool:
    """Return whether MIL's own resizing takes such a tensor."""
    return x.rank in (3, 4) and is_float(x)


def _repeats(axis: Axis, method: Method) -> bool:
    """Return whether every element is repeated the same number of times."""
    factor = axis.made // axis.size
    repeated = np.arange(axis.size * factor) // max(factor, 1)
    return np.array_equal(nearest(axis, method), repeated)


def _repeated(x: Var, factors: Sequence[int]) -> Var:
    return mb.upsample_nearest_neighbor(
        x=x, scale_factor_height=factors[0], scale_factor_width=factors[1]
    )


_CENTRED = ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")
"""Modes of ONNX that are one for whole factors of at least 2, and for 1."""

_SAMPLING = {"UNALIGN_CORNERS": "half_pixel", "STRICT_ALIGN_CORNERS": "align_corners"}
"""Modes of MIL's ``resize_bilinear`` and the coordinates that they document."""


def _bilinear(x: Var, axes: dict[int, Axis], method: Method) -> Var | None:
    """Return MIL's bilinear resizing if one of its modes samples where the model does."""
    for sampling, mode in _SAMPLING.items():
        plain = Method(mode="linear", coordinates=mode)
        if all(
            np.allclose(
                weights(axis, method),
                weights(Axis(size=axis.size, made=axis.made, scale=axis.made / axis.size), plain),
                atol=1e-6,
            )
            for axis in axes.values()
        ):
            target = list(x.shape)
            for place, axis in axes.items():
                target[place] = axis.made
            return mb.resize_bilinear(
                x=x,
                target_size_height=target[-2],
                target_size_width=target[-1],
                sampling_mode=sampling,
            )
    return None


def _along(node: Node, x: Var, place: int, axis: Axis, method: Method) -> Var:
    """Return ``x`` resized along one axis."""
    if method.mode == "nearest":
        checked = {"validate_indices": False} if node.ios >= 17 else {}
        return mb.gather(x=x, indices=nearest(axis, method), axis=place, **checked)
    matrix = like(x, weights(axis, method))
    if place == x.rank - 1:
        return mb.matmul(x=x, y=matrix, transpose_y=True)
    if place == x.rank - 2:
        return mb.matmul(x=matrix, y=x)
    perm = list(range(x.rank))
    perm[place], perm[-1] = perm[-1], perm[place]
    moved = mb.matmul(x=mb.transpose(x=x, perm=perm), y=matrix, transpose_y=True)
    return mb.transpose(x=moved, perm=perm)


def _extrapolated(node: Node, x: Var, axes: dict[int, Axis], method: Method) -> Var:
    """Return ``x`` with ``extrapolation_value`` where a crop reached outside."""
    mask = np.zeros([1] * x.rank, bool)
    for place, axis in axes.items():
        shape = [1] * x.rank
        shape[place] = axis.made
        mask = mask | outside(axis, method).reshape(shape)
    if not mask.any():
        return x
    if any(map(is_symbolic, x.shape)):
        node.refuse("a crop from outside, with open sizes", "bind the model's dims")
    value = like(x, node.attribute("extrapolation_value", 0.0))
    full = np.broadcast_to(mask, x.shape)
    # Both at full size: the hardware wants it of select.
    return mb.select(cond=full.copy(), a=np.full(x.shape, value), b=x)


def _open(node: Node, x: Var, method: Method, scales: dict[int, float]) -> Var:
    """Return ``x`` with open sizes resized by whole factors, for which sizes do not matter."""
    hint = "bind the model's dims"
    last = (x.rank - 2, x.rank - 1)
    if not _fits(x) or any(scale != 1 for place, scale in scales.items() if place not in last):
        node.refuse("resizing with open sizes other than of the last two axes", hint)
    wanted = [scales.get(place, 1.0) for place in last]
    if any(factor < 1 or factor % 1 for factor in wanted) or method.antialias:
        node.refuse("resizing open sizes by what is no whole factor", hint)
    factors = [int(factor) for factor in wanted]
    # Places repeat with the factor, so a few elements show how all fall.
    probes = [Axis(size=3, made=3 * factor, scale=factor) for factor in factors]
    if method.mode == "nearest" and all(_repeats(axis, method) for axis in probes):
        return _repeated(x, factors)
    cornered = method.coordinates == "align_corners"
    if method.mode != "linear" or not (cornered or method.coordinates in _CENTRED):
        node.refuse(f"this form of {method.mode} resizing with open sizes", hint)
    return mb.upsample_bilinear(
        x=x,
        scale_factor_height=factors[0],
        scale_factor_width=factors[1],
        align_corners=cornered,
    )
