"""Small models written in ONNX's text form, through Core ML and through ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx.compose
import onnx.parser
import onnxruntime

from tests.coreml.harness import Converted
from tests.coreml.nodes import difference

OPEN = (1, 16)
"""Range of every open dim."""


def joined(texts: Mapping[str, str], *, opset: int = 21) -> onnx.ModelProto:
    """Return one model of several graphs that share their inputs: one conversion for all.

    Args:
        texts: Graphs such as ``g (float[N] x) => (y) { y = Neg(x) }`` by what they show. All have
            the same inputs; the outputs are named by what they show.
        opset: Version of the standard domain.
    """
    head = f'<ir_version: 10, opset_import: ["" : {opset}]>'
    whole = onnx.parser.parse_model(f"{head} {next(iter(texts.values()))}")
    del whole.graph.node[:], whole.graph.output[:]
    for name, text in texts.items():
        graph = onnx.parser.parse_model(f"{head} {text}").graph
        prefix = "".join(letter if letter.isalnum() else "_" for letter in name) + "_"
        onnx.compose.add_prefix_graph(graph, prefix, rename_inputs=False, inplace=True)
        whole.graph.node.extend(graph.node)
        whole.graph.output.extend(graph.output)
    return whole


def by_runtime(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the outputs in ONNX Runtime with optimisation off."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [item.name for item in model.graph.output]
    return dict(zip(names, session.run(None, dict(inputs)), strict=True))


def differences(
    texts: Mapping[str, str],
    samples: Sequence[Mapping[str, np.ndarray]],
    *,
    ios: int = 17,
    precision: str = "float32",
    opset: int = 21,
) -> list[str]:
    """Return what differs between the package of some graphs and ONNX Runtime; nothing should.

    Args:
        texts: The graphs, as :func:`joined` takes them; a dim with a name is open from 1 to 16.
        samples: Inputs, each set of its own sizes.
        ios: Major version of iOS.
        precision: What the package computes in.
        opset: Version of the standard domain.
    """
    model = joined(texts, opset=opset)
    names = {
        dim.dim_param
        for item in model.graph.input
        for dim in item.type.tensor_type.shape.dim
        if dim.dim_param
    }
    made = Converted(model, ios=ios, precision=precision, ranges=dict.fromkeys(names, OPEN))
    found = []
    for place, inputs in enumerate(samples):
        wanted, ours = by_runtime(model, inputs), made.run(inputs)
        for name, value in wanted.items():
            said = difference(ours[name], np.asarray(value))
            if said:
                found.append(f"sample {place}, {name}: {said}")
    return found
