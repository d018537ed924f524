"""Constants in the type of the value that they meet: MIL mixes no types."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgedeploy.backends.apple.mil_api import Var, types


def like(var: Var, value: Any) -> Any:
    """Return numbers in the dtype of ``var``.

    Args:
        var: A MIL value.
        value: A number or an array of them.

    Returns:
        A NumPy scalar or array.
    """
    return np.asarray(value).astype(types.nptype_from_builtin(var.dtype))[()]


def is_float(var: Var) -> bool:
    """Return whether a MIL value holds floats."""
    return var.dtype in (types.fp16, types.fp32)
