"""What 16-bit floats would do to a program, found by running it in 32 bits.

Every operation is computed a second time, on operands rounded to float16 and with its result rounded
to float16, and what comes out is compared with what came out. The program goes on with its own
values, so that each operation answers for itself alone.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgedeploy.mil.interpreter import Call, Interpreter, names_used
from edgedeploy.mil.program import Operation, Program, TensorType
from edgedeploy.mil.registry import Entry

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


class HalfTrial(Interpreter):
    """Runs a program and notes what float16 would cost each operation with a float32 result.

    Args:
        program: A program that computes in float32.

    Attributes:
        losses: By operation name, the worst of all runs.
    """

    def __init__(self, program: Program) -> None:
        self.losses: dict[str, Loss] = {}
        super().__init__(program)

    def _execute(self, operation: Operation, entry: Entry, scope: MutableMapping[str, Any]) -> None:
        super()._execute(operation, entry, scope)
        if operation.kind in _MOVERS or operation.kind.startswith("constexpr_"):
            return
        floats = [
            item.name
            for item in operation.outputs
            if isinstance(item.type, TensorType) and item.type.dtype == "float32"
        ]
        if not floats:
            return
        made = self._on_halves(operation, entry, scope)
        loss = self.losses.setdefault(operation.name, Loss())
        for item, rounded in zip(operation.outputs, made, strict=True):
            if item.name in floats:
                exact = scope[item.name]
                loss.result = max(loss.result, noise(exact, half(exact)))
                loss.operands = max(loss.operands, noise(exact, half(rounded)))

    def _on_halves(
        self, operation: Operation, entry: Entry, scope: Mapping[str, Any]
    ) -> tuple[Any, ...]:
        given = {
            name: _halves(self._argument(items, scope)) for name, items in operation.inputs.items()
        }
        leading = (Call(operation, self, scope),) if entry.wants_call else ()
        with np.errstate(all="ignore"):
            made = entry.compute(*leading, **given)
        return made if isinstance(made, tuple) else (made,)


def half(array: np.ndarray) -> np.ndarray:
    """Return float32 values rounded to float16."""
    with np.errstate(over="ignore"):
        return array.astype(np.float16).astype(np.float32)


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
    return half(value) if float32 else value
