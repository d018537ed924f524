"""What files a data role means, in which order, and their digests. Standard library only.

This is what plans and keys look at (:func:`describe`); readers get the same :class:`Selection`,
so that what is keyed and what is read cannot differ.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgedeploy.data.labels import Labels, load_labels
from edgedeploy.errors import DataError
from edgedeploy.profile.types import DataRole

Reader = Literal["numpy", "images", "audio", "function"]

SUFFIXES: Mapping[Reader, frozenset[str]] = {
    "numpy": frozenset({".npy", ".npz"}),
    "images": frozenset(
        {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
    ),
    "audio": frozenset({".wav"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """One file that a role is read from.

    Attributes:
        path: Posix path relative to the role's source folder (a name for a single file), the same
            on every machine wherever the data lies.
        kind: ``data``, ``labels`` or ``code``.
        sha256: Digest of the content, 64 hex digits.
    """

    path: str
    kind: Literal["data", "labels", "code"]
    sha256: str
    size_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return the file as JSON data."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The chosen files of a role, in reading order.

    Attributes:
        reader: Who reads them.
        root: Folder that ``names`` are relative to.
        names: Posix paths, sorted by code points; for ``function`` the Python file.
        found: How many there were before the ``samples`` limit.
        rows: Whether this is one array file whose first axis counts samples.
        function: Name of the data function.
        ignored: Reason -> number of files that were passed over.
        labels: The ground truth, if there is one.
    """

    reader: Reader
    root: Path
    names: tuple[str, ...]
    found: int
    rows: bool = False
    function: str | None = None
    ignored: Mapping[str, int]
    labels: Labels | None = None


def evenly(total: int, wanted: int | None) -> list[int]:
    """Return at most ``wanted`` of ``range(total)``, evenly spread (middles of equal parts)."""
    if wanted is None or wanted >= total:
        return list(range(total))
    return [(2 * i + 1) * total // (2 * wanted) for i in range(wanted)]


def _walk(root: Path) -> tuple[list[str], Counter[str]]:
    """Return all visible files below ``root`` as posix paths, unsorted, and what was ignored."""
    names: list[str] = []
    ignored: Counter[str] = Counter()
    for folder, subfolders, files in os.walk(root, onerror=_unlisted):
        for name in list(subfolders):
            if name.startswith("."):
                subfolders.remove(name)
                ignored["hidden folder"] += 1
            elif os.path.islink(os.path.join(folder, name)):  # noqa: PTH114, PTH118 - hot loop
                ignored["linked folder"] += 1
        for name in files:
            if name.startswith("."):
                ignored["hidden"] += 1
            else:
                names.append((Path(folder) / name).relative_to(root).as_posix())
    for path in names:
        if any(mark < " " or "\ud800" <= mark <= "\udfff" for mark in path):
            raise DataError(
                f"the file name {path!a} is not UTF-8 text without control characters",
                code="E259",
                subject=ascii(path),
                hint="Rename the file.",
            )
    return names, ignored


def _unlisted(error: OSError) -> None:
    raise _unreadable(str(error.filename), error) from error


def _unreadable(name: str, error: OSError) -> DataError:
    return DataError(
        f"cannot read {name}: {error.strerror or error}",
        code="E250",
        subject=name,
        hint="Check that it exists and may be read.",
    )


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - names, not paths


def _choose_reader(role: DataRole, source: Path, names: list[str]) -> Reader:
    if role.reader != "auto":
        return role.reader
    counts = {
        reader: count
        for reader, suffixes in SUFFIXES.items()
        if (count := sum(_suffix(name) in suffixes for name in names))
    }
    if len(counts) == 1:
        return next(iter(counts))
    if counts:
        listing = ", ".join(f"{count} for {reader}" for reader, count in counts.items())
        raise DataError(
            f"data role '{role.name}' is ambiguous: {source} holds files of several kinds "
            f"({listing})",
            code="E254",
            subject=str(source),
            hint="Say which: `reader: numpy`, `images` or `audio`.",
        )
    raise DataError(
        f"data role '{role.name}': no sample found in {source}",
        code="E251",
        subject=str(source),
        hint="Give a folder of .npz, .npy, image or .wav files, or `file.py:function`.",
    )


def _select_function(role: DataRole, source: str, folder: Path) -> Selection:
    file_name, _, function = source.rpartition(":")
    file = folder / file_name
    if not file.is_file():
        raise DataError(
            f"data role '{role.name}': the Python file {file_name} does not exist",
            code="E250",
            subject=file_name,
            hint="The path is relative to the profile's folder.",
        )
    if role.labels is not None:
        raise DataError(
            f"data role '{role.name}': `labels` cannot stand beside a data function",
            code="E280",
            subject=role.labels,
            hint="Yield the truth as the second item: `yield inputs, truth`.",
        )
    return Selection(
        reader="function",
        root=file.parent,
        names=(file.name,),
        found=1,
        function=function,
        ignored={},
    )


def select(role: DataRole, folder: Path) -> Selection:
    """Return the files that the role is read from.

    Args:
        role: The data role.
        folder: The profile's folder, which relative paths are relative to.

    Raises:
        DataError: The source is missing (E250), holds nothing (E251) or is ambiguous (E254), or
            the labels are malformed (E280) or name files that are not there (E281).
    """
    if role.source is None:
        raise DataError(
            f"data role '{role.name}' has no source",
            code="E250",
            subject=role.name,
            hint="Give `source:` in the profile or in the git-ignored data.yaml beside it.",
        )
    if role.runs_user_code:
        return _select_function(role, role.source, folder)
    source = folder / role.source
    if source.is_file():
        root, names, ignored = source.parent, [source.name], Counter[str]()
    elif source.is_dir():
        root = source
        names, ignored = _walk(source)
    else:
        raise DataError(
            f"data role '{role.name}': {role.source} does not exist",
            code="E250",
            subject=role.source,
            hint="The path is relative to the profile's folder; private data belongs in data.yaml.",
        )
    reader = _choose_reader(role, source, names)
    fitting = sorted(name for name in names if _suffix(name) in SUFFIXES[reader])
    ignored["other suffix"] = len(names) - len(fitting)
    rows = reader == "numpy" and source.is_file()
    labels = load_labels(folder / role.labels, role.labels) if role.labels else None
    if labels and labels.names is not None and not rows:
        fitting = _labelled(role, labels.names, fitting, ignored)
    if not fitting:
        raise DataError(
            f"data role '{role.name}': no sample found in {role.source}",
            code="E251",
            subject=role.source,
            hint=f"The {reader} reader takes {', '.join(sorted(SUFFIXES[reader]))} files.",
        )
    chosen = fitting if rows else [fitting[i] for i in evenly(len(fitting), role.samples)]
    return Selection(
        reader=reader,
        root=root,
        names=tuple(chosen),
        found=len(fitting),
        rows=rows,
        ignored={reason: count for reason, count in sorted(ignored.items()) if count},
        labels=labels,
    )


def _labelled(
    role: DataRole, labelled: frozenset[str], fitting: list[str], ignored: Counter[str]
) -> list[str]:
    missing = sorted(labelled - set(fitting))
    if missing:
        raise DataError(
            f"data role '{role.name}': the labels name {len(missing)} files that are not there, "
            f"first {missing[0]}",
            code="E281",
            subject=missing[0],
            hint=f"Paths in {role.labels} are relative to {role.source}, with `/` and the suffix.",
        )
    kept = [name for name in fitting if name in labelled]
    ignored["without label"] = len(fitting) - len(kept)
    return kept


def file_sha256(file: Path) -> str:
    """Return the digest of a file's content, 64 hex digits."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def describe(
    role: DataRole, folder: Path, *, digest: Callable[[Path], str] = file_sha256
) -> list[DataFile]:
    """Return every file that the role is read from, with digests, in reading order.

    Cheap enough for a plan: standard library only, no decoding. A data function is described by
    its own file; what else it opens is observed when it runs.

    Args:
        role: The data role.
        folder: The profile's folder.
        digest: Returns the sha256 of a file; a caller may pass one that remembers.

    Raises:
        DataError: As :func:`select`; or a file cannot be read (E250).
    """
    selection = select(role, folder)
    kind: Literal["data", "code"] = "code" if selection.reader == "function" else "data"
    found = [(name, selection.root / name, kind) for name in selection.names]
    files = [_digested(name, path, kind, digest) for name, path, kind in found]
    if selection.labels:
        files += [
            _digested(path.name, path, "labels", digest)
            for path in selection.labels.files(selection.names)
        ]
    return files


def _digested(
    name: str,
    path: Path,
    kind: Literal["data", "labels", "code"],
    digest: Callable[[Path], str],
) -> DataFile:
    try:
        return DataFile(path=name, kind=kind, sha256=digest(path), size_bytes=path.stat().st_size)
    except OSError as error:
        raise _unreadable(name, error) from error
