"""Operations that work on each element of one tensor by itself.

MIL documentation: ``elementwise_unary`` of iOS15 and iOS17.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgedeploy.mil.erf import erf as error_function
from edgedeploy.mil.interpreter import Call
from edgedeploy.mil.program import TensorType
from edgedeploy.mil.registry import Array, Compute, op


def _of_x(function: Callable[[Array], Array]) -> Compute:
    def compute(x: Array) -> Array:
        return function(x)

    return compute


_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "abs": np.abs,
    "acos": np.arccos,
    "asin": np.arcsin,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "ceil": np.ceil,
    "cos": np.cos,
    "cosh": np.cosh,
    "erf": error_function,
    "exp": np.exp,
    "exp2": np.exp2,
    "floor": np.floor,
    "logical_not": np.logical_not,
    "round": np.round,  # halves to even: MIL says that 0.5 becomes 0
    "sign": np.sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "square": np.square,
    "tan": np.tan,
    "tanh": np.tanh,
}
for _kind, _function in _FUNCTIONS.items():
    op(_kind)(_of_x(_function))


def _epsilon(call: Call, given: Array | None, default: float) -> Array:
    """Return the given constant, or the default in the type of the result, as MIL has it."""
    if given is not None:
        return given
    (kind,) = call.types()
    half = isinstance(kind, TensorType) and kind.dtype == "float16"
    return np.float32(np.float16(default)) if half else np.float32(default)


@op("inverse", call=True)
def inverse(call: Call, x: Array, epsilon: Array | None = None) -> Array:
    """Return ``1 / (x + epsilon)``; ``epsilon`` defaults to 1e-4."""
    return 1 / (x + _epsilon(call, epsilon, 1e-4))


@op("log", call=True)
def log(call: Call, x: Array, epsilon: Array | None = None) -> Array:
    """Return ``log(x + epsilon)``; ``epsilon`` defaults to 1e-45."""
    return np.log(x + _epsilon(call, epsilon, 1e-45))


@op("rsqrt", call=True)
def rsqrt(call: Call, x: Array, epsilon: Array | None = None) -> Array:
    """Return ``1 / sqrt(x + epsilon)``; ``epsilon`` defaults to 1e-12."""
    return 1 / np.sqrt(x + _epsilon(call, epsilon, 1e-12))


@op("clip")
def clip(x: Array, alpha: Array, beta: Array) -> Array:
    """Return ``min(max(x, alpha), beta)``."""
    return np.minimum(np.maximum(x, alpha), beta)


@op("threshold")
def threshold(x: Array, alpha: Array) -> Array:
    """Return ``max(x, alpha)``."""
    return np.maximum(x, alpha)


@op("cast")
def cast(x: Array, dtype: str) -> Array:
    """Return ``x`` in another type: floats are cut to integers, what is not 0 is true.

    Args:
        x: Any tensor.
        dtype: The type; the declared one of the result, which the engine gives it.
    """
    if dtype == "bool":
        return x != 0
    return np.trunc(x) if dtype.startswith(("int", "uint")) and x.dtype.kind == "f" else x


@op("identity")
def identity(x: Array) -> Array:
    """Return ``x``."""
    return x
