"""The conversions between floats and integers of a quantized model, and of the package made of it.

A package computes on integers where every one of the model's QuantizeLinear and DequantizeLinear is
one operation of the package, with its scale.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edgedeploy.mil.interpreter import operations
from edgedeploy.mil.program import Operation, Program, Ref


@dataclass(frozen=True, slots=True)
class Conversions:
    """How often what is converted.

    Attributes:
        quantized: Conversions of activations to integers, by scale, or scales.
        dequantized: Conversions of activations to floats, by scale.
        weights: Constant integers that are used as floats; equal ones count once, because
            coremltools keeps one of them.
    """

    quantized: Counter[tuple[float, ...]]
    dequantized: Counter[tuple[float, ...]]
    weights: int


def of_model(path: Path) -> Conversions:
    """Return the conversions of an ONNX model."""
    graph = onnx.load(path).graph
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    nodes = {
        kind: [node for node in graph.node if node.op_type == kind]
        for kind in ("QuantizeLinear", "DequantizeLinear")
    }
    weights = {
        tuple((array.shape, array.tobytes()) for array in map(constants.get, node.input))
        for node in nodes["DequantizeLinear"]
        if node.input[0] in constants
    }
    return Conversions(
        Counter(_scales(constants[node.input[1]]) for node in nodes["QuantizeLinear"]),
        Counter(
            _scales(constants[node.input[1]])
            for node in nodes["DequantizeLinear"]
            if node.input[0] not in constants
        ),
        len(weights),
    )


def of_package(program: Program) -> Conversions:
    """Return the conversions of a saved package."""
    body = list(operations(program.body))
    known = {item.outputs[0].name: item.attributes["val"] for item in body if item.kind == "const"}

    def scale(item: Operation) -> tuple[float, ...]:
        (given,) = item.inputs["scale"]
        return _scales(known[given.name] if isinstance(given, Ref) else given)

    return Conversions(
        Counter(scale(item) for item in body if item.kind == "quantize"),
        Counter(scale(item) for item in body if item.kind == "dequantize"),
        sum(item.kind.startswith("constexpr_") for item in body),
    )


def _scales(value: Any) -> tuple[float, ...]:
    return tuple(float(item) for item in np.ravel(value))
