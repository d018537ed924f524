"""Networks of the size and shape of MobileNetV2 and ResNet-50, with seeded random weights.

For measuring time and memory; what they answer means nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Expansion, channels, blocks, stride of the first: Sandler et al., MobileNetV2 (2018), table 2.
MOBILE_BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# Width, blocks, stride of the first block: He et al., Deep Residual Learning (2015), table 1.
RESIDUAL_BLOCKS = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))


class Network:
    """A graph under construction; values are named by what makes them."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, array: np.ndarray) -> str:
        """Add a float32 initialiser."""
        self._weights[name] = numpy_helper.from_array(array.astype(np.float32), name)
        return name

    def node(self, op: str, inputs: list[str], **attributes: object) -> str:
        """Add a node and return its result."""
        name = f"{op}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name, **attributes))
        return f"{name}_out"

    def conv(
        self,
        value: str,
        given: int,
        made: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        gain: float = 2.0,
    ) -> str:
        """Add a convolution with weights scaled by He's rule."""
        shape = (made, given // groups, kernel, kernel)
        spread = np.sqrt(gain / (shape[1] * kernel * kernel))
        name = f"conv{len(self._nodes)}"
        weight = self.constant(f"{name}_weight", self._random.standard_normal(shape) * spread)
        bias = self.constant(f"{name}_bias", self._random.standard_normal(made) * 0.1)
        square = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4}
        return self.node("Conv", [value, weight, bias], group=groups, **square)

    def clip(self, value: str) -> str:
        """Add a Clip to [0, 6]."""
        zero, six = self.constant("zero", np.array(0)), self.constant("six", np.array(6))
        return self.node("Clip", [value, zero, six])

    def save(self, value: str, channels: int, path: Path) -> None:
        """Add pooling and a classifier of 1000 classes, and write the model."""
        value = self.node("Flatten", [self.node("GlobalAveragePool", [value])])
        weight = self._random.standard_normal((channels, 1000)) / np.sqrt(channels)
        constants = [self.constant("fc_weight", weight), self.constant("fc_bias", np.zeros(1000))]
        value = self.node("Gemm", [value, *constants])
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 224, 224])
        logits = helper.make_tensor_value_info(value, TensorProto.FLOAT, ["N", 1000])
        weights = list(self._weights.values())
        graph = helper.make_graph(self._nodes, "network", [image], [logits], weights)
        opsets = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


def mobilenet(path: Path) -> None:
    """Write a network of the size of MobileNetV2: 14 MB, 52 convolutions."""
    net = Network(0)
    value, given = net.clip(net.conv("image", 3, 32, 3, stride=2)), 32
    for expansion, made, blocks, first in MOBILE_BLOCKS:
        for number in range(blocks):
            before, hidden = value, given * expansion
            stride = first if number == 0 else 1
            if expansion > 1:
                value = net.clip(net.conv(value, given, hidden, 1))
            value = net.clip(net.conv(value, hidden, hidden, 3, stride=stride, groups=hidden))
            value = net.conv(value, hidden, made, 1, gain=1.0)
            if stride == 1 and given == made:
                value = net.node("Add", [before, value])
            given = made
    net.save(net.clip(net.conv(value, given, 1280, 1)), 1280, path)


def resnet(path: Path) -> None:
    """Write a network of the size of ResNet-50: 102 MB, 53 convolutions."""
    net = Network(1)
    value = net.node("Relu", [net.conv("image", 3, 64, 7, stride=2)])
    square = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
    value, given = net.node("MaxPool", [value], **square), 64
    for width, blocks, first in RESIDUAL_BLOCKS:
        for number in range(blocks):
            before, stride = value, first if number == 0 else 1
            value = net.node("Relu", [net.conv(value, given, width, 1)])
            value = net.node("Relu", [net.conv(value, width, width, 3, stride=stride)])
            value = net.conv(value, width, width * 4, 1, gain=0.5)
            if number == 0:
                before = net.conv(before, given, width * 4, 1, stride=stride, gain=0.5)
            value = net.node("Relu", [net.node("Add", [before, value])])
            given = width * 4
    net.save(value, given, path)


NETWORKS = {"mobilenet": mobilenet, "resnet": resnet}
