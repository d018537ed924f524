"""Running a program: one operation after the other, values dropped after their last use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgedeploy.errors import BuildError
from edgedeploy.mil.program import Block, ListType, Operation, Program, Ref, StateType, TensorType
from edgedeploy.mil.registry import entries

_INTEGERS = {"int4": np.int8, "uint1": np.uint8, "uint2": np.uint8, "uint3": np.uint8}
_INTEGERS |= {"uint4": np.uint8, "uint6": np.uint8}


def storage(dtype: str) -> np.dtype[Any]:
    """Return the NumPy dtype that holds values of a MIL dtype."""
    return np.dtype(_INTEGERS.get(dtype, dtype))


@dataclass(frozen=True, slots=True)
class Call:
    """One execution of an operation, for functions that need more than its parameters."""

    operation: Operation
    machine: Interpreter
    scope: Mapping[str, Any]

    def types(self) -> tuple[TensorType | ListType | StateType, ...]:
        """Return the declared types of the outputs."""
        return tuple(item.type for item in self.operation.outputs)

    def run_block(self, index: int, arguments: Sequence[Any] = ()) -> tuple[Any, ...]:
        """Return the outputs of one of the operation's blocks.

        Args:
            index: Which block.
            arguments: One per input of the block.
        """
        return self.machine.run_block(self.operation.blocks[index], arguments, self.scope)

    def state_name(self, parameter: str) -> str:
        """Return the name of the state that a parameter refers to."""
        (ref,) = self.operation.inputs[parameter]
        return str(ref.name)


class Interpreter:
    """A program ready to run; it keeps the values of the program's states between runs.

    Args:
        program: What to run.

    Raises:
        BuildError: It has operations that are not known here (E361).
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._entries = entries()
        unknown = sorted(
            {item.kind for item in operations(program.body)} - {*self._entries, "const"}
        )
        if unknown:
            raise BuildError(
                f"no way is known to compute: {', '.join(unknown)}",
                code="E361",
                subject=unknown[0],
                hint="evaluate this package on a Mac",
            )
        self.states: dict[str, np.ndarray] = {}
        self.reset()

    def reset(self) -> None:
        """Set all states to zero."""
        for item in self.program.inputs:
            if isinstance(item.type, StateType):
                wrapped = item.type.wrapped
                sizes = [size or 1 for size in wrapped.dims]
                self.states[item.name] = np.zeros(sizes, storage(wrapped.dtype))

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the program's outputs.

        Args:
            inputs: By name, in the dtype and shape that the function declares.

        Raises:
            BuildError: An operation failed, or its result contradicts its declared type (E362).
        """
        found = self.run_block(self.program.body, (), dict(inputs))
        return dict(zip(self.program.body.outputs, found, strict=True))

    def run_block(
        self, block: Block, arguments: Sequence[Any], outer: Mapping[str, Any]
    ) -> tuple[Any, ...]:
        """Return the outputs of a block that sees the names of ``outer``."""
        scope = dict(outer)
        scope.update(
            (item.name, given) for item, given in zip(block.inputs, arguments, strict=False)
        )
        uses = Counter(name for item in block.operations for name in names_used(item))
        uses.update(block.outputs)
        for operation in block.operations:
            self._execute(operation, scope)
            for name in names_used(operation):
                uses[name] -= 1
                if not uses[name] and name not in outer:
                    scope.pop(name, None)
        return tuple(scope[name] for name in block.outputs)

    def _execute(self, operation: Operation, scope: dict[str, Any]) -> None:
        if operation.kind == "const":
            scope[operation.outputs[0].name] = operation.attributes["val"]
            return
        entry = self._entries[operation.kind]
        given = {name: self._argument(items, scope) for name, items in operation.inputs.items()}
        if operation.kind.startswith("constexpr_"):
            # Before iOS 18 the parameters of these are attributes.
            given |= {
                name: _widened(value)
                for name, value in operation.attributes.items()
                if name != "name"
            }
        leading = (Call(operation, self, scope),) if entry.wants_call else ()
        try:
            with np.errstate(all="ignore"):
                made = entry.compute(*leading, **given)
                results = made if isinstance(made, tuple) else (made,)
                for item, result in zip(operation.outputs, results, strict=True):
                    scope[item.name] = _declared(result, item.type)
        except BuildError:
            raise
        except Exception as error:
            raise BuildError(
                f"{operation.kind} failed: {error}",
                code="E362",
                subject=operation.name,
                hint="report this with the package: the program says what it cannot do",
            ) from error

    def _argument(self, items: tuple[Any, ...], scope: Mapping[str, Any]) -> Any:
        values = []
        for item in items:
            value = item
            if isinstance(item, Ref):
                value = self.states[item.name] if item.name in self.states else scope[item.name]
            values.append(_widened(value))
        return values[0] if len(values) == 1 else tuple(values)


def _widened(value: Any) -> Any:
    """Return a value as functions get it: float16 arrays as float32."""
    if isinstance(value, np.ndarray) and value.dtype == np.float16:
        return value.astype(np.float32)
    return value


def _declared(result: Any, kind: TensorType | ListType | StateType) -> Any:
    """Return a result in its declared type."""
    if not isinstance(kind, TensorType) or kind.dtype == "string":
        return result
    array = np.asarray(result)
    wanted = kind.dims
    fits = len(wanted) == array.ndim and all(
        size is None or size == have for size, have in zip(wanted, array.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"made shape {list(array.shape)}, declared {list(wanted)}")
    return array.astype(storage(kind.dtype), copy=False)


def operations(block: Block) -> Iterator[Operation]:
    """Yield all operations of a block and of the blocks inside it."""
    for item in block.operations:
        yield item
        for inner in item.blocks:
            yield from operations(inner)


def names_used(operation: Operation) -> Iterator[str]:
    """Yield the names that an operation refers to, also from inside its blocks."""
    for items in operation.inputs.values():
        for item in items:
            if isinstance(item, Ref):
                yield item.name
    for block in operation.blocks:
        for inner in block.operations:
            yield from names_used(inner)
        yield from block.outputs
