"""What 16-bit floats would do to a program, found by running it in 32 bits.

Every operation is computed a second time, on operands that are rounded to float16, and its result
is rounded as well and compared with the exact one. The program goes on with exact values, so that
each operation answers for itself alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgedeploy.mil.interpreter import names_used
from edgedeploy.mil.program import Operation, Program, TensorType
from edgedeploy.mil.registry import entries
from edgedeploy.mil.rounding import to_half

_MOVERS = frozenset({"cast", "const", "cond", "while_loop", "identity"})
"""Operations that compute nothing, or whose bodies are looked at in their place."""


@dataclass(slots=True)
class Loss:
    """What float16 costs one operation.

    Attributes:
        result: Noise of its result, as a share of the result (root of mean squares), with exact
            operands; infinite where a finite result is no longer finite.
        operands: The same where its operands were rounded as well.
    """

    result: float = 0.0
    operands: float = 0.0


class HalfTrial:
    """Notes what float16 would cost each operation; an :data:`~edgedeploy.mil.interpreter.Observe`.

    Attributes:
        losses: By the name of an operation with a float32 result, the worst of all executions.
    """

    def __init__(self) -> None:
        self.losses: dict[str, Loss] = {}
        self._known = entries()

    def __call__(
        self, operation: Operation, given: Mapping[str, Any], made: tuple[Any, ...]
    ) -> None:
        """Take in one execution."""
        if operation.kind in _MOVERS or operation.kind.startswith("constexpr_"):
            return
        again = self._on_halves(operation, given) or made
        loss = Loss()
        judged = False
        for item, exact, rounded in zip(operation.outputs, made, again, strict=True):
            if not isinstance(item.type, TensorType) or item.type.dtype != "float32":
                continue
            judged = True
            loss.result = max(loss.result, noise(exact, to_half(exact)))
            loss.operands = max(loss.operands, noise(exact, to_half(np.asarray(rounded))))
        if judged:
            worst = self.losses.setdefault(operation.name, loss)
            worst.result = max(worst.result, loss.result)
            worst.operands = max(worst.operands, loss.operands)

    def _on_halves(self, operation: Operation, given: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """Return the results on rounded operands; None where more than those is needed."""
        entry = self._known[operation.kind]
        if entry.wants_call:
            return None
        made = entry.compute(**{name: _halves(value) for name, value in given.items()})
        return made if isinstance(made, tuple) else (made,)


def noise(exact: np.ndarray, rounded: np.ndarray) -> float:
    """Return the root of mean squares of a difference, as a share of that of the exact values.

    Infinite where finite values became infinite or no numbers.
    """
    finite = np.isfinite(exact)
    if not np.isfinite(rounded[finite]).all():
        return float("inf")
    true = exact[finite].astype(np.float64)
    power = float((true**2).sum())
    return float(np.sqrt(((rounded[finite] - true) ** 2).sum() / power)) if power else 0.0


def producers(program: Program) -> dict[str, tuple[str, ...]]:
    """Return, by operation name, the names of the operations that make its operands."""
    makers = {
        item.name: operation.name
        for operation in program.body.operations
        if operation.kind != "const"
        for item in operation.outputs
    }
    return {
        operation.name: tuple(
            dict.fromkeys(makers[name] for name in names_used(operation) if name in makers)
        )
        for operation in program.body.operations
    }


def _halves(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_halves, value))
    float32 = isinstance(value, np.ndarray) and value.dtype == np.float32
    return to_half(value) if float32 else value
