"""Writing the samples of a data role into a tensor pack, each checked against the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgedeploy.data.conform import Conformer
from edgedeploy.data.pack import PackWriter, single_samples
from edgedeploy.data.readers import RawSample, Request, read
from edgedeploy.data.sources import DataFile, Selection, describe, select
from edgedeploy.errors import DataError
from edgedeploy.profile.types import DataRole, DimSpec, InputSpec
from edgedeploy.signature import TensorSpec

Progress = Callable[[int, int | None], None]
"""Called with the samples done and their total (None where it is not known)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackReport:
    """What went into a pack.

    Attributes:
        role: Name of the data role.
        reader: Which reader it was.
        samples: Samples written.
        sequences: Distinct sequences among them.
        longest: Samples of the longest sequence; 0 without any.
        with_truth: Samples with ground truth.
        found: Files (rows for a single array file: 1) before the ``samples`` limit.
        ignored: Reason -> number of files passed over.
        notes: What was done to fit samples to the model -> number of tensors.
        files: Every file read, with digests.
    """

    role: str
    reader: str
    samples: int
    sequences: int
    longest: int
    with_truth: int
    found: int
    ignored: Mapping[str, int]
    notes: Mapping[str, int]
    files: tuple[DataFile, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON data."""
        return {
            "role": self.role,
            "reader": self.reader,
            "samples": self.samples,
            "sequences": self.sequences,
            "longest": self.longest,
            "with_truth": self.with_truth,
            "found": self.found,
            "ignored": dict(self.ignored),
            "notes": dict(self.notes),
            "files": [file.to_json() for file in self.files],
        }


def write_pack(
    role: DataRole,
    inputs: Sequence[TensorSpec],
    specs: Mapping[str, InputSpec],
    folder: Path,
    out: Path,
    progress: Progress | None = None,
    *,
    axes: Mapping[str, Sequence[str | None]] | None = None,
    dims: Mapping[str, DimSpec] | None = None,
    carried: Sequence[str] = (),
) -> PackReport:
    """Read the role's samples and write them as a pack into the existing empty folder ``out``.

    Args:
        role: The data role.
        inputs: The model's inputs with bound dims, without its state inputs.
        specs: The profile's words on the inputs: preprocessing and constants.
        folder: The profile's folder.
        out: Where the pack goes.
        progress: Told after each sample.
        axes: Per input, the name of each axis's dim (None where it has none).
        dims: The profile's ranges and buckets by dim name. A sample of the size of another bucket
            is left to that bucket.
        carried: Names of the model's state inputs.

    Raises:
        DataError: The data is missing, broken or does not fit the model; there is no sample
            (E251), or only one to calibrate with (E252); or the model has a state, and no two
            samples follow each other (E865).
    """
    selection = select(role, folder)
    conformer = Conformer(inputs, specs, axes, dims)
    request = Request(
        role=role, selection=selection, inputs=conformer.wanted, specs=specs, folder=folder
    )

    def fit(sample: RawSample) -> Mapping[str, np.ndarray] | None:
        if conformer.is_of_other_bucket(sample.tensors):
            return None
        return conformer.conform(sample.id, sample.tensors)

    report = write_samples(role, selection, read(request), fit, folder, out, progress)
    if carried and report.longest < 2:
        raise single_samples(role.name, f"data role '{role.name}'", carried[0])
    return replace(report, notes=dict(sorted(conformer.notes.items())))


def write_samples(
    role: DataRole,
    selection: Selection,
    samples: Iterable[RawSample],
    fit: Callable[[RawSample], Mapping[str, np.ndarray] | None],
    folder: Path,
    out: Path,
    progress: Progress | None = None,
) -> PackReport:
    """Write samples as a pack into the existing empty folder ``out``.

    Args:
        role: The data role.
        selection: Its files.
        samples: What they hold.
        fit: Returns the arrays to write of a sample; None leaves it to another bucket.
        folder: The profile's folder.
        out: Where the pack goes.
        progress: Told after each sample.

    Raises:
        DataError: Two samples have one name, or those of a sequence do not stand in a row (E284);
            there is no sample (E251), or only one to calibrate with (E252).
    """
    total = len(selection.names) if selection.reader in ("numpy", "images") else None
    seen: set[str] = set()
    sequences: Counter[str] = Counter()
    current: str | None = None
    with_truth = elsewhere = 0
    with PackWriter(out) as writer:
        for sample in samples:
            if sample.id in seen:
                raise DataError(
                    f"two samples are called {sample.id}",
                    code="E284",
                    subject=sample.id,
                    hint="Yield a different id for each sample.",
                )
            seen.add(sample.id)
            tensors = fit(sample)
            if tensors is None:
                elsewhere += 1
                continue
            if sample.sequence != current and sample.sequence in sequences:
                raise DataError(
                    f"the samples of sequence {sample.sequence} do not stand in a row",
                    code="E284",
                    subject=sample.id,
                    hint="Yield a sequence from its first to its last sample before the next.",
                )
            current = sample.sequence
            writer.add(
                sample.id,
                tensors,
                truth=sample.truth,
                sequence=sample.sequence,
                geometry=sample.geometry,
            )
            with_truth += sample.truth is not None
            if sample.sequence is not None:
                sequences[sample.sequence] += 1
            if progress:
                progress(len(seen), None if selection.rows else total)
    _check_count(role, len(seen) - elsewhere, elsewhere)
    return PackReport(
        role=role.name,
        reader=selection.reader,
        samples=len(seen) - elsewhere,
        sequences=len(sequences),
        longest=max(sequences.values(), default=0),
        with_truth=with_truth,
        found=selection.found,
        ignored={
            **selection.ignored,
            **({"of another bucket": elsewhere} if elsewhere else {}),
        },
        notes={},
        files=tuple(describe(role, folder)),
    )


def _check_count(role: DataRole, count: int, elsewhere: int) -> None:
    if count == 0 and elsewhere:
        raise DataError(
            f"none of the {elsewhere} samples of data role '{role.name}' has this bucket's size",
            code="E251",
            subject=role.name,
            hint="Give samples of every bucket's size, or drop the bucket.",
        )
    if count == 0:
        raise DataError(
            f"data role '{role.name}' yields no sample",
            code="E251",
            subject=role.name,
            hint="Check the source; a data function must yield at least one sample.",
        )
    if count == 1 and role.name == "calibrate":
        raise DataError(
            "one sample is too few to calibrate with: its ranges say nothing of other data",
            code="E252",
            subject=role.name,
            hint="Give at least 2, better 100 or more typical samples.",
        )
