"""NumPy files: one sample per ``.npz`` or ``.npy``, or one file whose first axis counts samples.

Pickled object arrays are refused: they are code.
"""

from __future__ import annotations

import shutil
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgedeploy.data.readers import RawSample, Request, broken
from edgedeploy.data.sources import evenly
from edgedeploy.errors import DataError

# What NumPy and zipfile raise on damaged files (found by feeding them damaged files).
_DAMAGED = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    SyntaxError,
    RuntimeError,
    MemoryError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def read(request: Request) -> Iterator[RawSample]:
    """Yield the samples in order.

    Raises:
        DataError: A file is broken (E259); ``.npy`` and ``.npz`` are mixed (E254); ``.npy`` for
            a model of several inputs (E255); the arrays differ in their first axis (E257).
    """
    selection = request.selection
    suffixes = {Path(name).suffix.lower() for name in selection.names}
    if len(suffixes) > 1:
        raise DataError(
            f"data role '{request.role.name}' mixes .npy and .npz files",
            code="E254",
            subject=request.role.name,
            hint="Keep one kind: .npz with arrays by input name, or .npy for a single input.",
        )
    if ".npy" in suffixes and len(request.inputs) != 1:
        raise DataError(
            f"a .npy file holds one array, but the model takes {len(request.inputs)} inputs",
            code="E255",
            subject=selection.names[0],
            hint="Use .npz files with arrays by input name: "
            f"{', '.join(spec.name for spec in request.inputs)}.",
        )
    if selection.rows:
        yield from _rows(request)
        return
    for name in selection.names:
        yield RawSample(
            id=name, tensors=_load(selection.root / name, name, request), truth=request.truth(name)
        )


def _load(file: Path, name: str, request: Request) -> dict[str, np.ndarray]:
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {request.inputs[0].name: loaded}
        with loaded:
            return {key: loaded[key] for key in loaded.files}
    except _DAMAGED as error:
        raise broken(name, error) from error


def _rows(request: Request) -> Iterator[RawSample]:
    """Yield the rows of one file; arrays are mapped, never held whole in memory."""
    name = request.selection.names[0]
    file = request.selection.root / name
    with tempfile.TemporaryDirectory() as scratch:
        try:
            arrays = _mapped(file, request.inputs[0].name, Path(scratch))
        except _DAMAGED as error:
            raise broken(name, error) from error
        if any(array.ndim == 0 for array in arrays.values()):
            raise broken(name, "an array without axes holds no samples")
        sizes = {key: len(array) for key, array in arrays.items()}
        if len(set(sizes.values())) > 1:
            raise DataError(
                f"the first axis of the arrays in {name} must count the samples, but it differs: "
                f"{sizes}",
                code="E257",
                subject=name,
                hint="Give every array one row per sample.",
            )
        total = next(iter(sizes.values()), 0)
        for row in evenly(total, request.role.samples):
            yield RawSample(
                id=str(row),
                tensors={key: array[row] for key, array in arrays.items()},
                truth=request.truth(str(row)),
            )


def _mapped(file: Path, single: str, scratch: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a ``.npy`` or ``.npz`` file, memory-mapped."""
    if not zipfile.is_zipfile(file):
        return {single: np.load(file, mmap_mode="r", allow_pickle=False)}
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(file) as archive:
        for position, member in enumerate(archive.infolist()):
            unpacked = scratch / f"{position}.npy"
            with archive.open(member) as source, open(unpacked, "wb") as goal:
                shutil.copyfileobj(source, goal)
            key = member.filename.removesuffix(".npy")
            arrays[key] = np.load(unpacked, mmap_mode="r", allow_pickle=False)
    return arrays
