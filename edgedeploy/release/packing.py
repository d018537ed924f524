"""Streams of a delta, each by the compressor that makes it smallest."""

from __future__ import annotations

import bz2
import importlib
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, Literal

from edgedeploy.errors import ToolError
from edgedeploy.release.apply_file import CHUNK_BYTES, CRUMBS, LZMA, WINDOW_BYTES

Codecs = Literal["zstd", "lzma"]
"""What the reader has: ``zstd`` means zstd as well as what every Python has."""

LEVEL = 19
_RANDOM = 0.995
"""A stream that a quick compressor leaves longer than this is stored: nothing else would gain."""
_MOST_LARGE = 0.25
"""Of the numbers of a plane; with more that are too large for crumbs, crumbs do not gain."""


def zstandard() -> Any:
    """Return the package zstandard.

    Raises:
        ToolError: It is not installed (E773).
    """
    try:
        return importlib.import_module("zstandard")
    except ImportError as error:
        raise ToolError(
            "the package zstandard is not installed",
            code="E773",
            subject="zstandard",
            hint="install edgedeploy[zstd], or make the delta with --delta-codec lzma",
        ) from error


def pack(data: bytes, codecs: Codecs) -> tuple[str, bytes]:
    """Return the name of the codec that makes a plane of numbers smallest, and the packed plane."""
    found: tuple[str, bytes] = ("raw", data)
    if len(zlib.compress(data, 1)) > _RANDOM * len(data):
        return found
    packers: dict[str, Callable[[bytes], bytes]] = {"lzma": _lzma, "bz2": bz2.compress}
    if codecs == "zstd":
        # The first of equals is taken, and zstd is the one that unpacks fastest.
        packers = {"zstd": zstandard().ZstdCompressor(level=LEVEL).compress, **packers}
    tried = [(codec, packer(data)) for codec, packer in packers.items()]
    small, large = crumbs(data)
    if len(large) <= _MOST_LARGE * len(data):
        for codec, inner in CRUMBS.items():
            if inner in packers:
                first = packers[inner](small)
                head = len(first).to_bytes(4, "little")
                tried.append((codec, head + first + packers[inner](large)))
    return min([found, *tried], key=lambda item: len(item[1]))


def crumbs(plane: bytes) -> tuple[bytes, bytes]:
    """Return a plane in two bits for every byte, and its bytes that are larger than 2.

    :data:`edgedeploy.release.apply_file.CRUMBS` says how.
    """
    values = plane.translate(bytes(min(byte, 3) for byte in range(256)))
    values += bytes(-len(values) % 4)
    joined = 0
    for place in range(4):
        joined |= int.from_bytes(values[place::4], "little") << 2 * place
    return joined.to_bytes(len(values) // 4, "little"), plane.translate(None, b"\0\1\2")


def pack_patch(data: bytes, base: bytes, level: int = LEVEL) -> bytes:
    """Return a stream packed by zstd with what it probably repeats as the dictionary."""
    library = zstandard()
    known = library.ZstdCompressionDict(base, dict_type=library.DICT_TYPE_RAWCONTENT)
    how = library.ZstdCompressionParameters.from_level(
        level, source_size=len(data), dict_size=len(base), window_log=_window_log()
    )
    packed: bytes
    packed = library.ZstdCompressor(dict_data=known, compression_params=how).compress(data)
    return packed


def pack_long(parts: Iterable[bytes], size: int, goal: BinaryIO, codec: Codecs) -> int:
    """Write one long stream of ``size`` bytes, and return its packed bytes."""
    packer: Any = lzma.LZMACompressor(format=lzma.FORMAT_RAW, filters=_filters(size))
    if codec == "zstd":
        library = zstandard()
        level = library.ZstdCompressionParameters.from_level(
            LEVEL, source_size=size, window_log=_window_log(), write_content_size=True
        )
        packer = library.ZstdCompressor(compression_params=level).compressobj(size=size)
    start = goal.tell()
    for data in parts:
        goal.write(packer.compress(data))
    goal.write(packer.flush())
    return goal.tell() - start


def _lzma(data: bytes) -> bytes:
    return lzma.compress(data, format=lzma.FORMAT_RAW, filters=_filters(len(data)))


def _filters(size: int) -> list[dict[str, int]]:
    """Return the reader's filters with a dictionary that is no larger than the data asks for."""
    most = LZMA[0]["dict_size"]
    return [{**LZMA[0], "dict_size": max(4096, min(most, size))}]


def pack_plan(data: bytes) -> bytes:
    """Return a plan as :func:`edgedeploy.release.apply_file.read_plan` expects it."""
    return _lzma(data)


def _window_log() -> int:
    return WINDOW_BYTES.bit_length() - 1


def read_range(file: BinaryIO, at: int, length: int) -> Iterator[bytes]:
    """Yield a range of a file in chunks."""
    file.seek(at)
    while length:
        data = file.read(min(length, CHUNK_BYTES))
        if not data:
            raise OSError("a bundle became shorter while it was read")
        length -= len(data)
        yield data
