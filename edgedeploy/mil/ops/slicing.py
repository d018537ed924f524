"""Operations that take, replace or repeat parts of a tensor, and that put tensors together.

MIL documentation: ``tensor_transformation`` of iOS15, iOS17 and iOS18, ``tensor_operation``.
"""

from __future__ import annotations

import numpy as np

from edgedeploy.mil.registry import Array, op


def _slices(
    rank: int,
    begin: Array,
    end: Array,
    stride: Array | None,
    begin_mask: Array | None,
    end_mask: Array | None,
    squeeze_mask: Array | None,
) -> tuple[slice | int, ...]:
    """Return NumPy's index for the parameters that ``slice_by_index`` and ``slice_update`` share.

    A masked begin or end is the outermost one in the direction of the stride.
    """
    found: list[slice | int] = []
    for axis in range(rank):
        first = None if begin_mask is not None and begin_mask[axis] else int(begin[axis])
        if squeeze_mask is not None and squeeze_mask[axis]:
            found.append(first or 0)
            continue
        last = None if end_mask is not None and end_mask[axis] else int(end[axis])
        found.append(slice(first, last, 1 if stride is None else int(stride[axis])))
    return tuple(found)


@op("slice_by_index")
def slice_by_index(
    x: Array,
    begin: Array,
    end: Array,
    stride: Array | None = None,
    begin_mask: Array | None = None,
    end_mask: Array | None = None,
    squeeze_mask: Array | None = None,
) -> Array:
    """Return ``x[begin:end:stride, ...]``, one of each per axis.

    Args:
        x: Any tensor.
        begin: First index; negative ones count from the end, as in NumPy.
        end: One past the last.
        stride: Steps; all 1 by default.
        begin_mask: Where true, ``begin`` is ignored: from the outermost element.
        end_mask: Where true, ``end`` is ignored: to the outermost element.
        squeeze_mask: Where true, the element at ``begin`` alone is taken and the axis dropped.
    """
    return x[_slices(x.ndim, begin, end, stride, begin_mask, end_mask, squeeze_mask)]


@op("slice_update")
def slice_update(
    x: Array,
    update: Array,
    begin: Array,
    end: Array,
    stride: Array | None = None,
    begin_mask: Array | None = None,
    end_mask: Array | None = None,
    squeeze_mask: Array | None = None,
) -> Array:
    """Return a copy of ``x`` with the part that :func:`slice_by_index` takes replaced.

    Raises:
        ValueError: ``update`` has another shape than the part.
    """
    changed = np.array(x)
    part = _slices(x.ndim, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    if changed[part].shape != update.shape:
        raise ValueError(f"a part of shape {changed[part].shape}, an update of {update.shape}")
    changed[part] = update
    return changed


@op("slice_by_size")
def slice_by_size(x: Array, begin: Array, size: Array) -> Array:
    """Return ``size`` elements per axis from ``begin`` on; a size of -1 takes all that remain.

    Raises:
        ValueError: The part does not lie within ``x``, or a size is 0.
    """
    index = []
    for have, first, count in zip(x.shape, map(int, begin), map(int, size), strict=True):
        start = first + have if first < 0 else first
        stop = have if count == -1 else start + count
        if not 0 <= start < stop <= have:
            raise ValueError(f"{count} elements from {first} on of {have}")
        index.append(slice(start, stop))
    return x[tuple(index)]


@op("reverse")
def reverse(x: Array, axes: Array | None = None) -> Array:
    """Return ``x`` with the order along ``axes`` reversed; along all by default."""
    chosen = None if axes is None else tuple(int(axis) for axis in np.atleast_1d(axes))
    return np.flip(x, chosen)


@op("reverse_sequence")
def reverse_sequence(x: Array, lengths: Array, seq_axis: Array = 0, batch_axis: Array = 0) -> Array:
    """Return ``x`` with the first ``lengths[i]`` elements along ``seq_axis`` reversed.

    Args:
        x: Any tensor.
        lengths: One per element of ``batch_axis``.
        seq_axis: Axis to reverse along.
        batch_axis: Axis that ``i`` runs over.

    Raises:
        ValueError: A length that ``x`` does not have.
    """
    sequence, batch = int(seq_axis) % x.ndim, int(batch_axis) % x.ndim
    size = x.shape[sequence]
    if lengths.shape != (x.shape[batch],) or np.any((lengths < 0) | (lengths > size)):
        raise ValueError(f"lengths {lengths.tolist()} for shape {list(x.shape)}")
    places = np.arange(size)
    counts = lengths.astype(np.intp)[:, None]
    source = np.where(places < counts, counts - 1 - places, places)
    sides = [1] * x.ndim
    sides[batch], sides[sequence] = source.shape
    aligned = source if batch < sequence else source.T
    return np.take_along_axis(x, aligned.reshape(sides), sequence)


@op("tile")
def tile(x: Array, reps: Array) -> Array:
    """Return ``x`` repeated ``reps[i]`` times along axis ``i``."""
    if len(reps) != x.ndim:
        raise ValueError(f"{len(reps)} repetitions for {x.ndim} axes")
    return np.tile(x, [int(count) for count in reps])


@op("sliding_windows")
def sliding_windows(x: Array, axis: Array, size: Array, stride: Array = 1) -> Array:
    """Return all windows of ``size`` along ``axis``, every ``stride``; a new axis follows it."""
    place = int(axis) % x.ndim
    windows = np.lib.stride_tricks.sliding_window_view(x, int(size), axis=place)
    taken = windows[(slice(None),) * place + (slice(None, None, int(stride)),)]
    return np.moveaxis(taken, -1, place + 1)


@op("pad")
def pad(x: Array, pad: Array, mode: str = "constant", constant_val: Array = 0) -> Array:
    """Return ``x`` with its last axes made longer.

    Args:
        x: Any tensor.
        pad: Elements before and after, for each of the last ``len(pad) / 2`` axes.
        mode: ``constant``, ``reflect`` (at most size - 1) or ``replicate`` (at most size).
        constant_val: Filling of ``constant``.

    Raises:
        ValueError: More than ``mode`` allows, or another mode.
    """
    pairs = [(int(low), int(high)) for low, high in np.reshape(pad, (-1, 2))]
    pairs = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    if mode == "constant":
        return np.pad(x, pairs, constant_values=np.asarray(constant_val, x.dtype))
    if mode not in ("reflect", "replicate"):
        raise ValueError(f"mode {mode}")
    spare = 1 if mode == "reflect" else 0
    if any(
        max(pair) > size - spare for pair, size in zip(pairs, x.shape, strict=True) if any(pair)
    ):
        raise ValueError(f"{mode} of {pairs} around shape {list(x.shape)}")
    return np.pad(x, pairs, mode="reflect" if mode == "reflect" else "edge")


@op("concat")
def concat(values: Array | tuple[Array, ...], axis: Array, interleave: Array = False) -> Array:
    """Return tensors one after the other along ``axis``.

    Args:
        values: Tensors; scalars become a vector.
        axis: The axis.
        interleave: Take one element of each in turn; all must have the same shape.
    """
    given = values if isinstance(values, tuple) else (values,)
    if given[0].ndim == 0:
        return np.stack(given, axis=int(axis))
    if not interleave:
        return np.concatenate(given, axis=int(axis))
    place = int(axis) % given[0].ndim
    stacked = np.stack(given, axis=place + 1)
    shape = list(given[0].shape)
    shape[place] *= len(given)
    return stacked.reshape(shape)


@op("stack")
def stack(values: Array | tuple[Array, ...], axis: Array) -> Array:
    """Return tensors of one shape along a new axis."""
    return np.stack(values if isinstance(values, tuple) else (values,), axis=int(axis))


@op("split")
def split(
    x: Array, axis: Array, num_splits: Array | None = None, split_sizes: Array | None = None
) -> tuple[Array, ...]:
    """Return ``x`` cut into pieces along ``axis``.

    Args:
        x: Any tensor.
        axis: Where to cut.
        num_splits: How many pieces; equal ones where ``split_sizes`` is not given.
        split_sizes: Their sizes.

    Raises:
        ValueError: The pieces do not make up ``x``.
    """
    size = x.shape[int(axis)]
    if split_sizes is None:
        if num_splits is None:
            raise ValueError("neither num_splits nor split_sizes")
        return tuple(np.split(x, int(num_splits), axis=int(axis)))
    sizes = [int(piece) for piece in split_sizes]
    if sum(sizes) != size or (num_splits is not None and int(num_splits) != len(sizes)):
        raise ValueError(f"pieces of {sizes} from {size}")
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis=int(axis)))
