"""Matrix products.

Source: ``linear``, ``matmul`` and ``einsum`` of the MIL operations, iOS 15 and 17.
"""

from __future__ import annotations

import numpy as np

from edgedeploy.mil.registry import Array, op


@op("linear")
def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Return ``x @ weight.T + bias``.

    Args:
        x: ``[*D, D_in]``.
        weight: ``[D_out, D_in]``.
        bias: ``[D_out]``.
    """
    product = np.matmul(x, weight.T)
    return product if bias is None else product + bias


@op("matmul")
def matmul(
    x: Array,
    y: Array,
    transpose_x: Array | bool = False,
    transpose_y: Array | bool = False,
) -> Array:
    """Return the product of matrices in the last two axes, the others broadcast.

    Args:
        x: Rank 1 (a row) or more.
        y: Rank 1 (a column) or more.
        transpose_x: Whether the last two axes of ``x`` change places first; rank 1 has none.
        transpose_y: The same for ``y``.
    """
    if transpose_x and x.ndim > 1:
        x = x.swapaxes(-1, -2)
    if transpose_y and y.ndim > 1:
        y = y.swapaxes(-1, -2)
    return np.matmul(x, y)


@op("einsum")
def einsum(values: tuple[Array, Array], equation: str) -> Array:
    """Return a product over one axis; MIL knows ``nchw,nwhu->nchu`` and ``chw,whr->chr``.

    Args:
        values: ``[(B,) C, H, W]`` and ``[(B,) W, H, U]``; ``B`` and ``H`` broadcast.
        equation: One of the two, with any letters.

    Raises:
        ValueError: It is another equation, or there are not two operands.
    """
    left, right = values
    letters = "".join(dict.fromkeys(char for char in equation if char.isalpha()))
    known = equation.replace(" ", "").translate(str.maketrans(letters, "abcdefgh"[: len(letters)]))
    if known not in ("abcd,adce->abce", "abc,cbd->abd"):
        raise ValueError(f"{equation!r} is none of the two equations that MIL has")
    # [.., H, C, W] @ [.., H, W, U] broadcasts B and H where np.einsum would not.
    return np.matmul(left.swapaxes(-3, -2), right.swapaxes(-3, -2)).swapaxes(-3, -2)
