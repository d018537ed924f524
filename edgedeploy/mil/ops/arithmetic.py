"""Operations on two tensors, element by element, broadcast: arithmetic, comparison, logic.

MIL documentation: ``elementwise_binary`` of iOS15, and ``select``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgedeploy.mil.registry import Array, Compute, op


def _of_x_and_y(function: Callable[[Array, Array], Array]) -> Compute:
    def compute(x: Array, y: Array) -> Array:
        return function(x, y)

    return compute


_FUNCTIONS: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "equal": np.equal,
    "floor_div": np.floor_divide,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "mod": np.mod,  # has the sign of y, as MIL's own evaluation of constants has it
    "mul": np.multiply,
    "not_equal": np.not_equal,
    "pow": np.power,
    "sub": np.subtract,
}
for _kind, _function in _FUNCTIONS.items():
    op(_kind)(_of_x_and_y(_function))


@op("real_div")
def real_div(x: Array, y: Array) -> Array:
    """Return ``x / y``; of integers the whole part.

    Raises:
        ValueError: Integers with a quotient below 0 that is not whole, or a division by 0: MIL does
            not say which way it is rounded (its tests have positive ones only).
    """
    if np.result_type(x, y).kind == "f":
        return np.divide(x, y)
    quotient, remainder = np.divmod(x, y)
    if np.any((remainder != 0) & (quotient < 0)) or not np.all(y):
        raise ValueError("a negative quotient of integers that is not whole, or a division by 0")
    return quotient


@op("select")
def select(cond: Array, a: Array, b: Array) -> Array:
    """Return ``a`` where ``cond`` is true and ``b`` elsewhere."""
    return np.where(cond, a, b)
