"""Other preprocessings that a model may have been trained with, made of the same samples.

What was declared is undone, which leaves the pixels (or sounds) as they were decoded and fitted,
and another preprocessing is done to them. So samples need not be read again, and those of a data
function, which preprocesses by itself, can be tried as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from edgedeploy.errors import DataError
from edgedeploy.profile.types import AudioPreprocess, ImagePreprocess
from edgedeploy.signature import TensorSpec

# Mean and standard deviation of ImageNet's training images in [0, 1], red, green, blue: what
# https://pytorch.org/vision/stable/models.html gives for its classification weights.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PCM_16 = 32768.0
"""What 16-bit sound is divided by to lie in [-1, 1)."""

# Pixels that no picture has: a resize that overshoots (bicubic, in a data function) stays inside.
LOWEST_PIXEL, HIGHEST_PIXEL = -64.0, 319.0
# A picture of at most two grey levels in all samples was not scaled from 0..255.
FLATTEST_PIXEL = 2.0
# The same of sound, in full scales: resampling overshoots a little, and no recording has peaks of
# two steps of 16 bits at most.
LOUDEST_SOUND, SOFTEST_SOUND = 2.0, 2 / PCM_16

Change = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Another preprocessing of one or more inputs.

    Attributes:
        inputs: The inputs that it changes.
        what: What it does, in words that follow on "the model answers better".
        write: What to write into the profile for it.
        change: From an input's tensor as declared to the tensor of the same type that it gives.
    """

    inputs: tuple[str, ...]
    what: str
    write: str
    change: Change


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelStatistics:
    """The pixels behind an input's samples, 0 to 255 where the declaration is true.

    Attributes:
        low, high: The least and the greatest.
        mean, std: Of each channel, in the order red, green, blue (or grey alone).
    """

    low: float
    high: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


def pixels_of(tensor: np.ndarray, spec: ImagePreprocess) -> np.ndarray:
    """Return the pixels that a preprocessing made a tensor of.

    Args:
        tensor: ``[n, channels, h, w]`` or ``[n, h, w, channels]``, as ``spec.layout`` says.
        spec: What was done; nothing of it may be baked into the model.

    Returns:
        float64 ``[n, h, w, channels]``, red first.
    """
    value = np.moveaxis(tensor, 1, -1) if spec.layout == "nchw" else tensor
    value = value.astype(np.float64)
    if spec.std:
        value = value * np.asarray(spec.std)
    if spec.mean:
        value = value + np.asarray(spec.mean)
    value = value / spec.scale
    return value[..., ::-1] if spec.colour == "bgr" else value


def tensor_of(pixels: np.ndarray, spec: ImagePreprocess) -> np.ndarray:
    """Return what a preprocessing makes of pixels: the inverse of :func:`pixels_of`, in float64."""
    value = pixels[..., ::-1] if spec.colour == "bgr" else pixels
    value = value * spec.scale
    if spec.mean:
        value = value - np.asarray(spec.mean)
    if spec.std:
        value = value / np.asarray(spec.std)
    return np.moveaxis(value, -1, 1) if spec.layout == "nchw" else value


def pixel_statistics(
    name: str, tensors: Iterable[np.ndarray], spec: ImagePreprocess
) -> PixelStatistics:
    """Return the statistics of the pixels behind an input's samples.

    Args:
        name: The input's name.
        tensors: Its tensors, at least one.
        spec: The declared preprocessing.

    Raises:
        DataError: The samples cannot be what the declared preprocessing gives (E842): a data
            function does something else.
    """
    if spec.scale == 0:
        raise _untrue(name, "a `scale` of 0 leaves nothing of a picture")
    low, high, count = np.inf, -np.inf, 0
    total, squares = np.zeros(1), np.zeros(1)
    channels = 1 if spec.colour == "gray" else 3
    for tensor in tensors:
        axis = 1 if spec.layout == "nchw" else -1
        if tensor.ndim != 4 or tensor.shape[axis] != channels:
            given = "x".join(map(str, tensor.shape))
            raise _untrue(name, f"it gives 4 axes with {channels} channels, the data has {given}")
        found = pixels_of(tensor, spec)
        low, high = min(low, float(found.min())), max(high, float(found.max()))
        flat = found.reshape(-1, channels)
        total = total + flat.sum(axis=0)
        squares = squares + (flat * flat).sum(axis=0)
        count += len(flat)
    if low < LOWEST_PIXEL or high > HIGHEST_PIXEL:
        raise _untrue(name, f"its inverse gives pixels from {low:.4g} to {high:.4g}, not 0 to 255")
    if low >= 0 and high <= FLATTEST_PIXEL:
        raise _untrue(name, f"its inverse gives pixels of at most {high:.4g} in all samples")
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean * mean, 0))
    return PixelStatistics(low=low, high=high, mean=tuple(mean), std=tuple(std))


def check_loudness(name: str, tensors: Iterable[np.ndarray], spec: AudioPreprocess) -> None:
    """Refuse samples of sound that are not of the declared scale.

    Args:
        name: The input's name.
        tensors: Its tensors, at least one.
        spec: The declared preprocessing.

    Raises:
        DataError: The loudest is far above the scale, or next to nothing (E842).
    """
    loudest = max(float(np.abs(tensor).max()) for tensor in tensors) / spec.scale
    if loudest > LOUDEST_SOUND or 0 < loudest <= SOFTEST_SOUND:
        why = f"the loudest of all is {loudest:.4g} of the full scale"
        raise _untrue(name, why, kind="audio", keys="`scale`")


def _untrue(
    name: str,
    why: str,
    *,
    kind: str = "image",
    keys: str = "`colour`, `layout`, `scale`, `mean`, `std`",
) -> DataError:
    return DataError(
        f"the samples of input '{name}' are not what its `{kind}:` declares: {why}",
        code="E842",
        subject=name,
        hint=f"Declare what the data function does ({keys}): applications are told to do what is "
        "declared.",
    )


def image_alternatives(
    inputs: Sequence[TensorSpec], spec: ImagePreprocess, seen: PixelStatistics
) -> Iterator[Alternative]:
    """Yield the other preprocessings that inputs of one declared preprocessing may need.

    One thing is changed at a time: the channel order, the numbers, or the order of the axes.

    Args:
        inputs: The inputs, which are changed together.
        spec: The declared preprocessing, of which nothing is baked into the model.
        seen: Statistics of the samples; one alternative is to normalise by them.
    """
    names = tuple(given.name for given in inputs)

    def made(what: str, write: str, other: ImagePreprocess) -> Alternative:
        return Alternative(
            inputs=names,
            what=what,
            write=write,
            change=lambda tensor: tensor_of(pixels_of(tensor, spec), other).astype(tensor.dtype),
        )

    if spec.colour != "gray":
        colour: Literal["rgb", "bgr"] = "bgr" if spec.colour == "rgb" else "rgb"
        words = f"`colour: {colour}`"
        yield made(f"with {words}", f"write {words}", replace(spec, colour=colour))
    if all(given.dtype.startswith(("float", "bfloat")) for given in inputs):
        tried = [spec]
        for what, other in _normalisations(spec, seen):
            if any(_same(other, known) for known in tried):
                continue
            tried.append(other)
            yield made(what, f"write {_words(other)}", other)
    if all(_takes_both_layouts(given) for given in inputs):
        layout: Literal["nchw", "nhwc"] = "nhwc" if spec.layout == "nchw" else "nchw"
        words = f"`layout: {layout}`"
        yield made(f"with {words}", f"write {words}", replace(spec, layout=layout))


def _normalisations(
    spec: ImagePreprocess, seen: PixelStatistics
) -> Iterator[tuple[str, ImagePreprocess]]:
    plain = replace(spec, mean=(), std=())
    unit = replace(plain, scale=1 / 255)
    yield "without `mean` and `std`", plain
    yield "on pixels of 0 to 255", replace(plain, scale=1.0)
    yield "on pixels of 0 to 1", unit
    yield "on pixels of -1 to 1", replace(unit, mean=(0.5,), std=(0.5,))
    if spec.colour != "gray":
        mean, std = _ordered(spec, IMAGENET_MEAN), _ordered(spec, IMAGENET_STD)
        yield "with the mean and std of ImageNet", replace(unit, mean=mean, std=std)
    mean, std = (
        _ordered(spec, [float(f"{value / 255:.3g}") for value in values])
        for values in (seen.mean, seen.std)
    )
    if min(std) > FLATTEST_PIXEL / 255:  # a channel that never changes has nothing to divide by
        what = "with the mean and std of these samples (better: of those that it was trained on)"
        yield what, replace(unit, mean=mean, std=std)


def _ordered(spec: ImagePreprocess, values: Sequence[float]) -> tuple[float, ...]:
    """Return values that stand red first in the order of the tensor's channels."""
    return tuple(values[::-1] if spec.colour == "bgr" else values)


def _same(first: ImagePreprocess, second: ImagePreprocess) -> bool:
    """Return whether both make the same of every pixel, to a thousandth of the whole range."""
    ends = np.array([0.0, 255.0]).reshape(2, 1, 1, 1) * np.ones((1, 1, 1, 3))
    a, b = tensor_of(ends, first), tensor_of(ends, second)
    return bool(np.abs(a - b).max() <= 1e-3 * np.abs(a[1] - a[0]).min())


def _takes_both_layouts(given: TensorSpec) -> bool:
    """Return whether no fixed size of an input tells its channels from its rows."""
    dims = given.dims
    if dims is None or len(dims) != 4:
        return dims is None
    return all(not isinstance(dim, int) for dim in dims[1:]) or len(set(dims[1:])) == 1


def _words(spec: ImagePreprocess) -> str:
    """Return a normalisation as it is written into a profile."""
    parts = [f"scale: {_fraction(spec.scale)}"]
    for key, values in (("mean", spec.mean), ("std", spec.std)):
        if values:
            text = ", ".join(f"{value:g}" for value in values)
            parts.append(f"{key}: {text if len(values) == 1 else f'[{text}]'}")
    without = "" if spec.mean or spec.std else " without `mean` and `std`"
    return f"`{', '.join(parts)}`{without}"


def _fraction(scale: float) -> str:
    """Return a scale as people write it, such as ``1/255``."""
    whole = round(1 / scale)
    is_fraction = abs(scale) < 1 and whole and abs(scale * whole - 1) < 1e-9
    return f"1/{whole}" if is_fraction else f"{scale:g}"


def audio_alternatives(names: Sequence[str], spec: AudioPreprocess) -> Iterator[Alternative]:
    """Yield the other scales that inputs of one declared preprocessing of sound may need.

    Args:
        names: The inputs, which are changed together.
        spec: The declared preprocessing.
    """
    for scale, what in ((1.0, "on samples of -1 to 1"), (PCM_16, "on 16-bit samples")):
        if scale != spec.scale:
            yield Alternative(
                inputs=tuple(names),
                what=what,
                write=f"write `scale: {scale:g}`",
                change=lambda tensor, factor=scale / spec.scale: (  # type: ignore[misc]
                    (tensor * np.float64(factor)).astype(tensor.dtype)
                ),
            )
