"""Changes of type (ONNX ``Cast``, ``CastLike``; MIL ``cast``)."""

from __future__ import annotations

from edgedeploy.backends.apple.dtypes import held_as
from edgedeploy.backends.apple.integers import limits, wrapped
from edgedeploy.backends.apple.mil_api import Var, mb
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.registry import op
from edgedeploy.backends.apple.scalars import is_float, like

_NAMES = {"float16": "fp16", "float32": "fp32", "int32": "int32", "bool": "bool"}


@op("Cast", "CastLike")
def cast(node: Node) -> Var:
    """Return a tensor in another type.

    Floats lose their fraction on the way to integers, integers wrap around in narrower ones, and
    all but zero is true. ``cast`` of MIL does not say which floats are true: they are compared.
    """
    source, wanted = node.dtype(0), node.made_dtype()
    held = held_as(wanted)
    if held is None:
        node.refuse(f"a cast to {wanted}, which Core ML has no type for", "leave the cast out")
    x = node.var(0)
    if wanted == "bool":
        return x if source == "bool" else mb.not_equal(x=x, y=like(x, 0))
    if held != "int32" or source == "bool":
        return mb.cast(x=x, dtype=_NAMES[held])
    if is_float(x):
        return mb.cast(x=x, dtype="int32")
    (lowest, highest), (have_lowest, have_highest) = limits(wanted), limits(source)
    fits = lowest <= have_lowest and have_highest <= highest
    return x if fits else wrapped(x, wanted)
