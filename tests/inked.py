"""Digits in red ink over others in blue: a small classifier that must tell red from blue."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

EVALUATED = 200
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 ``[n, 8, 8, 3]``, red first, and the digits in red; the first are evaluated."""
    data = load_digits()
    rng = np.random.default_rng(0)
    order = rng.permutation(len(data.target))
    red = np.round(data.images[order] * 255 / 16).astype(np.uint8)
    blue = red[rng.permutation(len(red))]
    return np.stack([red, np.zeros_like(red), blue], axis=-1), data.target[order]


def write_model(path: Path) -> None:
    """Train on all but the first pictures, normalised by ImageNet's numbers, and write ONNX."""
    pixels, truth = pictures()
    tensors = ((pixels[EVALUATED:] / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    net = MLPClassifier((32,), alpha=1e-2, max_iter=20, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        net.fit(tensors.reshape(len(tensors), -1), truth[EVALUATED:])
    weights = {"w0": net.coefs_[0], "b0": net.intercepts_[0]}
    weights |= {"w1": net.coefs_[1], "b1": net.intercepts_[1]}
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "w0", "b0"], ["hidden"], name="first"),
        helper.make_node("Relu", ["hidden"], ["active"], name="relu"),
        helper.make_node("Gemm", ["active", "w1", "b1"], ["scores"], name="second"),
    ]
    graph = helper.make_graph(
        nodes,
        "inked",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(item.astype(np.float32), name) for name, item in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
