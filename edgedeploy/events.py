"""What happens during a run, as typed events; the CLI turns them into progress and JSON lines."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgedeploy.errors import StoreError

Listener = Callable[["Event"], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events.

    Attributes:
        time_s: Seconds since the epoch.
    """

    time_s: float = field(default_factory=time.time)

    def to_json(self) -> dict[str, Any]:
        """Return the event as JSON data with its type under ``event``."""
        return {"event": type(self).__name__, **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStarted(Event):
    """A stage runs because of a miss; ``why`` says what changed."""

    node: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProgress(Event):
    """A stage did ``done`` of ``total`` of its work (samples, windows)."""

    node: str
    done: int
    total: int
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePart(Event):
    """A stage goes on to another part of its work, such as ``loading w8a8``."""

    node: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFinished(Event):
    """A stage ended; ``state`` is ``hit``, ``ran`` or ``failed``."""

    node: str
    state: Literal["hit", "ran", "failed"]
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreHealed(Event):
    """A damaged object or record was found, dropped and will be made again."""

    what: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note(Event):
    """Something the user should know that is no failure."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PushStarted(Event):
    """A version begins to travel: ``missing_bytes`` of its ``total_bytes``."""

    device: str
    version: str
    total_bytes: int
    missing_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PushProgress(Event):
    """The device has ``done_bytes`` of the ``total_bytes`` that travel; ``file`` comes now."""

    device: str
    file: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineProgress(Event):
    """A device makes an engine.

    Attributes:
        node: The engine's stage.
        device: Name of the device.
        doing: What happens now: ``uploading``, ``building`` or ``pulling``.
        done, total: How far that is, in bytes, or for ``building`` in parts of its work; a total
            of 0 says that nobody knows.
        left_s: How long it will take, by what it took so far; None where nothing tells.
        detail: The part of the work, such as ``phase 2 of 5``.
    """

    node: str
    device: str
    doing: Literal["uploading", "building", "pulling"]
    done: int = 0
    total: int = 0
    left_s: float | None = None
    detail: str = ""


class EventLog:
    """Passes events to listeners from any thread, one at a time."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = list(listeners)
        self._mutex = threading.RLock()  # a listener may emit

    def emit(self, event: Event) -> None:
        """Pass one event to every listener."""
        with self._mutex:
            for listener in self._listeners:
                listener(event)


class JsonLines:
    """A listener that appends each event to a file as one line of JSON.

    Args:
        path: The file; created if needed.

    Raises:
        StoreError: The file cannot be opened, or later not be written (E607).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = open(path, "a", encoding="ascii", buffering=1)  # noqa: SIM115 - for life
        except OSError as error:
            raise self._failed(error) from error

    def __call__(self, event: Event) -> None:
        """Write one event."""
        try:
            self._file.write(json.dumps(event.to_json()) + "\n")
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Close the file; calling it twice is allowed."""
        try:
            self._file.close()
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> StoreError:
        return StoreError(
            f"cannot write the events: {error.strerror}",
            code="E607",
            subject=str(self._path),
            hint="give another file to --events",
        )
