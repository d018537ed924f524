"""What is used of coremltools, in one place: much of it is not documented as public.

coremltools takes seconds to load and warns of what only exists on a Mac, so nothing outside this
package imports this module at its top, and its messages are held back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from edgedeploy.mil.quiet import quiet

with quiet():
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import Function, Program, get_new_symbol, types
    from coremltools.converters.mil.mil.passes.pass_pipeline import PassPipelineManager
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY
    from coremltools.converters.mil.mil.scope import ScopeInfo, ScopeSource
    from coremltools.converters.mil.mil.types.symbolic import any_symbolic, is_symbolic
    from coremltools.optimize import coreml as optimize

Var = Any
"""A value of a MIL program under construction (``coremltools.converters.mil.mil.Var``)."""

TARGETS: dict[int, Any] = {16: ct.target.iOS16, 17: ct.target.iOS17, 18: ct.target.iOS18}
"""Deployment target by the major version of iOS; macOS 13, 14 and 15 run the same programs."""

MIL_TYPES: dict[str, Any] = {
    "float16": types.fp16,
    "float32": types.fp32,
    "bool": types.bool,
    "int32": types.int32,
}

NARROW_TYPES: dict[str, Any] = {
    "int8": np.dtype(np.int8),
    "uint8": np.dtype(np.uint8),
    "int4": types.np_int4_dtype,
    "uint4": types.np_uint4_dtype,
}
"""NumPy dtype of a constant of integers by its MIL type; those of four bits carry a mark."""

NARROW_INTEGERS = (types.int8, types.uint8)
"""Integers that few operations take."""


@contextlib.contextmanager
def checked_once() -> Iterator[None]:
    """Have ``ct.convert`` check a program once, before it is written.

    coremltools 9.0 checks the whole program after each of some 100 passes and prints it for a log
    that nobody keeps: half of the time of a conversion. What a pass does depends on neither; the
    check of the backend, which comes last, stays.
    """
    checking = PassPipelineManager.apply_pipeline
    PassPipelineManager.apply_pipeline = staticmethod(_run_passes)
    try:
        yield
    finally:
        PassPipelineManager.apply_pipeline = staticmethod(checking)


def _run_passes(program: Program, pipeline: Any) -> None:
    pipeline.validate()
    for name in pipeline.passes:
        apply = PASS_REGISTRY[name]
        apply.set_options(pipeline.get_options(name))
        apply(program)


def unknown(var: Var) -> Var:
    """Return a value that the builder takes for unknown, though it is a constant.

    ``while_loop`` builds its body for the values that its variables start with.
    """
    made = mb.identity(x=var)
    made._sym_val = None
    return made


def type_name(var: Var) -> str:
    """Return the type of a value: ``fp16 fp32 bool int8 uint8 int32 int4 uint4 ...``."""
    return str(types.builtin_to_string(var.dtype))


__all__ = [
    "MIL_TYPES",
    "NARROW_INTEGERS",
    "NARROW_TYPES",
    "TARGETS",
    "Function",
    "Program",
    "ScopeInfo",
    "ScopeSource",
    "Var",
    "any_symbolic",
    "checked_once",
    "ct",
    "get_new_symbol",
    "is_symbolic",
    "mb",
    "optimize",
    "quiet",
    "type_name",
    "types",
    "unknown",
]
