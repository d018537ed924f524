"""Convolutions."""

from __future__ import annotations

from typing import Any

from edgedeploy.backends.apple.mil_api import Var, is_symbolic, mb
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.registry import op
from edgedeploy.backends.apple.scalars import like
from edgedeploy.backends.apple.windows import Windows, check_reach, windows


@op("Conv")
def conv(node: Node) -> Var:
    """Return the convolution of ``[N, C, *D]`` with ``[M, C / group, *K]``, D of 1 to 3 axes.

    Source: ONNX Conv-22; MIL ``conv``.
    """
    weight, found = _parts(node)
    check_reach(node, found)
    if found.dilated and not weight.is_descendant_of_const:
        node.refuse("dilation with weights that are computed at run time", "make them constants")
    return _with_bias(
        node,
        mb.conv,
        x=node.var(0),
        weight=weight,
        strides=found.strides,
        dilations=found.dilations,
        groups=node.attribute("group", 1),
        **found.padding(),
    )


def _parts(node: Node) -> tuple[Var, Windows]:
    """Return a convolution's weights and windows."""
    weight = node.var(1)
    axes = node.rank(0) - 2
    if not 1 <= axes <= 3:
        node.refuse(f"{axes} spatial axes", "Core ML convolves over 1 to 3")
    kernel = weight.shape[2:]
    if len(weight.shape) != axes + 2 or any(map(is_symbolic, weight.shape)):
        node.refuse("weights of an open or unfitting shape", "bind the model's dims")
    return weight, windows(node, node.shape(0)[2:], [int(taps) for taps in kernel])


def _with_bias(node: Node, convolve: Any, **arguments: Any) -> Var:
    """Return a convolution with its bias (input 2): as a parameter where it is constant.

    iOS 16 takes no other (MIL ``conv`` of iOS 15 and 17).
    """
    if not node.given(2):
        return convolve(**arguments)
    bias = node.var(2)
    if bias.is_descendant_of_const:
        return convolve(bias=bias, **arguments)
    return add_channels(convolve(**arguments), bias)


def add_channels(x: Var, bias: Var) -> Var:
    """Return ``x`` of ``[N, C, *D]`` plus a ``[C]``."""
    axes = [0, *range(2, x.rank)]
    return mb.add(x=x, y=mb.expand_dims(x=bias, axes=axes))


@op("ConvTranspose")
def conv_transpose(node: Node) -> Var:
    """Return the transposed convolution of ``[N, C, *D]`` with ``[C, M / group, *K]``.

    Output padding that reaches beyond what the windows cover holds the bias alone.
    Source: ONNX ConvTranspose-22; MIL ``conv_transpose``.
    """
    weight, found = _parts(node)
    if not weight.is_descendant_of_const and node.ios < 17:
        node.refuse("weights that are computed at run time, before iOS 17", "target iOS 17")
    crops = _crops(node, found)
    beyond = [max(0, -after) for _, after in crops]
    inside = [size for before, after in crops for size in (before, max(0, after))]
    arguments: dict[str, Any] = {
        "x": node.var(0),
        "weight": weight,
        "strides": found.strides,
        "dilations": found.dilations,
        "groups": node.attribute("group", 1),
        "pad_type": "custom" if any(inside) else "valid",
    }
    if any(inside):
        arguments["pad"] = inside
    if not any(beyond):
        return _with_bias(node, mb.conv_transpose, **arguments)
    made = mb.conv_transpose(**arguments)
    pad = [0, 0, 0, 0, *(size for more in beyond for size in (0, more))]
    made = mb.pad(x=made, pad=pad, mode="constant", constant_val=like(made, 0.0))
    return add_channels(made, node.var(2)) if node.given(2) else made


def _crops(node: Node, found: Windows) -> list[tuple[int, int]]:
    """Return what is cut off the full transposed convolution; negative where it is extended."""
    rank = len(found.kernel)
    more = node.attribute("output_padding") or [0] * rank
    wanted = node.attribute("output_shape")
    auto = node.attribute("auto_pad", "NOTSET")
    if wanted is None and auto in ("NOTSET", "VALID"):
        return [(b, a - m) for (b, a), m in zip(found.pads, more, strict=True)]
    if wanted is not None and any(map(is_symbolic, found.sizes)):
        node.refuse("output_shape with open sizes", "bind the model's dims")
    crops = []
    for place, (stride, extent) in enumerate(zip(found.strides, found.extents, strict=True)):
        # With `same` padding size * stride are wanted: the size itself drops out.
        total = extent + more[place] - stride
        if wanted is not None:
            size = int(found.sizes[place])
            total = stride * (size - 1) + more[place] + extent - wanted[-rank:][place]
        if total < 0 and wanted is None:
            node.refuse(
                "auto_pad of an output beyond the windows, which ONNX Runtime makes smaller",
                "give pads and output_padding",
            )
        cut = max(total, 0)
        before = cut // 2 if auto == "SAME_UPPER" else cut - cut // 2
        crops.append((before, total - before - more[place]))
    return crops
