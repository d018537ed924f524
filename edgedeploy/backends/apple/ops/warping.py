"""Grids of coordinates, and images put together from columns."""

from __future__ import annotations

import math

import numpy as np

from edgedeploy.backends.apple.mil_api import Var, mb
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.registry import op
from edgedeploy.backends.apple.scalars import like


@op("AffineGrid")
def affine_grid(node: Node) -> Var:
    """Return where an affine map takes every pixel: ``[N, *D, len(D)]`` for ``[N, C, *D]``.

    Source: ONNX AffineGrid-20; coordinates go from -1 to 1, x first.
    """
    theta = node.var(0)
    size = [int(entry) for entry in node.need_constant(1, "size")]
    corners = bool(node.attribute("align_corners", 0))
    lines = []
    for count in size[2:]:
        if corners:
            lines.append(np.linspace(-1, 1, count) if count > 1 else np.array([-1.0]))
        else:
            lines.append((2 * np.arange(count) + 1) / count - 1)
    pixels = np.stack(np.meshgrid(*lines, indexing="ij")[::-1], axis=-1).reshape(-1, len(lines))
    base = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1)
    made = mb.matmul(x=like(theta, base), y=theta, transpose_y=True)
    return mb.reshape(x=made, shape=[size[0], *size[2:], len(lines)])


@op("Col2Im")
def col2im(node: Node) -> Var:
    """Return images whose overlapping blocks are added: ``[N, C, *D]``.

    That is a transposed convolution whose kernels each put one element of a block into its place.
    Source: ONNX Col2Im-18.
    """
    x = node.var(0)
    image = [int(size) for size in node.need_constant(1, "image_shape")]
    block = [int(size) for size in node.need_constant(2, "block_shape")]
    rank = len(image)
    if rank > 3:
        node.refuse(f"{rank} spatial axes", "Core ML convolves over 1 to 3")
    strides = node.attribute("strides") or [1] * rank
    dilations = node.attribute("dilations") or [1] * rank
    pads = node.attribute("pads") or [0] * (2 * rank)
    batch, rows, _ = node.static_shape(0)
    taps = math.prod(block)
    channels = rows // taps
    padded = [image[axis] + pads[axis] + pads[axis + rank] for axis in range(rank)]
    extents = [dilations[axis] * (block[axis] - 1) + 1 for axis in range(rank)]
    counts = [(padded[axis] - extents[axis]) // strides[axis] + 1 for axis in range(rank)]
    kernels = np.tile(np.eye(taps).reshape(taps, 1, *block), (channels, 1, *[1] * rank))
    whole = mb.conv_transpose(
        x=mb.reshape(x=x, shape=[batch, rows, *counts]),
        weight=like(x, kernels),
        strides=strides,
        dilations=dilations,
        groups=channels,
        pad_type="valid",
    )
    # What the last blocks do not reach is zero; then the pads are cut off.
    short = [want - int(have) for want, have in zip(padded, whole.shape[2:], strict=True)]
    if any(short):
        pad = [0, 0, 0, 0, *(size for more in short for size in (0, more))]
        whole = mb.pad(x=whole, pad=pad, mode="constant", constant_val=like(x, 0.0))
    if not any(pads):
        return whole
    begin = [0, 0, *pads[:rank]]
    end = [batch, channels, *(pads[axis] + image[axis] for axis in range(rank))]
    return mb.slice_by_index(x=whole, begin=begin, end=end)
