"""Networks of the kind that are trained on MNIST's 28 x 28 digits, with weights that are drawn.

What an engine is built of does not depend on what the weights are worth.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
CLASSES = 10
SIDE = 28


class _Net:
    """Collects the nodes and weights of a network."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._generator = np.random.default_rng(7)

    def add(self, op: str, inputs: list[str], **attributes: object) -> str:
        """Add a node; return the name of its output."""
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def weight(self, *shape: int) -> str:
        """Return the name of a new weight, drawn as He et al. do (arXiv:1502.01852)."""
        spread = np.sqrt(2 / max(1, np.prod(shape[1:])))
        array = self._generator.standard_normal(shape) * spread
        name = f"weight{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def conv(self, given: str, inputs: int, outputs: int, side: int = 3, stride: int = 1) -> str:
        """Add a convolution that keeps the size, or divides it by the stride."""
        pads = [side // 2] * 4
        weights = [self.weight(outputs, inputs, side, side), self.weight(outputs)]
        return self.add("Conv", [given, *weights], pads=pads, strides=[stride, stride])


def _cnn(net: _Net) -> str:
    """Two convolutions with pooling, two dense layers."""
    given = "image"
    for inputs, outputs in ((1, 16), (16, 32)):
        given = net.add("Relu", [net.conv(given, inputs, outputs, 5)])
        given = net.add("MaxPool", [given], kernel_shape=[2, 2], strides=[2, 2])
    given = net.add("Flatten", [given])
    hidden = net.add("Gemm", [given, net.weight(64, 32 * 7 * 7), net.weight(64)], transB=1)
    hidden = net.add("Relu", [hidden])
    return net.add("Gemm", [hidden, net.weight(CLASSES, 64), net.weight(CLASSES)], transB=1)


def _resnet(net: _Net) -> str:
    """Three residual blocks with strides, a mean over the places, a dense layer."""
    given = net.add("Relu", [net.conv("image", 1, 16)])
    for inputs, outputs, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2)):
        inner = net.add("Relu", [net.conv(given, inputs, outputs, 3, stride)])
        inner = net.conv(inner, outputs, outputs)
        beside = given if inputs == outputs else net.conv(given, inputs, outputs, 1, stride)
        given = net.add("Relu", [net.add("Add", [inner, beside])])
    pooled = net.add("Flatten", [net.add("GlobalAveragePool", [given])])
    return net.add("Gemm", [pooled, net.weight(CLASSES, 64), net.weight(CLASSES)], transB=1)


NETS = {"mnist-cnn": _cnn, "mnist-resnet": _resnet}


def write(name: str, file: Path) -> Path:
    """Write a network with the input ``image`` [1, 1, 28, 28]; return its file."""
    net = _Net()
    last = net.add("Softmax", [NETS[name](net)], axis=-1)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, SIDE, SIDE])
    scores = helper.make_tensor_value_info(last, TensorProto.FLOAT, [1, CLASSES])
    graph = helper.make_graph(net.nodes, name, [image], [scores], net.weights)
    imports = [helper.make_opsetid("", OPSET)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), file)
    return file


def samples(count: int) -> Iterator[dict[str, np.ndarray]]:
    """Yield inputs of the kind of digits: mostly 0, some strokes near 1."""
    generator = np.random.default_rng(11)
    for _ in range(count):
        strokes = generator.random((1, 1, SIDE, SIDE)) > 0.8
        yield {"image": (strokes * generator.random(strokes.shape)).astype(np.float32)}
