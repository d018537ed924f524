"""Types and shapes of all values, as far as the operators' own inference finds them."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir

from edgedeploy.errors import ModelError
from edgedeploy.passes.base import Pass
from edgedeploy.passes.model_file import graphs_of

_KEPT_BYTES = 1024
"""Larger weights take part with their type and shape only, so the model's size does not matter."""


class InferShapes(Pass):
    """Runs ONNX shape inference with data propagation; a dim that stays unknown is no error.

    What the file claims of outputs counts only where inference finds nothing. Value names must be
    unique over all subgraphs (:class:`UniqueNames`).
    """

    def __init__(self) -> None:
        self._typed: tuple[ir.Value, ...] = ()

    def apply(self, model: ir.Model) -> bool:
        """Infer and set types and shapes."""
        self._typed = tuple(value for value in model.graph.outputs if value.type is not None)
        declared = [(value, value.shape) for value in model.graph.outputs]
        for value, _ in declared:
            producer = value.producer()
            if producer is not None and producer.domain == "":
                value.shape = None
        found = _inferred(_skeleton(model))
        modified = False
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            for output in node.outputs:
                if output.name in found:
                    modified |= _set(output, found[output.name])
        for value, shape in declared:
            value.shape = _more_exact(value.shape, shape)
        return modified

    def ensures(self, model: ir.Model) -> str | None:
        """No output has lost its type."""
        for value in self._typed:
            if value.type is None:
                return f"the type of the output {value.name!r} is unknown"
        return None


def _skeleton(model: ir.Model) -> onnx.ModelProto:
    """Return the model as a message in which large initialisers are inputs without data."""
    graph = model.graph
    weights = list(graph.initializers.values())
    inputs = list(graph.inputs)
    heavy = [
        value
        for value in weights
        if value.const_value is not None and value.const_value.nbytes > _KEPT_BYTES
    ]
    try:
        for value in heavy:
            del graph.initializers[value.name or ""]
            graph.inputs.append(value)
        return ir.to_proto(model)
    finally:
        graph.inputs.clear()
        graph.inputs.extend(inputs)
        graph.initializers.clear()
        for value in weights:
            graph.initializers.add(value)


def _inferred(proto: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    """Return the type of every value by name."""
    try:
        result = onnx.shape_inference.infer_shapes(
            proto, check_type=False, strict_mode=False, data_prop=True
        )
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(
            f"the types and shapes contradict an operator's definition: {error}",
            code="E216",
            hint="export the model again; a node lacks an attribute or has inputs that do not fit",
        ) from error
    return {
        info.name: info.type
        for graph in graphs_of(result)
        for info in (*graph.value_info, *graph.output)
    }


def _set(value: ir.Value, kind: onnx.TypeProto) -> bool:
    """Give a value an inferred type and shape; tell whether that is news."""
    if not kind.HasField("tensor_type"):
        if value.type is None and not any(_maps(kind)):
            value.type = ir.serde.deserialize_type_proto_for_type(kind)
            return True
        return False
    modified = False
    if kind.tensor_type.elem_type:
        dtype = ir.DataType(kind.tensor_type.elem_type)
        if value.dtype != dtype:
            value.type = ir.TensorType(dtype)
            modified = True
    if kind.tensor_type.HasField("shape"):
        dims = [
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
            for dim in kind.tensor_type.shape.dim
        ]
        shape = ir.Shape(dims)
        if value.shape != shape:
            value.shape = shape
            modified = True
    return modified


def _maps(kind: onnx.TypeProto) -> Iterator[bool]:
    """Yield, for a type and each type in it, whether it is a map, which onnx-ir does not know."""
    while True:
        yield kind.HasField("map_type")
        if kind.HasField("sequence_type"):
            kind = kind.sequence_type.elem_type
        elif kind.HasField("optional_type"):
            kind = kind.optional_type.elem_type
        else:
            return


def _more_exact(found: ir.Shape | None, declared: ir.Shape | None) -> ir.Shape | None:
    """Return the inferred shape, with declared names where inference has no size."""
    if found is None:
        return declared
    if declared is None or declared.rank() != found.rank():
        return found
    dims = []
    for own, said in zip(found, declared, strict=True):
        keep = isinstance(own, int) or isinstance(said, int) or not said.value
        dims.append(own if keep else said)
    return ir.Shape(dims)
