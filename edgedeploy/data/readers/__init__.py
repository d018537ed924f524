"""Readers: one file per kind of data, each with ``read(request) -> Iterator[RawSample]``."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgedeploy.data.sources import Reader, Selection
from edgedeploy.errors import DataError
from edgedeploy.profile.types import DataRole, InputSpec
from edgedeploy.signature import TensorSpec

_MODULES: Mapping[Reader, str] = {
    "numpy": "arrays",
    "images": "images",
    "audio": "audio",
    "function": "function",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSample:
    """One sample as a reader yields it, not yet checked against the model.

    Attributes:
        id: Name that tells it in reports.
        tensors: Arrays by input name, without constants and state.
        truth: Ground truth as JSON data.
        sequence: Name of the sequence that it belongs to, for models with state.
        geometry: How an image was fitted, as JSON data.
    """

    id: str
    tensors: Mapping[str, Any]
    truth: Any | None = None
    sequence: str | None = None
    geometry: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a reader is asked for.

    Attributes:
        role: The data role.
        selection: The files to read.
        inputs: The inputs that samples must give (no constants, no state).
        specs: The profile's words on the inputs.
        folder: The profile's folder.
    """

    role: DataRole
    selection: Selection
    inputs: Sequence[TensorSpec]
    specs: Mapping[str, InputSpec] = field(default_factory=dict)
    folder: Path

    def truth(self, name: str, size: tuple[int, int] | None = None) -> Any | None:
        """Return the label of a sample, None where the role has no labels."""
        labels = self.selection.labels
        return None if labels is None else labels.truth(name, size)


def read(request: Request) -> Iterator[RawSample]:
    """Return the samples of a role in order, read one at a time."""
    module = importlib.import_module(f"{__name__}.{_MODULES[request.selection.reader]}")
    samples: Iterator[RawSample] = module.read(request)
    return samples


def broken(name: str, error: object) -> DataError:
    """Return the error for a file that cannot be decoded (E259)."""
    return DataError(
        f"cannot read {name}: {error}",
        code="E259",
        subject=name,
        hint="Replace or remove the file.",
    )


def declared_input(request: Request, what: str) -> tuple[TensorSpec, InputSpec]:
    """Return the one input that declares ``image`` or ``audio`` preprocessing.

    Raises:
        DataError: None or several do (E288).
    """
    found = [
        (spec, request.specs[spec.name])
        for spec in request.inputs
        if spec.name in request.specs and getattr(request.specs[spec.name], what) is not None
    ]
    if len(found) == 1:
        return found[0]
    names = ", ".join(spec.name for spec, _ in found) or "none"
    raise DataError(
        f"data role '{request.role.name}' needs one input with `{what}:` preprocessing; "
        f"there is {names}",
        code="E288",
        subject=request.role.name,
        hint=f"Declare `{what}:` for the input under `inputs:`.",
    )
