"""Bringing a version to a device: what is missing travels, and the version is staged.

A push can be cut anywhere. What was received stays on the device under the name of its content, so
that the same push, now or another day, goes on from there; a version appears only when all its
objects do. Nothing of a push touches what the device runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgedeploy.artifact import FileEntry
from edgedeploy.deploy.fleet import Answer, Link
from edgedeploy.deploy.locking import GHOST_S, take_lock
from edgedeploy.deploy.patience import Patience
from edgedeploy.deploy.stream import Stream
from edgedeploy.deploy.unit import Unit, depot_folder, short
from edgedeploy.devices.depot import Depot, DepotState
from edgedeploy.devices.difference import Difference, Missing, difference
from edgedeploy.devices.version import Version, parse_version
from edgedeploy.errors import DeviceError, IntegrityError
from edgedeploy.events import EventLog, Note, PushProgress, PushStarted
from edgedeploy.remote import Remote
from edgedeploy.report.figures import size

MAX_BASES = 4
"""Versions on a device in which segments are looked for; each costs its manifest."""

SPARE_BYTES = 1 << 20
"""What is left free beside the objects: manifest, journal, folders."""

WRONG = ("E720", "E433")
"""What assembling says when the parts make another object, or are not all there."""

USELESS = ("E436", "E425")
"""What a version says that is no base: of another schema, or removed before we had the lock."""

NO_SPACE = "E423"


class Opener(Protocol):
    """Opens the depot of one application on a connected device."""

    def __call__(self, remote: Remote, folder: str, *, python: str | None = None) -> Depot:
        """Return the open depot; see :func:`edgedeploy.devices.opening.open_depot`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """A version with the files that it is made of, here.

    Attributes:
        version: What is to lie on the device.
        places: Local path by SHA-256 of the content, for every file of the version.
    """

    version: Version
    places: Mapping[str, Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What a push did.

    Attributes:
        device: Its name.
        version: Name of the version (64 hex digits).
        app: Application.
        root: The depot's folder on the device.
        already: The version was there; nothing was sent.
        total_bytes: Of the version, each content counted once.
        sent_bytes: What travelled of it, before compression, repeats after a cut included.
        reused_bytes: What the device had, in whole objects or in segments of others.
        seconds: How long it took.
        retries: Connections that were lost on the way.
    """

    device: str
    version: str
    app: str
    root: str
    already: bool
    total_bytes: int
    sent_bytes: int
    reused_bytes: int
    seconds: float
    retries: int

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON data."""
        return {
            "version": self.version,
            "app": self.app,
            "root": self.root,
            "already": self.already,
            "total_bytes": self.total_bytes,
            "sent_bytes": self.sent_bytes,
            "reused_bytes": self.reused_bytes,
            "seconds": round(self.seconds, 3),
            "retries": self.retries,
        }


def push_version(
    reach: Callable[[], Remote],
    folder: str,
    contents: Contents,
    *,
    opener: Opener,
    wait_s: float = 0.0,
    downgrade: bool = False,
    python: str | None = None,
    events: EventLog | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Pushed:
    """Stage a version on a device.

    Args:
        reach: Returns a connection to the device; called again after one was lost.
        folder: The application's depot there.
        contents: What to push.
        opener: Opens the depot.
        wait_s: How long to wait for the lock when somebody else holds it.
        downgrade: Stage a release that is older than what was active on a device that trusts keys.
        python: Interpreter on the device, None finds one.
        events: Where progress is told.
        sleep: Waits between attempts; may raise to give up.

    Raises:
        DeviceError: The device cannot be reached or is lost for good (E401-E406), is locked
            (E421), has too little space (E423), or its file system refuses (E424).
        IntegrityError: What arrives is damaged again and again (E720), or the device refuses the
            release (as :class:`edgedeploy.devices.depot.Depot` says).
        StoreError: A local file cannot be read (E437, E602).
    """
    started = time.monotonic()
    push = _Push(contents, wait_s, events or EventLog(), downgrade)
    patience = Patience(sleep)
    push.advanced = patience.advanced
    done = False
    while not done:
        remote = patience.reached(reach)
        depot = None
        try:
            depot = opener(remote, folder, python=python)
            push.run(depot, remote.name)
            done = True
        except DeviceError as error:
            patience.lost(error)
        finally:  # after lost(): closing reads what had come in before, which is no sign of life
            if depot is not None:
                depot.close()
    return push.result(remote.name, time.monotonic() - started, patience.retries)


def push_to(
    link: Link,
    unit: Unit,
    contents: Contents,
    *,
    opener: Opener,
    wait_s: float = 0.0,
    downgrade: bool = False,
    events: EventLog | None = None,
) -> Answer:
    """Stage a version on a device of a fleet; there is nothing to do where it lies already.

    Raises:
        EdgedeployError: As :func:`push_version`.
        Interrupted: The run is being ended.
    """
    reaches = iter((lambda: link.remote,))

    def reach() -> Remote:
        first = next(reaches, None)
        return first() if first else link.reconnect()

    done = push_version(
        reach,
        depot_folder(unit, contents.version.app),
        contents,
        opener=opener,
        wait_s=wait_s,
        downgrade=downgrade,
        python=unit.python,
        events=events,
        sleep=link.wait,
    )
    pretended = link.remote.pretended
    return Answer(
        text=_in_words(done) + (", on a fake device" if pretended else ""),
        details={**done.to_json(), "pretended": pretended},
        already=done.already,
    )


def _in_words(done: Pushed) -> str:
    name = short(done.version)
    if done.already:
        return f"{name} is there"
    text = f"{name} is staged: {size(done.sent_bytes)} of {size(done.total_bytes)} sent"
    if done.retries:
        text += f", over {done.retries + 1} connections"
    return text


class _Push:
    """One push, over as many connections as it takes."""

    def __init__(
        self, contents: Contents, wait_s: float, events: EventLog, downgrade: bool
    ) -> None:
        self._contents = contents
        self._manifest = contents.version.manifest
        self._name = contents.version.name
        self._wait_s = wait_s
        self._events = events
        self._downgrade = downgrade
        self._streams: dict[tuple[str, tuple[tuple[int, int], ...]], Stream] = {}
        self._farthest: dict[str, int] = {}
        self._refused: dict[str, int] = {}
        self._told_start = False
        self._held_lock = False
        self._root = ""
        self._already = False
        self._reused = 0
        self.advanced: Callable[[], None] = lambda: None

    def run(self, depot: Depot, device: str) -> None:
        """Do what is left to do, over one connection."""
        state = depot.hello()
        self._root = state.root
        if self._name in state.versions:
            # After a cut, the version may have been made by the attempt that was cut.
            self._already = not self._told_start
            return
        if self._held_lock:
            # The lock that we lost with a connection is held for as long as its lease lasts.
            depot.lock(max(self._wait_s, GHOST_S))
        else:
            take_lock(
                depot, self._wait_s, lambda text: self._events.emit(Note(text=f"{device}: {text}"))
            )
        self._held_lock = True
        while not self._transferred(depot, state, device):
            pass
        depot.stage(self._manifest, downgrade=self._downgrade)
        depot.unlock()

    def result(self, device: str, seconds: float, retries: int) -> Pushed:
        """Return what was done."""
        total = self._contents.version.size_bytes
        return Pushed(
            device=device,
            version=self._name,
            app=self._contents.version.app,
            root=self._root,
            already=self._already,
            total_bytes=total,
            sent_bytes=sum(stream.sent for stream in self._streams.values()),
            reused_bytes=total if self._already else self._reused,
            seconds=seconds,
            retries=retries,
        )

    # -- one connection --------------------------------------------------------------------

    def _transferred(self, depot: Depot, state: DepotState, device: str) -> bool:
        """Bring what is missing; return False when it has to be looked at anew."""
        plan = self._plan(depot, state)
        self._check_space(depot, plan, state.free_bytes)
        if not self._told_start:
            self._reused = plan.total_bytes - plan.stream_bytes
            self._told_start = True
            self._events.emit(
                PushStarted(
                    device=device,
                    version=self._name,
                    total_bytes=plan.total_bytes,
                    missing_bytes=plan.stream_bytes,
                )
            )
        done = 0
        for item in plan.missing:

            def told(acknowledged: int, item: Missing = item, before: int = done) -> None:
                self._advance(item.file.sha256, acknowledged)
                self._events.emit(
                    PushProgress(
                        device=device,
                        file=item.file.path,
                        done_bytes=before + acknowledged,
                        total_bytes=plan.stream_bytes,
                    )
                )

            try:
                self._make(depot, item, told)
            except (IntegrityError, DeviceError) as error:
                if error.diagnostics[0].code not in WRONG:
                    raise
                self._refuse(item, error)
                return False
            self._advance(item.file.sha256, item.file.size + 1)
            done += item.stream_bytes
        return True

    def _plan(self, depot: Depot, state: DepotState) -> Difference:
        """Work out what is missing, and what of it the device has in other objects."""
        wanted = self._contents.version.files
        bases = list(self._bases(depot, state))
        present = depot.have(sorted({file.sha256 for file in (*wanted, *bases)}))
        whole = {sha256 for sha256, count in self._refused.items() if count > 1}
        return difference(wanted, present, bases, whole)

    def _bases(self, depot: Depot, state: DepotState) -> Iterable[FileEntry]:
        """Yield the files of some versions on the device: those in use, then the newest."""
        newest = (state.current, state.previous, state.pending, *reversed(state.versions))
        known = [name for name in dict.fromkeys(newest) if name in state.versions]
        for name in known[:MAX_BASES]:
            try:
                yield from parse_version(depot.manifest(name)).files
            except IntegrityError as error:
                self._ignore(name, error)
            except DeviceError as error:
                if error.retryable or error.diagnostics[0].code not in USELESS:
                    raise
                self._ignore(name, error)

    def _ignore(self, version: str, error: IntegrityError | DeviceError) -> None:
        why = error.diagnostics[0].message
        self._events.emit(Note(text=f"nothing is taken from version {version[:12]}: {why}"))

    def _check_space(self, depot: Depot, plan: Difference, free_bytes: int) -> None:
        """Refuse a push that cannot fit, before anything travels.

        Raises:
            DeviceError: It cannot (E423).
        """
        if not plan.missing:
            return
        need = plan.needed_bytes + SPARE_BYTES
        if need > free_bytes:  # then what came in before the last cut counts
            for item in plan.missing:
                if item.ranges:
                    need -= depot.incoming(self._stream(item).name()).length
        if need > free_bytes:
            raise DeviceError(
                f"the device has too little space: {size(need)} are needed, {size(free_bytes)} are "
                "free",
                code=NO_SPACE,
                hint="`edgedeploy devices fsck --gc` removes old versions there; or give it "
                "another `root:` in devices.yaml",
            )

    def _stream(self, item: Missing) -> Stream:
        key = (item.file.sha256, item.ranges)
        if key not in self._streams:
            path = self._contents.places[item.file.sha256]
            self._streams[key] = Stream(item, path)
        return self._streams[key]

    def _make(self, depot: Depot, item: Missing, told: Callable[[int], None]) -> None:
        """Bring one object to the device."""
        name = None
        if item.ranges:
            stream = self._stream(item)
            name = stream.name()
            held = depot.incoming(name)
            start = stream.start(held)
            if start < stream.length or held.length != stream.length:
                told(start)
                depot.receive(
                    name,
                    start,
                    stream.frames(start),
                    lambda count: told(start + count),
                    total=stream.length,
                )
        depot.assemble(item.recipe(name))

    def _refuse(self, item: Missing, error: IntegrityError | DeviceError) -> None:
        """Note that an object came out wrong; what it was made from is damaged, or was not that.

        The device has removed the damaged ones, so a second plan does without them. When that fails
        too, the object travels whole: the manifests that named its parts may be wrong.

        Raises:
            IntegrityError, DeviceError: It travelled whole and came out wrong twice.
        """
        count = self._refused[item.file.sha256] = self._refused.get(item.file.sha256, 0) + 1
        if count > 2 or (count > 1 and not item.sources):
            raise error
        text = f"{item.file.path} came out wrong on the device; it is sent again"
        self._events.emit(Note(text=text))

    def _advance(self, content: str, place: int) -> None:
        """Note how far an object got; going over the same ground again is no advance."""
        if place > self._farthest.get(content, 0):
            self._farthest[content] = place
            self.advanced()
