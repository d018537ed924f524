"""Checking one stored tensor: element type, dims against bytes, and finite values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from edgedeploy.errors import ModelError
from edgedeploy.model.external import Reference, reference
from edgedeploy.model.facts import Limits
from edgedeploy.model.nonfinite import (
    FLOAT_TYPES,
    NonFinite,
    count_nonfinite,
    count_nonfinite_varints,
)
from edgedeploy.model.schema import DATA_FIELDS, ELEMENT_TYPES, ElementType
from edgedeploy.model.wire import FIXED32, FIXED64, LENGTH, chunks, malformed, signed

Span = tuple[int, int, int]
"""Wire type, first byte and length in bytes of one occurrence of a data field."""

_CONTINUED = bytes(range(0x80, 0x100))
_REEXPORT = "export the model again; this tensor is damaged or was made by hand"


@dataclass(frozen=True, slots=True)
class Tensor:
    """A stored tensor that passed the checks.

    Attributes:
        element: Name of its element type.
        count: Number of elements.
        nbytes: Bytes of its elements.
        external: Where they lie if not in the model file.
    """

    name: str
    element: str
    count: int
    nbytes: int
    external: Reference | None


def check_tensor(fields: dict[str, Any], label: str, fd: int, limits: Limits) -> Tensor:
    """Return the tensor of a walked ``TensorProto`` after checking it against its bytes.

    Args:
        fields: The message's fields by name; data fields hold spans.
        label: What to call it in a message.
        fd: The model file.
        limits: Caps on rank and size.

    Raises:
        ModelError: E207 or E208 (dims, bytes, types), E204 or E206 (external data).
    """
    code = fields.get("data_type", 0)
    element = ELEMENT_TYPES.get(code)
    if element is None:
        raise ModelError(
            f"the element type number {code} is unknown",
            code="E208",
            subject=label,
            hint=_REEXPORT,
        )
    count = element_count(fields.get("dims", ()), label, limits)
    nbytes = (count * element.bits + 7) // 8
    present = [name for name in DATA_FIELDS if name in fields]
    location = fields.get("data_location", 0)
    pairs = fields.get("external_data", ())
    if "segment" in fields or location not in (0, 1) or bool(pairs) != (location == 1):
        raise _ambiguous(label)
    name = fields.get("name", "")
    if location == 1:
        if present or element.bits == 0:
            raise _ambiguous(label)
        return Tensor(name, element.name, count, nbytes, reference(pairs, label, nbytes))
    if len(present) > 1:
        raise _ambiguous(label)
    if present:
        nbytes = _check_stored(fields, present[0], element, count, nbytes, label, fd)
    elif count:
        raise _wrong_size(label, 0, nbytes)
    return Tensor(name, element.name, count, nbytes, None)


def element_count(dims: Sequence[int], label: str, limits: Limits) -> int:
    """Return the product of dims after checking that each is non-negative (E207)."""
    if len(dims) > limits.rank:
        raise ModelError(
            f"a tensor has {len(dims)} axes", code="E207", subject=label, hint=_REEXPORT
        )
    count = 1
    for dim in map(signed, dims):
        if dim < 0:
            raise ModelError(
                f"a stored tensor has the negative dim {dim}",
                code="E207",
                subject=label,
                hint=_REEXPORT,
            )
        count *= dim
    return count


def _check_stored(
    fields: dict[str, Any],
    field: str,
    element: ElementType,
    count: int,
    nbytes: int,
    label: str,
    fd: int,
) -> int:
    """Check an inline data field against the element count; return its bytes."""
    spans: list[Span] = [fields[field]] if field == "raw_data" else fields[field]
    stored = sum(length for _, _, length in spans)
    if field == "raw_data":
        if element.bits == 0:
            raise _ambiguous(label)
        if stored != nbytes:
            raise _wrong_size(label, stored, nbytes)
        return nbytes
    if field != element.typed:
        raise ModelError(
            f"a tensor of {element.name} keeps its values in {field}",
            code="E208",
            subject=label,
            hint=_REEXPORT,
        )
    per_entry = element.per_entry
    wanted = count * per_entry if per_entry > 0 else -(-count // -per_entry)
    found = sum(_entries(field, span, fd) for span in spans)
    if found != wanted:
        raise ModelError(
            f"a tensor stores {found} values but its dims ask for {wanted}",
            code="E207",
            subject=label,
            hint=_REEXPORT,
        )
    return stored if element.bits == 0 else nbytes


def _entries(field: str, span: Span, fd: int) -> int:
    """Return how many values one occurrence of a typed data field holds."""
    wire, start, length = span
    if wire != LENGTH or field == "string_data":
        return 1
    if field in ("float_data", "double_data"):
        size = 4 if field == "float_data" else 8
        if length % size:
            raise malformed("a packed field ends inside a number", start)
        return length // size
    count, last = 0, b"\x00"
    for part in chunks(fd, start, length):
        count += len(part.translate(None, _CONTINUED))
        last = part[-1:]
    if last > b"\x7f":
        raise malformed("a packed field ends inside a number", start)
    return count


def stored_nonfinite(fields: dict[str, Any], tensor: Tensor, fd: int) -> NonFinite:
    """Return the NaN and infinities of an inline tensor that :func:`check_tensor` returned."""
    if tensor.element not in FLOAT_TYPES:
        return NonFinite()
    if "int32_data" in fields:
        spans = fields["int32_data"]
        return count_nonfinite_varints(tensor.element, _bytes(fd, spans))
    for field in ("raw_data", "float_data", "double_data"):
        if field in fields:
            spans = [fields[field]] if field == "raw_data" else fields[field]
            return count_nonfinite(tensor.element, _bytes(fd, spans))
    return NonFinite()


def _bytes(fd: int, spans: list[Span]) -> Iterator[bytes]:
    for wire, start, length in spans:
        if wire in (LENGTH, FIXED32, FIXED64):
            yield from chunks(fd, start, length)
        else:
            yield from chunks(fd, start, length, 16)


def refuse_nonfinite(found: NonFinite, tensor: Tensor, label: str) -> None:
    """Raise E209 if any element is NaN or infinite.

    A single infinite value passes: it is a constant of the algorithm (a mask, a padding value)
    and no trained weight.
    """
    if found.nan or (found.inf and tensor.count > 1):
        raise ModelError(
            f"a weight holds {found.nan} NaN and {found.inf} infinite values",
            code="E209",
            subject=label,
            hint="retrain or export again, or set allow_nonfinite: true if they are meant",
        )


def _ambiguous(label: str) -> ModelError:
    return ModelError(
        "a tensor keeps its values in more than one place, or in none that all readers agree on",
        code="E208",
        subject=label,
        hint=_REEXPORT,
    )


def _wrong_size(label: str, stored: int, wanted: int) -> ModelError:
    return ModelError(
        f"a tensor stores {stored} bytes but its dims and element type take {wanted}",
        code="E207",
        subject=label,
        hint=_REEXPORT,
    )
