"""Which model a calibration table is of: a digest of what a graph computes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import onnx_ir as ir

from edgedeploy.manifest import canonical


def model_digest(model: ir.Model) -> str:
    """Return the SHA-256 of inputs, outputs, nodes and weights, 64 hex digits.

    How the file stores them does not count: names of files, where in them the weights lie, notes.

    Args:
        model: A model in the normal form; its weights are read one by one.
    """
    graph = model.graph
    found = hashlib.sha256(canonical(dict(sorted(graph.opset_imports.items()))))
    found.update(canonical([_described(graph.inputs), _described(graph.outputs)]))
    for node in graph:
        found.update(ir.serde.serialize_node(node).SerializeToString(deterministic=True))
    for name, value in sorted(graph.initializers.items()):
        tensor = value.const_value
        if tensor is not None:
            found.update(canonical([name, str(tensor.dtype), list(map(str, tensor.shape))]))
            found.update(tensor.tobytes())
    return found.hexdigest()


def _described(values: Iterable[ir.Value]) -> list[list[str]]:
    return [[str(value.name), str(value.type), str(value.shape)] for value in values]
