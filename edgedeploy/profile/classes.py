"""The file of a model's classes, or of a recogniser's characters: one per line."""

from __future__ import annotations

from pathlib import Path

from edgedeploy.errors import DataError


def read_classes(path: Path | None) -> tuple[str, ...]:
    """Return the lines of a file of classes that are not empty; none where there is no file.

    Only line feeds part them, before which a carriage return is dropped: characters of a
    recogniser may be what else counts as an end of a line.

    Raises:
        DataError: It is no UTF-8 text (E877).
    """
    if path is None:
        return ()
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"the file of classes is no UTF-8 text: {error.reason} at byte {error.start}",
            code="E877",
            subject=path.name,
            hint="save it as UTF-8, one class per line",
        ) from error
    return tuple(line for line in (line.removesuffix("\r") for line in text.split("\n")) if line)
