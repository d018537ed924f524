"""Samples as they are, for a pipeline: no model's signature says what they have to be.

| source | a sample holds |
|---|---|
| ``file.py:function`` | what the function yields |
| ``.npz`` | its arrays, by their names |
| ``.npy`` | ``input`` |
| image | ``image``: uint8 ``[height, width, 3]``, RGB, as :mod:`.readers.images` decodes |
| ``.wav`` | ``sound``: float32 ``[n]`` in [-1, 1), and ``rate``: int64, hertz |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgedeploy.data.readers import RawSample, Request, read
from edgedeploy.data.sources import Selection, select
from edgedeploy.data.write import PackReport, Progress, write_samples
from edgedeploy.errors import DataError
from edgedeploy.profile.types import DataRole
from edgedeploy.signature import TensorSpec

SINGLE = TensorSpec(name="input", dtype="float32", dims=None)
"""What the one array of a ``.npy`` file is called; its dtype and dims are not looked at."""


def write_plain_pack(
    role: DataRole, folder: Path, out: Path, progress: Progress | None = None
) -> PackReport:
    """Read the role's samples and write them as a pack into the existing empty folder ``out``.

    Args:
        role: The data role.
        folder: The profile's folder.
        out: Where the pack goes.
        progress: Told after each sample.

    Raises:
        DataError: The data is missing or broken; a sample is no arrays by name (E256); there is no
            sample (E251), or only one to calibrate with (E252).
    """
    selection = select(role, folder)
    return write_samples(
        role, selection, _read(role, selection, folder), _arrays, folder, out, progress
    )


def _read(role: DataRole, selection: Selection, folder: Path) -> Iterator[RawSample]:
    request = Request(role=role, selection=selection, inputs=(SINGLE,), folder=folder)
    if selection.reader not in _FILES:
        yield from read(request)
        return
    for name in selection.names:
        tensors, size = _FILES[selection.reader](selection.root / name, name)
        yield RawSample(id=name, tensors=tensors, truth=request.truth(name, size))


Decoded = tuple[dict[str, np.ndarray], tuple[int, int] | None]
"""The arrays of a file, and the width and height of an image."""


def decode_image(file: Path, name: str) -> Decoded:
    """Return ``image`` uint8 ``[height, width, 3]`` of an image file, and its size.

    Raises:
        DataError: It cannot be decoded (E259).
    """
    from edgedeploy.data.readers.images import decode

    pixels = decode(file, name, gray=False)
    return {"image": pixels}, (pixels.shape[1], pixels.shape[0])


def decode_sound(file: Path, name: str) -> Decoded:
    """Return ``sound`` float32 ``[n]`` and ``rate`` of a WAV file.

    Raises:
        DataError: It cannot be decoded (E259).
    """
    from edgedeploy.data.readers.audio import decode

    sound, rate_hz = decode(file, name)
    return {"sound": sound, "rate": np.asarray(rate_hz, np.int64)}, None


_FILES: dict[str, Callable[[Path, str], Decoded]] = {"images": decode_image, "audio": decode_sound}


def _arrays(sample: RawSample) -> dict[str, np.ndarray]:
    found = {}
    for name, value in sample.tensors.items():
        array = _array(sample.id, name, value)
        if array.dtype.kind not in "biufU":
            raise _no_array(sample.id, name, f"holds {array.dtype}")
        found[str(name)] = array.astype(object) if array.dtype.kind == "U" else array
    return found


def _array(sample: str, name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError as error:
        raise _no_array(sample, name, f"is none: {error}") from error


def _no_array(sample: str, name: str, what: str) -> DataError:
    return DataError(
        f"sample {sample}: the array `{name}` {what}",
        code="E256",
        subject=sample,
        hint="Give arrays of numbers, booleans or texts, all rows of one length.",
    )
