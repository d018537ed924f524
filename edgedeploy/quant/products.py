"""Matrix products with four-bit weights: ``com.microsoft.MatMulNBits``.

ONNX Runtime has had it since 1.17. OpenVINO's ONNX reader takes it as well and keeps the weights
in four bits in memory; so one form, without the opset 21 that standard 4-bit tensors need, serves
both.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgedeploy.quant.blocks import block_scales, pack_blocks
from edgedeploy.quant.layers import (
    Layer,
    constant_of,
    constant_shape,
    float_attribute,
    inputs_last,
    product_obstacle,
)
from edgedeploy.quant.names import add_initializer
from edgedeploy.quant.storage import MICROSOFT, Storage

INT8_ACTIVATIONS = 4
"""``accuracy_level``: the kernel may round a block of activations to 8 bits while it runs.

It is several times faster than without, and its error is some 20 dB below that of the weights. A
runtime without such a kernel computes in float.
"""


def obstacle(layer: Layer) -> str | None:
    """Return why a layer cannot have four-bit weights, None where it can."""
    if layer.node.op_type not in ("Gemm", "MatMul"):
        return f"{layer.node.op_type} has no form with 4-bit weights"
    return product_obstacle(layer)


class BlockProducts:
    """Replaces matrix products of one graph.

    Args:
        storage: Where initialisers and nodes are added.
        block: Inputs that share a scale.
    """

    def __init__(self, storage: Storage, block: int) -> None:
        self._storage = storage
        self._block = block
        self._stored: dict[tuple[ir.Value, bool], tuple[ir.Value, ir.Value]] = {}

    def replace(self, layer: Layer) -> None:
        """Replace a layer that has no :func:`obstacle`; its result keeps its name."""
        node, storage = layer.node, self._storage
        if layer.activation is None:
            raise ValueError(f"{node.name} has no activation")
        name, last = str(node.name), inputs_last(node)
        sizes = constant_shape(layer.weight)
        outputs, inputs = sizes if last else sizes[::-1]
        attributes = {
            "K": inputs,
            "N": outputs,
            "bits": 4,
            "block_size": self._block,
            "accuracy_level": INT8_ACTIVATIONS,
        }
        given = [layer.activation, *self._weight(layer.weight, last)]
        product = storage.add(node, "MatMulNBits", given, name, attributes, MICROSOFT)
        alpha = float_attribute(node, "alpha", 1.0)
        if alpha != 1.0:
            factor = storage.constant(np.float32(alpha), f"{name}_alpha")
            product = storage.add(node, "Mul", [product, factor], name)
        storage.replace(node, storage.with_bias(layer, product))
        storage.graph.opset_imports.setdefault(MICROSOFT, 1)

    def _weight(self, weight: ir.Value, last: bool) -> tuple[ir.Value, ir.Value]:
        """Return the initialisers of a weight's integers and scales, computed when written."""
        key = (weight, last)
        if key not in self._stored:
            source, block = constant_of(weight), self._block
            outputs, inputs = constant_shape(weight) if last else constant_shape(weight)[::-1]
            blocks = -(-inputs // block)

            def integers() -> ir.TensorProtocol:
                return ir.Tensor(pack_blocks(source.numpy(), block, inputs_last=last))

            def scales() -> ir.TensorProtocol:
                return ir.Tensor(block_scales(source.numpy(), block, inputs_last=last).reshape(-1))

            names = self._storage.names
            packed = names.free(f"{weight.name}_4bit")
            scale = names.free(f"{weight.name}_4bit_scales")
            shape = ir.Shape((outputs, blocks, block // 2))
            self._stored[key] = (
                add_initializer(
                    self._storage.graph,
                    packed,
                    ir.LazyTensor(integers, ir.DataType.UINT8, shape, name=packed),
                ),
                add_initializer(
                    self._storage.graph,
                    scale,
                    ir.LazyTensor(
                        scales, ir.DataType.FLOAT, ir.Shape((outputs * blocks,)), name=scale
                    ),
                ),
            )
        return self._stored[key]
