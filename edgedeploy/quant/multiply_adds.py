"""Multiply-adds of nodes with weights, from the shapes that their tensors have on one sample."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgedeploy.quant.layers import (
    RECURRENT_OPS,
    constant_shape,
    int_attribute,
    is_weight,
    recurrent_weights,
)
from edgedeploy.quant.session import open_session

Shape = tuple[int, ...]


def multiply_adds(
    model: ir.Model, folder: Path, nodes: Iterable[ir.Node], inputs: Mapping[str, np.ndarray]
) -> dict[str, int]:
    """Return the multiply-adds of nodes in one inference, by node name.

    Args:
        model: The float model; the tensors of the nodes become outputs of it.
        folder: What its external data is relative to.
        nodes: Layers and recurrent nodes of its main graph.
        inputs: One sample with all inputs, the state among them.

    Raises:
        BuildError: The runtime does not load the model (E270).
    """
    graph, every = model.graph, list(nodes)
    # A lookup multiplies nothing, and its indices may be of any type of integers.
    wanted = [node for node in every if node.op_type != "Gather"]
    given = [_activation(node) for node in wanted]
    made = [node.outputs[0] for node in wanted if node.op_type not in RECURRENT_OPS]
    shapes = {name: tuple(array.shape) for name, array in inputs.items()}
    present = set(graph.outputs)
    names = []
    for value in dict.fromkeys([*given, *made]):
        if value.name in shapes:
            continue
        names.append(str(value.name))
        if value not in present:
            value.type = ir.TensorType(ir.DataType.FLOAT)
            graph.outputs.append(value)
    if names:
        found = open_session(model, folder).run(names, dict(inputs))
        pairs = zip(names, found, strict=True)
        shapes.update({name: tuple(array.shape) for name, array in pairs})
    counts = {
        str(node.name): count(node, shapes[str(value.name)], shapes.get(str(node.outputs[0].name)))
        for node, value in zip(wanted, given, strict=True)
    }
    return {name: counts.get(name, 0) for name in (str(node.name) for node in every)}


def _activation(node: ir.Node) -> ir.Value:
    """Return the operand that is no weight."""
    for value in node.inputs:
        if value is not None and not is_weight(value):
            return value
    raise ValueError(f"{node.name} has no activation")


def count(node: ir.Node, given: Shape, made: Shape | None) -> int:
    """Return how many products are added up in one run of a node.

    Args:
        node: A recurrent node, or a layer that is no lookup.
        given: Shape of its activation.
        made: Shape of its result; not needed of a recurrent node.
    """
    if node.op_type in RECURRENT_OPS:
        # X is [steps, batch, inputs]; both weights are used once per step and row.
        both = map(constant_shape, recurrent_weights(node).values())
        return math.prod(given[:2]) * sum(map(math.prod, both))
    if made is None:
        raise ValueError(f"the shape of the result of {node.name} is not known")
    # A bias may be a matrix too; the weight stands before it.
    shape = next(constant_shape(value) for value in node.inputs if value and is_weight(value))
    if node.op_type == "Conv":  # [out, in / groups, *kernel]: a sum per element of the result
        return math.prod(made) * math.prod(shape[1:])
    if node.op_type == "ConvTranspose":  # [in, out / groups, *kernel]: each element is spread
        return math.prod(given) * math.prod(shape[1:])
    if node.op_type == "Gemm":
        return math.prod(made) * shape[1 if int_attribute(node, "transB", 0) else 0]
    left = is_weight(node.inputs[0])
    return math.prod(made) * shape[-1 if left else -2]
