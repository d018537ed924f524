"""Running a program: one operation after the other, values dropped after their last use.

Tensors that the program declares as float16 are held in float32 while it runs, each rounded to
float16 when it is made: what hardware does that accumulates in float32 and stores float16.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from edgedeploy.errors import BuildError
from edgedeploy.mil.program import (
    Block,
    ListType,
    Named,
    Operation,
    Program,
    Ref,
    StateType,
    TensorType,
)
from edgedeploy.mil.registry import Entry, entries
from edgedeploy.mil.rounding import to_half

_INTEGERS = {"int4": np.int8, "uint1": np.uint8, "uint2": np.uint8, "uint3": np.uint8}
_INTEGERS |= {"uint4": np.uint8, "uint6": np.uint8}


def storage(dtype: str) -> np.dtype[Any]:
    """Return the NumPy dtype that stores values of a MIL dtype."""
    return np.dtype(_INTEGERS.get(dtype, dtype))


def held(dtype: str) -> np.dtype[Any]:
    """Return the NumPy dtype of values of a MIL dtype while a program runs."""
    return np.dtype(np.float32) if dtype == "float16" else storage(dtype)


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

    def write_state(self, parameter: str, value: np.ndarray) -> None:
        """Give the state that a parameter refers to another value."""
        (ref,) = self.operation.inputs[parameter]
        self.machine.states[ref.name] = value


@dataclass(frozen=True, slots=True)
class _Step:
    """An operation, what computes it, and the names that nothing after it needs."""

    operation: Operation
    entry: Entry
    drop: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """A block, ready to run: its constants, and the steps that remain."""

    constants: dict[str, Any]
    steps: tuple[_Step, ...]


Observe = Callable[[Operation, Mapping[str, Any], tuple[Any, ...]], None]
"""Told of an operation that was executed: its arguments by parameter, and its results."""


class Interpreter:
    """A program ready to run; it keeps the values of the program's states between runs.

    Args:
        program: What to run.
        observe: Told of every operation that is executed, with values as they are held.

    Attributes:
        program: The same.
        states: Values of the states by name, as they are held (float16 in float32).

    Raises:
        BuildError: It has operations that are not known here (E361), or a compressed constant that
            cannot be unpacked (E362).
    """

    def __init__(self, program: Program, observe: Observe | None = None) -> None:
        self.program = program
        self._observe = observe
        self.states: dict[str, np.ndarray] = {}
        self._plans: dict[int, _Plan] = {}
        self._known = entries()
        kinds = {item.kind for item in operations(program.body)}
        unknown = sorted(kinds - {*self._known, "const"})
        if unknown:
            raise BuildError(
                f"no way is known to compute: {', '.join(unknown)}",
                code="E361",
                subject=unknown[0],
                hint="evaluate this package on a Mac",
            )
        self._prepare(program.body, program.inputs, {})
        made = (item for operation in program.body.operations for item in operation.outputs)
        self._halves = {
            item.name
            for item in (*program.inputs, *made)
            if isinstance(item.type, TensorType) and item.type.dtype == "float16"
        }
        self.reset()

    def reset(self) -> None:
        """Set all states to zero."""
        for item in self.program.inputs:
            if isinstance(item.type, StateType):
                wrapped = item.type.wrapped
                sizes = [size or 1 for size in wrapped.dims]
                self.states[item.name] = np.zeros(sizes, held(wrapped.dtype))

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the program's outputs by name, in the dtypes that it declares.

        Args:
            inputs: By name, in the dtype and shape that the function declares.

        Raises:
            BuildError: An input misses or contradicts its declared type (E363); an operation
                failed, or its result contradicts its declared type (E362).
        """
        given = {
            item.name: _given(item.name, item.type, inputs)
            for item in self.program.inputs
            if isinstance(item.type, TensorType)
        }
        body = self.program.body
        with np.errstate(all="ignore"):  # infinity and NaN are results like any other
            found = self._run(body, given, {})
        return {
            name: value.astype(np.float16) if name in self._halves else value
            for name, value in zip(body.outputs, found, strict=True)
        }

    def run_block(
        self, block: Block, arguments: Sequence[Any], outer: Mapping[str, Any]
    ) -> tuple[Any, ...]:
        """Return the outputs of a block that sees the names of ``outer``."""
        own = {item.name: given for item, given in zip(block.inputs, arguments, strict=True)}
        return self._run(block, own, outer)

    def _run(self, block: Block, own: dict[str, Any], outer: Mapping[str, Any]) -> tuple[Any, ...]:
        plan = self._plans[id(block)]
        scope = ChainMap(own, plan.constants, cast("dict[str, Any]", outer))
        for step in plan.steps:
            self._execute(step.operation, step.entry, scope)
            for name in step.drop:
                del own[name]
        return tuple(scope[name] for name in block.outputs)

    def _prepare(self, block: Block, given: Sequence[Named], outer: Mapping[str, Any]) -> None:
        """Plan a block and those inside it, and compute its constants.

        Compressed constants are unpacked once, here: their inputs are constants by definition.
        """
        constants: dict[str, Any] = {}
        scope = ChainMap(constants, cast("dict[str, Any]", outer))
        remaining = []
        for operation in block.operations:
            if operation.kind == "const":
                constants[operation.outputs[0].name] = _constant(operation.attributes["val"])
            elif operation.kind.startswith("constexpr_"):
                self._execute(operation, self._known[operation.kind], scope)
            else:
                remaining.append(operation)
        needed = {name for operation in remaining for name in names_used(operation)}
        needed.update(block.outputs)
        for name in constants.keys() - needed:
            del constants[name]
        self._plans[id(block)] = _Plan(constants, self._steps(block, remaining, given))
        for operation in remaining:
            for inner in operation.blocks:
                self._prepare(inner, inner.inputs, scope)

    def _steps(
        self, block: Block, remaining: Sequence[Operation], given: Sequence[Named]
    ) -> tuple[_Step, ...]:
        """Return the steps of a block; each drops what only it and those before it use."""
        own = {item.name for item in given if not isinstance(item.type, StateType)}
        own.update(item.name for operation in remaining for item in operation.outputs)
        kept = set(block.outputs)
        steps: list[_Step] = []
        for operation in reversed(remaining):
            names = set(names_used(operation)) | {item.name for item in operation.outputs}
            drop = tuple(sorted((names & own) - kept))
            kept |= names
            steps.append(_Step(operation, self._known[operation.kind], drop))
        return tuple(reversed(steps))

    def _execute(self, operation: Operation, entry: Entry, scope: MutableMapping[str, Any]) -> None:
        given = {name: self._argument(items, scope) for name, items in operation.inputs.items()}
        if operation.kind.startswith("constexpr_"):
            # Before iOS 18 the parameters of these are attributes.
            given |= {
                name: _constant(value)
                for name, value in operation.attributes.items()
                if name != "name"
            }
        leading = (Call(operation, self, scope),) if entry.wants_call else ()
        try:
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
        if self._observe is not None:
            self._observe(operation, given, tuple(scope[item.name] for item in operation.outputs))

    def _argument(self, items: tuple[Any, ...], scope: Mapping[str, Any]) -> Any:
        values = tuple(
            self._referred(item.name, scope) if isinstance(item, Ref) else _constant(item)
            for item in items
        )
        return values[0] if len(values) == 1 else values

    def _referred(self, name: str, scope: Mapping[str, Any]) -> Any:
        return self.states[name] if name in self.states else scope[name]


def _constant(value: Any) -> Any:
    """Return a constant as it is held."""
    half = isinstance(value, np.ndarray) and value.dtype == np.float16
    return value.astype(np.float32) if half else value


def _given(name: str, kind: TensorType, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return an input of the program as it is held."""
    value = inputs.get(name)
    told = "is missing" if value is None else f"has type {value.dtype}, shape {list(value.shape)}"
    if value is None or value.dtype != storage(kind.dtype) or not _fits(value.shape, kind):
        raise BuildError(
            f"input {name} {told}; the program declares {kind.dtype} {_sizes(kind.dims)}",
            code="E363",
            subject=name,
            hint="feed what the program declares",
        )
    return value.astype(held(kind.dtype), copy=False)


def _declared(result: Any, kind: TensorType | ListType | StateType) -> Any:
    """Return a result in its declared type, as it is held."""
    if not isinstance(kind, TensorType) or not isinstance(result, np.ndarray | np.generic):
        return result
    array = np.asarray(result)
    if not _fits(array.shape, kind):
        raise ValueError(f"made shape {list(array.shape)}, declared {_sizes(kind.dims)}")
    if kind.dtype == "float16":
        return to_half(array)
    return array.astype(storage(kind.dtype), copy=False)


def _fits(shape: tuple[int, ...], kind: TensorType) -> bool:
    return kind.any_rank or (
        len(shape) == len(kind.dims)
        and all(size is None or size == have for size, have in zip(kind.dims, shape, strict=True))
    )


def _sizes(dims: tuple[int | None, ...]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in dims)}]"


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
