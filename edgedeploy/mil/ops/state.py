"""Operations on states: tensors that keep their value between predictions.

MIL documentation: ``states`` of iOS18. A saved program has ``write_state`` and ``read_state`` where
its builder had ``coreml_update_state``.
"""

from __future__ import annotations

from edgedeploy.mil.interpreter import Call
from edgedeploy.mil.registry import Array, op


@op("read_state")
def read_state(input: Array) -> Array:
    """Return the value that a state has now."""
    return input


@op("write_state", call=True)
def write_state(call: Call, input: Array, data: Array) -> tuple[()]:
    """Give a state another value."""
    call.write_state("input", data)
    return ()
