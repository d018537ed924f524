"""Copying a checked model into a private folder, so that no converter sees a user's path.

The bytes of the model file are kept as they are; only the ``external_data`` of its tensors are
rewritten to point into one fresh file. Messages around them get new lengths, nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from edgedeploy.errors import ModelError
from edgedeploy.model.external import open_model
from edgedeploy.model.facts import Limits, ModelFacts
from edgedeploy.model.files import DATA_NAME, MODEL_NAME
from edgedeploy.model.scan import ExternalTensor, examine, external_bytes
from edgedeploy.model.walk import Frame
from edgedeploy.model.wire import LENGTH, VARINT, chunks, encode_field, encode_varint

_ALIGNMENT_BYTES = 4096
"""Offsets that runtimes can map (onnx.proto on ``offset``)."""

_SOURCE_NAME = "model.onnx.source"


def adopt(path: Path, folder: Path, *, allow_nonfinite: bool = False) -> ModelFacts:
    """Scan a model and write a copy that owes nothing to the user's folder.

    Args:
        path: The user's ``.onnx`` file.
        folder: An existing folder of ours; gets ``model.onnx`` and, if the model has external
            data, ``model.onnx.data``.
        allow_nonfinite: Whether weights may hold NaN and infinity.

    Returns:
        The facts of the user's file (its digest, its external files).

    Raises:
        ModelError: The model is refused (E200-E217), or changed while it was copied (E217).
    """
    source = folder / _SOURCE_NAME
    with open_model(path) as (fd, status):
        found = examine(
            fd,
            status.st_size,
            path.parent,
            limits=Limits(),
            allow_nonfinite=allow_nonfinite,
        )
        digest = hashlib.sha256()
        with source.open("xb") as out:
            for part in chunks(fd, 0, status.st_size):
                digest.update(part)
                out.write(part)
    offsets: list[int] = []
    if found.externals:
        with (folder / DATA_NAME).open("xb") as data:
            offsets = _copy_external(found.externals, path.parent, data, digest)
    if digest.hexdigest() != found.facts.sha256:
        raise ModelError(
            "the model changed while it was copied",
            code="E217",
            subject=str(path),
            hint="run again when nothing else writes to the model",
        )
    if found.externals:
        with open_model(source) as (fd, status), (folder / MODEL_NAME).open("xb") as out:
            for part in _patched(fd, status.st_size, found.externals, offsets):
                out.write(part)
        source.unlink()
    else:
        source.rename(folder / MODEL_NAME)
    return found.facts


def _copy_external(
    externals: tuple[ExternalTensor, ...],
    folder: Path,
    data: BinaryIO,
    digest: hashlib._Hash,
) -> list[int]:
    """Append every external tensor to one file; return where each begins."""
    offsets = []
    for item, parts in external_bytes(externals, folder):
        alignment = _ALIGNMENT_BYTES if item.tensor.nbytes >= _ALIGNMENT_BYTES else 8
        data.write(bytes(-data.tell() % alignment))
        offsets.append(data.tell())
        for part in parts:
            digest.update(part)
            data.write(part)
    return offsets


def _patched(
    fd: int, size: int, externals: tuple[ExternalTensor, ...], offsets: list[int]
) -> Iterator[bytes]:
    """Yield the model file's bytes with each external tensor's message replaced."""
    tensors: dict[int, bytes] = {}
    children: dict[int, list[Frame]] = {}
    growth: dict[int, int] = {}
    root = None
    for item, offset in zip(externals, offsets, strict=True):
        tensors[id(item.frame)] = _tensor_message(item, offset)
        frame = item.frame
        while frame.parent is not None:
            siblings = children.setdefault(id(frame.parent), [])
            if siblings and siblings[-1] is frame:
                break
            siblings.append(frame)
            frame = frame.parent
        root = frame if frame.parent is None else root

    def length_of(frame: Frame) -> int:
        if id(frame) in tensors:
            return len(tensors[id(frame)])
        if id(frame) not in growth:
            growth[id(frame)] = sum(
                len(_header(child, length_of(child))) + length_of(child) - (child.end - child.tag)
                for child in children[id(frame)]
            )
        return frame.end - frame.start + growth[id(frame)]

    def content(frame: Frame) -> Iterator[bytes]:
        if id(frame) in tensors:
            yield tensors[id(frame)]
            return
        at = frame.start
        for child in children[id(frame)]:
            yield from chunks(fd, at, child.tag - at)
            yield _header(child, length_of(child))
            yield from content(child)
            at = child.end
        yield from chunks(fd, at, frame.end - at)

    if root is None:
        return chunks(fd, 0, size)
    return content(root)


def _header(frame: Frame, length: int) -> bytes:
    return encode_varint(frame.number << 3 | LENGTH) + encode_varint(length)


def _tensor_message(item: ExternalTensor, offset: int) -> bytes:
    """Return a ``TensorProto`` (onnx.proto field numbers) whose data lie in our file."""
    out = bytearray()
    for dim in item.frame.fields.get("dims", ()):
        out += encode_varint(1 << 3 | VARINT) + encode_varint(dim)
    out += encode_varint(2 << 3 | VARINT) + encode_varint(item.frame.fields["data_type"])
    if item.tensor.name:
        out += encode_field(8, item.tensor.name.encode())
    for key, value in (
        ("location", DATA_NAME),
        ("offset", str(offset)),
        ("length", str(item.tensor.nbytes)),
    ):
        pair = encode_field(1, key.encode()) + encode_field(2, value.encode())
        out += encode_field(13, pair)
    out += encode_varint(14 << 3 | VARINT) + encode_varint(1)
    return bytes(out)
