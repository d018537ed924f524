"""Frozen dataclasses as JSON data and back, by their annotations; no field may be too many."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, cast

from edgedeploy.errors import Diagnostic


def to_plain(value: Any) -> Any:
    """Return a value of dataclasses, maps, lists and scalars as JSON data.

    A float that is not finite becomes None.
    """
    if isinstance(value, Diagnostic):
        return value.to_json()
    if dataclasses.is_dataclass(value):
        return {
            item.name: to_plain(getattr(value, item.name)) for item in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def from_plain(wanted: Any, data: Any, place: str) -> Any:
    """Return JSON data as a value of the annotated type ``wanted``.

    Args:
        wanted: A dataclass, or a type that its annotations may have: scalars, ``X | None``,
            ``Literal``, ``tuple[X, ...]``, ``Mapping[str, X]``, dataclasses.
        data: JSON data, from anywhere.
        place: What it is called in messages.

    Raises:
        ValueError: A field is missing, unknown or of another type; the message names its place.
    """
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (types.UnionType, typing.Union):
        if data is None and type(None) in arguments:
            return None
        return from_plain(next(item for item in arguments if item is not type(None)), data, place)
    if wanted is Diagnostic and isinstance(data, dict):
        return Diagnostic.from_json(data)
    if dataclasses.is_dataclass(wanted):
        return _fields(cast(type[Any], wanted), data, place)
    if origin is tuple and isinstance(data, list):
        return tuple(
            from_plain(arguments[0], item, f"{place}[{number}]") for number, item in enumerate(data)
        )
    if origin is Mapping and isinstance(data, dict):
        return {key: from_plain(arguments[1], item, f"{place}.{key}") for key, item in data.items()}
    if wanted is Any or (origin is Literal and data in arguments):
        return data
    if wanted is float and type(data) is int:
        return float(data)
    # Not isinstance: True is no count.
    if type(data) is wanted:
        return data
    raise ValueError(f"`{place}` is {data!r:.60}")


def _fields(wanted: type[Any], data: Any, place: str) -> Any:
    if not isinstance(data, dict):
        raise ValueError(f"`{place}` is {data!r:.60}")
    fields = {item.name for item in dataclasses.fields(wanted)}
    if fields != data.keys():
        odd = sorted(fields ^ data.keys())
        raise ValueError(f"`{place}` has missing or unknown fields: {', '.join(odd)}")
    hints = _hints(cast(Any, wanted))
    return wanted(
        **{name: from_plain(hints[name], data[name], f"{place}.{name}") for name in sorted(fields)}
    )


@functools.cache
def _hints(wanted: type[Any]) -> dict[str, Any]:
    """Return the annotations of a dataclass, worked out once: a manifest has thousands of one."""
    return typing.get_type_hints(wanted)
