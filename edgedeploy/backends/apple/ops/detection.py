"""What detectors end with: NonMaxSuppression-11 and RoiAlign-22."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgedeploy.backends.apple.mil_api import Var, mb, types, unknown
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.registry import op
from edgedeploy.backends.apple.sampling import number
from edgedeploy.backends.apple.shapes import Size, alike, reshape, scalar, sizes, vector


@op("NonMaxSuppression")
def non_max_suppression(node: Node) -> Var:
    """Return the chosen boxes, one row of batch, class and box each.

    MIL's ``non_maximum_suppression`` pads its answer and does not say with what, so it is put
    together: all batches and classes choose one box per round of a ``while_loop``.
    """
    boxes, scores = node.var(0), node.var(1)
    batch, classes, count = sizes(scores)
    limit = int(node.need_constant(2, "max_output_boxes_per_class").item()) if node.given(2) else 0
    if not isinstance(batch, int) or not isinstance(classes, int):
        node.refuse("the number of images or classes is open", "bind the model's dims")
    if limit <= 0:
        node.refuse("it may choose no box: the result is empty", "raise max_output_boxes_per_class")
    limit = min(limit, count) if isinstance(count, int) else limit
    groups = batch * classes
    corners = _corners(node, boxes, batch, classes, count)
    table = reshape(scores, [groups, count])
    if node.given(4):
        above = mb.greater(x=table, y=_float(node, 4, table))
        alive = mb.cast(x=above, dtype="int32")
    else:
        alive = mb.fill(shape=vector([groups, count]), value=np.int32(1))
    overlap = _float(node, 3, table) if node.given(3) else number(0, table)
    chosen = _chosen(node, corners, table, alive, overlap, limit)
    return _rows(node, chosen, batch, classes, limit)


def _float(node: Node, index: int, like: Var) -> Any:
    return number(float(node.need_constant(index, "a threshold").item()), like)


def _corners(node: Node, boxes: Var, batch: int, classes: int, count: Size) -> list[Var]:
    """Return low and high coordinates on both axes and the area, each [batch * classes, boxes]."""
    columns = [mb.squeeze(x=part, axes=[2]) for part in mb.split(x=boxes, num_splits=4, axis=2)]
    if node.attribute("center_point_box", 0):
        half = [mb.mul(x=size, y=number(0.5, size)) for size in columns[2:]]
        low = [mb.sub(x=place, y=size) for place, size in zip(columns[:2], half, strict=True)]
        high = [mb.add(x=place, y=size) for place, size in zip(columns[:2], half, strict=True)]
    else:
        low = [mb.minimum(x=columns[axis], y=columns[axis + 2]) for axis in (0, 1)]
        high = [mb.maximum(x=columns[axis], y=columns[axis + 2]) for axis in (0, 1)]
    sides = [mb.sub(x=end, y=begin) for begin, end in zip(low, high, strict=True)]
    found = [*low, *high, mb.mul(x=sides[0], y=sides[1])]
    if classes == 1:
        return found
    copies = [mb.tile(x=mb.expand_dims(x=item, axes=[1]), reps=[1, classes, 1]) for item in found]
    return [reshape(item, [batch * classes, count]) for item in copies]


def _chosen(
    node: Node, corners: list[Var], table: Var, alive: Var, overlap: Any, limit: int
) -> Var:
    """Return the boxes that each group chooses in order, [limit, groups]; -1 for none."""
    checked = {"validate_indices": False} if node.ios >= 17 else {}
    lowest = mb.const(val=number(-np.inf, table))

    def going_on(step: Var, alive: Var, chosen: Var) -> Var:
        with node.translator.block():
            some = mb.reduce_max(x=alive, axes=[0, 1], keep_dims=False)
            within = mb.less(x=step, y=np.int32(limit))
            return mb.logical_and(x=within, y=mb.equal(x=some, y=np.int32(1)))

    def body(step: Var, alive: Var, chosen: Var) -> list[Var]:
        with node.translator.block():
            cond, a, b = alike(mb.equal(x=alive, y=np.int32(1)), table, lowest)
            best = mb.reduce_argmax(x=mb.select(cond=cond, a=a, b=b), axis=1, keep_dims=True)
            picked = [
                mb.gather_along_axis(x=item, indices=best, axis=1, **checked)
                for item in [*corners, alive]
            ]
            lives = picked.pop()
            clear = mb.less_equal(x=_overlaps(corners, picked), y=overlap)
            places = mb.range_1d(start=np.int32(0), end=scalar(sizes(table)[1]), step=np.int32(1))
            others = mb.not_equal(x=mb.expand_dims(x=places, axes=[0]), y=best)
            # A group that has no box left suppresses none.
            kept = mb.cast(x=mb.logical_and(x=clear, y=others), dtype="int32")
            row = mb.sub(x=mb.mul(x=mb.add(x=best, y=np.int32(1)), y=lives), y=np.int32(1))
            chosen = mb.scatter(
                data=chosen,
                indices=mb.expand_dims(x=step, axes=[0]),
                updates=mb.transpose(x=row, perm=[1, 0]),
                axis=0,
                mode="update",
                **checked,
            )
            return [mb.add(x=step, y=np.int32(1)), mb.mul(x=alive, y=kept), chosen]

    start = (
        unknown(mb.const(val=np.int32(0))),
        alive,
        unknown(mb.const(val=np.full((limit, int(table.shape[0])), -1, np.int32))),
    )
    return mb.while_loop(_cond=going_on, _body=body, loop_vars=start)[2]


def _overlaps(boxes: list[Var], one: list[Var]) -> Var:
    """Return intersection over union of each group's boxes with the one it has picked."""
    sides = []
    for axis in (0, 1):
        begin = mb.maximum(x=boxes[axis], y=one[axis])
        end = mb.minimum(x=boxes[axis + 2], y=one[axis + 2])
        sides.append(mb.relu(x=mb.sub(x=end, y=begin)))
    common = mb.mul(x=sides[0], y=sides[1])
    union = mb.sub(x=mb.add(x=boxes[4], y=one[4]), y=common)
    # Boxes without area have no intersection either: 0 / 1 instead of 0 / 0.
    empty = mb.cast(
        x=mb.equal(x=union, y=number(0, union)), dtype=types.builtin_to_string(union.dtype)
    )
    return mb.real_div(x=common, y=mb.add(x=union, y=empty))


def _rows(node: Node, chosen: Var, batch: int, classes: int, limit: int) -> Var:
    """Return rows of batch, class and box for what was chosen, by batch, then class."""
    flat = reshape(mb.transpose(x=chosen, perm=[1, 0]), [batch * classes * limit])
    found = mb.non_zero(x=mb.add(x=flat, y=np.int32(1)))
    places = mb.squeeze(x=found, axes=[1])
    group = np.repeat(np.arange(batch * classes), limit)
    owners = np.stack([group // classes, group % classes], axis=1).astype(np.int32)
    checked = {"validate_indices": False} if node.ios >= 17 else {}
    table = mb.concat(values=[owners, mb.expand_dims(x=flat, axes=[1])], axis=1)
    return mb.gather(x=table, indices=places, axis=0, **checked)


@op("RoiAlign")
def roi_align(node: Node) -> Var:
    """Return regions of an image at one size: the mean or maximum of samples in each cell."""
    x, regions = node.var(0), node.var(1)
    ratio = node.attribute("sampling_ratio", 0)
    if ratio <= 0:
        node.refuse(
            "the number of samples depends on the regions (sampling_ratio 0)",
            "set sampling_ratio, 2 as a rule",
        )
    height, width = (node.attribute(name, 1) for name in ("output_height", "output_width"))
    _, channels, *spatial = node.static_shape(0)
    count = sizes(regions)[0]
    corners = [
        mb.mul(x=part, y=number(node.attribute("spatial_scale", 1.0), part))
        for part in mb.split(x=regions, num_splits=4, axis=1)
    ]
    rows = _samples(node, corners[1], corners[3], height, ratio)
    columns = _samples(node, corners[0], corners[2], width, ratio)
    # [samples down, samples across, regions, cells down, cells across]
    places = [
        (_neighbours(rows, spatial[0]), [1, 4]),
        (_neighbours(columns, spatial[1]), [0, 3]),
    ]
    down, across = (
        [[mb.expand_dims(x=item, axes=axes) for item in pair] for pair in pairs]
        for pairs, axes in places
    )
    pixels = reshape(mb.transpose(x=x, perm=[0, 2, 3, 1]), [-1, channels])
    first = mb.mul(x=node.var(2), y=np.int32(spatial[0] * spatial[1]))
    first = mb.reshape(x=first, shape=[1, 1, -1, 1, 1])
    cells = [count, height, width]
    maximum = node.attribute("mode", "avg") == "max"
    join = mb.maximum if maximum else mb.add
    total = None
    for row, row_weight in down:
        for column, column_weight in across:
            index = mb.add(x=mb.mul(x=row, y=np.int32(spatial[1])), y=column)
            part = _weighted(
                node,
                pixels,
                mb.add(x=index, y=first),
                mb.mul(x=row_weight, y=column_weight),
                [ratio * ratio, *cells],
            )
            total = part if total is None else join(x=total, y=part)
    reduce = mb.reduce_max if maximum else mb.reduce_mean
    made = reduce(x=total, axes=[0], keep_dims=False)
    return mb.transpose(x=reshape(made, [*cells, channels]), perm=[0, 3, 1, 2])


def _samples(node: Node, begin: Var, end: Var, cells: int, ratio: int) -> Var:
    """Return positions on one axis, [samples per cell, regions, cells]."""
    aligned = node.attribute("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    if node.since < 16:
        aligned = False
    if aligned:
        begin, end = (mb.sub(x=item, y=number(0.5, item)) for item in (begin, end))
    length = mb.sub(x=end, y=begin)
    if not aligned:
        length = mb.maximum(x=length, y=number(1, length))
    kind = types.nptype_from_builtin(begin.dtype)
    parts = (np.arange(cells) + (np.arange(ratio)[:, None] + 0.5) / ratio) / cells
    offsets = mb.mul(x=mb.expand_dims(x=length, axes=[0]), y=parts[:, None, :].astype(kind))
    return mb.add(x=mb.expand_dims(x=begin, axes=[0]), y=offsets)


def _neighbours(position: Var, size: int) -> list[list[Var]]:
    """Return the two elements around positions and their weights, 0 outside of the image."""
    inside = mb.logical_and(
        x=mb.greater_equal(x=position, y=number(-1, position)),
        y=mb.less_equal(x=position, y=number(size, position)),
    )
    clamped = mb.minimum(
        x=mb.maximum(x=position, y=number(0, position)), y=number(size - 1, position)
    )
    low = mb.floor(x=clamped)
    high = mb.minimum(x=mb.add(x=low, y=number(1, low)), y=number(size - 1, low))
    valid = mb.cast(x=inside, dtype=types.builtin_to_string(position.dtype))
    rest = mb.sub(x=clamped, y=low)
    weights = [mb.sub(x=number(1, rest), y=rest), rest]
    return [
        [mb.cast(x=place, dtype="int32"), mb.mul(x=weight, y=valid)]
        for place, weight in zip((low, high), weights, strict=True)
    ]


def _weighted(node: Node, pixels: Var, index: Var, weight: Var, target: list[Size]) -> Var:
    """Return pixels times weights, [samples, points, channels]."""
    samples, count, height, width = target
    points = height * width if not isinstance(count, int) else count * height * width
    flat = [samples, points if isinstance(count, int) else -1]
    checked = {"validate_indices": False} if node.ios >= 17 else {}
    found = mb.gather(x=pixels, indices=mb.reshape(x=index, shape=flat), axis=0, **checked)
    scale = mb.expand_dims(x=mb.reshape(x=weight, shape=flat), axes=[2])
    return mb.mul(x=found, y=scale)
