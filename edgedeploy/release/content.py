"""What a file in an archive or a package holds: bytes, a file, or a part of something larger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgedeploy.release.opening import Bundle

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Content that is read in parts, as often as it is asked for.

    Attributes:
        size: Bytes.
        parts: Yields them from the start.
    """

    size: int
    parts: Callable[[], Iterator[bytes]]


Content = bytes | Path | Stream


def bundled(bundle: Bundle, path: str) -> Stream:
    """Return a file of a bundle as content; its digest is checked whenever it is read.

    Raises:
        KeyError: The release has no such file.
    """
    return Stream(size=bundle.release.file(path).size, parts=lambda: bundle.parts(path))


def size_of(content: Content) -> int:
    """Return how many bytes a content has.

    Raises:
        OSError: The file cannot be asked.
    """
    if isinstance(content, bytes):
        return len(content)
    return content.size if isinstance(content, Stream) else content.stat().st_size


def parts_of(content: Content, path: str) -> Iterator[bytes]:
    """Yield a content in parts.

    Args:
        content: What is read.
        path: What it is called, for the message.

    Raises:
        OSError: The file cannot be read, or has more or fewer bytes than at first.
    """
    left = size_of(content)
    for data in _parts(content):
        left -= len(data)
        yield data
    if left:
        raise OSError(f"{path} changed while it was read")


def _parts(content: Content) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
    elif isinstance(content, Stream):
        yield from content.parts()
    else:
        with open(content, "rb") as source:
            while data := source.read(_CHUNK_BYTES):
                yield data


def write_content(goal: Path, content: Content) -> None:
    """Write a content into a new file; folders on the way are made.

    Raises:
        OSError: As :func:`parts_of`, or the disk refuses.
    """
    goal.parent.mkdir(parents=True, exist_ok=True)
    with open(goal, "xb") as file:
        file.writelines(parts_of(content, str(goal)))
