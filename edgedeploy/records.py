"""Measurements: dated records beside the store's results, appended and never replaced.

A record is what a machine showed at one time, not a function of its inputs, so it is no cache
entry: gates and reports read the latest one of the same conditions and say how old it is.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgedeploy.manifest import digest, write_atomic
from edgedeploy.store import Store, disk_errors


def conditions_key(conditions: Mapping[str, Any]) -> str:
    """Return the name under which records of the same conditions stand (64 hex digits).

    Args:
        conditions: JSON data: artifact digests, device, threads, mode, shapes.
    """
    return digest("record", dict(conditions))


def latest_record(store: Store, key: str) -> dict[str, Any] | None:
    """Return the newest readable record of ``key`` with ``folder`` added, or None."""
    return next(records_of(store, key), None)


def records_of(store: Store, key: str) -> Iterator[dict[str, Any]]:
    """Yield the readable records of ``key``, the newest first, each with ``folder`` added."""
    for place in sorted(record_folder(store, key).glob("*/record.json"), reverse=True):
        try:
            record: dict[str, Any] = json.loads(place.read_bytes())
        except (OSError, ValueError):
            continue
        yield {**record, "folder": str(place.parent)}


def add_record(store: Store, key: str, record: Mapping[str, Any], samples: Sequence[Path]) -> Path:
    """Append a record.

    Args:
        store: The store.
        key: From :func:`conditions_key`.
        record: JSON data with ``created`` (ISO 8601, UTC).
        samples: Files of raw samples that the record names; copied beside it.

    Returns:
        The record's folder.

    Raises:
        StoreError: The disk is full or refuses.
    """
    stamp = str(record["created"]).replace(":", "")
    place = record_folder(store, key) / f"{stamp}-{os.urandom(3).hex()}"
    with disk_errors("cannot write a measurement"):
        place.mkdir(parents=True, mode=0o700)
        for file in samples:
            shutil.copyfile(file, place / file.name)
        text = json.dumps(record, sort_keys=True, ensure_ascii=False, indent=1)
        write_atomic(place / "record.json", text.encode())
    return place


def record_folder(store: Store, key: str) -> Path:
    """Return the folder in which the records of ``key`` lie or would lie."""
    return store.root / "records" / key[:2] / key
