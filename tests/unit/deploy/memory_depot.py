"""A depot in memory, for faults that no real device makes to order.

What the real agents do is shown with the real agents; this stands in where a test needs a lie, a
lost connection at an exact frame, or a disk of an exact size.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence

from edgedeploy.devices.depot import FRAME_BYTES, Depot, DepotState, Incoming, Recipe
from edgedeploy.errors import DeviceError, IntegrityError
from edgedeploy.remote import Remote


def lost() -> DeviceError:
    """Return the error of a connection that is cut."""
    error = DeviceError("the connection was lost", code="E403")
    error.retryable = True
    return error


class MemoryDevice:
    """A device: what survives its connections.

    Attributes:
        objects, streams: Content by name.
        versions: Manifests by name.
        free_bytes: What its disk still takes.
        calls: Names of the operations that were asked for, in order.
        frames: Frames that arrived over all connections.
        before: Called with an operation's name before it is done; may raise.
        spoil: What becomes of a frame on its way.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.streams: dict[str, bytes] = {}
        self.versions: dict[str, bytes] = {}
        self.free_bytes = 1 << 30
        self.calls: list[str] = []
        self.frames = 0
        self.before: Callable[[str], None] = lambda name: None
        self.spoil: Callable[[bytes], bytes] = lambda frame: frame

    def reach(self) -> Remote:
        """Return a connection (of which only the name is ever used)."""
        self.before("reach")
        return Named()  # type: ignore[return-value]

    def open(self, remote: Remote, folder: str, *, python: str | None = None) -> Depot:
        """Open the depot."""
        self.calls.append("open")
        return MemoryDepot(self)  # type: ignore[return-value]


class Named:
    """As much of a remote as a push looks at."""

    name = "shelf"


class MemoryDepot:
    """One connection to a :class:`MemoryDevice`."""

    def __init__(self, device: MemoryDevice) -> None:
        self._device = device
        self._locked = False

    def _begin(self, name: str, *, locked: bool = False) -> None:
        self._device.calls.append(name)
        self._device.before(name)
        assert self._locked or not locked, f"{name} without the lock"

    def hello(self) -> DepotState:
        """Return the state; the objects of a complete version are all there."""
        self._begin("hello")
        return DepotState(
            root="/depot",
            agent="python",
            versions=tuple(self._device.versions),
            current=None,
            previous=None,
            pending=None,
            reverted=None,
            free_bytes=self._device.free_bytes,
            clock_s=0.0,
            codecs=(),
        )

    def lock(self, wait_s: float = 0.0) -> None:
        """Take the lock, which nobody else wants."""
        self._begin("lock")
        self.waited_s = wait_s
        self._locked = True

    def unlock(self) -> None:
        """Give it back."""
        self._begin("unlock", locked=True)
        self._locked = False

    def manifest(self, version: str) -> bytes:
        """Return a manifest."""
        self._begin("manifest")
        return self._device.versions[version]

    def have(self, objects: Sequence[str]) -> frozenset[str]:
        """Return which objects are there."""
        self._begin("have")
        return frozenset(objects) & self._device.objects.keys()

    def incoming(self, stream: str) -> Incoming:
        """Return what is there of a stream."""
        self._begin("incoming")
        data = self._device.streams.get(stream, b"")
        frames = [data[at : at + FRAME_BYTES] for at in range(0, len(data), FRAME_BYTES)]
        return Incoming(
            length=len(data),
            frames=tuple(hashlib.sha256(frame).hexdigest() for frame in frames),
        )

    def receive(
        self,
        stream: str,
        offset: int,
        frames: Iterable[bytes],
        told: Callable[[int], None] | None = None,
        *,
        total: int | None = None,
    ) -> None:
        """Append frames; a lost connection keeps those that arrived."""
        self._begin("receive", locked=True)
        held = self._device.streams.get(stream, b"")[:offset]
        assert offset % FRAME_BYTES == 0 and len(held) == offset
        self._device.streams[stream] = held
        for frame in frames:
            self._begin("frame", locked=True)
            self._device.frames += 1
            self._device.streams[stream] += self._device.spoil(frame)
            if told is not None:
                told(len(self._device.streams[stream]) - offset)

    def assemble(self, recipe: Recipe) -> None:
        """Put an object together; take away what is damaged when it comes out wrong."""
        self._begin("assemble", locked=True)
        stream = self._device.streams.get(recipe.stream or "", b"")
        made = b"".join(
            (stream if part.source is None else self._device.objects[part.source])[
                part.offset : part.offset + part.length
            ]
            for part in recipe.parts
        )
        if hashlib.sha256(made).hexdigest() != recipe.sha256:
            for part in recipe.parts:
                self._drop_if_damaged(part.source)
            raise IntegrityError("an object came out wrong", code="E720")
        self._device.objects[recipe.sha256] = made
        self._device.streams.pop(recipe.stream or "", None)

    def _drop_if_damaged(self, source: str | None) -> None:
        content = self._device.objects.get(source or "")
        if content is not None and hashlib.sha256(content).hexdigest() != source:
            del self._device.objects[source or ""]

    def stage(self, manifest: bytes, *, downgrade: bool = False) -> str:
        """Keep a version."""
        self._begin("stage", locked=True)
        name = hashlib.sha256(manifest).hexdigest()
        self._device.versions[name] = manifest
        return name

    def close(self) -> None:
        """Let go."""
