"""Reading and writing the model that passes work on; weights stay in their file until used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir

from edgedeploy.errors import ModelError
from edgedeploy.model.files import (
    DATA_NAME,
    INLINE_BYTES,
    MODEL_NAME,
    SMALLEST_EXTERNAL_BYTES,
)

TYPE_KEY = "type_proto"
"""Where an output's ONNX type is kept that onnx-ir has no class for."""


def load(path: Path) -> ir.Model:
    """Return a checked model; big weights are mapped from the file beside it.

    Raises:
        ModelError: It is no ONNX model for the library (E201) or has sparse weights (E226).
    """
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise ModelError(
            f"the file is not a whole ONNX model: {error}",
            code="E201",
            subject=str(path),
            hint="export or download the model again",
        ) from error
    for graph in graphs_of(proto):
        if graph.sparse_initializer:
            raise ModelError(
                "the model has a sparse initialiser, which no backend here takes",
                code="E226",
                subject=graph.sparse_initializer[0].values.name,
                hint="export the weight as a dense tensor",
            )
    maps = _take_map_types(proto)
    try:
        model = ir.serde.deserialize_model(proto)
    except Exception as error:
        raise ModelError(
            f"the model cannot be read: {error}",
            code="E226",
            subject=str(path),
            hint="export the model again without sparse or experimental attributes",
        ) from error
    for value in model.graph.outputs:
        if value.name in maps:
            value.meta[TYPE_KEY] = maps[value.name]
    ir.external_data.set_base_dir(model.graph, path.parent)
    for index, node in enumerate(ir.traversal.RecursiveGraphIterator(model.graph)):
        node.meta["origin"] = node.name or f"#{index} {node.op_type}"
    return model


def _take_map_types(proto: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    """Remove and return the types of outputs that hold maps, which onnx-ir does not know."""
    taken = {}
    for graph in graphs_of(proto):
        for info in (*graph.output, *graph.value_info):
            kind = info.type
            while kind.HasField("sequence_type") or kind.HasField("optional_type"):
                wrapped = "sequence_type" if kind.HasField("sequence_type") else "optional_type"
                kind = getattr(kind, wrapped).elem_type
            if kind.HasField("map_type"):
                taken[info.name] = onnx.TypeProto()
                taken[info.name].CopyFrom(info.type)
                info.ClearField("type")
    return taken


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """Return the model as a message, with the types that :func:`load` kept aside."""
    proto = ir.to_proto(model)
    for value, info in zip(model.graph.outputs, proto.graph.output, strict=True):
        if TYPE_KEY in value.meta:
            info.type.CopyFrom(value.meta[TYPE_KEY])
    return proto


def graphs_of(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """Yield the main graph and every graph in an attribute."""
    pending = [proto.graph]
    nodes = [node for function in proto.functions for node in function.node]
    while pending or nodes:
        if pending:
            graph = pending.pop()
            yield graph
            nodes.extend(graph.node)
            continue
        for attribute in nodes.pop().attribute:
            if attribute.HasField("g"):
                pending.append(attribute.g)
            pending.extend(attribute.graphs)


def save(model: ir.Model, folder: Path) -> bool:
    """Write ``model.onnx`` and, for big models, ``model.onnx.data``; tell whether there is one.

    Equal models give equal bytes. Memory stays bounded by the largest tensor if there is a data
    file.
    """
    weights = sum(
        value.const_value.nbytes
        for graph in model.graphs()
        for value in graph.initializers.values()
        if value.const_value is not None
    )
    big = weights > INLINE_BYTES
    if big:
        # Replaces the weights by references into the new file, one tensor in memory at a time.
        ir.external_data.unload_from_model(
            model, folder, DATA_NAME, size_threshold_bytes=SMALLEST_EXTERNAL_BYTES
        )
    else:
        for graph in model.graphs():
            for value in graph.initializers.values():
                if isinstance(value.const_value, ir.ExternalTensor):
                    tensor = value.const_value
                    value.const_value = ir.tensor(
                        tensor.numpy(), dtype=tensor.dtype, name=value.name
                    )
    content = to_proto(model).SerializeToString(deterministic=True)
    (folder / MODEL_NAME).write_bytes(content)
    return big
