"""What a package does to the pixels of a picture before they go into a model.

The algorithm is that of :mod:`edgedeploy.data.pixels` (``docs/preprocessing.md``); each language
has it as a source file of its own, which is the same in every package, and generated code hands it
the values below. ``tests/packages`` runs each of them on the golden vectors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgedeploy.release.bundle import Tensor

_WORDS = {
    "fit": ("stretch", "letterbox", "pad", "crop"),
    "resample": ("nearest", "bilinear", "bicubic", "area"),
    "colour": ("rgb", "bgr", "gray"),
    "layout": ("nchw", "nhwc"),
}
_MOST = 16384
"""Sides for which whole numbers of 64 bits hold every sum of every language."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """How pixels become an input; names as in :class:`edgedeploy.data.pixels.Words`.

    Attributes:
        dtype: Of the input, ``float32`` or ``uint8``.
        fixed_width: Columns of the input where they are fixed, else None.
    """

    height: int
    width: int | None
    fixed_width: int | None
    fit: str
    pad_value: int
    resample: str
    colour: str
    layout: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dtype: str

    @property
    def channels(self) -> int:
        """Of the input."""
        return 1 if self.colour == "gray" else 3


def picture_of(tensor: Tensor) -> Picture | None:
    """Return how pixels become an input of a release.

    Args:
        tensor: The input.

    Returns:
        None where the release says nothing of pictures, or the input is of a type that packages do
        not make of pixels (half precision, say): then its steps stand in words alone.

    Raises:
        ValueError: What the release says of it makes no sense.
    """
    said = tensor.image
    if said is None:
        return None
    chosen = {key: said[key] for key in _WORDS if said.get(key) in _WORDS[key]}
    if len(chosen) < len(_WORDS):
        raise ValueError(f"the preprocessing of input {tensor.name!r:.60} is none")
    along = 3 if chosen["layout"] == "nchw" else 2
    axis = tensor.shape[along] if len(tensor.shape) == 4 else None
    width = said.get("width")
    found = Picture(
        **chosen,
        height=_whole(said.get("height"), _MOST, tensor.name, least=1),
        width=None if width is None else _whole(width, _MOST, tensor.name, least=1),
        fixed_width=axis if isinstance(axis, int) else None,
        pad_value=_whole(said.get("pad_value"), 255, tensor.name),
        scale=_number(said.get("scale"), tensor.name),
        mean=_numbers(said.get("mean"), chosen["colour"], tensor.name),
        std=_numbers(said.get("std"), chosen["colour"], tensor.name),
        dtype=tensor.dtype,
    )
    computes = found.scale != 1.0 or found.mean or found.std
    fits = tensor.dtype == "float32" or (tensor.dtype == "uint8" and not computes)
    return found if fits and len(tensor.shape) == 4 else None


def _whole(value: Any, most: int, name: str, least: int = 0) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"the preprocessing of input {name!r:.60} has the size {value!r:.20}")
    return value


def _number(value: Any, name: str) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"the preprocessing of input {name!r:.60} has the number {value!r:.20}")
    return float(value)


def _numbers(values: Any, colour: str, name: str) -> tuple[float, ...]:
    if not isinstance(values, (list, tuple)) or len(values) not in (
        *(0, 1),
        1 if colour == "gray" else 3,
    ):
        raise ValueError(f"the preprocessing of input {name!r:.60} has no value per channel")
    return tuple(_number(value, name) for value in values)
