"""Reading and writing elements at computed places.

Source: ``gather*`` and ``scatter*`` of the MIL operations, iOS 15 to 17. Up to iOS 16 an index
below 0 counts from the end; from iOS 17 on, where ``validate_indices`` exists, it lies out of
bounds, and what hardware then does is undefined: here an index out of bounds always raises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgedeploy.mil.registry import Array, op

Flag = Array | bool | None
"""``validate_indices``: None where the program is older than it."""


def _places(indices: Array, size: int, validate_indices: Flag) -> Array:
    """Return indices as integers from 0 to ``size - 1``.

    Raises:
        IndexError: One is out of bounds.
    """
    places = indices.astype(np.int64)
    lowest = -size if validate_indices is None else 0
    if places.size and (places.min() < lowest or places.max() >= size):
        raise IndexError(f"an index is not between {lowest} and {size - 1}")
    return np.where(places < 0, places + size, places)


def _batches(sizes: Sequence[int], rank: int) -> tuple[Array, ...]:
    """Return one index per batch axis, shaped to broadcast with ``rank`` axes."""
    return tuple(
        np.arange(size).reshape([-1 if axis == place else 1 for axis in range(rank)])
        for place, size in enumerate(sizes)
    )


@op("gather")
def gather(
    x: Array,
    indices: Array,
    axis: Array | int = 0,
    batch_dims: Array | int = 0,
    validate_indices: Flag = None,
) -> Array:
    """Return slices of ``x`` along an axis.

    Args:
        x: ``D``.
        indices: ``N``, integers.
        axis: Of ``x``; may be negative.
        batch_dims: How many leading axes ``x`` and ``indices`` share.
        validate_indices: See the module.

    Returns:
        ``D[:axis] + N[batch_dims:] + D[axis + 1:]``.

    Raises:
        IndexError: An index is out of bounds.
    """
    along, batches = int(axis) % x.ndim, int(batch_dims)
    places = _places(indices, x.shape[along], validate_indices)
    if not batches:
        return np.take(x, places, axis=along)
    grid = _batches(places.shape[:batches], places.ndim)
    # [*batch, axis, *between, *rest] -> [*batch, *N[batch_dims:], *between, *rest].
    found = np.moveaxis(x, along, batches)[(*grid, places)]
    fresh = list(range(batches, places.ndim))
    return np.moveaxis(found, fresh, [place + along - batches for place in fresh])


@op("gather_along_axis")
def gather_along_axis(
    x: Array, indices: Array, axis: Array | int = 0, validate_indices: Flag = None
) -> Array:
    """Return, for each place of ``indices``, the element of ``x`` that it names along an axis.

    Args:
        x: Any shape.
        indices: The shape of ``x`` but for ``axis``, integers.
        axis: May be negative.
        validate_indices: See the module.

    Returns:
        The shape of ``indices``.

    Raises:
        IndexError: An index is out of bounds.
    """
    along = int(axis)
    return np.take_along_axis(x, _places(indices, x.shape[along], validate_indices), along)


def _columns(indices: Array, sizes: Sequence[int], validate_indices: Flag) -> tuple[Array, ...]:
    """Return the coordinates in the last axis as one array per axis of ``sizes``."""
    return tuple(
        _places(indices[..., place], sizes[place], validate_indices)
        for place in range(indices.shape[-1])
    )


@op("gather_nd")
def gather_nd(
    x: Array, indices: Array, batch_dims: Array | int = 0, validate_indices: Flag = None
) -> Array:
    """Return slices of ``x`` at coordinates.

    Args:
        x: ``D``.
        indices: ``K``: coordinates in the last axis, integers.
        batch_dims: How many leading axes ``x`` and ``indices`` share.
        validate_indices: See the module.

    Returns:
        ``K[:-1] + D[batch_dims + K[-1]:]``.

    Raises:
        IndexError: An index is out of bounds.
    """
    batches = int(batch_dims)
    columns = _columns(indices, x.shape[batches:], validate_indices)
    return x[(*_batches(indices.shape[:batches], indices.ndim - 1), *columns)]


_UFUNCS: dict[str, Callable[..., Any]] = {
    "add": np.add.at,
    "sub": np.subtract.at,
    "mul": np.multiply.at,
    "div": np.divide.at,
    "max": np.maximum.at,
    "min": np.minimum.at,
}


def _write(data: Array, places: tuple[Any, ...], updates: Array, mode: str) -> Array:
    """Return ``data`` with ``updates`` at ``places``; a repeated place takes all, in order."""
    out = data.copy()
    if mode == "update":
        out[places] = updates
    elif mode == "div" and data.dtype.kind != "f":
        raise ValueError("nothing says how integers are divided while they are scattered")
    else:
        _UFUNCS[mode](out, places, updates)
    return out


@op("scatter")
def scatter(
    data: Array,
    indices: Array,
    updates: Array,
    axis: Array | int = 0,
    mode: str = "add",
    validate_indices: Flag = None,
) -> Array:
    """Return ``data`` with whole slices along an axis changed.

    Args:
        data: ``D``.
        indices: ``[C]``, integers.
        updates: ``D[:axis] + [C] + D[axis + 1:]``.
        axis: May be negative.
        mode: ``update``, ``add``, ``sub``, ``mul``, ``div``, ``max`` or ``min``.
        validate_indices: See the module.

    Raises:
        IndexError: An index is out of bounds.
    """
    along = int(axis) % data.ndim
    places = _places(indices, data.shape[along], validate_indices)
    return _write(data, (*[slice(None)] * along, places), updates, mode)


@op("scatter_along_axis")
def scatter_along_axis(
    data: Array,
    indices: Array,
    updates: Array,
    axis: Array | int = 0,
    mode: str = "add",
    validate_indices: Flag = None,
) -> Array:
    """Return ``data`` with elements changed that ``indices`` names along an axis.

    Args:
        data: Any shape.
        indices: The shape of ``data`` but for ``axis``, integers.
        updates: The shape of ``indices``.
        axis: May be negative.
        mode: As for :func:`scatter`.
        validate_indices: See the module.

    Raises:
        IndexError: An index is out of bounds.
    """
    along = int(axis) % data.ndim
    grid: list[Any] = list(_batches(indices.shape, indices.ndim))
    grid[along] = _places(indices, data.shape[along], validate_indices)
    return _write(data, tuple(grid), updates, mode)


@op("scatter_nd")
def scatter_nd(
    data: Array,
    indices: Array,
    updates: Array,
    mode: str = "add",
    validate_indices: Flag = None,
) -> Array:
    """Return ``data`` with slices at coordinates changed.

    Args:
        data: ``D``.
        indices: ``K``: coordinates in the last axis, integers.
        updates: ``K[:-1] + D[K[-1]:]``.
        mode: As for :func:`scatter`.
        validate_indices: See the module.

    Raises:
        IndexError: An index is out of bounds.
    """
    return _write(data, _columns(indices, data.shape, validate_indices), updates, mode)
