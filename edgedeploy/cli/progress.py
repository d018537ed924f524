"""Showing a run's events: moving bars on a terminal, one plain line per stage elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedeploy.cli.output import Output
from edgedeploy.events import (
    Event,
    Note,
    StageFinished,
    StageProgress,
    StageStarted,
    StoreHealed,
)

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Lines:
    """One line per stage that ran; hits too when verbose.

    Args:
        output: Where to print.
    """

    def __init__(self, output: Output) -> None:
        self._output = output

    def __call__(self, event: Event) -> None:
        """Print an event if it is worth a line."""
        if isinstance(event, StageFinished):
            if event.state == "hit" and not self._output.verbose:
                return
            why = f"  ({event.detail})" if event.detail else ""
            self._output.say(f"{event.state:<6} {event.seconds:6.1f} s  {event.node}{why}")
        elif isinstance(event, StoreHealed):
            self._output.say(f"healed {event.what}: {event.why}")
        elif isinstance(event, Note):
            self._output.say(event.text)

    def close(self) -> None:
        """Nothing is left to do."""


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
        elif isinstance(event, StageProgress) and event.node in self._tasks:
            total = event.total or None
            self._started().update(self._tasks[event.node], completed=event.done, total=total)
        else:
            if isinstance(event, StageFinished) and event.node in self._tasks:
                self._started().remove_task(self._tasks.pop(event.node))
            self._lines(event)

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
