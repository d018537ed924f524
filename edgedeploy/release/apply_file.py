# Runs on devices: Python 3.6, standard library alone; zstandard where a delta asks for it.
# ruff: noqa: B904, B905, T201, UP006, UP031, UP035, UP045, PTH105, PTH108, PTH116, PTH120, PTH207, SIM115
"""Rebuilds a bundle from the one before: ``python3 apply_file.py DELTA --to OLD -o NEW``.

The one decoder of deltas: edgedeploy's own ``apply`` calls it too. NEW appears whole, with the
SHA-256 that the delta names, or not at all. With ``--key PUB`` and ``verify_file.py`` beside this
file, it must also be signed by that key. Exit status: 0 done, 5 a part is missing here, 6 the disk
refuses, 7 the delta, the base or the signature is refused. Memory does not grow with the bundle,
however large a tensor is: :data:`BLOCK_BYTES` bound what is held at a time.

A delta is :data:`MAGIC`, the SHA-256 of all that follows (32 bytes), the length of the plan (4
bytes, little endian), the plan (JSON, LZMA2) and the streams that the plan lists, in its order.
The plan says for every range of NEW where its bytes come from: copied from OLD, or decoded from a
block. Blocks may fill ranges in any order, so that small tensors of one kind share a stream.
Offsets and lengths count bytes of the files.

Kinds of blocks: ``plain`` (one stream, the bytes), ``patch`` (one zstd frame with bytes of OLD as
its dictionary), ``p1 p2 p4`` (bytes of each place of 1, 2 or 4 byte numbers as a stream of their
own) and ``i1 i4 f2 f4``: the same of what is to be added to OLD's numbers, zigzag coded. A stream
of the last two may be in crumbs (:data:`CRUMBS`): four bytes in one, and what is too large for
that behind them.
"""

import argparse
import base64
import bz2
import contextlib
import errno
import fcntl
import glob
import hashlib
import importlib
import io
import json
import lzma
import os
import stat
import sys
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, Optional, Tuple

MAGIC = b"EDDELTA1"
SCHEMA = 1
BLOCK_BYTES = 2 << 20
BASE_BYTES = 4 * BLOCK_BYTES
WINDOW_BYTES = 8 << 20
CHUNK_BYTES = 1 << 18
MOST_PLAN_BYTES = 32 << 20
MOST_MANIFEST_BYTES = 16 << 20

LANES = {"p1": 1, "p2": 2, "p4": 4, "i1": 1, "i4": 4, "f2": 2, "f4": 4}
"""Bytes of a number, by kind of block; kinds with ``p`` have no base."""

# Raw LZMA2: the reader sets the dictionary's size, so that no file can ask for more memory.
LZMA = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": WINDOW_BYTES, "pb": 0}]


class DamagedError(Exception):
    """The delta is no delta, is damaged, or made something else than it says."""


class WrongBaseError(Exception):
    """The delta was made from another bundle."""


class UnusableKeyError(Exception):
    """What was given as a key is none."""


class MissingPartError(Exception):
    """Something is not there: ``zstandard`` for a delta that needs it, or the checker of keys."""


CRUMBS = {"crumbs-zstd": "zstd", "crumbs-lzma": "lzma", "crumbs-bz2": "bz2"}
"""Codecs of byte planes of small numbers, and what packs their two parts.

The length of the first part (4 bytes, little endian), then the two. The first has two bits for
every byte of the plane, the first of four lowest: 0 to 2, or 3 for one of the larger bytes, which
are the second part. Compressors that spend a whole bit on every byte spend a quarter of it so.
"""

Check = Callable[[bytes, bytes], None]
"""Gets the manifest and the signed envelope of NEW before anything is written."""

Approve = Callable[[str], None]
"""Gets the path of the finished file before it gets the name of NEW."""


def apply(
    delta: str,
    base: str,
    goal: str,
    check: Optional[Check] = None,
    approve: Optional[Approve] = None,
) -> Dict[str, Any]:
    """Rebuild a bundle and return the delta's plan.

    Args:
        delta: The delta's file, from anywhere.
        base: The bundle that it was made from.
        goal: Where the new bundle is written; replaced when all of it is right and synced. What
            a killed ``apply`` to the same goal left beside it is removed.
        check: Called with manifest and envelope before anything is written.
        approve: Called with the finished file. What either of the two raises ends the work.

    Raises:
        DamagedError: The delta is no delta, is damaged, or is not of this schema.
        WrongBaseError: ``base`` is another file than that from which the delta was made.
        MissingPartError: The delta needs ``zstandard``, and it is not installed.
        OSError: A file cannot be read, the disk refuses, or ``goal`` is a device, a pipe or a
            socket; it is as it was.
    """
    _check_goal(goal)
    with open(delta, "rb") as stream, open(base, "rb") as old:
        plan = read_plan(stream)
        _check_base(old, plan["base"])
        try:
            manifest = b"".join(_block(plan["blocks"][0], stream, old))
            if len(manifest) != plan["blocks"][0]["new"][0][1]:
                raise DamagedError("the manifest is cut off")
            envelope = envelope_of(manifest, plan["envelope"])
        except _UNUSABLE as error:
            raise DamagedError("it cannot be decoded: %s" % error)
        if check is not None:
            check(manifest, envelope)
        _sweep(goal)
        with _new_part(goal) as new:
            try:
                _fill(new, plan, manifest, envelope, stream, old)
                if approve is not None:
                    approve(new.name)
                os.replace(new.name, goal)
            except BaseException:
                if os.path.lexists(new.name):
                    os.unlink(new.name)
                raise
        _sync_folder(goal)
    return plan


def _check_goal(goal: str) -> None:
    """Refuse to put a file in the place of ``/dev/null``, which root could."""
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(goal).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise OSError(errno.EINVAL, "it is no regular file, and stays", goal)


def _new_part(goal: str) -> BinaryIO:
    """Return a new file beside a goal, locked for as long as it is open."""
    while True:
        file = open("%s.part.%s" % (goal, os.urandom(6).hex()), "xb+")
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.path.lexists(file.name):
            return file
        file.close()  # somebody swept it before it was locked


def _sweep(goal: str) -> None:
    """Remove what those who were killed left beside a goal: nobody holds its lock."""
    for left in glob.glob(glob.escape(goal) + ".part." + "[0-9a-f]" * 12):
        with contextlib.suppress(OSError):  # somebody is at work on it, or it is not ours
            _remove_left(left)


def _remove_left(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    finally:
        os.close(descriptor)


def _fill(
    new: BinaryIO,
    plan: Dict[str, Any],
    manifest: bytes,
    envelope: bytes,
    stream: BinaryIO,
    old: BinaryIO,
) -> None:
    """Write the new bundle, and check and sync it."""
    try:
        _write_own(new, plan, manifest, envelope)
        _rebuild(plan, stream, old, new)
    except _UNUSABLE as error:
        raise DamagedError("it cannot be decoded: %s" % error)
    new.flush()
    if sha256_of(new) != plan["new"]["sha256"]:
        raise DamagedError("what it makes is not what it says")
    os.fsync(new.fileno())


def _sync_folder(path: str) -> None:
    """Make the name of a file durable."""
    descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_UNUSABLE = (ValueError, KeyError, TypeError, IndexError, EOFError, lzma.LZMAError)


def read_plan(stream: BinaryIO) -> Dict[str, Any]:
    """Return the plan at the head of a delta, checked; the streams follow.

    Raises:
        DamagedError: It is no delta of this schema.
        OSError: It cannot be read.
    """
    try:
        if stream.read(len(MAGIC)) != MAGIC:
            raise ValueError("it does not begin like one")
        if _exactly(stream, 32) != _digest(stream):
            raise ValueError("its digest is another")
        stream.seek(len(MAGIC) + 32)
        packed = int.from_bytes(_exactly(stream, 4), "little")
        if packed > MOST_PLAN_BYTES:
            raise ValueError("its plan is too large")
        reader = _decoder("lzma", io.BytesIO(_exactly(stream, packed)), None)
        text = reader.read(MOST_PLAN_BYTES + 1)
        if len(text) > MOST_PLAN_BYTES:
            raise ValueError("its plan is too large")
        plan: Dict[str, Any] = json.loads(text.decode())
        if plan["schema"] != SCHEMA:
            raise ValueError("it is of schema %r, not %d" % (plan["schema"], SCHEMA))
        _check_plan(plan)
    except (RecursionError, *_UNUSABLE) as error:
        raise DamagedError("this is no delta that can be used: %s" % error)
    return plan


def _check_plan(plan: Dict[str, Any]) -> None:
    """Refuse ranges outside of the files, and more work than the new bundle has bytes."""
    base_size, new_size = plan["base"]["size"], plan["new"]["size"]
    for half in (plan["base"], plan["new"]):
        _natural(half["size"])
        if len(half["sha256"]) != 64 or not isinstance(half["version"], str):
            raise ValueError("it does not say what it is for")
    total = 0
    for new, old, length in plan["copies"]:
        _within(old, length, base_size)
        total += _within(new, length, new_size)
    for block in plan["blocks"]:
        size = sum(_within(at, length, new_size) for at, length in block["new"])
        base = sum(_within(at, length, base_size) for at, length in block["base"])
        _check_block(block["kind"], size, base, block["streams"])
        total += size
    if plan["blocks"][0]["kind"] not in ("plain", "patch") or len(plan["blocks"][0]["new"]) != 1:
        raise ValueError("its first block is no manifest")
    if plan["blocks"][0]["new"][0][1] > MOST_MANIFEST_BYTES:
        raise ValueError("its manifest is too large")
    for name in ("envelope", "sums"):
        total += _within(plan[name]["at"], plan[name]["length"], new_size)
    if total != new_size:
        raise ValueError("it does not cover the bundle")


def _check_block(kind: str, size: int, base: int, streams: List[Any]) -> None:
    count = LANES.get(kind, 1)
    wanted = {"plain": base == 0, "patch": base <= BASE_BYTES and size <= BLOCK_BYTES}
    if kind in LANES:
        wanted[kind] = size % count == 0 and size <= BLOCK_BYTES
        wanted[kind] &= base == (0 if kind.startswith("p") else size)
    if not wanted[kind] or len(streams) != count:
        raise ValueError("a block of kind %r is not possible so" % kind)
    for codec, packed in streams:
        inner = CRUMBS.get(codec, codec) if kind in LANES else codec
        if inner not in CODECS or _natural(packed) > size + CHUNK_BYTES:
            raise ValueError("a stream of %r is not possible so" % codec)
        if inner == "zstd":
            _zstandard()


def _natural(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("a number is %r" % (value,))
    return value


def _within(at: Any, length: Any, size: int) -> int:
    if _natural(at) + _natural(length) > size:
        raise ValueError("a range lies outside of the file")
    return int(length)


def _check_base(old: BinaryIO, wanted: Dict[str, Any]) -> None:
    if old.seek(0, os.SEEK_END) != wanted["size"] or sha256_of(old) != wanted["sha256"]:
        raise WrongBaseError("it was made from version %r" % wanted["version"][:80])


def sha256_of(file: BinaryIO) -> str:
    """Return the SHA-256 of a whole file that is open for reading."""
    file.seek(0)
    return _digest(file).hex()


def _digest(file: BinaryIO) -> bytes:
    """Return the SHA-256 of what is left of a file."""
    found = hashlib.sha256()
    for data in iter(lambda: file.read(CHUNK_BYTES), b""):
        found.update(data)
    return found.digest()


def envelope_of(manifest: bytes, about: Dict[str, Any]) -> bytes:
    """Return the envelope: the manifest in base64 between what stands before and after it."""
    return b"".join((about["before"].encode(), base64.b64encode(manifest), about["after"].encode()))


def sums_of(manifest: bytes) -> bytes:
    """Return ``SHA256SUMS``, which follows from the manifest."""
    files = json.loads(manifest.decode())["files"]
    return "".join("%s  %s\n" % (file["sha256"], file["path"]) for file in files).encode()


def _write_own(new: BinaryIO, plan: Dict[str, Any], manifest: bytes, envelope: bytes) -> None:
    places = [plan["blocks"][0]["new"][0][0], plan["envelope"]["at"], plan["sums"]["at"]]
    sizes = [len(manifest), plan["envelope"]["length"], plan["sums"]["length"]]
    for at, size, content in zip(places, sizes, (manifest, envelope, sums_of(manifest))):
        if size != len(content):
            raise ValueError("the manifest is not the one that it was made for")
        new.seek(at)
        new.write(content)


def _rebuild(plan: Dict[str, Any], stream: BinaryIO, old: BinaryIO, new: BinaryIO) -> None:
    for at, start, length in plan["copies"]:
        old.seek(start)
        new.seek(at)
        for data in _chunks(old, length):
            new.write(data)
    for block in plan["blocks"][1:]:
        _scatter(new, block["new"], _block(block, stream, old))
    if stream.read(1):
        raise ValueError("something follows its end")


def _scatter(new: BinaryIO, ranges: List[Any], parts: Iterator[bytes]) -> None:
    """Write what comes into ranges of a file, in their order; all must be filled."""
    data = b""
    for at, length in ranges:
        new.seek(at)
        while length:
            data = data or next(parts, b"")
            if not data:
                raise ValueError("a block is too short")
            new.write(data[:length])
            data, length = data[length:], length - min(length, len(data))
    if data or next(parts, b""):
        raise ValueError("a block is too long")


def _block(block: Dict[str, Any], stream: BinaryIO, old: BinaryIO) -> Iterator[bytes]:
    """Yield the bytes of one block; the stream stands behind it afterwards."""
    kind, size = block["kind"], sum(length for _, length in block["new"])
    base = b"".join(_read(old, at, length) for at, length in block["base"])
    if kind in LANES:
        width = LANES[kind]
        planes = [
            _plane(codec, stream, packed, size // width) for codec, packed in block["streams"]
        ]
        yield undo(kind, planes, base)
        return
    ((codec, packed),) = block["streams"]
    yield from _unpacked(codec, stream, packed, size, base or None)


def _plane(codec: str, stream: BinaryIO, packed: int, size: int) -> bytes:
    """Return a plane of ``size`` bytes."""
    if codec not in CRUMBS:
        return b"".join(_unpacked(codec, stream, packed, size, None))
    inner = CRUMBS[codec]
    first = int.from_bytes(_exactly(stream, 4), "little")
    if 4 + first > packed:
        raise ValueError("a stream is too short")
    small = b"".join(_unpacked(inner, stream, first, (size + 3) // 4, None))
    plane = bytearray(4 * len(small))
    for place in range(4):
        plane[place::4] = small.translate(bytes(byte >> 2 * place & 3 for byte in range(256)))
    del plane[size:]
    at = -1
    for large in _unpacked(inner, stream, packed - 4 - first, plane.count(3), None):
        for value in large:
            at = plane.index(3, at + 1)
            plane[at] = value
    return bytes(plane)


def _read(file: BinaryIO, at: int, length: int) -> bytes:
    file.seek(at)
    return _exactly(file, length)


def _exactly(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) != length:
        raise ValueError("it is cut off")
    return data


def _chunks(file: BinaryIO, length: int) -> Iterator[bytes]:
    while length:
        data = _exactly(file, min(length, CHUNK_BYTES))
        length -= len(data)
        yield data


def undo(kind: str, planes: List[bytes], base: bytes) -> bytes:
    """Return the numbers of a block from its planes and the base's numbers.

    The arithmetic runs on all numbers at once, as the lanes of one long integer: every step below
    is linear in its length, and no carry leaves its lane.

    Args:
        kind: Of :data:`LANES`.
        planes: The first, second ... byte of every number, little endian.
        base: As many numbers; empty where the kind has no base.
    """
    width = len(planes)
    mixed = bytearray(width * len(planes[0]))
    for place, plane in enumerate(planes):
        mixed[place::width] = plane
    if kind.startswith("p"):
        return bytes(mixed)
    ones, tops = lanes(width, len(planes[0]))
    coded = int.from_bytes(mixed, "little")
    # Undo zigzag: 0, -1, 1, -2 ... were stored as 0, 1, 2, 3 ...
    change = ((coded >> 1) & ~tops) ^ ((coded & ones) * ((1 << 8 * width) - 1))
    start = int.from_bytes(base, "little")
    if kind.startswith("f"):
        start = ordered(start, width, ones)
    found = ((change & ~tops) + (start & ~tops)) ^ ((change ^ start) & tops)
    if kind.startswith("f"):
        found = ordered(found, width, ones)
    return found.to_bytes(len(mixed), "little")


def lanes(width: int, count: int) -> Tuple[int, int]:
    """Return long integers with the lowest and with the highest bit of every lane set."""
    ones = int.from_bytes((b"\1" + bytes(width - 1)) * count, "little")
    return ones, ones << (8 * width - 1)


def ordered(values: int, width: int, ones: int) -> int:
    """Turn floats into integers of the same order, lane by lane; its own inverse.

    Floats are sign and magnitude: what is negative has its magnitude's bits turned over.
    """
    negative = (values >> (8 * width - 1)) & ones
    return values ^ (negative * ((1 << (8 * width - 1)) - 1))


class _Part(io.RawIOBase):
    """The next bytes of a stream as a file of their own."""

    def __init__(self, stream: BinaryIO, left: int) -> None:
        super().__init__()
        self._stream, self.left = stream, left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(min(self.left, len(buffer)))
        buffer[: len(data)] = data
        self.left -= len(data)
        return len(data)


def _unpacked(
    codec: str, stream: BinaryIO, packed: int, size: int, base: Optional[bytes]
) -> Iterator[bytes]:
    """Yield ``size`` bytes that ``packed`` bytes of the stream hold, in chunks."""
    end = stream.tell() + packed
    reader = _decoder(codec, _Part(stream, packed), base)
    left = size
    while left:
        data = reader.read(min(left, CHUNK_BYTES))
        if not data:
            raise ValueError("a stream is too short")
        left -= len(data)
        yield data
    if reader.read(1):
        raise ValueError("a stream is too long")
    stream.seek(end)


def _decoder(codec: str, packed: Any, base: Optional[bytes]) -> Any:
    """Return something to read from; its memory is bounded by what is set here."""
    return CODECS[codec](packed, base)


def _raw(packed: Any, base: Optional[bytes]) -> Any:
    return packed


def _bz2(packed: Any, base: Optional[bytes]) -> Any:
    return _Reader(bz2.BZ2File(packed), OSError)


def _lzma(packed: Any, base: Optional[bytes]) -> Any:
    return lzma.LZMAFile(packed, format=lzma.FORMAT_RAW, filters=LZMA)


def _zstd(packed: Any, base: Optional[bytes]) -> Any:
    zstandard = _zstandard()
    known = None
    if base is not None:
        known = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    found = zstandard.ZstdDecompressor(dict_data=known, max_window_size=WINDOW_BYTES)
    return _Reader(found.stream_reader(packed), zstandard.ZstdError)


class _Reader:
    """A reader whose errors are ValueErrors, whatever its codec raises on bad data."""

    def __init__(self, reader: Any, error: Any) -> None:
        self._reader, self._error = reader, error

    def read(self, size: int) -> bytes:
        try:
            data: bytes = self._reader.read(size)
        except self._error as error:
            raise ValueError(str(error))
        return data


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError:
        raise MissingPartError("it is compressed by zstd: install the package zstandard")
    return zstandard


CODECS = {"raw": _raw, "bz2": _bz2, "lzma": _lzma, "zstd": _zstd}
"""By name in a plan; each gets the packed bytes as a file, and the dictionary or None."""


def main(arguments: Optional[List[str]] = None) -> int:
    """Apply and say how it went; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("delta", metavar="DELTA")
    parser.add_argument("--to", metavar="OLD", required=True, help="bundle that it was made from")
    parser.add_argument("-o", metavar="NEW", required=True, help="where the new bundle goes")
    parser.add_argument(
        "--key", metavar="PUB", action="append", default=[], help="who must sign it"
    )
    given = parser.parse_args(arguments)
    try:
        hooks = _verifier(given.key) if given.key else (None, None)
        plan = apply(given.delta, given.to, given.o, *hooks)
    except (DamagedError, WrongBaseError) as error:
        print("refused: %s" % ascii(str(error)), file=sys.stderr)
        return 7
    except UnusableKeyError as error:
        print("refused: %s" % ascii(str(error)), file=sys.stderr)
        return 2
    except MissingPartError as error:
        print("not possible here: %s" % error, file=sys.stderr)
        return 5
    except OSError as error:
        print("failed: %s" % error, file=sys.stderr)
        return 6
    print("%s  %s" % (plan["new"]["sha256"], given.o))
    return 0


def _verifier(paths: List[str]) -> Tuple[Check, Approve]:
    """Return what checks signatures: ``verify_file.py``, which lies beside this file."""
    try:
        checker = importlib.import_module("verify_file")
    except ImportError:
        raise MissingPartError("--key needs verify_file.py beside this file")
    try:
        keys = [checker.read_key(path) for path in paths]
    except ValueError as error:
        raise UnusableKeyError(str(error))

    def guarded(check: Callable[..., Any]) -> Callable[..., None]:
        def run(*what: Any) -> None:
            try:
                check(*what, keys)
            except checker.VerifyError as error:
                raise DamagedError(str(error))

        return run

    return guarded(checker.signed), guarded(checker.verify)


if __name__ == "__main__":
    sys.exit(main())
