"""Dims as they are written: ``8``, ``1..64``, ``320..960/32``, ``[160, 320, 640]``."""

from __future__ import annotations

import re

from edgedeploy.profile.types import DimSpec

LARGEST_DIM = 2**31 - 1
"""Largest size of one axis that every backend can index."""

_RANGE = re.compile(
    r"([0-9]{1,12})\s{0,4}\.\.\s{0,4}([0-9]{1,12})(?:\s{0,4}/\s{0,4}([0-9]{1,12}))?"
)
_HINT = "write a size (`8`), a range (`1..64`, `320..960/32`) or buckets (`[160, 320, 640]`)"


class DimError(ValueError):
    """A text or value that is no dim.

    Attributes:
        hint: The way out, one sentence in the imperative.
    """

    def __init__(self, message: str, hint: str = _HINT) -> None:
        super().__init__(message)
        self.hint = hint


def parse_dim(value: object) -> DimSpec:
    """Return what sizes an axis may take.

    Args:
        value: A positive int, a text ``low..high`` or ``low..high/step``, or a list of positive
            ints that rise.

    Raises:
        DimError: It is none of these.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return DimSpec(fixed=_size(value))
    if isinstance(value, list):
        return DimSpec(buckets=_buckets(value))
    found = _RANGE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise DimError(f"`{str(value)[:40]}` is no dim")
    low, high, step = (_size(int(item or "1")) for item in found.groups())
    if low == high:
        raise DimError(f"the range `{value}` holds one size", f"write `{low}`")
    if low > high:
        raise DimError(f"the range `{value}` runs backwards", f"write `{high}..{low}`")
    if (high - low) % step:
        last = high - (high - low) % step
        raise DimError(
            f"steps of {step} from {low} do not reach {high}",
            f"end the range at {last} or {last + step}",
        )
    return DimSpec(low=low, high=high, step=step)


def format_dim(dim: DimSpec) -> int | str | list[int]:
    """Return a dim as it is written; :func:`parse_dim` reads it back."""
    if dim.fixed is not None:
        return dim.fixed
    if dim.buckets:
        return list(dim.buckets)
    return f"{dim.low}..{dim.high}" + (f"/{dim.step}" if dim.step != 1 else "")


def takes(dim: DimSpec, size: int) -> bool:
    """Return whether an axis may have a size."""
    if dim.low is not None and dim.high is not None:
        return dim.low <= size <= dim.high and (size - dim.low) % dim.step == 0
    return size in (dim.buckets or (dim.fixed,))


def sizes_of(dim: DimSpec) -> list[int]:
    """Return what an open dim should be tried with: its buckets, or the ends and the middle."""
    if dim.buckets:
        return list(dim.buckets)
    low, high = dim.low or 1, dim.high or 1
    return [low, low + (high - low) // 2 // dim.step * dim.step, high]


def _size(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise DimError(f"`{str(value)[:40]}` is no size")
    if not 1 <= value <= LARGEST_DIM:
        raise DimError(f"`{value}` is no size of an axis (1 to {LARGEST_DIM})")
    return value


def _buckets(values: list[object]) -> tuple[int, ...]:
    sizes = tuple(_size(item) for item in values)
    if len(sizes) < 2:
        raise DimError("buckets are at least two sizes", "write the one size without brackets")
    if list(sizes) != sorted(set(sizes)):
        rising = sorted(set(sizes))
        raise DimError("buckets must rise, each size once", f"write `{rising}`")
    return sizes
