"""Which layers of a package are on integers, as its program states them.

A layer is on integers whose weight is an integer constant and whose input was quantized: the form
that Core ML documents for int8 by int8 arithmetic. Whether the unit that runs it does so, only the
device knows. Multiply-adds are counted at the sizes of one set of inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from edgedeploy.backends.apple.runner import CoreMlRunner
from edgedeploy.backends.base import Arithmetic, ExecutedLayer
from edgedeploy.backends.inputs import Inputs
from edgedeploy.mil.program import Operation, Ref

Values = Mapping[str, Any]
Count = Callable[[Values, Any], "int | None"]

_WEIGHT = {"conv": "weight", "conv_transpose": "weight", "linear": "weight", "matmul": "y"}
_RECURRENT = ("weight_ih", "weight_hh", "weight_ih_back", "weight_hh_back")

_INTEGER_WEIGHTS = ("constexpr_affine_dequantize", "constexpr_blockwise_shift_scale")
# What may stand between a conversion from integers and the layer that reads it.
_PASSING = ("transpose", "reshape", "expand_dims", "squeeze", "identity", "cast")


def _convolution(given: Values, result: Any) -> int:
    """Every weight is used once for every place of the result."""
    places = result.shape[0] * prod(result.shape[2:])
    return int(given["weight"].size * places)


def _transposed(given: Values, result: Any) -> int:
    places = given["x"].shape[0] * prod(given["x"].shape[2:])
    return int(given["weight"].size * places)


def _linear(given: Values, result: Any) -> int:
    return int(given["weight"].size * prod(given["x"].shape[:-1]))


def _product(given: Values, result: Any) -> int:
    first = given["x"].shape
    inner = first[-2 if len(first) > 1 and np.any(given.get("transpose_x", False)) else -1]
    return int(result.size * inner)


def _recurrent(given: Values, result: Any) -> int:
    steps, batch = given["x"].shape[:2]
    sizes = (np.size(given[name]) for name in _RECURRENT if given.get(name) is not None)
    return int(steps * batch * sum(sizes))


_COUNTS: Mapping[str, Count] = {
    "conv": _convolution,
    "conv_transpose": _transposed,
    "linear": _linear,
    "matmul": _product,
    **dict.fromkeys(("lstm", "gru", "rnn"), _recurrent),
    **dict.fromkeys(("einsum", "scaled_dot_product_attention"), lambda given, result: None),
}


class _Layers:
    """Collects the layers of one inference."""

    def __init__(self) -> None:
        self._makers: dict[str, Operation] = {}
        self._found: dict[int, ExecutedLayer] = {}
        self.conversions: set[int] = set()

    def __call__(self, operation: Operation, given: Values, results: tuple[Any, ...]) -> None:
        self._makers.update((item.name, operation) for item in operation.outputs)
        if operation.kind in ("quantize", "dequantize"):
            self.conversions.add(id(operation))
        count = _COUNTS.get(operation.kind)
        if count is None:
            return
        before = self._found.get(id(operation))
        macs = count(given, results[0])
        if before is not None and macs is not None:  # a loop executes it again
            macs += before.macs or 0
        self._found[id(operation)] = ExecutedLayer(
            name=operation.name,
            op=operation.kind,
            integer=self._on_integers(operation),
            macs=macs,
        )

    @property
    def layers(self) -> tuple[ExecutedLayer, ...]:
        """The layers in order of execution."""
        return tuple(self._found.values())

    def _on_integers(self, operation: Operation) -> bool:
        parameter = _WEIGHT.get(operation.kind)
        if parameter is None:
            return False
        weight = self._maker(operation, parameter)
        return (weight in _INTEGER_WEIGHTS or weight == "dequantize") and (
            self._maker(operation, "x") == "dequantize"
        )

    def _maker(self, operation: Operation, parameter: str) -> str:
        """Return the kind of the operation that a parameter comes from, moves of it left out."""
        maker: Operation | None = operation
        while maker is not None:
            (given, *_) = maker.inputs.get(parameter, (None,))
            maker = self._makers.get(given.name) if isinstance(given, Ref) else None
            if maker is None or maker.kind not in _PASSING:
                return "" if maker is None else maker.kind
            parameter = "x"
        return ""


def arithmetic(folder: Path, inputs: Inputs) -> Arithmetic:
    """Return which layers are on integers, from one interpreted inference.

    Args:
        folder: What a compile wrote.
        inputs: One set of inputs.

    Raises:
        BuildError: It does not load (E317) or run (E331-E333, E362).
    """
    found = _Layers()
    with CoreMlRunner(folder, observe=found) as runner:
        runner.run(inputs)
    return Arithmetic(layers=found.layers, conversions=len(found.conversions), stated=True)
