"""What is known to go wrong with a saved program on Apple hardware, though coremltools accepts it.

The interpreter computes what MIL documents. These rules hold what was seen on real devices instead
(told in the comments of onnxsim's ``coreml_export``, and in the tests that coremltools leaves out
with the number of an issue at Apple), and habits of coremltools that change a program behind its
builder's back. They are checked on the package as it was saved: passes may have put in what the
front end did not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgedeploy.mil.program import (
    Block,
    Named,
    Operation,
    Program,
    Ref,
    StateType,
    TensorType,
    Type,
)

MAX_RANK = 5

_BEFORE_IOS17 = ("CoreML5", "CoreML6")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a program should not have.

    Attributes:
        rule: Name of the rule, such as ``select-shapes``.
        subject: The operation or input.
        message: What is wrong, in one clause.
    """

    rule: str
    subject: str
    message: str


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the rules look up: types and constants by the names of values."""

    opset: str
    types: Mapping[str, Type]
    constants: Mapping[str, Any]

    def dims(self, operation: Operation, parameter: str) -> tuple[int | None, ...] | None:
        """Return the declared sizes of a parameter; None where it is absent or no tensor."""
        (given, *_) = operation.inputs.get(parameter, (None,))
        if isinstance(given, Ref):
            kind = self.types.get(given.name)
            return kind.dims if isinstance(kind, TensorType) else None
        return None if given is None else np.shape(given)

    def constant(self, operation: Operation, parameter: str) -> Any:
        """Return the value of a parameter; None where it is absent or computed."""
        (given, *_) = operation.inputs.get(parameter, (None,))
        return self.constants.get(given.name) if isinstance(given, Ref) else given


Rule = Callable[[Operation, _Facts], Iterator[str]]


def findings(program: Program) -> tuple[Finding, ...]:
    """Return everything that a program should not have, in the order of the program."""
    types: dict[str, Type] = {item.name: item.type for item in program.inputs}
    constants: dict[str, Any] = {}
    ordered = list(_walk(program.body, types, constants))
    facts = _Facts(program.opset, types, constants)
    found = [
        Finding(rule, item.name, text) for item in program.inputs for rule, text in _port(item)
    ]
    found += [Finding("interface", name, text) for name, text in _interface(program)]
    for operation in ordered:
        for name, rule in _RULES.items():
            found += [Finding(name, operation.name, text) for text in rule(operation, facts)]
    return tuple(found)


def _walk(block: Block, types: dict[str, Type], constants: dict[str, Any]) -> Iterator[Operation]:
    """Yield all operations, gathering types and constants on the way."""
    types.update((item.name, item.type) for item in block.inputs)
    for operation in block.operations:
        types.update((item.name, item.type) for item in operation.outputs)
        if operation.kind == "const":
            constants[operation.outputs[0].name] = operation.attributes["val"]
        else:
            yield operation
        for inner in operation.blocks:
            yield from _walk(inner, types, constants)


def _port(item: Named) -> Iterator[tuple[str, str]]:
    """Core ML has no inputs without axes."""
    if isinstance(item.type, TensorType) and not item.type.dims:
        yield "input-rank", "an input without axes, which Core ML does not take"


def _interface(program: Program) -> Iterator[tuple[str, str]]:
    """What an app may feed must be what the program takes, with sizes that someone chose.

    coremltools gives int8 and bool inputs another type at the interface, and open sizes without a
    range the range 1 to 2.
    """
    for item in program.inputs:
        feature = program.features.get(item.name)
        if feature is None or feature.kind != "array":
            continue
        kind = item.type.wrapped if isinstance(item.type, StateType) else item.type
        if isinstance(kind, TensorType) and feature.dtype != kind.dtype:
            yield item.name, f"apps feed {feature.dtype}, the program takes {kind.dtype}"
        for axis, (low, high) in enumerate(feature.bounds):
            if high is None:
                yield item.name, f"axis {axis} has no highest size"
            elif (low, high) == (1, 2):
                yield item.name, f"axis {axis} may be 1 to 2: what coremltools takes unasked"


def _select_shapes(operation: Operation, facts: _Facts) -> Iterator[str]:
    """The Neural Engine refuses a select that broadcasts (onnxsim)."""
    if operation.kind == "select":
        shapes = [facts.dims(operation, name) for name in ("cond", "a", "b")]
        if len(set(shapes)) > 1:
            yield f"a select that broadcasts shapes {', '.join(map(str, shapes))}"


def _rank(operation: Operation, facts: _Facts) -> Iterator[str]:
    """No tensor has more than five axes (coremltools checks the ones that its builder makes)."""
    for item in operation.outputs:
        if isinstance(item.type, TensorType) and len(item.type.dims) > MAX_RANK:
            yield f"a tensor of {len(item.type.dims)} axes; Core ML has at most {MAX_RANK}"


def _indices(operation: Operation, facts: _Facts) -> Iterator[str]:
    """From iOS17 the compiler wants validate_indices stated, and indices are not negative."""
    if not operation.kind.startswith(("gather", "scatter")) or facts.opset in _BEFORE_IOS17:
        return
    if "validate_indices" not in operation.inputs:
        yield "no validate_indices, which coremlcompiler refuses"
    indices = facts.constant(operation, "indices")
    if indices is not None and np.any(np.asarray(indices) < 0):
        yield "negative indices, which lie outside from iOS17 on"


def _nearest(operation: Operation, facts: _Facts) -> Iterator[str]:
    """Devices take other pixels unless every output size is a multiple of the input's (onnxsim)."""
    if operation.kind != "resize_nearest_neighbor":
        return
    (output,) = operation.outputs
    before, after = facts.dims(operation, "x"), output.type
    if before is None or not isinstance(after, TensorType):
        return
    for old, new in zip(before[-2:], after.dims[-2:], strict=True):
        if old is None or new is None or new % old:
            yield f"a nearest resize from {old} to {new}, where devices take other pixels"


def _padding(operation: Operation, facts: _Facts) -> Iterator[str]:
    """Reflecting and replicating work on the last two axes alone."""
    if operation.kind != "pad" or facts.constant(operation, "mode") in (None, "constant"):
        return
    pads = facts.constant(operation, "pad")
    if pads is None or np.any(np.asarray(pads)[:-4]):
        yield "reflects or replicates along other axes than the last two"


def _zero_sizes(operation: Operation, facts: _Facts) -> Iterator[str]:
    """The pass merge_consecutive_reshapes keeps a 0, which then refers to another input.

    A front end that resolves sizes emits none: a 0 in a saved package is coremltools' doing.
    """
    if operation.kind == "reshape":
        shape = facts.constant(operation, "shape")
        if shape is not None and np.any(np.asarray(shape) == 0):
            yield f"reshapes to {np.asarray(shape).tolist()}: the axis a 0 stands for is not sure"


def _inherited_sizes(operation: Operation, facts: _Facts) -> Iterator[str]:
    """A resize that takes over sizes by a 0 fails (rdar://112418424)."""
    if operation.kind == "resize":
        shape = facts.constant(operation, "shape")
        if shape is not None and np.any(np.asarray(shape) == 0):
            yield "a resize that takes over sizes of its input, which fails on devices"


def _squeezed(operation: Operation, facts: _Facts) -> Iterator[str]:
    """Squeezing an axis of another size than 1 fails on the CPU (rdar://124555262)."""
    if operation.kind != "squeeze":
        return
    axes, dims = facts.constant(operation, "axes"), facts.dims(operation, "x")
    if axes is not None and dims:
        sizes = {dims[int(axis)] for axis in np.atleast_1d(axes)} - {1, None}
        if sizes:
            yield f"squeezes axes of sizes {sorted(map(str, sizes))}, which fails on the CPU"


def _scalar_update(operation: Operation, facts: _Facts) -> Iterator[str]:
    """A slice_update with a scalar fails (rdar://128221986; MIL's documentation says so too)."""
    if operation.kind == "slice_update" and facts.dims(operation, "update") == ():
        yield "an update without axes, which devices do not take"


_RULES: Mapping[str, Rule] = {
    "select-shapes": _select_shapes,
    "rank": _rank,
    "indices": _indices,
    "nearest": _nearest,
    "padding": _padding,
    "zero-size": _zero_sizes,
    "inherited-sizes": _inherited_sizes,
    "squeezed": _squeezed,
    "scalar-update": _scalar_update,
}
