"""Showing a run's events: moving bars on a terminal, one plain line per stage elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedeploy.cli.output import Output
from edgedeploy.events import (
    EngineProgress,
    Event,
    Note,
    PushProgress,
    PushStarted,
    StageFinished,
    StagePart,
    StageProgress,
    StageStarted,
    StoreHealed,
)
from edgedeploy.report.figures import size

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

EVERY_S = 10.0
"""How often what takes long gets a line where there are no bars."""


class Lines:
    """One line per stage that ran, and for what takes long; hits too when verbose.

    Args:
        output: Where to print.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._began: dict[str, PushProgress] = {}  # the first word of each transfer
        self._told_s: dict[str, float] = {}  # when a stage or transfer was last told of
        self._doing: dict[str, str] = {}  # what a device was last said to do for an engine

    def __call__(self, event: Event) -> None:
        """Print an event if it is worth a line."""
        if isinstance(event, PushStarted):
            self._began.pop(event.device, None)
            self._told_s[event.device] = event.time_s
            missing, total = size(event.missing_bytes), size(event.total_bytes)
            self._output.say(f"{event.device}: {missing} of {total} to send")
            return
        if isinstance(event, PushProgress):
            self._transfer(event)
            return
        if isinstance(event, EngineProgress):
            self._engine(event)
        elif isinstance(event, StagePart):
            self._told_s[event.node] = event.time_s
            self._output.say(f"{event.node}: {event.what}")
        elif isinstance(event, StageProgress):
            if event.time_s - self._told_s.setdefault(event.node, event.time_s) >= EVERY_S:
                self._told_s[event.node] = event.time_s
                of = f" of {event.total}" if event.total else ""
                self._output.say(f"{event.node}: {event.done}{of} {event.what}")
        elif isinstance(event, StageFinished):
            self._told_s.pop(event.node, None)
            if event.state == "hit" and not self._output.verbose:
                return
            why = f"  ({event.detail})" if event.detail else ""
            self._output.say(f"{event.state:<6} {event.seconds:6.1f} s  {event.node}{why}")
        elif isinstance(event, StoreHealed):
            self._output.say(f"healed {event.what}: {event.why}")
        elif isinstance(event, Note):
            self._output.say(event.text)

    def _transfer(self, event: PushProgress) -> None:
        """Tell of a transfer that takes long, and how long it will take."""
        began = self._began.setdefault(event.device, event)
        if event.time_s - self._told_s.get(event.device, began.time_s) < EVERY_S:
            return
        self._told_s[event.device] = event.time_s
        text = f"{event.device}: {size(event.done_bytes)} of {size(event.total_bytes)} sent"
        spent_s, done = event.time_s - began.time_s, event.done_bytes - began.done_bytes
        if done > 0 and spent_s > 0:
            text += f", {(event.total_bytes - event.done_bytes) * spent_s / done:.0f} s left"
        self._output.say(text)

    def _engine(self, event: EngineProgress) -> None:
        """Tell what a device does for an engine: when that changes, and now and then."""
        changed = self._doing.get(event.node) != event.doing
        if not changed and event.time_s - self._told_s.get(event.node, 0.0) < EVERY_S:
            return
        self._doing[event.node] = event.doing
        self._told_s[event.node] = event.time_s
        self._output.say(f"{event.node}: {engine_words(event)}")

    def close(self) -> None:
        """Nothing is left to do."""


def engine_words(event: EngineProgress) -> str:
    """Return what a device does for an engine, such as ``building on desk (timing), 40 %``."""
    place = "from" if event.doing == "pulling" else "to" if event.doing == "uploading" else "on"
    text = f"{event.doing} {place} {event.device}"
    if event.detail:
        text += f" ({event.detail})"
    if event.doing != "building":
        text += f", {size(event.done)} of {size(event.total)}"
    elif event.total:
        text += f", {100 * event.done // event.total} %"
    if event.left_s is not None:
        text += f", about {_duration(event.left_s)} left"
    return text


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Bars:
    """Moving bars for what runs, lines for what has ended.

    Args:
        output: Where to print.
    """

    def __init__(self, output: Output) -> None:
        self._lines = Lines(output)
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        """Move a bar, or print a line above them."""
        if isinstance(event, StageStarted):
            bars = self._started()
            self._tasks[event.node] = bars.add_task(event.node, total=None)
        elif isinstance(event, PushStarted):
            self._drop(event.device)
            self._tasks[event.device] = self._started().add_task(
                event.device, total=event.missing_bytes
            )
        elif isinstance(event, PushProgress):
            if event.device in self._tasks:
                self._started().update(
                    self._tasks[event.device],
                    completed=event.done_bytes,
                    description=f"{event.device} {event.file}",
                )
            if event.done_bytes == event.total_bytes:
                self._drop(event.device)
        elif isinstance(event, StageProgress) and event.node in self._tasks:
            total = event.total or None
            self._started().update(self._tasks[event.node], completed=event.done, total=total)
        elif isinstance(event, EngineProgress) and event.node in self._tasks:
            self._started().update(
                self._tasks[event.node],
                completed=event.done,
                total=event.total or None,
                description=f"{event.node}: {engine_words(event)}",
            )
        elif isinstance(event, StagePart) and event.node in self._tasks:
            words = f"{event.node}: {event.what}"
            self._started().reset(self._tasks[event.node], total=None, description=words)
        else:
            if isinstance(event, StageFinished):
                self._drop(event.node)
            self._lines(event)

    def _drop(self, name: str) -> None:
        """Take a bar away, if it is there."""
        if name in self._tasks:
            self._started().remove_task(self._tasks.pop(name))

    def _started(self) -> Progress:
        """Return the bars; rich is imported when something runs, not before."""
        if self._bars is None:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bars.start()
        return self._bars

    def close(self) -> None:
        """Take the bars off the terminal."""
        if self._bars is not None:
            self._bars.stop()


def watch(output: Output) -> Lines | Bars:
    """Return the listener that suits where stderr goes."""
    return Bars(output) if output.live else Lines(output)
