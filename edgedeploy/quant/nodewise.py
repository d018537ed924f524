"""Running a model one node at a time, for models whose weights do not fit into memory together.

Each node becomes a model of its own, with the weights that it alone reads; they stay in their file
until the runtime maps them, and are gone before the next node runs. Between nodes only the
activations are kept that a later node still reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from edgedeploy.errors import BuildError
from edgedeploy.quant.session import open_session

Results = Mapping[str, Sequence[np.ndarray]]
"""What a node gives: for the name of each output one array per sample."""


def run_nodes(
    model: ir.Model,
    folder: Path,
    samples: Sequence[Mapping[str, np.ndarray]],
    forced: MutableMapping[str, Sequence[np.ndarray]] | None = None,
) -> Iterator[Results]:
    """Yield the results of every node of the main graph, in its order.

    A node that depends on no sample (a DequantizeLinear of a weight) runs once for all of them.

    Args:
        model: A loaded model; its graph is sorted.
        folder: Where its external data lies.
        samples: Graph inputs by name.
        forced: What the caller puts here after a node has run takes the place of the results of
            the same names for the nodes behind it; it is taken out.

    Raises:
        BuildError: The runtime does not load a node (E270), cannot run it (E330), or it gives a
            sequence (E318).
    """
    needs = {node: _needed(node, model.graph) for node in model.graph}
    remaining = Counter(value for values in needs.values() for value in values)
    alive: dict[ir.Value, Sequence[np.ndarray]] = {
        value: [sample[str(value.name)] for sample in samples]
        for value in model.graph.inputs
        if value in remaining
    }
    fixed: set[ir.Value] = set()
    for node, values in needs.items():
        given = [value for value in values if value in alive]
        constant = fixed.issuperset(given)
        feeds = [
            {str(value.name): alive[value][number] for value in given}
            for number in range(1 if constant else len(samples))
        ]
        made = _run(model, node, values, folder, feeds)
        if constant:
            made = {value: arrays * len(samples) for value, arrays in made.items()}
            fixed.update(made)
        yield {str(value.name): arrays for value, arrays in made.items()}
        for value, arrays in made.items():
            later = arrays if forced is None else forced.pop(str(value.name), arrays)
            if value in remaining:
                alive[value] = later
        remaining.subtract(values)
        for value in values:
            if not remaining[value]:
                alive.pop(value, None)


def _needed(node: ir.Node, graph: ir.Graph) -> tuple[ir.Value, ...]:
    """Return the values of the main graph that a node reads, also those in its subgraphs."""
    found: dict[ir.Value, None] = {}
    pending = [node]
    while pending:
        current = pending.pop()
        found.update((value, None) for value in current.inputs if value is not None)
        for attribute in current.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                pending.extend(attribute.as_graph())
            elif attribute.type == ir.AttributeType.GRAPHS:
                pending.extend(inner for body in attribute.as_graphs() for inner in body)
    return tuple(value for value in found if value.graph is graph)


def _run(
    model: ir.Model,
    node: ir.Node,
    values: Sequence[ir.Value],
    folder: Path,
    feeds: Sequence[Mapping[str, np.ndarray]],
) -> dict[ir.Value, list[np.ndarray]]:
    """Return the outputs of a node, for each an array per entry of ``feeds``."""
    wanted = [value for value in node.outputs if value.name]
    session = open_session(_alone(model, node, values, feeds[0]), folder, optimise=False)
    made: dict[ir.Value, list[np.ndarray]] = {value: [] for value in wanted}
    for feed in feeds:
        try:
            results = session.run([str(value.name) for value in wanted], dict(feed))
        except Exception as error:  # the runtime raises many undocumented types
            raise BuildError(
                f"the node does not run by itself: {' '.join(str(error).split())}",
                code="E330",
                subject=node.name,
                hint="compare the models whole, with `quant.compare.compare`",
            ) from error
        for value, result in zip(wanted, results, strict=True):
            if not isinstance(result, np.ndarray):
                raise BuildError(
                    f"the node gives a {type(result).__name__}, not a tensor",
                    code="E318",
                    subject=node.name,
                    hint="compare the models whole, with `quant.compare.compare`",
                )
            made[value].append(result)
    return made


def _alone(
    model: ir.Model,
    node: ir.Node,
    values: Sequence[ir.Value],
    feed: Mapping[str, np.ndarray],
) -> onnx.ModelProto:
    """Return a model of one node; what ``feed`` holds are its inputs, the rest its weights."""
    inputs = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), None
        )
        for name, array in feed.items()
    ]
    outputs = [
        onnx.helper.make_empty_tensor_value_info(str(value.name))
        for value in node.outputs
        if value.name
    ]
    weights = [
        ir.serde.serialize_tensor(value.const_value)
        for value in values
        if value.name not in feed and value.const_value is not None
    ]
    proto = ir.serde.serialize_node(node)
    graph = onnx.helper.make_graph([proto], "node", inputs, outputs, weights)
    opsets = [
        onnx.helper.make_opsetid(name, number) for name, number in model.opset_imports.items()
    ]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=model.ir_version)
