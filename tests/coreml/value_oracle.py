"""coremltools' own evaluation of constants as an oracle for the interpreter.

While a program is built, coremltools works out what operations on constants give
(``value_inference``, in NumPy, for 113 of its operations). Each time it does, the same operation is
run by our interpreter on the same values, and the results are compared.
"""

from __future__ import annotations

import collections
from typing import Any

import numpy as np

from edgedeploy.errors import EdgedeployError
from edgedeploy.mil.interpreter import Interpreter
from edgedeploy.mil.program import Block, Named, Operation, Program, TensorType

_DTYPES = {"fp16": "float16", "fp32": "float32", "str": "string"}
_agreed: collections.Counter[str] = collections.Counter()
_unknown: collections.Counter[str] = collections.Counter()
_contradictions: collections.Counter[str] = collections.Counter()
_differences: list[dict[str, Any]] = []
_LIMIT = 200


def install() -> None:
    """Hook into coremltools."""
    from coremltools.converters.mil.mil import operation

    inner = operation.Operation._auto_val

    def watched(self: Any, output_types: tuple[Any, ...]) -> Any:
        values = inner(self, output_types)
        if self.op_type != "const" and values and values[0] is not None:
            _check(self, output_types, values)
        return values

    operation.Operation._auto_val = watched


def records() -> list[dict[str, Any]]:
    """Return the counts and what differed, for the plugin's file."""
    counts = [{"inferred": kind, "agreed": count} for kind, count in sorted(_agreed.items())]
    unknown = [{"inferred": kind, "unknown": count} for kind, count in sorted(_unknown.items())]
    contradictions = [
        {"inferred": kind, "contradicts": count} for kind, count in sorted(_contradictions.items())
    ]
    return [*counts, *unknown, *contradictions, *_differences]


def _check(op: Any, output_types: tuple[Any, ...], values: Any) -> None:
    """Run one operation that coremltools has evaluated."""
    try:
        inputs = {
            name: _constants(var)
            for name, var in op.inputs.items()
            if var is not None and not name.startswith("_")
        }
        outputs = tuple(
            Named(f"out{place}", _type(kind)) for place, kind in enumerate(output_types)
        )
        wanted = [_plain(item.val) for item in values]
        if any(
            not _consistent(kind.type, value) for kind, value in zip(outputs, wanted, strict=True)
        ):
            _contradictions[op.op_type] += 1
            return
    except LookupError:
        return
    made = Operation(kind=op.op_type, name="probe", inputs=inputs, outputs=outputs)
    names = tuple(item.name for item in outputs)
    body = Block(inputs=(), operations=(made,), outputs=names)
    program = Program(opset="probe", inputs=(), body=body, features={}, outputs=names)
    try:
        found = Interpreter(program).run({})
    except EdgedeployError as error:
        codes = {item.code for item in error.diagnostics}
        if codes == {"E361"}:
            _unknown[op.op_type] += 1
        else:
            _note(op.op_type, inputs, "; ".join(item.message for item in error.diagnostics))
        return
    for name, value in zip(names, wanted, strict=True):
        if not _same(found[name], value):
            _note(op.op_type, inputs, f"{found[name]!r:.300} not {value!r:.300}")
            return
    _agreed[op.op_type] += 1


def _consistent(kind: Any, value: Any) -> bool:
    """Return whether coremltools' value has the type that coremltools says it has.

    It does not for quotients of integers, and for slice_by_size from a negative begin to the end.
    """
    if isinstance(value, str):
        return bool(kind.dtype == "string")
    fits = len(value.shape) == len(kind.dims) and all(
        size is None or size == have for size, have in zip(kind.dims, value.shape, strict=True)
    )
    return fits and (value.dtype.kind == "f") == kind.dtype.startswith("float")


def _note(kind: str, inputs: Any, why: str) -> None:
    if len(_differences) < _LIMIT:
        given = {name: f"{value!r:.200}" for name, value in inputs.items()}
        _differences.append({"inferred": kind, "differs": why, "given": given})


def _constants(var: Any) -> tuple[Any, ...]:
    parts = var if isinstance(var, (list, tuple)) else [var]
    return tuple(_plain(part.val) for part in parts)


def _plain(value: Any) -> Any:
    """Return a value as the reader would give it.

    Raises:
        LookupError: It is not known, or no value of a saved program.
    """
    if isinstance(value, str):
        return value
    array = np.asarray(value) if value is not None else None
    if array is None or array.dtype.kind not in "biuf":
        raise LookupError
    if array.dtype in (np.int64, np.float64):
        array = array.astype(np.int32 if array.dtype == np.int64 else np.float32)
    return array


def _type(kind: Any) -> TensorType:
    from coremltools.converters.mil.mil import types

    if types.is_tensor(kind):
        dims = tuple(int(size) if str(size).isdigit() else None for size in kind.get_shape())
        return TensorType(_dtype(types.builtin_to_string(kind.get_primitive())), dims)
    if types.is_list(kind) or types.is_state(kind):
        raise LookupError
    return TensorType(_dtype(types.builtin_to_string(kind)))


def _dtype(name: str) -> str:
    return _DTYPES.get(name, name)


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, str):
        return bool(found == wanted)
    a, b = np.asarray(found), np.asarray(wanted)
    if a.shape != b.shape:
        return False
    rtol = 2e-3 if np.float16 in (a.dtype, b.dtype) else 1e-5
    finite = np.abs(b[np.isfinite(b)]) if b.dtype.kind == "f" else b
    atol = rtol * max(0.1, float(np.max(finite, initial=0)))
    return bool(np.allclose(a.astype(float), b.astype(float), rtol, atol, equal_nan=True))
