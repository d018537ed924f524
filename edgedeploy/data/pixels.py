"""From the pixels of a picture to a model's input: one algorithm, the same in every app.

A copy of this file lies in each Python wheel of models as ``_pixels.py``: Python 3.9 and NumPy.
``docs/preprocessing.md`` states the algorithm, ``tests/golden/preprocess`` holds vectors for it;
the packages for other languages have the same in their own source.

The order: channels (:func:`channels_of`), fit (a resize in whole numbers, still 8-bit), then
channel order, scale, mean, std and layout (:func:`arranged`).

Every mode is separable. Along one axis, output pixel ``i`` of ``m`` is a weighted sum of input
pixels of ``n``; the weights are integers with a common denominator, pixel centres lie at half
positions (``centre = (i + 1/2) * n / m - 1/2``), there is no antialiasing filter, and pixels beyond
the border repeat the border. Both axes are summed exactly and the result is rounded once, half up,
and held to 0..255. As nothing is rounded in between and no floating point takes part, any
implementation in any language gives the same bytes (``tests/unit/data/resize_vectors.json``).

* ``nearest``: pixel ``floor((i + 1/2) * n / m)``, denominator 1.
* ``bilinear``: two pixels by distance from the centre, denominator ``2 m``.
* ``bicubic``: Keys' cubic convolution (IEEE Trans. ASSP 29-6, 1981) with a = -3/4 over four
  pixels; weights rounded half up to multiples of 2**-14, the rest goes to the pixel nearest to the
  centre so that they sum to one.
* ``area``: mean over the stretch of input that the output pixel covers, denominator ``n``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol

import numpy as np

Resample = Literal["bilinear", "nearest", "bicubic", "area"]
CUBIC_DENOMINATOR = 1 << 14


class Words(Protocol):
    """How a picture becomes an input tensor: ``(pixel * scale - mean) / std``."""

    @property
    def height(self) -> int:
        """Rows after the fit."""

    @property
    def width(self) -> int | None:
        """Columns after the fit; None keeps the aspect ratio."""

    @property
    def fit(self) -> str:
        """``stretch``, ``letterbox`` (centred, padded), ``pad`` (right, bottom) or ``crop``."""

    @property
    def pad_value(self) -> int:
        """Pixel value of padding, 0 to 255."""

    @property
    def resample(self) -> Resample:
        """``bilinear``, ``nearest``, ``bicubic`` or ``area``."""

    @property
    def colour(self) -> str:
        """``rgb``, ``bgr`` or ``gray``."""

    @property
    def layout(self) -> str:
        """``nchw`` or ``nhwc``."""

    @property
    def scale(self) -> float:
        """Factor on the pixel value, applied first."""

    @property
    def mean(self) -> tuple[float, ...]:
        """Subtracted after ``scale``, in the tensor's channel order; empty: nothing."""

    @property
    def std(self) -> tuple[float, ...]:
        """Divided by after ``mean``; empty: nothing."""


@dataclass(frozen=True)
class Image:
    """:class:`Words` as a value; in a package, what the release says of an input."""

    height: int
    width: int | None
    fit: str
    pad_value: int
    resample: Resample
    colour: str
    layout: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class AxisWeights:
    """Weights along one axis: ``out[i] = sum_k weight[i, k] * in[index[i, k]] / denominator``.

    Attributes:
        index: Input positions, int64 ``[m, taps]``.
        weight: Integer weights, int64 ``[m, taps]``; each row sums to ``denominator``.
    """

    index: np.ndarray
    weight: np.ndarray
    denominator: int


def _nearest(n: int, m: int) -> AxisWeights:
    i = np.arange(m, dtype=np.int64)[:, None]
    return AxisWeights(
        index=(2 * i + 1) * n // (2 * m), weight=np.ones((m, 1), np.int64), denominator=1
    )


def _bilinear(n: int, m: int) -> AxisWeights:
    i = np.arange(m, dtype=np.int64)
    numerator = (2 * i + 1) * n - m  # centre = numerator / (2 m)
    left, rest = np.divmod(numerator, 2 * m)
    return AxisWeights(
        index=np.clip(np.stack([left, left + 1], axis=1), 0, n - 1),
        weight=np.stack([2 * m - rest, rest], axis=1),
        denominator=2 * m,
    )


def _cubic_weight(distance: int, unit: int) -> int:
    """Return Keys' kernel (a = -3/4) at ``distance / unit`` in 2**-14ths, rounded half up."""
    d, u = abs(distance), unit
    if d <= u:  # (a + 2) d^3 - (a + 3) d^2 + 1, times 4 u^3
        numerator = 5 * d**3 - 9 * d**2 * u + 4 * u**3
    elif d < 2 * u:  # a d^3 - 5 a d^2 + 8 a d - 4 a, times 4 u^3
        numerator = -3 * d**3 + 15 * d**2 * u - 24 * d * u**2 + 12 * u**3
    else:
        numerator = 0
    return (numerator * CUBIC_DENOMINATOR * 2 + 4 * u**3) // (8 * u**3)


def _bicubic(n: int, m: int) -> AxisWeights:
    unit = 2 * m
    index = np.empty((m, 4), np.int64)
    weight = np.empty((m, 4), np.int64)
    for i in range(m):
        left, rest = divmod((2 * i + 1) * n - m, unit)
        taps = [_cubic_weight(rest - offset * unit, unit) for offset in (-1, 0, 1, 2)]
        taps[1 if 2 * rest < unit else 2] += CUBIC_DENOMINATOR - sum(taps)
        weight[i] = taps
        index[i] = [min(max(left + offset, 0), n - 1) for offset in (-1, 0, 1, 2)]
    return AxisWeights(index=index, weight=weight, denominator=CUBIC_DENOMINATOR)


def _area(n: int, m: int) -> AxisWeights:
    i = np.arange(m, dtype=np.int64)[:, None]
    first = i * n // m
    taps = int(np.max(((i + 1) * n + m - 1) // m - first))
    index = first + np.arange(taps, dtype=np.int64)[None, :]
    # In units of 1/m of an input pixel, output i covers [i n, (i + 1) n).
    overlap = np.minimum((index + 1) * m, (i + 1) * n) - np.maximum(index * m, i * n)
    return AxisWeights(index=np.minimum(index, n - 1), weight=np.maximum(overlap, 0), denominator=n)


_MODES = {"nearest": _nearest, "bilinear": _bilinear, "bicubic": _bicubic, "area": _area}


@lru_cache(maxsize=64)
def axis_weights(n: int, m: int, resample: Resample) -> AxisWeights:
    """Return the weights that turn ``n`` pixels into ``m``."""
    return _MODES[resample](n, m)


def _along_rows(image: np.ndarray, weights: AxisWeights) -> np.ndarray:
    """Return the weighted sums over axis 0, int64, not yet divided."""
    total = np.zeros((len(weights.index), *image.shape[1:]), np.int64)
    shape = (-1,) + (1,) * (image.ndim - 1)
    for tap in range(weights.index.shape[1]):
        total += image[weights.index[:, tap]] * weights.weight[:, tap].reshape(shape)
    return total


def resize(image: np.ndarray, height: int, width: int, resample: Resample) -> np.ndarray:
    """Return ``image`` at another size.

    Args:
        image: uint8 ``[h, w, channels]``.
        height: Rows of the result, at least 1.
        width: Columns of the result, at least 1.
        resample: See the module's text.

    Returns:
        uint8 ``[height, width, channels]``.
    """
    if image.shape[:2] == (height, width):
        return image
    rows = axis_weights(image.shape[0], height, resample)
    columns = axis_weights(image.shape[1], width, resample)
    total = _along_rows(image.astype(np.int64), rows)
    total = _along_rows(total.swapaxes(0, 1), columns).swapaxes(0, 1)
    denominator = rows.denominator * columns.denominator
    rounded = (2 * total + denominator) // (2 * denominator)
    return np.ascontiguousarray(np.clip(rounded, 0, 255).astype(np.uint8))


@dataclass(frozen=True)
class Geometry:
    """Where an image went in the model input.

    A point ``(x, y)`` of the original (pixel edges, so that the image spans ``0..width``) lies at
    ``(x * scale_x + left, y * scale_y + top)`` of the input.

    Attributes:
        width, height: Size of the original in pixels, after EXIF orientation.
        input_width, input_height: Size of the model input in pixels.
        scale_x, scale_y: Size of the resized image over the original's.
        left, top: Offset of the resized image in pixels; negative where ``crop`` cut it.
    """

    width: int
    height: int
    input_width: int
    input_height: int
    scale_x: float
    scale_y: float
    left: int
    top: int

    def to_json(self) -> dict[str, Any]:
        """Return the geometry as JSON data."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Geometry:
        """Return the geometry that :meth:`to_json` wrote."""
        return cls(**data)


def _scaled(size: int, numerator: int, denominator: int) -> int:
    """Return ``size * numerator / denominator`` rounded half up, at least 1."""
    return max(1, (2 * size * numerator + denominator) // (2 * denominator))


def plan_fit(
    height: int, width: int, spec: Words, *, fixed_width: int | None = None
) -> tuple[Geometry, tuple[int, int]]:
    """Return where an image of ``height x width`` goes and the size that it is resized to.

    Args:
        height: Rows of the original.
        width: Columns of the original.
        spec: The declared preprocessing. With ``width`` None the width follows the aspect ratio;
            where the model's own width is fixed, ``pad``, ``letterbox`` and ``crop`` fill it.
        fixed_width: The width that the model input has, if it is fixed.
    """
    goal_h, goal_w = spec.height, spec.width
    if goal_w is None and spec.fit != "stretch":
        goal_w = fixed_width
    if goal_w is None:
        goal_w = _scaled(width, goal_h, height)
    new_h, new_w = goal_h, goal_w
    if spec.fit != "stretch":
        # Compare goal_h / height with goal_w / width in whole numbers.
        height_limits = goal_h * width <= goal_w * height
        if height_limits == (spec.fit != "crop"):
            new_w = _scaled(width, goal_h, height)
        else:
            new_h = _scaled(height, goal_w, width)
    centred = spec.fit in ("letterbox", "crop")
    geometry = Geometry(
        width=width,
        height=height,
        input_width=goal_w,
        input_height=goal_h,
        scale_x=new_w / width,
        scale_y=new_h / height,
        left=(goal_w - new_w) // 2 if centred else 0,
        top=(goal_h - new_h) // 2 if centred else 0,
    )
    return geometry, (new_h, new_w)


def fit_image(
    image: np.ndarray, spec: Words, *, fixed_width: int | None = None
) -> tuple[np.ndarray, Geometry]:
    """Return the image at the input's size and where it went.

    Args:
        image: uint8 ``[h, w, channels]``.
        spec: The declared preprocessing.
        fixed_width: As in :func:`plan_fit`.

    Returns:
        uint8 ``[input_height, input_width, channels]`` and its geometry.
    """
    geometry, (new_h, new_w) = plan_fit(
        image.shape[0], image.shape[1], spec, fixed_width=fixed_width
    )
    resized = resize(image, new_h, new_w, spec.resample)
    goal = (geometry.input_height, geometry.input_width)
    if resized.shape[:2] == goal:
        return resized, geometry
    if spec.fit == "crop":
        top, left = -geometry.top, -geometry.left
        return resized[top : top + goal[0], left : left + goal[1]], geometry
    canvas = np.full((*goal, image.shape[2]), spec.pad_value, np.uint8)
    canvas[geometry.top : geometry.top + new_h, geometry.left : geometry.left + new_w] = resized
    return canvas, geometry


def channels_of(pixels: np.ndarray, colour: str) -> np.ndarray:
    """Return the channels that a model takes of the pixels of a picture.

    Gray is repeated into three channels, alpha is dropped (the stored colour is kept, nothing is
    blended), and colour becomes gray as luma of ITU-R BT.601 in whole numbers.

    Args:
        pixels: uint8 ``[h, w]``, or ``[h, w, channels]``: gray, gray and alpha, RGB or RGBA.
        colour: ``rgb``, ``bgr`` or ``gray``.

    Returns:
        uint8 ``[h, w, 3]`` RGB, or ``[h, w, 1]`` for gray.

    Raises:
        TypeError: They are not 8-bit.
        ValueError: They are of another shape, or none.
    """
    if pixels.dtype != np.uint8:
        raise TypeError(f"pixels are uint8, not {pixels.dtype}")
    given = pixels[..., None] if pixels.ndim == 2 else pixels
    if given.ndim != 3 or given.shape[2] not in (1, 2, 3, 4) or 0 in given.shape:
        raise ValueError(f"pixels have shape [h, w, 1 to 4], not {list(pixels.shape)}")
    if given.shape[2] in (1, 2):
        first = given[..., :1]
        return first if colour == "gray" else np.repeat(first, 3, axis=2)
    if colour != "gray":
        return given[..., :3]
    wide: np.ndarray = given[..., :3].astype(np.int64) @ np.array([19595, 38470, 7471])
    gray: np.ndarray = ((wide + 32768) >> 16).astype(np.uint8)[..., None]
    return gray


def arranged(batch: np.ndarray, words: Words) -> np.ndarray:
    """Return pixels in the declared channel order, range and layout.

    Float32 throughout, one operation after the other: so each channel has 256 values, and a table
    of them gives the same.

    Args:
        batch: ``[n, h, w, channels]``, RGB or gray.
        words: What is declared.

    Returns:
        ``[n, channels, h, w]`` or ``[n, h, w, channels]``; of the batch's own type where no
        arithmetic was done, otherwise float32.

    Raises:
        ValueError: ``mean`` or ``std`` does not match the channels.
    """
    if words.colour == "bgr":
        batch = batch[..., ::-1]
    channels, value = batch.shape[3], batch
    if words.scale != 1.0:
        value = value.astype(np.float32) * np.float32(words.scale)
    if words.mean:
        value = value.astype(np.float32) - _per_channel(words.mean, channels, "mean")
    if words.std:
        value = value.astype(np.float32) / _per_channel(words.std, channels, "std")
    return value.transpose(0, 3, 1, 2) if words.layout == "nchw" else value


def _per_channel(values: tuple[float, ...], channels: int, what: str) -> np.ndarray:
    if len(values) not in (1, channels):
        raise ValueError(f"{what} has {len(values)} values, but the image has {channels} channels")
    return np.asarray(values, np.float32)


def tensor_of(
    pixels: np.ndarray, words: Words, dtype: str, fixed_width: int | None = None
) -> np.ndarray:
    """Return a model's input of the pixels of a picture.

    Args:
        pixels: As :func:`channels_of` takes them, upright.
        words: What is declared.
        dtype: The input's, as NumPy names it.
        fixed_width: As in :func:`plan_fit`.

    Raises:
        TypeError: As :func:`channels_of`.
        ValueError: As :func:`channels_of` and :func:`arranged`.
    """
    fitted, _ = fit_image(channels_of(pixels, words.colour), words, fixed_width=fixed_width)
    return np.ascontiguousarray(arranged(fitted[None], words).astype(dtype))
