"""Inputs and outputs that are no arrays: states, and classes by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from edgedeploy.backends.apple.interface import Port, Wishes
from edgedeploy.backends.apple.mil_api import MIL_TYPES, Var, ct, mb, types
from edgedeploy.errors import BuildError, Diagnostic

STATE_TYPE = types.fp16
"""Core ML keeps states in float16 alone (StateType of coremltools)."""

LABEL = "classLabel"
PROBABILITIES = "classLabel_probs"
"""What coremltools calls the two outputs of a classifier: the class, and probabilities by class."""


def check_wishes(inputs: Sequence[Port], outputs: Sequence[Port], wishes: Wishes, ios: int) -> None:
    """Let an interface pass that Core ML can have.

    Raises:
        BuildError: A state (E346) or classes (E347) that it cannot, all at once.
    """
    found = [*_states(inputs, outputs, wishes, ios), *_classes(outputs, wishes)]
    if found:
        raise BuildError(found)


def _states(
    inputs: Sequence[Port], outputs: Sequence[Port], wishes: Wishes, ios: int
) -> Iterator[Diagnostic]:
    ports = {port.onnx_name: port for port in (*inputs, *outputs)}
    for given, made in wishes.states:
        first, last = ports.get(given), ports.get(made)
        why = ""
        if ios < 18:
            why = "states exist from iOS 18 and macOS 15 on"
        elif first is None or last is None:
            why = f"the model has no {given if first is None else made!r}"
        elif not all(isinstance(dim, int) for dim in first.dims):
            why = f"its shape {list(first.dims)} is open"
        elif "float" not in first.onnx_dtype:
            why = f"it is {first.onnx_dtype}, and states are float16"
        if why:
            yield Diagnostic(
                code="E346",
                message=f"Core ML cannot keep {given!r} as a state: {why}",
                subject=given,
                hint="leave `stateful` off for this target: the app then carries it from call to "
                "call",
            )


def _classes(outputs: Sequence[Port], wishes: Wishes) -> Iterator[Diagnostic]:
    if not wishes.classes:
        return
    port = outputs[0]
    count, unique = len(wishes.classes), len(set(wishes.classes))
    sizes = [dim for dim in port.dims if dim != 1]
    why = ""
    if sizes != [count]:
        why = f"its shape is {list(port.dims)}, and there are {count} classes"
    elif unique < count:
        why = f"{count - unique} classes have a name that stands there already"
    elif "float" not in port.onnx_dtype:
        why = f"it is {port.onnx_dtype}, and probabilities are floats"
    if why:
        yield Diagnostic(
            code="E347",
            message=f"Core ML cannot answer with a class for {port.onnx_name!r}: {why}",
            subject=port.onnx_name,
            hint="correct the file under `classes:`, or leave `classifier` off",
        )


def read_state(state: Var, port: Port) -> Var:
    """Return the value that a state has, in the type of the model's input."""
    value = mb.read_state(input=state)
    kind = MIL_TYPES[port.dtype]
    return value if kind is STATE_TYPE else mb.cast(x=value, dtype=types.builtin_to_string(kind))


def update_state(state: Var, value: Var) -> None:
    """Give a state its value for the next prediction."""
    half = mb.cast(x=value, dtype="fp16") if value.dtype != STATE_TYPE else value
    mb.coreml_update_state(state=state, value=half)


def classifier(outputs: Sequence[Port]) -> Any:
    """Return what coremltools takes for a classifier; None for anything else."""
    for port in outputs:
        if port.kind == "classes":
            return ct.ClassifierConfig(
                list(port.classes),
                predicted_feature_name=LABEL,
                predicted_probabilities_output=port.name,
            )
    return None
