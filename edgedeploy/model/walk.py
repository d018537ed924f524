"""Walking the messages of a model file with an explicit stack and hard bounds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgedeploy.errors import ModelError
from edgedeploy.model.facts import Limits
from edgedeploy.model.schema import MESSAGES, Field
from edgedeploy.model.wire import FIXED32, FIXED64, LENGTH, VARINT, Cursor, malformed

# Numbers of an attribute stand unpacked, one field each: whole runs are skipped at once.
_RUNS = {
    "floats": re.compile(rb"(?:\x3d[\s\S]{4})+"),
    "ints": re.compile(rb"(?:\x40[\x80-\xff]{0,9}[\x00-\x7f])+"),
}


@dataclass(slots=True)
class Frame:
    """A message that is being walked.

    Attributes:
        parent: The message around it.
        tag: Offset of the field's tag in the parent.
        start: First byte of the message.
        end: The byte after its last.
        kind: Key in :data:`MESSAGES`.
        field: What it is in the parent, with its number.
        number: Field number in the parent.
        fields: What has been read of it.
    """

    parent: Frame | None
    tag: int
    start: int
    end: int
    kind: str
    field: Field
    number: int
    fields: dict[str, Any]


Reduce = Callable[[Frame], Any]
"""Makes of a finished message what its parent keeps; None keeps nothing."""

_ROOT = Field("model", "message", LENGTH, False, "model")


class Walker:
    """One pass over the wire format; memory grows with what the reductions keep.

    Args:
        fd: The open file.
        size: Its size in bytes.
        limits: What it may contain.
        reduce: By message kind; kinds without one keep their fields.
    """

    def __init__(self, fd: int, size: int, limits: Limits, reduce: Mapping[str, Reduce]) -> None:
        self._limits = limits
        self._reduce = reduce
        self._cursor = Cursor(fd, size)
        self._size = size
        self._names: dict[str, str] = {}
        self._text_bytes = 0
        self._fields = 0

    def run(self) -> dict[str, Any]:
        """Walk the whole file and return the fields of its ``ModelProto``.

        Raises:
            ModelError: The bytes are no model (E201), too much (E202) or nested too deeply (E203).
        """
        cursor = self._cursor
        frame = Frame(None, 0, 0, self._size, "model", _ROOT, 0, {})
        depth = 1
        while True:
            while cursor.position < frame.end:
                opened = self._field(frame)
                if opened is None:
                    continue
                frame = opened
                depth += 1
                if depth > self._limits.depth:
                    raise ModelError(
                        f"the model nests deeper than {self._limits.depth} levels",
                        code="E203",
                        hint="flatten the subgraphs; no ONNX reader accepts this file",
                    )
            parent = frame.parent
            if parent is None:
                return frame.fields
            reduce = self._reduce.get(frame.kind)
            value = reduce(frame) if reduce else frame.fields
            if value is not None and not frame.field.dropped:
                if frame.field.repeated:
                    parent.fields.setdefault(frame.field.name, []).append(value)
                else:
                    parent.fields[frame.field.name] = value
            frame = parent
            depth -= 1

    def _field(self, frame: Frame) -> Frame | None:
        """Read one field of a message; return the frame of a nested message to walk."""
        cursor = self._cursor
        self._fields += 1
        if self._fields > self._limits.fields:
            raise too_much("fields", self._limits.fields)
        tag_at = cursor.position
        tag, value, start = cursor.field(frame.end)
        number, wire = tag >> 3, tag & 7
        if wire == LENGTH:
            end = start + value
        elif wire == VARINT:
            end = cursor.position
        elif wire in (FIXED32, FIXED64):
            end = start + (4 if wire == FIXED32 else 8)
        else:
            raise malformed(f"wire type {wire}", tag_at)
        if end > frame.end or number == 0:
            raise malformed("a field runs over the end of its message", tag_at)
        field = MESSAGES[frame.kind].get(number)
        cursor.position = end
        if field is None:
            return None
        if wire != field.wire and not (wire == LENGTH and field.repeated):
            raise malformed(f"the field {field.name!r} has another wire type", tag_at)
        if not field.repeated and field.name in frame.fields:
            # Readers disagree on which one counts, or merge them.
            raise malformed(f"the field {field.name!r} occurs twice", tag_at)
        if field.content == "message":
            cursor.position = start
            if not field.repeated:
                frame.fields[field.name] = None
            return Frame(frame, tag_at, start, end, field.message, field, number, {})
        self._keep(frame, field, wire, start, value)
        return None

    def _keep(self, frame: Frame, field: Field, wire: int, start: int, value: int) -> None:
        """Keep a field that is no message; the cursor stands behind it."""
        cursor, fields = self._cursor, frame.fields
        kept: Any = None
        if field.content == "int":
            if wire == LENGTH:
                self._unpack(fields.setdefault(field.name, []), start, cursor.position)
                return
            kept = value
        elif field.content == "text":
            kept = self._text(start, value)
        elif field.content == "span":
            kept = (wire, start, cursor.position - start)
        elif field.repeated:
            if wire != LENGTH:
                cursor.skip_run(_RUNS[field.name], frame.end)
            return
        if field.repeated:
            fields.setdefault(field.name, []).append(kept)
        else:
            fields[field.name] = kept

    def _unpack(self, values: list[int], start: int, end: int) -> None:
        """Append packed varints; stops where there are more than any list may have."""
        cursor = self._cursor
        cursor.position = start
        while cursor.position < end and len(values) <= self._limits.rank:
            values.append(cursor.varint(end))
        cursor.position = end

    def _text(self, start: int, length: int) -> str:
        """Return a text, one object per distinct text; the cursor moves behind it."""
        if length > self._limits.text_bytes:
            raise too_much("bytes in one name or text", self._limits.text_bytes)
        self._cursor.position = start
        try:
            text = self._cursor.take(length).decode("utf-8")
        except UnicodeDecodeError as error:
            raise malformed("a name is not UTF-8", start) from error
        known = self._names.get(text)
        if known is not None:
            return known
        self._names[text] = text
        self._text_bytes += length
        if len(self._names) > self._limits.names:
            raise too_much("names", self._limits.names)
        if self._text_bytes > self._limits.all_text_bytes:
            raise too_much("bytes of names and metadata", self._limits.all_text_bytes)
        return text


def too_much(what: str, limit: int) -> ModelError:
    """Return the refusal of a model that is larger than what is read."""
    return ModelError(
        f"the model has more than {limit} {what}",
        code="E202",
        hint="simplify or split the model before it is built",
    )
