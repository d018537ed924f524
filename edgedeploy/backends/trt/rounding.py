"""The arithmetic of a graph in float16, spelled out for a runtime that has few float16 kernels.

On most CPUs ONNX Runtime computes float16 operators in float32 and leaves out the conversions
between neighbours, whatever optimisation level is asked for: the root of 300 squared is 300 there,
and infinite on a GPU. Here every value that the graph has in float16 is computed in float32 and
then rounded by a Cast there and back, which no runtime may leave out.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

_FLOAT, _HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
# Operators that make a type which an attribute names, with that attribute.
_TYPED_BY = {
    "Bernoulli": "dtype",
    "Cast": "to",
    "EyeLike": "dtype",
    "RandomNormal": "dtype",
    "RandomNormalLike": "dtype",
    "RandomUniform": "dtype",
    "RandomUniformLike": "dtype",
}


def has_half(model: ir.Model) -> bool:
    """Return whether anything that nodes make, or a graph takes, is float16.

    Types that the file does not state are inferred.
    """
    if any(value.type is None for graph in model.graphs() for value in _values(graph)):
        ShapeInferencePass(check_type=False, strict_mode=False, data_prop=False)(model)
    return any(_is_half(value) for graph in model.graphs() for value in _values(graph))


def spell_out(model: ir.Model) -> None:
    """Round every float16 value of a model explicitly, in place.

    Weights stay as they are, and so do the types of the model's inputs and outputs. Within a node
    sums are those of float32, as on tensor cores.

    Args:
        model: A typed model without local functions.
    """
    for graph in list(model.graphs()):
        _spell_out(graph, graph is model.graph)


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    for node in graph:
        yield from node.outputs


def _is_half(value: ir.Value) -> bool:
    return value.type is not None and value.type.dtype == _HALF


def _spell_out(graph: ir.Graph, outermost: bool) -> None:
    first = graph[0] if len(graph) else None
    halves = [value for value in graph.inputs if _is_half(value)]
    weights = [value for value in graph.initializers.values() if _is_half(value)]
    made = [(node, value) for node in graph for value in node.outputs if _is_half(value)]
    nodes = list(graph)
    for value in halves:
        if not outermost:
            value.type = _widened(value.type)  # what goes in there is rounded already
        elif first is not None:
            _replace_uses(value, _cast(value, _FLOAT, graph, before=first))
    for value in weights:
        if first is not None and (value.uses() or value in graph.outputs):
            whole = _cast(value, _FLOAT, graph, before=first)
            _replace_uses(value, whole)
            if not outermost:
                _replace_output(graph, value, whole)
    for node in nodes:
        _widen_attributes(node)
    for node, value in made:
        _round(node, value, graph, outermost)


def _round(node: ir.Node, value: ir.Value, graph: ir.Graph, outermost: bool) -> None:
    """Let a node make float32, and all that read its output read it rounded."""
    value.type = _widened(value.type)
    if not isinstance(value.type, ir.TensorType):
        return  # of a sequence the elements are rounded already
    half = _cast(value, _HALF, graph, after=node)
    producer = half.producer()
    whole = _cast(half, _FLOAT, graph, after=producer)
    _replace_uses(value, whole, but=producer)
    if value in graph.outputs:
        _replace_output(graph, value, half if outermost else whole)
        if outermost:
            half.name, value.name = value.name, half.name


def _widened(kind: ir.TypeProtocol | None) -> ir.TypeProtocol:
    if isinstance(kind, ir.SequenceType):
        return ir.SequenceType(_widened(kind.elem_type))
    if isinstance(kind, ir.OptionalType):
        return ir.OptionalType(_widened(kind.elem_type))
    return ir.TensorType(_FLOAT)


def _cast(
    value: ir.Value,
    dtype: ir.DataType,
    graph: ir.Graph,
    *,
    before: ir.Node | None = None,
    after: ir.Node | None = None,
) -> ir.Value:
    node = ir.node("Cast", [value], attributes={"to": int(dtype)}, name=f"{value.name}::{dtype}")
    made = node.outputs[0]
    made.name, made.type, made.shape = f"{value.name}::{dtype}", ir.TensorType(dtype), value.shape
    if before is not None:
        graph.insert_before(before, node)
    elif after is not None:
        graph.insert_after(after, node)
    return made


def _replace_uses(value: ir.Value, new: ir.Value, but: ir.Node | None = None) -> None:
    for node, place in tuple(value.uses()):
        if node is not but and node is not new.producer():
            node.replace_input_with(place, new)


def _replace_output(graph: ir.Graph, value: ir.Value, new: ir.Value) -> None:
    for place, output in enumerate(list(graph.outputs)):
        if output is value:
            graph.outputs[place] = new


def _widen_attributes(node: ir.Node) -> None:
    name = _TYPED_BY.get(node.op_type)
    attribute = node.attributes.get(name) if name is not None else None
    if name is not None and attribute is not None and attribute.as_int() == int(_HALF):
        node.attributes[name] = ir.AttrInt64(name, int(_FLOAT))
    for key, held in list(node.attributes.items()):
        if held.type == ir.AttributeType.TENSOR and held.as_tensor().dtype == _HALF:
            whole = held.as_tensor().numpy().astype("float32")
            node.attributes[key] = ir.AttrTensor(key, ir.tensor(whole))
