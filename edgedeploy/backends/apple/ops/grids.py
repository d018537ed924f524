"""GridSample (ONNX GridSample-22): sampling at positions that are data."""

from __future__ import annotations

import numpy as np

from edgedeploy.backends.apple.mil_api import Var, mb, types
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.registry import op
from edgedeploy.backends.apple.sampling import number, taps, weighted
from edgedeploy.backends.apple.shapes import product, reshape, sizes

_MODES = {"bilinear": "linear", "linear": "linear", "bicubic": "cubic", "cubic": "cubic"}
_PADDING = {"zeros": "constant", "border": "border"}


@op("GridSample")
def grid_sample(node: Node) -> Var:
    """Return samples of a tensor.

    MIL's ``resample`` does it for images, as Apple's front end for PyTorch uses it; other ranks and
    cubic interpolation are put together.
    """
    x, grid = node.var(0), node.var(1)
    mode = _MODES.get(node.attribute("mode", "linear"), "nearest")
    padding = node.attribute("padding_mode", "zeros")
    corners = bool(node.attribute("align_corners", 0))
    if x.rank != 4 or mode == "cubic":
        return _put_together(node, x, grid, mode)
    mirrored = "reflection" if corners else "symmetric"
    if grid.dtype == types.fp16:
        grid = mb.cast(x=grid, dtype="fp32")
    return mb.resample(
        x=x,
        coordinates=grid,
        sampling_mode="bilinear" if mode == "linear" else mode,
        padding_mode=_PADDING.get(padding, mirrored),
        padding_value=number(0, x),
        coordinates_mode="normalized_minus_one_to_one",
        align_corners=corners,
    )


def _put_together(node: Node, x: Var, grid: Var, mode: str) -> Var:
    spatial = node.static_shape(0)[2:]
    rank = len(spatial)
    batch, channels, *_ = sizes(x)
    points = sizes(grid)[1:-1]
    flat = reshape(grid, [batch, product(points), rank])
    padding = node.attribute("padding_mode", "zeros")
    corners = bool(node.attribute("align_corners", 0))
    axes = []
    for place, size in enumerate(spatial):
        last = rank - 1 - place
        column = mb.slice_by_index(
            x=flat,
            begin=[0, 0, last],
            end=[0, 0, last + 1],
            begin_mask=[True, True, False],
            end_mask=[True, True, False],
            squeeze_mask=[False, False, True],
        )
        found = []
        for index, weight in taps(_denormalised(column, size, corners), mode):
            found.append((*_inside(index, size, padding, corners), weight))
        axes.append([(index, weight, valid) for index, valid, weight in found])
    rows = reshape(x, [batch, channels, int(np.prod(spatial))])
    if padding == "zeros":
        rows = mb.pad(x=rows, pad=[0, 0, 0, 0, 0, 1], mode="constant", constant_val=number(0, x))
    checked = {"validate_indices": False} if node.ios >= 17 else {}
    return reshape(weighted(rows, axes, spatial, checked), [batch, channels, *points])


def _denormalised(column: Var, size: int, corners: bool) -> Var:
    """Return positions in elements of coordinates from -1 to 1, rounded as ONNX computes them."""
    shifted = mb.add(x=column, y=number(1, column))
    if corners:
        halved = mb.real_div(x=shifted, y=number(2, column))
        return mb.mul(x=halved, y=number(size - 1, column))
    scaled = mb.sub(x=mb.mul(x=shifted, y=number(size, column)), y=number(1, column))
    return mb.real_div(x=scaled, y=number(2, column))


def _inside(index: Var, size: int, padding: str, corners: bool) -> tuple[Var, Var | None]:
    """Return indices that exist, and which of them did before (None where that is the same)."""
    last = np.int32(size - 1)
    if padding == "reflection":
        # Once there and back; without aligned corners the border element comes twice.
        period = max(2 * (size - 1), 1) if corners else 2 * size
        turned = mb.mod(x=index, y=np.int32(period))
        back = mb.sub(x=np.int32(period if corners else period - 1), y=turned)
        return mb.minimum(x=mb.minimum(x=turned, y=back), y=last), None
    clamped = mb.minimum(x=mb.maximum(x=index, y=np.int32(0)), y=last)
    if padding == "border":
        return clamped, None
    return clamped, mb.equal(x=clamped, y=index)
