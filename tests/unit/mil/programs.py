"""MIL programs written down as data, for tests of the interpreter."""

import numpy as np

from edgedeploy.mil.interpreter import Interpreter
from edgedeploy.mil.program import (
    Block,
    Named,
    Operation,
    Program,
    Ref,
    StateType,
    TensorType,
)


def tensor(name, *dims, dtype="float32"):
    """Return a named tensor type."""
    return Named(name, TensorType(dtype, dims))


def state(name, *dims, dtype="float16"):
    """Return a named state."""
    return Named(name, StateType(TensorType(dtype, dims)))


def const(name, value):
    """Return a constant."""
    value = np.asarray(value)
    output = tensor(name, *value.shape, dtype=value.dtype.name)
    return Operation(
        kind="const", name=name, inputs={}, outputs=(output,), attributes={"val": value}
    )


def call(kind, *outputs, blocks=(), **inputs):
    """Return an operation; texts among the inputs refer to values of that name."""
    given = {
        name: tuple(
            Ref(item) if isinstance(item, str) else np.asarray(item)
            for item in (value if isinstance(value, list) else [value])
        )
        for name, value in inputs.items()
    }
    name = outputs[0].name if outputs else kind
    return Operation(kind=kind, name=name, inputs=given, outputs=outputs, blocks=tuple(blocks))


def block(operations, outputs, inputs=()):
    """Return a block."""
    return Block(inputs=tuple(inputs), operations=tuple(operations), outputs=tuple(outputs))


def program(inputs, operations, outputs, *, opset="CoreML7", features=None):
    """Return a program."""
    return Program(
        opset=opset,
        inputs=tuple(inputs),
        body=block(operations, outputs),
        features=features or {},
        outputs=tuple(outputs),
    )


def machine(*arguments, **keywords):
    """Return an interpreter of a program."""
    return Interpreter(program(*arguments, **keywords))
