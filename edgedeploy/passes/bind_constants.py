"""An input that always gets the same value becomes an initialiser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from edgedeploy.errors import ModelError
from edgedeploy.passes.base import Pass


class BindConstants(Pass):
    """Turns inputs into constants.

    Args:
        values: JSON numbers or nested lists (or arrays) by input name.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def apply(self, model: ir.Model) -> bool:
        """Replace each named input by an initialiser of its type and shape (E221)."""
        for name, given in self._values.items():
            value = next((item for item in model.graph.inputs if item.name == name), None)
            if value is None or value.dtype is None:
                raise ModelError(
                    f"the model has no tensor input {name!r} that could get a constant value",
                    code="E221",
                    subject=name,
                    hint="name one of the model's inputs",
                )
            array = _fitted(given, value)
            model.graph.inputs.remove(value)
            value.const_value = ir.tensor(array, dtype=value.dtype, name=name)
            value.shape = ir.Shape(array.shape)
            model.graph.register_initializer(value)
        return bool(self._values)

    def ensures(self, model: ir.Model) -> str | None:
        """None of them is an input any more."""
        left = [value.name for value in model.graph.inputs if value.name in self._values]
        return f"{left} are still inputs" if left else None


def _fitted(given: Any, value: ir.Value) -> np.ndarray:
    """Return the value in the input's type; refuses what does not fit type or shape."""
    wanted = value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)
    try:
        raw = np.asarray(given)
        array = raw.astype(wanted)
        exact = raw.dtype.kind in "biuf" and (
            np.array_equal(array.astype(raw.dtype), raw) or np.dtype(wanted).kind == "f"
        )
    except (TypeError, ValueError, OverflowError):
        exact = False
    if not exact:
        raise ModelError(
            f"the value {given!r:.60} does not fit the input's type {wanted}",
            code="E221",
            subject=value.name,
            hint="give a number, or nested lists of numbers, of that type",
        )
    dims = None if value.shape is None else tuple(value.shape)
    if dims is not None and array.size == 1 and len(dims) != array.ndim:
        # A single number is meant for a tensor of one element, whatever its rank.
        array = array.reshape((1,) * len(dims))
    fits = dims is None or (
        len(dims) == array.ndim
        and all(
            not isinstance(dim, int) or dim < 1 or dim == size
            for dim, size in zip(dims, array.shape, strict=True)
        )
    )
    if not fits:
        raise ModelError(
            f"a value of shape {array.shape} does not fit the input's shape {value.shape}",
            code="E221",
            subject=value.name,
            hint="give nested lists of the input's shape",
        )
    return array
