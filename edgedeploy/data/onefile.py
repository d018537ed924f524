"""One file as the samples that a model or a pipeline is asked: picture, sound, text or arrays.

What data roles read is read here by the same readers; a text, which no role reads, is the model's
one string input. An ``.npy`` or ``.npz`` file is one sample, as in a folder of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgedeploy.data.plain import SINGLE, decode_image, decode_sound
from edgedeploy.data.readers import RawSample, Request, broken, read
from edgedeploy.data.sources import Reader, Selection
from edgedeploy.errors import DataError
from edgedeploy.profile.types import DataRole, InputSpec
from edgedeploy.signature import TensorSpec

_READERS: Mapping[str, Reader] = {"picture": "images", "sound": "audio", "arrays": "numpy"}


def read_file(
    file: Path, kind: str, inputs: Sequence[TensorSpec], specs: Mapping[str, InputSpec]
) -> Iterator[RawSample]:
    """Yield the samples that a file is for a model: one, or the frames of a sound in order.

    Args:
        file: The file.
        kind: ``picture``, ``sound``, ``text`` or ``arrays``.
        inputs: The inputs that a sample gives: no constants, no state.
        specs: The profile's words on the inputs.

    Raises:
        DataError: It cannot be decoded (E259), or the model does not take its kind (E288, E851).
    """
    if kind == "text":
        texts = [spec for spec in inputs if spec.dtype == "string"]
        if len(inputs) != 1 or not texts:
            raise DataError(
                "a text is for a model with one input, of texts",
                code="E851",
                subject=file.name,
                hint="give the model's inputs as an .npz file",
            )
        yield RawSample(id=file.name, tensors={texts[0].name: _text_of(file, texts[0])})
        return
    yield from read(_request(file, kind, inputs, specs))


def read_plain_file(file: Path, kind: str) -> RawSample:
    """Return the sample that a file is for a pipeline: its content as it is.

    A text is ``text``, one string; all else is as :mod:`edgedeploy.data.plain` says.

    Raises:
        DataError: It cannot be decoded (E259).
    """
    if kind == "text":
        return RawSample(id=file.name, tensors={"text": np.array(_decoded(file), dtype=object)})
    if kind == "arrays":
        return next(iter(read(_request(file, kind, (SINGLE,), {}))))
    tensors, _ = (decode_image if kind == "picture" else decode_sound)(file, file.name)
    return RawSample(id=file.name, tensors=tensors)


def _request(
    file: Path, kind: str, inputs: Sequence[TensorSpec], specs: Mapping[str, InputSpec]
) -> Request:
    """Return what asks a reader for one file; arrays are a sample, not rows of samples."""
    selection = Selection(
        reader=_READERS[kind], root=file.parent, names=(file.name,), found=1, ignored={}
    )
    role = DataRole(name="try", source=file.name)
    return Request(role=role, selection=selection, inputs=inputs, specs=specs, folder=file.parent)


def _decoded(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise broken(file.name, error) from error


def _text_of(file: Path, spec: TensorSpec) -> np.ndarray:
    """Return a file's text as an input of one element takes it."""
    shape = [size if isinstance(size, int) else 1 for size in spec.dims or ()]
    return np.full(shape, _decoded(file), dtype=object)
