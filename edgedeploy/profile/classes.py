"""The file of a model's classes, or of a recogniser's characters: one per line."""

from __future__ import annotations

from pathlib import Path

from edgedeploy.errors import DataError


def read_classes(path: Path | None) -> tuple[str, ...]:
    """Return the lines of a file of classes; none where there is no file.

    Only line feeds part them, before which a carriage return is dropped: characters of a
    recogniser may be what else counts as an end of a line.

    Raises:
        DataError: It is no UTF-8 text, or a line of it is empty, which would give all classes
            behind it another number in some languages (E877).
    """
    if path is None:
        return ()
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        why = f"is no UTF-8 text: {error.reason} at byte {error.start}"
        raise _fault(path, why, "save it as UTF-8, one class per line") from error
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    if "" in lines:
        why = f"has an empty line, number {lines.index('') + 1}"
        raise _fault(path, why, "write one class per line, and no other lines")
    return tuple(lines)


def _fault(path: Path, why: str, hint: str) -> DataError:
    return DataError(f"the file of classes {why}", code="E877", subject=path.name, hint=hint)
