"""A model's inputs and outputs as a programmer calls them, whatever the language: for wrappers.

Everything comes from the manifest of a bundle. What happens to data before it goes in stands in
words beside each input, the steps of :attr:`Port.steps`; from pixels on, packages do it themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgedeploy.release.bundle import ReleaseModel, Tensor
from edgedeploy.release.picture import Picture, picture_of

_BYTES: Mapping[str, int] = {
    "bool": 1,
    **{f"{sign}int{bits}": bits // 8 for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output.

    Attributes:
        name: In the graph; what the runtime is asked for.
        dtype: As NumPy names it.
        shape: As in :class:`edgedeploy.release.bundle.Tensor`.
        fixed: The sizes where all are fixed, else None.
        element_bytes: Bytes of one element; 0 for strings.
        steps: How data becomes this input, or this output an answer, one sentence per step, in
            order; empty where the profile says nothing.
        state: Name of the output whose value is the next call's; None where it is no state.
        picture: How pixels become this input; None where packages make it of none.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    fixed: tuple[int, ...] | None
    element_bytes: int
    steps: tuple[str, ...]
    state: str | None
    picture: Picture | None = None

    @property
    def in_words(self) -> str:
        """Dtype and shape, such as ``float32 [1, 3, 48, 160..960]``."""
        return f"{self.dtype} [{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """What a wrapper of one model offers; ``name`` is the model's, with its shape variant."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def interface_of(model: ReleaseModel) -> Interface:
    """Return the interface of a model of a release."""
    return Interface(
        name=model.name,
        inputs=tuple(map(_port, model.inputs)),
        outputs=tuple(_port(tensor, _answer(model, tensor)) for tensor in model.outputs),
    )


def _answer(model: ReleaseModel, tensor: Tensor) -> tuple[str, ...]:
    """Return how an output becomes the answer; empty where it does not."""
    decode = model.decode
    return decode.steps if decode is not None and decode.output == tensor.name else ()


def _port(tensor: Tensor, answer: tuple[str, ...] = ()) -> Port:
    sizes = tuple(size for size in tensor.shape if isinstance(size, int))
    return Port(
        name=tensor.name,
        dtype=tensor.dtype,
        shape=tensor.shape,
        fixed=sizes if len(sizes) == len(tensor.shape) else None,
        element_bytes=_BYTES.get(tensor.dtype, 0),
        steps=(*_steps(tensor), *answer),
        state=tensor.state,
        picture=picture_of(tensor),
    )


def _steps(tensor: Tensor) -> Iterator[str]:
    if tensor.state is not None:
        yield "Zeros at the start of a sequence."
        yield f"Then what the output {tensor.state} was at the call before."
    if tensor.image is not None:
        yield from _image_steps(tensor.image)
    if tensor.audio is not None:
        yield from _audio_steps(tensor.audio)


def _image_steps(image: Mapping[str, Any]) -> Iterator[str]:
    yield f"Decode the picture to {image['colour']}, 8 bits per channel, upright."
    width = "in proportion" if image["width"] is None else f"{image['width']} wide"
    how = {
        "stretch": "to",
        "letterbox": "to fit into, keeping its proportions, in the middle of",
        "pad": "to fit into, keeping its proportions, at the left and top of",
        "crop": "to cover, keeping its proportions, and cut the middle out of",
    }[image["fit"]]
    yield f"Resize it ({image['resample']}) {how} {image['height']} high, {width}."
    if image["fit"] in ("letterbox", "pad"):
        yield f"Fill the rest with {image['pad_value']}."
    if image["scale"] != 1.0:
        yield f"Multiply every value by {image['scale']!r}."
    if image["mean"]:
        yield f"Subtract {list(image['mean'])} per channel."
    if image["std"]:
        yield f"Divide by {list(image['std'])} per channel."
    yield f"Order the axes as {' '.join(image['layout']).upper()}."


def _audio_steps(audio: Mapping[str, Any]) -> Iterator[str]:
    yield f"Decode the sound to samples in [-1, 1] at {audio['rate_hz']} Hz, one channel."
    # Releases from before there was a scale have none.
    if audio.get("scale", 1.0) != 1.0:
        yield f"Multiply every sample by {audio['scale']!r}."
    frame, hop = audio["frame_samples"], audio["hop_samples"]
    if frame is None:
        yield "Feed all samples at once."
    else:
        yield f"Feed {frame} samples per call, each {hop or frame} after the one before."
