"""Computations on constants and on known shapes are done once, here, by the runtime itself.

What a result may cost is decided before it is computed: its size follows from the input values,
so a four-terabyte ConstantOfShape, Expand or Tile is left in the graph and never allocated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from edgedeploy.passes.base import Pass, is_op
from edgedeploy.passes.evaluate import evaluate_node
from edgedeploy.passes.rewire import graph_of, numeric_constant, remove_nodes

_RESULT_BYTES = 1 << 20
"""A result of at most this size is always stored."""
_GROWTH_BYTES = 64 << 20
"""All results of one run together; beyond it the model would grow out of proportion."""
_INPUT_BYTES = 64 << 20
"""A constant larger than this is not loaded to compute with it."""

Arrays = tuple[np.ndarray | None, ...]


def _same(arrays: Arrays) -> int:
    return max((array.size for array in arrays if array is not None), default=0)


def _broadcast(arrays: Arrays) -> int:
    shapes = [array.shape for array in arrays if array is not None]
    try:
        return math.prod(np.broadcast_shapes(*shapes))
    except ValueError:
        return _NEVER


def _sum(arrays: Arrays) -> int:
    return sum(array.size for array in arrays if array is not None)


def _gather(arrays: Arrays) -> int:
    data, indices = arrays[0], arrays[1]
    if data is None or indices is None or not data.size:
        return 0
    return data.size * max(1, indices.size)


def _filled(arrays: Arrays) -> int:
    return _product(arrays[0])


def _expanded(arrays: Arrays) -> int:
    data, shape = arrays[0], arrays[1]
    if data is None or shape is None:
        return _NEVER
    # Broadcasting takes the larger of two dims, so the product bounds the result.
    return max(1, data.size) * _product(shape)


def _tiled(arrays: Arrays) -> int:
    data, repeats = arrays[0], arrays[1]
    return _NEVER if data is None else data.size * _product(repeats)


def _ranged(arrays: Arrays) -> int:
    start, limit, delta = (None if array is None else array.reshape(-1)[0] for array in arrays)
    if start is None or limit is None or not delta:
        return _NEVER
    return max(0, math.ceil((float(limit) - float(start)) / float(delta)))


def _indices(arrays: Arrays) -> int:
    return 0 if arrays[0] is None else arrays[0].size * max(1, arrays[0].ndim)


def _product(array: np.ndarray | None) -> int:
    if array is None:
        return _NEVER
    sizes = [int(item) for item in array.reshape(-1)]
    return _NEVER if any(size < 0 for size in sizes) else math.prod(sizes)


_NEVER = 1 << 62
_SAME = """
    Abs Ceil Floor Neg Not Round Sign Sqrt Reciprocal Exp Log Erf Sin Cos Tanh Sigmoid Relu Cast
    Reshape Squeeze Unsqueeze Flatten Transpose Slice Split ReduceSum ReduceProd ReduceMax
    ReduceMin ReduceMean ArgMax ArgMin CumSum Trilu ScatterND ScatterElements Clip Identity Size
    GatherElements
"""
_BROADCAST = """
    Add Sub Mul Div Mod Pow Min Max Equal Less Greater LessOrEqual GreaterOrEqual And Or Xor Where
"""
ELEMENTS: Mapping[str, Callable[[Arrays], int]] = {
    **dict.fromkeys(_SAME.split(), _same),
    **dict.fromkeys(_BROADCAST.split(), _broadcast),
    "Concat": _sum,
    "Gather": _gather,
    "ConstantOfShape": _filled,
    "Expand": _expanded,
    "Tile": _tiled,
    "Range": _ranged,
    "NonZero": _indices,
}
"""Operators that are folded, each with an upper bound of its result's elements."""


class FoldConstants(Pass):
    """Replaces nodes whose inputs are all constant, and Shape of known dims, by initialisers.

    Folded are operators of :data:`ELEMENTS` with numeric inputs, if the result takes at most
    1 MiB or no more than the constants that it alone uses. Quantization nodes, random numbers
    and heavy operators stay.
    """

    def __init__(self) -> None:
        self._growth_bytes = 0

    def apply(self, model: ir.Model) -> bool:
        """Fold in graph order, so chains fold in one run."""
        version = model.opset_imports.get("", 0)
        modified = False
        for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
            if node.domain or not isinstance(node.graph, ir.Graph):
                continue
            if any(output.is_graph_output() for output in node.outputs):
                continue
            results = _known_shape(node)
            if results is None and node.op_type in ELEMENTS:
                results = self._computed(node, version)
            if results is None:
                continue
            _store(node, results)
            modified = True
        return modified

    def ensures(self, model: ir.Model) -> str | None:
        """No Shape of known dims is left."""
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            fixed = not any(output.is_graph_output() for output in node.outputs)
            if fixed and is_op(node, "Shape", "Size") and _known_shape(node) is not None:
                return f"the shape computed by {node.name!r} is known"
        return None

    def _computed(self, node: ir.Node, version: int) -> list[np.ndarray] | None:
        tensors = [numeric_constant(value) for value in node.inputs]
        for value, tensor in zip(node.inputs, tensors, strict=True):
            if value is not None and tensor is None:
                return None
        if sum(tensor.nbytes for tensor in tensors if tensor is not None) > _INPUT_BYTES:
            return None
        arrays = tuple(None if tensor is None else tensor.numpy() for tensor in tensors)
        width = _result_width(node, tensors)
        try:
            nbytes = ELEMENTS[node.op_type](arrays) * width
        except (IndexError, TypeError):
            return None
        released = sum(
            tensor.nbytes
            for value, tensor in zip(node.inputs, tensors, strict=True)
            if value is not None and tensor is not None and len(value.uses()) == 1
        )
        if nbytes > max(_RESULT_BYTES, released) or self._growth_bytes > _GROWTH_BYTES:
            return None
        results = evaluate_node(node, arrays, version)
        if results is not None:
            self._growth_bytes += max(0, sum(array.nbytes for array in results) - released)
        return results


def _result_width(node: ir.Node, tensors: list[ir.TensorProtocol | None]) -> int:
    """Return the bytes of one element of the result, 8 where it is not known."""
    if is_op(node, "Cast") and "to" in node.attributes:
        return max(1, ir.DataType(node.attributes["to"].as_int()).bitwidth // 8)
    if is_op(node, "ConstantOfShape"):
        value = node.attributes.get("value")
        return 4 if value is None else max(1, value.as_tensor().dtype.bitwidth // 8)
    if is_op(node, "ArgMax", "ArgMin", "NonZero", "Size"):
        return 8
    return max((int(t.dtype.bitwidth) // 8 for t in tensors if t is not None), default=8) or 1


def _known_shape(node: ir.Node) -> list[np.ndarray] | None:
    """Return what Shape or Size, or a Gather or Slice of Shape, gives if those dims are known."""
    if is_op(node, "Shape", "Size"):
        dims = _trusted_dims(node.inputs[0])
        if dims is None or None in dims:
            return None
        if node.op_type == "Size":
            return [np.array(math.prod(dim or 0 for dim in dims), np.int64)]
        return [np.array(_cut(node, dims), np.int64)]
    if is_op(node, "Gather", "Slice") and node.inputs[0] is not None:
        source = node.inputs[0].producer()
        if source is None or not is_op(source, "Shape"):
            return None
        dims = _trusted_dims(source.inputs[0])
        rest = [numeric_constant(value) for value in node.inputs[1:]]
        if dims is None or any(tensor is None for tensor in rest):
            return None
        return _selected(node, _cut(source, dims), [t.numpy() for t in rest if t is not None])
    return None


def _cut(shape: ir.Node, dims: list[int | None]) -> list[int | None]:
    """Apply the ``start`` and ``end`` of a Shape node (opset 15)."""
    start, end = shape.attributes.get("start"), shape.attributes.get("end")
    first = 0 if start is None else start.as_int()
    last = len(dims) if end is None else end.as_int()
    return dims[first:last]


def _selected(
    node: ir.Node, dims: list[int | None], rest: list[np.ndarray]
) -> list[np.ndarray] | None:
    """Return the dims that a Gather or Slice takes from a shape, None if one is unknown."""
    positions = np.arange(len(dims))
    if node.op_type == "Gather":
        indices = rest[0]
        if indices.size and (indices.min() < -len(dims) or indices.max() >= len(dims)):
            return None
        positions = positions[indices]
    else:
        step = int(rest[3].reshape(-1)[0]) if len(rest) > 3 else 1
        if step != 1:
            return None
        positions = positions[int(rest[0].reshape(-1)[0]) : int(rest[1].reshape(-1)[0])]
    taken = [dims[int(position)] for position in np.asarray(positions).reshape(-1)]
    if None in taken:
        return None
    return [np.array(taken, np.int64).reshape(np.shape(positions))]


def _trusted_dims(value: ir.Value | None) -> list[int | None] | None:
    """Return dims (None where dynamic) that the graph guarantees.

    Shapes that only the file claims, of operators outside the default domain, do not count.
    """
    if value is None or value.shape is None:
        return None
    producer = value.producer()
    if producer is not None and producer.domain != "":
        return None
    return [dim if isinstance(dim, int) and dim >= 0 else None for dim in value.shape]


def _store(node: ir.Node, results: list[np.ndarray]) -> None:
    graph = graph_of(node)
    for output, array in zip(node.outputs, results, strict=True):
        if not output.name:
            continue
        name, output.name = output.name, None
        tensor = ir.tensor(array, name=name)
        value = ir.Value(
            name=name,
            shape=ir.Shape(array.shape),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        graph.register_initializer(value)
        output.replace_all_uses_with(value)
    remove_nodes(graph, [node])
