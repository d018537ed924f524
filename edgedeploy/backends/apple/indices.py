"""Indices as Core ML takes them: counted from the front.

From iOS 17 on it takes no others. The pass of coremltools that sees to it
(``guard_negative_gather_indices``) knows neither scatters nor the batch axes of ``gather_nd``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgedeploy.backends.apple.mil_api import Var, mb
from edgedeploy.backends.apple.shapes import Size, scalar, vector


def nonnegative(indices: Var, size: Size | Sequence[Size]) -> Var:
    """Return indices counted from the front.

    Args:
        indices: int32, each ``-size <= index < size``.
        size: Size of the axis; or several, one per entry of the last axis of ``indices``.
    """
    amount = vector(size) if isinstance(size, Sequence) else scalar(size)
    values = indices.val
    if values is not None and np.all(np.asarray(values) >= 0):
        return indices
    if values is not None and isinstance(amount, (np.ndarray, np.integer)):
        return mb.const(val=np.where(values < 0, values + amount, values).astype(np.int32))
    # The rest of a division that rounds down: -1 becomes size - 1, what is in range stays.
    return mb.mod(x=indices, y=amount)
