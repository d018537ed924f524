"""Tensor packs: a sequence of samples, each a set of named tensors, in two files.

``tensors.bin`` holds the raw little-endian C-order bytes, each tensor at a multiple of 64 bytes;
``index.json`` names them. Packs are written and read sample by sample and nothing is mapped (pages
of a mapped file count as memory in use), so that memory does not grow with the number of samples;
the bytes depend on the content alone.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from edgedeploy.errors import DataError

ALIGNMENT_BYTES = 64
INDEX_NAME = "index.json"
TENSORS_NAME = "tensors.bin"


class PackWriter:
    """Writes a pack into an existing empty folder; the index is written by :meth:`close`.

    Args:
        folder: Where ``tensors.bin`` and ``index.json`` go.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] = open(folder / TENSORS_NAME, "wb")  # noqa: SIM115 - closed by close()
        self._samples: list[dict[str, Any]] = []

    def add(
        self,
        sample_id: str,
        tensors: Mapping[str, np.ndarray],
        *,
        truth: Any | None = None,
        sequence: str | None = None,
        geometry: Mapping[str, Any] | None = None,
    ) -> None:
        """Append one sample.

        Args:
            sample_id: A name that tells the sample in reports (a file name, a row number).
            tensors: Arrays of any shape and numeric or bool dtype by tensor name; a string tensor
                is an object array of ``str``.
            truth: The ground truth as JSON data (a label, a text, boxes), if there is one.
            sequence: For models with state: samples in a row with the same sequence name belong
                together; the state starts anew where the name changes.
            geometry: How an image was fitted (``preprocess.Geometry`` as JSON data).
        """
        entries: dict[str, Any] = {}
        digest = hashlib.sha256()
        for name, value in sorted(tensors.items()):
            array = np.asarray(value)
            if array.dtype.kind in "OUS":
                entries[name] = {
                    "dtype": "string",
                    "shape": list(array.shape),
                    "values": [str(item) for item in array.reshape(-1)],
                }
                digest.update(json.dumps([name, entries[name]]).encode())
                continue
            array = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
            array = array.reshape(np.shape(value))  # ascontiguousarray turns 0-d into 1-d
            self._file.write(b"\0" * (-self._file.tell() % ALIGNMENT_BYTES))
            entries[name] = {
                "dtype": array.dtype.name,
                "shape": list(array.shape),
                "offset": self._file.tell(),
                "nbytes": array.nbytes,
            }
            content = array.tobytes()
            self._file.write(content)
            digest.update(json.dumps([name, array.dtype.name, array.shape]).encode())
            digest.update(content)
        entry: dict[str, Any] = {
            "id": sample_id,
            "tensors": entries,
            "sha256": digest.hexdigest(),
        }
        if truth is not None:
            entry["truth"] = truth
        if sequence is not None:
            entry["sequence"] = sequence
        if geometry is not None:
            entry["geometry"] = dict(geometry)
        self._samples.append(entry)

    def close(self) -> None:
        """Write the index; the pack can be read after this."""
        self._file.close()
        text = json.dumps({"pack": 1, "samples": self._samples}, ensure_ascii=False, sort_keys=True)
        (self._folder / INDEX_NAME).write_text(text + "\n", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._file.close()


class Sample:
    """One sample of a pack; tensors are read when asked for."""

    def __init__(self, entry: dict[str, Any], file: Path) -> None:
        self._entry = entry
        self._file = file

    @property
    def id(self) -> str:
        """The name given when it was written."""
        return str(self._entry["id"])

    @property
    def truth(self) -> Any | None:
        """The ground truth as JSON data, or None."""
        return self._entry.get("truth")

    @property
    def sequence(self) -> str | None:
        """The sequence it belongs to, or None."""
        return self._entry.get("sequence")

    @property
    def geometry(self) -> dict[str, Any] | None:
        """How an image was fitted (``preprocess.Geometry`` as JSON data), or None."""
        return self._entry.get("geometry")

    @property
    def sha256(self) -> str:
        """Digest of the names, dtypes, shapes and bytes of the tensors, 64 hex digits."""
        return str(self._entry["sha256"])

    def tensors(self) -> dict[str, np.ndarray]:
        """Return all tensors by name, read from the file.

        Raises:
            DataError: The file ends before the tensor does (E253).
        """
        found: dict[str, np.ndarray] = {}
        for name, entry in self._entry["tensors"].items():
            shape = tuple(entry["shape"])
            if entry["dtype"] == "string":
                found[name] = np.array(entry["values"], dtype=object).reshape(shape)
                continue
            raw = np.fromfile(self._file, np.uint8, entry["nbytes"], offset=entry["offset"])
            if raw.nbytes != entry["nbytes"]:
                raise _unreadable(f"tensor {name} of sample {self.id} is cut off", self._file)
            found[name] = raw.view(np.dtype(entry["dtype"])).reshape(shape)
        return found


class PackReader:
    """Reads a pack; iterating yields :class:`Sample` in the order of writing.

    Raises:
        DataError: The folder holds no readable pack (E253).
    """

    def __init__(self, folder: Path) -> None:
        try:
            index = json.loads((folder / INDEX_NAME).read_text(encoding="utf-8"))
            size = (folder / TENSORS_NAME).stat().st_size
            self._entries: list[dict[str, Any]] = index["samples"]
            _check_extent(self._entries, size)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _unreadable(str(error), folder) from error
        self._file = folder / TENSORS_NAME

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, position: int) -> Sample:
        return Sample(self._entries[position], self._file)

    def __iter__(self) -> Iterator[Sample]:
        return (Sample(entry, self._file) for entry in self._entries)


def _unreadable(why: str, place: Path) -> DataError:
    return DataError(
        f"cannot read the tensor pack: {why}",
        code="E253",
        subject=str(place),
        hint="Run the build again; a damaged store entry is found by `cache verify`.",
    )


def _check_extent(entries: list[dict[str, Any]], size_bytes: int) -> None:
    """Raise ValueError where a tensor lies beyond the end of the file."""
    for entry in entries:
        for name, tensor in entry["tensors"].items():
            if tensor["dtype"] != "string" and tensor["offset"] + tensor["nbytes"] > size_bytes:
                raise ValueError(f"tensor {name} of sample {entry['id']} is cut off")


def overlap(first: PackReader, second: PackReader) -> list[str]:
    """Return the ids in ``second`` whose content also occurs in ``first``, in order.

    A sequence counts as a whole, under its name: single frames of different recordings (silence)
    may well be equal.
    """
    known = {digest for _, digest in units(first)}
    return [name for name, digest in units(second) if digest in known]


def refuse_overlap(shared: Sequence[str]) -> None:
    """Refuse evaluation samples that the ranges were taken from: their score would flatter.

    Args:
        shared: Their ids.

    Raises:
        DataError: There is one (E294).
    """
    if shared:
        raise DataError(
            f"{len(shared)} `evaluate` samples are `calibrate` samples too, first {shared[0]}",
            code="E294",
            subject=shared[0],
            hint="split the data so that no sample stands in both roles",
        )


def units(pack: PackReader) -> list[tuple[str, str]]:
    """Return (name, content digest) of every lone sample and every whole sequence."""
    found: list[tuple[str, str]] = []
    sequences: dict[str, Any] = {}
    for sample in pack:
        if sample.sequence is None:
            found.append((sample.id, sample.sha256))
        else:
            sequences.setdefault(sample.sequence, hashlib.sha256()).update(sample.sha256.encode())
    return found + [(name, digest.hexdigest()) for name, digest in sequences.items()]


def longest_sequence(pack: PackReader) -> int:
    """Return how many samples the longest sequence has; 0 without any."""
    counts = Counter(sample.sequence for sample in pack if sample.sequence is not None)
    return max(counts.values(), default=0)


def single_samples(subject: str, what: str, state: str) -> DataError:
    """Return the refusal of samples over which a state never moves away from zeros (E865).

    Args:
        subject: The data role, or the model.
        what: Of what no sample follows another, for the message.
        state: Name of the state input.
    """
    return DataError(
        f"{what}: no sample follows another, and the model has the state '{state}', which stays "
        "zero over single samples",
        code="E865",
        subject=subject,
        hint="Give whole recordings: WAV files with `audio: {frame: ...}`, or a data function that "
        "yields (inputs, truth, id, sequence). A state that is always zero is no state: say "
        f"`inputs: {{{state}: {{value: 0}}}}`.",
    )
