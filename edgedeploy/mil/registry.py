"""Which function computes which MIL operation.

A function takes the operation's parameters by their MIL names and returns one array per output.
Arrays of ``float16`` arrive as ``float32``: the engine rounds every output to its declared type, as
hardware that accumulates in float32 and stores float16 does. Strings arrive as ``str``, lists of
tensors as tuples. A parameter that a program leaves out takes the function's default, which must
be the one that MIL documents.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Compute = Callable[..., Any]

Array = Any
"""A NumPy array; NumPy's own annotations cannot follow arithmetic on arrays of any dtype."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One operation.

    Attributes:
        compute: The function.
        wants_call: Whether its first argument is the :class:`~edgedeploy.mil.interpreter.Call`,
            for what the parameters do not tell: declared output types, blocks, states.
    """

    compute: Compute
    wants_call: bool


_ENTRIES: dict[str, Entry] = {}


def op(*kinds: str, call: bool = False) -> Callable[[Compute], Compute]:
    """Register the decorated function for MIL operations.

    Args:
        kinds: Names of the operations that it computes.
        call: Whether it wants the call as its first argument.
    """

    def register(compute: Compute) -> Compute:
        for kind in kinds:
            if kind in _ENTRIES:
                raise ValueError(f"{kind} is registered twice")
            _ENTRIES[kind] = Entry(compute, call)
        return compute

    return register


def entries() -> dict[str, Entry]:
    """Return all operations by kind, loading the families in ``mil/ops/`` on the first call."""
    from edgedeploy.mil import ops

    for module in pkgutil.iter_modules(ops.__path__):
        importlib.import_module(f"{ops.__name__}.{module.name}")
    return _ENTRIES
