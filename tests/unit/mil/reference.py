"""Operators of ONNX in ONNX Runtime, as an independent formula."""

import numpy as np
import onnx
import onnxruntime


def by_runtime(op, inputs, *, outputs=1, opset=21, **attributes):
    """Return the outputs of one operator; None stands for an optional input left out."""
    names = [f"x{place}" if value is not None else "" for place, value in enumerate(inputs)]
    node = onnx.helper.make_node(op, names, [f"y{i}" for i in range(outputs)], **attributes)
    kinds = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in zip(names, inputs, strict=True)
        if value is not None
    ]
    made = [onnx.ValueInfoProto(name=f"y{i}") for i in range(outputs)]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "one", kinds, made),
        opset_imports=[onnx.helper.make_opsetid("", opset)],
        ir_version=10,
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    given = {name: value for name, value in zip(names, inputs, strict=True) if value is not None}
    return [np.asarray(value) for value in session.run(None, given)]


def floats(*shape, seed=0):
    """Return values of a normal distribution."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)
