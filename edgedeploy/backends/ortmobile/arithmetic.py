"""Which multiply-adds of an ``.ort`` artifact run in integer kernels.

Kernels and shapes are those of one profiled inference. Attention kernels and ``Einsum`` are listed
without a count.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

from edgedeploy.backends.base import Arithmetic, ExecutedLayer
from edgedeploy.backends.inputs import Inputs
from edgedeploy.backends.ortmobile.convert import int_attribute
from edgedeploy.backends.ortmobile.profiling import Execution, Shape, executions
from edgedeploy.backends.ortmobile.runner import ENTRY

# Where the weights of a convolution stand among its inputs.
_CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "NhwcFusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
_PRODUCTS = frozenset(
    (
        *("Gemm", "FusedGemm", "QGemm", "MatMul", "FusedMatMul", "MatMulInteger", "MatMulNBits"),
        *("MatMulIntegerToFloat", "QLinearMatMul", "DynamicQuantizeMatMul"),
    )
)
_RECURRENT = frozenset(("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"))
_UNCOUNTED = frozenset(
    ("Attention", "QAttention", "MultiHeadAttention", "GroupQueryAttention", "Einsum")
)
_INTEGER = frozenset(
    (
        *("QLinearConv", "ConvInteger", "QGemm", "QLinearMatMul", "MatMulInteger", "QAttention"),
        *("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"),
    )
)
_CONVERSIONS = frozenset(("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"))

# MatMulNBits rounds its activations to int8 and multiplies integers at this accuracy_level alone:
# https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits
_INT8_ACCURACY = 4


def arithmetic(folder: Path, inputs: Inputs, *, optimization_style: str = "fixed") -> Arithmetic:
    """Return what the CPU provider computes on integers.

    Args:
        folder: What a compile wrote.
        inputs: One set of inputs.
        optimization_style: As it was compiled.

    Raises:
        BuildError: The artifact does not load (E317) or run (E330-E333).
    """
    ran = executions(folder, inputs, optimization_style=optimization_style, prepack=False)
    levels: dict[str, int] = {}
    if any(item.op == "MatMulNBits" for item in ran):
        levels = int_attribute(folder / ENTRY, b"MatMulNBits", b"accuracy_level")
    totals: dict[tuple[str, str], int | None] = {}
    conversions = set()
    for item in ran:
        key = (item.name, item.op)
        if item.op in _CONVERSIONS:
            conversions.add(key)
        elif item.op in _UNCOUNTED:
            totals[key] = None
        elif item.op in _RECURRENT | _PRODUCTS | {"ConvTranspose"} or item.op in _CONVOLUTIONS:
            totals[key] = (totals.get(key) or 0) + multiply_adds(item)
    return Arithmetic(
        layers=tuple(
            ExecutedLayer(
                name=name,
                op=op,
                integer=op in _INTEGER or levels.get(name) == _INT8_ACCURACY,
                macs=macs,
            )
            for (name, op), macs in totals.items()
        ),
        conversions=len(conversions),
    )


def multiply_adds(item: Execution) -> int:
    """Return the multiply-adds of one execution of a convolution, product or recurrent node."""
    first, result = item.inputs[0], item.outputs[0]
    if item.op in _CONVOLUTIONS:
        weights = item.inputs[_CONVOLUTIONS[item.op]]  # [C_out, C_in / groups, ...]
        return prod(result) * prod(weights[1:])
    if item.op == "ConvTranspose":
        return prod(first) * prod(item.inputs[1][1:])  # weights [C_in, C_out / groups, ...]
    if item.op in _RECURRENT:
        steps = first[0] * first[1]  # [steps, batch, features], in either order
        return steps * (prod(item.inputs[1]) + prod(item.inputs[2]))
    return prod(result) * _depth(first, result)


def _depth(left: Shape, result: Shape) -> int:
    """Return the length that a matrix product sums over; the left operand may be transposed."""
    if len(left) > 1 and len(result) > 1 and left[-2] != result[-2] == left[-1]:
        return left[-2]
    return left[-1]
