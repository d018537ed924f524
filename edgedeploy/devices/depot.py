"""The depot: the folder on a device in which objects and versions lie, and what can be done to it.

Two programs on the device offer these operations: ``agent.py`` where there is Python 3.6 or newer,
``agent.sh`` where there is a POSIX shell alone. Both pass the same conformance suite. What each
operation promises under power cuts is in docs/device-protocol.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

FRAME_BYTES = 4 << 20
"""A transfer is resumed at a multiple of this."""

LEASE_S = 30.0
"""A lock whose holder was not heard of for so long is free again."""

LONGEST_S = 6 * 3600.0
"""The longest that one operation may take, whatever the device says of its progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DepotState:
    """What a depot says of itself.

    Attributes:
        root: Absolute path of the depot on the device.
        agent: Which program answers.
        versions: Complete versions, oldest first (64 hex digits each).
        current: The active version, None before the first activation.
        previous: The version that was active before, None when there is none.
        pending: A version that is active on trial, None when nothing is.
        reverted: A version whose trial nobody confirmed and that was reverted just now, with the
            depot back at the version before; None when nothing was.
        free_bytes: Free space of the depot's file system for this user.
        clock_s: The device's wall clock, seconds since 1970.
        codecs: Compressions that the device can undo besides ``raw``.
    """

    root: str
    agent: Literal["python", "sh"]
    versions: tuple[str, ...]
    current: str | None
    previous: str | None
    pending: str | None
    reverted: str | None
    free_bytes: int
    clock_s: float
    codecs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """What a device holds of a stream of missing bytes.

    Attributes:
        length: Bytes received.
        frames: SHA-256 of each ``FRAME_BYTES`` of them (the last may be shorter).
    """

    length: int
    frames: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A range of bytes of a file that is put together on the device.

    Attributes:
        source: Digest of an object on the device, or None for the stream that came in.
        offset: Where the range starts in that source.
        length: Bytes.
    """

    source: str | None
    offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a device puts an object together.

    Attributes:
        sha256: Digest of the whole object; checked on the device before it exists.
        size: Its bytes.
        stream: Name of the incoming stream (64 hex digits) that holds the missing bytes, None when
            every part comes from objects.
        parts: The ranges in order; they cover the object.
    """

    sha256: str
    size: int
    stream: str | None
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One fault that a check of the depot found.

    Attributes:
        path: Relative to the depot.
        what: ``bad-object`` (content is not its name), ``bad-version`` (a file is missing or is not
            its object, or the manifest is not the version's name), ``bad-link`` (``current`` or
            ``previous`` leads nowhere), ``stray`` (left by an interrupted run) or ``foreign``.
        repaired: Whether it was taken away or put right.
    """

    path: str
    what: Literal["bad-object", "bad-version", "bad-link", "stray", "foreign"]
    repaired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What the operator allows, where a depot trusts keys.

    Attributes:
        development: A version that nobody signed.
        downgrade: A release older than one that was active there.
    """

    development: bool = False
    downgrade: bool = False

    def to_json(self) -> dict[str, bool]:
        """Return it as JSON data."""
        return {"development": self.development, "downgrade": self.downgrade}


NOTHING = Allowed()
"""The operator allows nothing out of the order."""


class Depot(Protocol):
    """An open depot on a connected device.

    Operations marked * need the lock; without it, or when the lease was lost, they raise
    :class:`~edgedeploy.errors.DeviceError` E422 and change nothing. All raise E403-E406 when the
    connection fails, E420 for an answer that is none, E423 when the device's disk is full, E424
    when its file system refuses (read-only, quota, no hard links, EIO, failing fsync), and
    :class:`~edgedeploy.errors.IntegrityError` E720 when content is not its digest. A folder that is
    no depot is E429, one that is not this user's alone E430, a request that the device does not
    understand E431.

    Where the depot holds a trust file, a version becomes active only after the device checked it;
    the refusals are :class:`~edgedeploy.errors.IntegrityError`: the version is no release (E755),
    of another application (E776), or is refused as ``edgedeploy verify`` refuses a bundle (E732,
    E734 to E736, E738 to E741, E743, E746). A device that cannot check says E754.
    """

    def hello(self) -> DepotState:
        """Return the state; make the depot if there is none; settle a trial nobody holds."""

    def lock(self, wait_s: float = 0.0) -> None:
        """Take the depot's lock and keep it alive until :meth:`unlock` or :meth:`close`.

        Raises:
            DeviceError: Somebody else holds it (E421, retryable; says who and since when).
        """

    def unlock(self) -> None:
        """Give the lock back; a trial that was not confirmed is reverted first."""

    def manifest(self, version: str) -> bytes:
        """Return the canonical manifest of a complete version, checked against its name.

        Raises:
            DeviceError: There is no such version (E425).
        """

    def have(self, objects: Sequence[str]) -> frozenset[str]:
        """Return which of these objects the depot holds (by name and size, not rehashed)."""

    def incoming(self, stream: str) -> Incoming:
        """Return what has been received of a stream; nothing when it is unknown."""

    def receive(
        self,
        stream: str,
        offset: int,
        frames: Iterable[bytes],
        told: Callable[[int], None] | None = None,
        *,
        total: int | None = None,
    ) -> None:
        """* Cut a stream to ``offset`` bytes and append frames.

        Args:
            stream: Its name (64 hex digits).
            offset: Multiple of ``FRAME_BYTES``, at most the length that the device holds.
            frames: Uncompressed; each ``FRAME_BYTES`` long but the last. Compressed on the way
                when that pays.
            told: Called with the number of uncompressed bytes of this call that the device has
                acknowledged.
            total: Length of the whole stream; what does not fit is refused before any byte
                travels (E423).

        Raises:
            DeviceError: The device holds fewer bytes than ``offset`` (E432).
        """

    def assemble(self, recipe: Recipe) -> None:
        """* Put an object together, check and sync it; nothing to do when it exists.

        The stream it used is removed. E720 when the result is not its digest: then every object
        that it was made from has been rehashed, and those found bad have been removed.

        Raises:
            DeviceError: A source is not there or is shorter than the recipe says (E433).
        """

    def stage(self, manifest: bytes, *, downgrade: bool = False) -> str:
        """* Make a version of objects that are there; return its name, the manifest's SHA-256.

        A version of that name that is damaged is healed. A release is checked as before it
        becomes active; ``downgrade`` takes an older one than was active.

        Raises:
            DeviceError: An object is not there (E433), or the manifest is refused (E434).
        """

    def admit(self, version: str, allowed: Allowed = NOTHING) -> None:
        """Check on the device whether a version may become active; nothing is changed.

        Raises:
            DeviceError: There is no such complete version (E425).
        """

    def activate(self, version: str, trial_s: float, allowed: Allowed = NOTHING) -> None:
        """* Switch ``current`` to a version on trial, after the check of :meth:`admit`.

        Unless :meth:`confirm` follows within ``trial_s`` and with the lock still held, the device
        switches back by itself, at the latest at the next contact or start. A trial of this
        connection that still runs is reverted first; :meth:`rollback` does that too.

        Raises:
            DeviceError: There is no such complete version (E425).
        """

    def confirm(self) -> None:
        """* End the trial: the version stays, and the one before becomes ``previous``.

        Where the depot trusts keys, a release is remembered: no older one becomes active.

        Raises:
            DeviceError: No version is on trial any more (E426).
        """

    def revert(self) -> None:
        """* End the trial: the version before is active again (or none, if there was none)."""

    def rollback(self) -> str:
        """* Switch ``current`` to ``previous`` and the other way round; return the new current.

        What was active may be again, however old it is and though nobody signed it; a release is
        checked for the rest.

        Raises:
            DeviceError: There is nothing to roll back to (E427); nothing changed.
        """

    def trust(self) -> bytes | None:
        """Return the depot's trust file as the device has it, None when there is none."""

    def entrust(self, content: bytes) -> None:
        """* Replace the depot's trust file, in one step.

        Raises:
            IntegrityError: A device with Python finds that it is none (E743).
        """

    def fsck(self, repair: bool) -> tuple[Damage, ...]:
        """* Rehash every object, check every version and link; with ``repair`` put right what can.

        Damaged objects and versions are removed, except that ``current`` is never taken away: it
        is no longer listed in :attr:`DepotState.versions`, and a push of it heals it.
        """

    def collect(self, keep: int) -> int:
        """* Remove what is not needed; return the bytes freed.

        ``current``, ``previous``, a version on trial and the ``keep`` newest stay, with their
        objects; streams untouched for 7 days go.
        """

    def journal(self, count: int) -> tuple[str, ...]:
        """Return the last lines of the depot's journal, oldest first, one JSON document each."""

    def note(self, event: str, details: str) -> None:
        """* Add a line to the journal: what happened beyond the depot's own operations."""

    def close(self) -> None:
        """Let go of lock and commands; allowed twice, never raises."""
