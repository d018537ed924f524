"""Running one node on known inputs in the reference runtime."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir


def evaluate_node(
    node: ir.Node, arrays: Sequence[np.ndarray | None], version: int
) -> list[np.ndarray] | None:
    """Return the outputs of a node of the default domain, None if the runtime cannot tell.

    Args:
        node: A node without subgraphs.
        arrays: Its inputs; None for an omitted one.
        version: The opset.
    """
    import onnxruntime as ort

    proto = ir.serde.serialize_node(node)
    feeds: dict[str, np.ndarray] = {}
    infos = []
    for index, array in enumerate(arrays):
        if array is None:
            continue
        name = f"i{index}"
        proto.input[index] = name
        feeds[name] = array
        try:
            element = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        except KeyError:
            return None
        infos.append(onnx.helper.make_tensor_value_info(name, element, array.shape))
    outputs = [name for name in proto.output if name]
    graph = onnx.helper.make_graph(
        [proto], "node", infos, [onnx.helper.make_empty_tensor_value_info(name) for name in outputs]
    )
    model = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", version)],
        ir_version=_ir_version(version),
    )
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        results = session.run(None, feeds)
    except Exception:  # noqa: BLE001 - a node that cannot run alone is simply not folded
        return None
    return [np.asarray(result) for result in results]


def _ir_version(opset: int) -> int:
    return int(onnx.helper.OP_SET_ID_VERSION_MAP.get(("ai.onnx", opset), onnx.IR_VERSION))
