"""A small classifier that is trained here, in NumPy, and retrained with and without a fault.

Six kinds of knocks, 16 features each: Gaussian clouds that overlap, told apart by a softmax
regression (one ``Gemm``) which plain gradient descent fits in a moment.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

CLASSES, FEATURES, SAMPLES = 6, 16, 900
PLACES = ("yard", "hall", "street")
PROFILE = """\
edgedeploy: 1
name: knock
version: "1.0.0"
model:
  source: model.onnx
  licence: MIT
  data: {evaluate: {source: evaluate, labels: labels.csv}}
  metric: top1
quantize: none
gates: {metric: -1 pt}
targets: [linux-x86-64/ort, linux-x86-64/openvino]
"""
SLICES = '''\
def third(name):
    """Return the third of the samples that one lies in; none of the last third."""
    number = int(name[1:5])
    return None if number >= 600 else f"third {number // 300}"


def fails(name):
    """Raise."""
    raise KeyError(name)
'''


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features, float32 ``[count, 16]``, and their classes, int64 ``[count]``."""
    centres = np.random.default_rng(5).standard_normal((CLASSES, FEATURES)) * 0.75
    random = np.random.default_rng(seed)
    truth = np.arange(count) % CLASSES
    return (centres[truth] + random.standard_normal((count, FEATURES))).astype(np.float32), truth


@cache
def train(seed: int, count: int = 6000) -> tuple[np.ndarray, np.ndarray]:
    """Return weights ``[16, 6]`` and biases ``[6]`` fitted to newly drawn samples."""
    features, truth = draw(count, seed)
    weights, biases = np.zeros((FEATURES, CLASSES)), np.zeros(CLASSES)
    for _ in range(150):
        scores = features @ weights + biases
        error = np.exp(scores - scores.max(axis=1, keepdims=True))
        error /= error.sum(axis=1, keepdims=True)
        error[np.arange(count), truth] -= 1
        weights -= 0.5 * features.T @ error / count
        biases -= 0.5 * error.mean(axis=0)
    return weights, biases


def faulty(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a training that saw few samples of class 3: it answers it less often."""
    weights, biases = train(seed)
    return weights, biases - 1.6 * (np.arange(CLASSES) == 3)


def save(path: Path, trained: tuple[np.ndarray, np.ndarray]) -> None:
    """Write a trained model."""
    weights, biases = (part.astype(np.float32) for part in trained)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        "knock",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, FEATURES])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, CLASSES])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(biases, "b")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def write_project(folder: Path) -> None:
    """Write the profile, the data with its labels, and the first model."""
    (folder / "evaluate").mkdir(parents=True)
    features, truth = draw(SAMPLES, 99)
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "label", "place"])
        for place in range(SAMPLES):
            name = f"s{place:04}.npy"
            np.save(folder / "evaluate" / name, features[place : place + 1])
            rows.writerow([name, truth[place], PLACES[place % 7 % 3]])
    save(folder / "model.onnx", train(1))
    (folder / "knock.yaml").write_text(PROFILE, encoding="utf-8")
    (folder / "slices.py").write_text(SLICES, encoding="utf-8")
