"""What a device was when it was last asked, for builds in which it is not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from edgedeploy.gpu import GpuPlatform
from edgedeploy.records import add_record, conditions_key, latest_record, record_folder
from edgedeploy.store import Store


def remember(store: Store, device: str, platform: GpuPlatform) -> None:
    """Keep what a device is, if that is news.

    Raises:
        StoreError: The record cannot be written.
    """
    if last_platform(store, device) == platform:
        return
    record = {
        "kind": "gpu",
        "created": datetime.now(UTC).isoformat(timespec="microseconds"),
        "device": device,
        "platform": platform.to_json(),
    }
    add_record(store, _key(device), record, ())


def last_platform(store: Store, device: str) -> GpuPlatform | None:
    """Return what a device was when it was last asked; None when it never was."""
    record = latest_record(store, _key(device))
    try:
        return None if record is None else GpuPlatform.from_json(record["platform"])
    except (KeyError, TypeError):
        return None


def place_of(store: Store, device: str) -> Path:
    """Return the folder in which news of a device appears."""
    return record_folder(store, _key(device))


def _key(device: str) -> str:
    return conditions_key({"kind": "gpu", "device": device})
