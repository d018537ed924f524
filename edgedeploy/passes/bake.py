"""Declared preprocessing of images becomes part of the model: whole pixel values go in, as read.

Behind the new input stand, each only where it does something: ``Cast`` to float, ``Transpose``
from ``nhwc``, ``Sub``, ``Mul``, ``Gather`` of the channels, and ``Cast`` to the type that the model
took. These are standard operators that every backend takes, in an order with reasons:

* ``Cast`` comes first, since TensorRT takes uint8 at the border of a network only, and Core ML
  computes on no integers of 8 bits.
* ``(pixel * scale - mean) / std`` is computed as ``(pixel - mean / scale) * (scale / std)``: one
  factor, which :mod:`edgedeploy.passes.fold_input` may move into the first convolution, while the
  zeros that a convolution pads with stay what they were. The two differ by float32 rounding.
* The channels change places last, so that this, too, can move into a convolution's weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from edgedeploy.errors import ModelError
from edgedeploy.passes.base import Pass
from edgedeploy.passes.rewire import add_initializer
from edgedeploy.profile.types import ImagePreprocess

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)
_TO_NCHW, _TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


class BakeImages(Pass):
    """Moves the baked steps of inputs into the model; the inputs keep their names.

    Args:
        images: Preprocessing by input name; those that bake nothing are passed over.
    """

    def __init__(self, images: Mapping[str, ImagePreprocess]) -> None:
        self._images = {name: image for name, image in images.items() if image.baked}

    def requires(self, model: ir.Model) -> None:
        """Refuse inputs that are no images of one known layout (E897)."""
        inputs = {value.name: value for value in model.graph.inputs}
        for name, image in self._images.items():
            if name not in inputs:
                raise _refusal(name, "the model has no such input")
            _check(inputs[name], image)

    def apply(self, model: ir.Model) -> bool:
        """Put the steps behind new inputs."""
        for index, value in enumerate(model.graph.inputs):
            image = self._images.get(value.name or "")
            if image is not None:
                _bake(model.graph, index, image)
        return bool(self._images)

    def ensures(self, model: ir.Model) -> str | None:
        """The inputs are what the application has after its own steps."""
        for value in model.graph.inputs:
            image = self._images.get(value.name or "")
            if image is None or value.shape is None:
                continue
            if "uint8" in image.baked and value.dtype != ir.DataType.UINT8:
                return f"the input {value.name!r} is {value.dtype}"
            last = value.shape[3 if image.outside.layout == "nhwc" else 1]
            if isinstance(last, int) and last != _channels(image):
                return f"the input {value.name!r} has {last} channels"
        return None


def _channels(image: ImagePreprocess) -> int:
    return 1 if image.colour == "gray" else 3


def _check(value: ir.Value, image: ImagePreprocess) -> None:
    name = value.name or ""
    computes = image.baked & {"scale", "mean", "uint8"}
    if computes and value.dtype not in _FLOATS:
        kind = "of unknown type" if value.dtype is None else str(value.dtype.name).lower()
        raise _refusal(name, f"it is {kind}, and only a float input can be computed from pixels")
    if value.shape is None or value.shape.rank() != 4:
        raise _refusal(name, f"its shape is {value.shape}, and a batch of images has four axes")
    axis = 1 if image.layout == "nchw" else 3
    size = value.shape[axis]
    if isinstance(size, int) and size != _channels(image):
        raise _refusal(
            name, f"axis {axis} has {size} channels, and the pictures have {_channels(image)}"
        )
    if value.is_graph_output():
        raise _refusal(name, "it is an output of the model as well")


def _refusal(name: str, why: str) -> ModelError:
    return ModelError(
        f"the preprocessing of input {name!r} cannot be baked: {why}",
        code="E897",
        subject=name,
        hint="remove `bake` from the input's `image:`, or correct its layout and colour",
    )


def arithmetic(image: ImagePreprocess) -> tuple[np.ndarray, np.ndarray]:
    """Return what the model does to each channel: ``(value - shift) * factor``.

    Args:
        image: The declared preprocessing.

    Returns:
        ``shift`` and ``factor``, float64 ``[channels]`` in the order in which the channels come in.
    """
    scale = image.scale if "scale" in image.baked else 1.0
    mean, std = (image.mean, image.std) if "mean" in image.baked else ((), ())
    wide = (_channels(image),)
    shift = np.broadcast_to(np.asarray(mean or (0.0,), np.float64) / scale, wide)
    factor = np.broadcast_to(scale / np.asarray(std or (1.0,), np.float64), wide)
    if "colour" in image.baked:
        shift, factor = shift[::-1], factor[::-1]
    return shift, factor


class _Chain:
    """Nodes one behind the other, from an input on."""

    def __init__(self, value: ir.Value) -> None:
        self.nodes: list[ir.Node] = []
        self.last = value

    def add(self, op: str, *constants: ir.Value, **attributes: int | list[int]) -> None:
        """Add a node whose first input is what the chain made so far."""
        node = ir.node(op, [self.last, *constants], attributes=attributes)
        self.nodes.append(node)
        self.last = node.outputs[0]


def _bake(graph: ir.Graph, index: int, image: ImagePreprocess) -> None:
    """Replace input ``index`` by one that takes what is left to the application."""
    old = graph.inputs[index]
    if old.shape is None or old.dtype is None:
        raise TypeError("requires() lets no such input pass")
    name, baked = old.name or "", image.baked
    dims = list(old.shape)
    if "layout" in baked:
        dims = [dims[axis] for axis in _TO_NHWC]
    dtype = ir.DataType.UINT8 if "uint8" in baked else old.dtype
    new = ir.Value(name=name, shape=ir.Shape(dims), type=ir.TensorType(dtype))
    chain = _Chain(new)
    shift, factor = arithmetic(image)
    # In half precision a pixel minus its mean would lose what the mean has behind the point.
    wide = ir.DataType.DOUBLE if old.dtype == ir.DataType.DOUBLE else ir.DataType.FLOAT
    computes = bool(np.any(shift) or np.any(factor != 1.0))
    inner = wide if computes else old.dtype
    if dtype != inner:
        chain.add("Cast", to=int(inner))
    if "layout" in baked:
        chain.add("Transpose", perm=list(_TO_NCHW))
    axis = 1 if image.layout == "nchw" else 3
    for op, values, neutral in (("Sub", shift, 0.0), ("Mul", factor, 1.0)):
        if np.any(values != neutral):
            shape = [1, 1, 1, 1]
            shape[axis] = len(values)
            array = values.astype(wide.numpy()).reshape(shape)
            chain.add(op, add_initializer(graph, f"{name}.{op.lower()}", array))
    if "colour" in baked:
        order = np.array([2, 1, 0], np.int64)
        chain.add("Gather", add_initializer(graph, f"{name}.channels", order), axis=axis)
    if inner != old.dtype:
        chain.add("Cast", to=int(old.dtype))
    graph.inputs[index] = new
    old.replace_all_uses_with(chain.last)
    for node in reversed(chain.nodes):
        if len(graph):
            graph.insert_before(graph[0], node)
        else:
            graph.append(node)
