"""One piece of work on many devices: at once, a canary first, stopped when it goes wrong.

Each device is a row of the result, whatever became of it: a dead or lame one neither ends nor
delays the others. Work is the kind that finds nothing to do where it was done before, so that the
same command a second time does what is missing.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, Protocol, TypeVar

from edgedeploy.errors import (
    DeviceError,
    Diagnostic,
    EdgedeployError,
    ExitCode,
    InternalError,
    RefusedError,
    combined_exit_code,
)
from edgedeploy.remote import Remote

ROLLED_BACK = "E002"
"""The code of a version that was active on trial and is not any more."""

JOBS = 16
"""Devices at once, unless the caller says otherwise: they wait for one another's radio, not CPU."""

CANARY_ABOVE = 3
"""With more devices than this, one goes first where the active version changes."""

BATCH = 10
"""Devices of a batch where the active version changes."""

STOP_RATIO = 0.2
"""More failures than this among the devices of a batch that answered stop what follows."""

SETTLE_S = 2.0
"""What an interruption leaves a device in the middle of a change for putting it right."""

_END_S = 0.5
"""What is left for threads to end after their connections were closed."""

State = Literal["done", "failed", "rolled back", "skipped", "unreachable"]


class Named(Protocol):
    """What a fleet needs to know of a device: its name in the inventory."""

    @property
    def name(self) -> str:
        """Unique in the inventory."""


DeviceT = TypeVar("DeviceT", bound=Named)


class Interrupted(Exception):
    """The run is being ended from outside; raised in the threads of the devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the work on one device came to when it did not fail.

    Attributes:
        text: What was done, a few words.
        details: The same as JSON data.
        already: There was nothing to do.
        exit_code: Other than done for an answer that is no, such as damage that was found.
        diagnostics: What the user should know.
    """

    text: str
    details: Mapping[str, Any] = field(default_factory=dict)
    already: bool = False
    exit_code: ExitCode = ExitCode.DONE
    diagnostics: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What became of one device.

    Attributes:
        device: Its name.
        state: ``unreachable`` when no connection came about, ``skipped`` when it was not tried.
        text: A few words on it.
        seconds: How long it took.
        exit_code: Its part in the exit status; a skipped device has none of its own.
        already: There was nothing to do.
        retryable: Whether the same command may succeed later without a change.
        details: What was done, JSON data.
        diagnostics: Why it failed, or what the user should know.
    """

    device: str
    state: State
    text: str
    seconds: float = 0.0
    exit_code: ExitCode = ExitCode.DONE
    already: bool = False
    retryable: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)
    diagnostics: tuple[Diagnostic, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON data."""
        return {
            "device": self.device,
            "state": self.state,
            "already": self.already,
            "seconds": round(self.seconds, 3),
            "exit_code": int(self.exit_code),
            "retryable": self.retryable,
            "text": self.text,
            **({"details": dict(self.details)} if self.details else {}),
            "diagnostics": [item.to_json() for item in self.diagnostics],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of all devices, in the order in which they were named."""

    rows: tuple[Row, ...]

    @property
    def exit_code(self) -> ExitCode:
        """The process exit status that the rows deserve together."""
        return combined_exit_code(row.exit_code for row in self.rows)

    @property
    def counts(self) -> dict[str, int]:
        """Devices by state, and ``already`` among those that are done."""
        found = dict.fromkeys(("done", "failed", "rolled back", "skipped", "unreachable"), 0)
        for row in self.rows:
            found[row.state] += 1
        return {**found, "already": sum(row.already for row in self.rows)}

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON data."""
        undone = [row for row in self.rows if row.state != "done"]
        return {
            "devices": [row.to_json() for row in self.rows],
            "counts": self.counts,
            "retryable": bool(undone) and all(row.retryable for row in undone),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """In which order devices are taken, and when to stop.

    Attributes:
        canary: Devices that must succeed, one after another, before any other is touched; one
            that cannot be reached is replaced by the next.
        batch: Devices of a batch; None takes all others at once.
        stop_ratio: Failures among the devices of a batch that answered; more stop what follows.
    """

    canary: int = 0
    batch: int | None = None
    stop_ratio: float = 1.0

    @classmethod
    def careful(
        cls,
        devices: int,
        canary: int | None = None,
        batch: int | None = None,
        stop_ratio: float | None = None,
    ) -> Rollout:
        """Return the order for work that changes the active version; None takes the default."""
        first = 1 if devices > CANARY_ABOVE else 0
        return cls(
            canary=first if canary is None else canary,
            batch=BATCH if batch is None else batch,
            stop_ratio=STOP_RATIO if stop_ratio is None else stop_ratio,
        )


class Link:
    """The connection to one device while it is worked on.

    Args:
        name: The device's name.
        connect: Makes a connection to it.
        told: Called with a line of progress.
    """

    def __init__(
        self, name: str, connect: Callable[[], Remote], told: Callable[[str], None] | None = None
    ) -> None:
        self.name = name
        self._connect = connect
        self._told = told
        self._remote: Remote | None = None
        self._mutex = threading.Lock()
        self._stopped = threading.Event()
        self._closed = False
        self._settling = False

    @property
    def remote(self) -> Remote:
        """The connected device.

        Raises:
            DeviceError: It cannot be reached (E401).
            Interrupted: The run is being ended.
        """
        return self._remote or self._taken(self._connect())

    def reconnect(self, within_s: float | None = None) -> Remote:
        """Connect anew, after the connection was lost.

        Args:
            within_s: Give up after this; None leaves it to the limits of connecting itself, which
                are longer.

        Raises:
            DeviceError: It cannot be reached (E401), or not in time (E404).
            Interrupted: The run is being ended.
        """
        if self._remote is not None:
            threading.Thread(target=self._remote.close, daemon=True).start()
        future = DaemonThreads(1).submit(self._connect)
        try:
            return self._taken(future.result(within_s))
        except TimeoutError:
            future.add_done_callback(_unwanted)
            error = DeviceError(
                f"{self.name} does not answer", code="E404", hint="see whether it is on"
            )
            error.retryable = True
            raise error from None

    def _taken(self, remote: Remote) -> Remote:
        with self._mutex:
            self._remote = remote
            closed = self._closed
        if closed:
            remote.close()
            raise Interrupted
        return remote

    def say(self, text: str) -> None:
        """Tell what is being done, a few words."""
        if self._told is not None:
            self._told(f"{self.name}: {text}")

    @property
    def interrupted(self) -> bool:
        """Whether the run is being ended: what waits should stop and put things right."""
        return self._stopped.is_set()

    def wait(self, seconds: float) -> None:
        """Sleep.

        Raises:
            Interrupted: The run is being ended.
        """
        if self._stopped.wait(seconds):
            raise Interrupted

    @contextlib.contextmanager
    def settling(self) -> Iterator[None]:
        """Ask an interruption for time: the body watches :attr:`interrupted` and cleans up."""
        with self._mutex:
            if self._stopped.is_set():
                raise Interrupted
            self._settling = True
        try:
            yield
        finally:
            self._settling = False

    def interrupt(self) -> None:
        """Ask the work to stop; what need not put anything right loses its connection at once."""
        with self._mutex:
            self._stopped.set()
            settling = self._settling
        if not settling:
            self.drop()

    def close(self) -> None:
        """Close the connection for good; from any thread, never raises."""
        with self._mutex:
            self._closed = True
            remote = self._remote
        if remote is not None:
            remote.close()

    def drop(self) -> None:
        """Close the connection without waiting: the last words to a lost device may take long."""
        threading.Thread(target=self.close, daemon=True).start()


class DaemonThreads(concurrent.futures.Executor):
    """Threads that do not hold up the end of the process, as those of the library's pool do.

    Args:
        most: Calls at once.
    """

    def __init__(self, most: int) -> None:
        self._slots = threading.Semaphore(most)

    def submit(
        self, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> concurrent.futures.Future[Any]:
        """Call ``function`` in a thread when one of the slots is free."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def run() -> None:
            with self._slots:
                if not future.set_running_or_notify_cancel():
                    return
                try:
                    result = function(*args, **kwargs)
                except BaseException as error:  # noqa: BLE001 - raised again by result()
                    future.set_exception(error)
                else:
                    future.set_result(result)

        threading.Thread(target=run, daemon=True).start()
        return future


def _unwanted(future: concurrent.futures.Future[Remote]) -> None:
    """Close a connection that came about when nobody waited for it any more."""
    if not future.cancelled() and future.exception() is None:
        future.result().close()


Work = Callable[[DeviceT, Link], Answer]
"""What is done on one device; ``link.remote`` is connected when it is called."""


def run_on(
    devices: Sequence[DeviceT],
    work: Work[DeviceT],
    *,
    connect: Callable[[DeviceT], Remote],
    jobs: int = JOBS,
    rollout: Rollout | None = None,
    executor: concurrent.futures.Executor | None = None,
    told: Callable[[str], None] | None = None,
) -> Result:
    """Do one piece of work on every device and return what became of each.

    Args:
        devices: Which, in order; the first are the canaries.
        work: What to do on each; it finds nothing to do where that was done before.
        connect: Makes the connection to a device.
        jobs: Devices at once.
        rollout: Canaries, batches and when to stop; None takes all at once and never stops.
        executor: Runs the work; None takes ``jobs`` threads.
        told: Called with lines of progress, from any thread.

    Raises:
        KeyboardInterrupt: Passed on, like everything that ends the caller: what was in the middle
            of a change got ``SETTLE_S`` for putting it right, and every connection is closed.
    """
    run = _Run(work, connect, executor or DaemonThreads(jobs), told)
    try:
        run.roll_out(devices, rollout or Rollout())
    except BaseException:
        run.interrupt()
        raise
    return Result(rows=tuple(run.rows[device.name] for device in devices))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet(Generic[DeviceT]):
    """Devices, and how work is done on them; see :func:`run_on`.

    Attributes:
        devices: Which, in order.
        connect: Makes the connection to a device.
        jobs: Devices at once.
        rollout: Canaries, batches and when to stop.
        executor: Runs the work; None takes ``jobs`` threads.
        told: Called with lines of progress, from any thread.
    """

    devices: Sequence[DeviceT]
    connect: Callable[[DeviceT], Remote]
    jobs: int = JOBS
    rollout: Rollout | None = None
    executor: concurrent.futures.Executor | None = None
    told: Callable[[str], None] | None = None

    def run(self, work: Work[DeviceT]) -> Result:
        """Do one piece of work on every device and return what became of each."""
        return run_on(
            self.devices,
            work,
            connect=self.connect,
            jobs=self.jobs,
            rollout=self.rollout,
            executor=self.executor,
            told=self.told,
        )


class _Run(Generic[DeviceT]):
    """The state of one run."""

    def __init__(
        self,
        work: Work[DeviceT],
        connect: Callable[[DeviceT], Remote],
        executor: concurrent.futures.Executor,
        told: Callable[[str], None] | None,
    ) -> None:
        self._work = work
        self._connect = connect
        self._executor = executor
        self._told = told
        self._many = False
        self._links: dict[str, Link] = {}
        self._futures: list[concurrent.futures.Future[Row]] = []
        self.rows: dict[str, Row] = {}

    def roll_out(self, devices: Sequence[DeviceT], rollout: Rollout) -> None:
        """Fill in a row for every device."""
        left = list(devices)
        self._many = len(left) > 1
        reason, good = "", 0
        while left and good < rollout.canary and not reason:
            group, left = left[: rollout.canary - good], left[rollout.canary - good :]
            rows = self._group(group)
            good += sum(row.state == "done" for row in rows)
            bad = [row.device for row in rows if row.state not in ("done", "unreachable")]
            if bad:
                reason = f"the canary {bad[0]} did not succeed"
        size = rollout.batch or max(1, len(left))
        while left and not reason:
            group, left = left[:size], left[size:]
            rows = self._group(group)
            answered = [row for row in rows if row.state != "unreachable"]
            failed = sum(row.state != "done" for row in answered)
            if left and answered and failed / len(answered) > rollout.stop_ratio:
                reason = f"{failed} of {len(answered)} devices before it did not succeed"
        for device in left:
            self._finished(_skipped(device.name, reason))

    def _group(self, group: Sequence[DeviceT]) -> list[Row]:
        self._futures = [self._executor.submit(self._one, device) for device in group]
        return [future.result() for future in self._futures]

    def _one(self, device: DeviceT) -> Row:
        started = time.monotonic()
        link = Link(device.name, lambda: self._connect(device), self._told)
        self._links[device.name] = link
        connected = False
        try:
            link.say("connecting")
            _ = link.remote
            connected = True
            row = _done(device.name, self._work(device, link), time.monotonic() - started)
        except EdgedeployError as error:
            row = _failed(device.name, error, time.monotonic() - started, connected)
        except Interrupted:
            row = _skipped(device.name, "the run was interrupted")
        except Exception as error:  # noqa: BLE001 - a bug here must not cut off other devices
            row = _failed(device.name, _bug(error), time.monotonic() - started, connected)
        finally:
            link.close()
        return self._finished(row)

    def _finished(self, row: Row) -> Row:
        row = replace(row, text=" ".join(row.text.split()))  # a device's words fake no other row
        self.rows[row.device] = row
        if self._told is not None and self._many:  # of a single one, the result says it at once
            self._told(f"{row.device}: {row.state}, {row.text} ({row.seconds:.1f} s)")
        return row

    def interrupt(self) -> None:
        """End everything: at once, or after what is in the middle of a change has settled."""
        for future in self._futures:
            future.cancel()
        for link in list(self._links.values()):
            link.interrupt()
        concurrent.futures.wait(self._futures, SETTLE_S)
        for link in list(self._links.values()):
            link.drop()
        concurrent.futures.wait(self._futures, _END_S)


def _done(name: str, answer: Answer, seconds: float) -> Row:
    good = answer.exit_code == ExitCode.DONE
    return Row(
        device=name,
        state="done" if good else "failed",
        text=answer.text,
        seconds=seconds,
        exit_code=answer.exit_code,
        already=answer.already,
        details=answer.details,
        diagnostics=answer.diagnostics,
    )


def _failed(name: str, error: EdgedeployError, seconds: float, connected: bool) -> Row:
    codes = {item.code for item in error.diagnostics}
    state: State = "failed"
    if not connected:
        state = "unreachable"
    elif isinstance(error, RefusedError) and ROLLED_BACK in codes:
        state = "rolled back"
    return Row(
        device=name,
        state=state,
        text=error.diagnostics[0].message,
        seconds=seconds,
        exit_code=error.exit_code,
        retryable=isinstance(error, DeviceError) and error.retryable,
        diagnostics=error.diagnostics,
    )


def _skipped(name: str, reason: str) -> Row:
    note = Diagnostic(
        code="E447",
        severity="note",
        message=f"not tried: {reason}",
        subject=name,
        hint="see what became of the others; the same command then does what is missing",
    )
    return Row(device=name, state="skipped", text=note.message, retryable=True, diagnostics=(note,))


def _bug(error: Exception) -> InternalError:
    return InternalError(
        Diagnostic(
            code="E900",
            message=f"{type(error).__name__}: {error}",
            hint="this is a bug of edgedeploy; run again with --debug and report the trace",
        )
    )
