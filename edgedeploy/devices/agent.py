# Runs on devices: Python 3.6, standard library alone.
"""The device agent: answers the host's requests about one depot until the host is gone.

The host sends it, compressed, through its own standard input at each connection, so nothing stale
lies on a device. A frame is two big-endian 32-bit lengths, then JSON, then binary::

    host:  {"op": NAME, ...} [binary]            {"op": "beat"} at least every LEASE_S
    agent: {"ok": ...} [binary] | {"error": CODE, "message": TEXT} | {"alive": BYTES WORKED ON}
           {"ended": WHY} as its last words

Every request has one answer; ``receive`` has a first one (go ahead) and one for each frame of data.
While it works it says ``alive`` every ALIVE_S. One thread listens, so that heartbeats count during
long work; one works and answers; one says ``alive``. However the connection ends, a trial of its
own is reverted and the lock is free before the process ends.
"""

import contextlib
import fcntl
import json
import os
import queue
import select
import signal
import struct
import threading
import time
import zlib
from typing import Any, Callable, Dict, Optional, Tuple

from edgedeploy.devices.ondevice import (
    admission,
    care,
    disk,
    layout,
    lock,
    switch,
    transfer,
    versions,
)
from edgedeploy.devices.ondevice.disk import GoneError, RefusalError, progress

PROTOCOL = 1
LEASE_S = 30.0
ALIVE_S = 2.0
FRAME_BYTES = transfer.FRAME_BYTES
JSON_BYTES = 16 << 20
BODY_BYTES = 16 << 20

# What lies between the SSH server and us; each filling of it costs both a turn of the CPU. With the
# 64 KiB that it has on its own, 200 MB took 4.1 s on two busy cores, now 2.8 s.
PIPE_BYTES = 1 << 20
F_SETPIPE_SZ = 1031  # Linux; the module names it from Python 3.10 on

Request = Dict[str, Any]
Answer = Tuple[Dict[str, Any], bytes]


class EndError(Exception):
    """The conversation is over; the message says why."""


class Session:
    """The conversation with the host over standard input and output."""

    def __init__(self) -> None:
        self._requests: "queue.Queue[Optional[Tuple[Request, Any]]]" = queue.Queue(4)
        self._wake, self._waker = os.pipe()
        self._writing = threading.Lock()
        self._working = threading.Event()

    def begin(self) -> None:
        """Start to listen; signals end the conversation like the end of its input."""
        with contextlib.suppress(OSError):  # no pipe, another system, or more than a user may have
            fcntl.fcntl(0, F_SETPIPE_SZ, PIPE_BYTES)
        for name in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: os.write(self._waker, b"!"))
        for duty in (self._listen, self._say_alive):
            threading.Thread(target=duty, daemon=True).start()

    def next(self, wait_s: Optional[float]) -> Optional[Tuple[Request, Any]]:
        """Return the next request with its binary; None when the conversation is over.

        Raises:
            queue.Empty: None came for ``wait_s``.
        """
        return self._requests.get(timeout=wait_s)

    @contextlib.contextmanager
    def work(self) -> Any:
        """Say ``alive`` meanwhile."""
        self._working.set()
        try:
            yield
        finally:
            self._working.clear()

    def say(self, header: Dict[str, Any], body: bytes = b"") -> None:
        """Send a frame; nothing is sent once the host is gone."""
        with self._writing:
            view = memoryview(_framed(header, body))
            while view and not progress.gone.is_set():
                if select.select([], [1], [], 0.5)[1]:
                    try:  # what select() calls writable takes PIPE_BUF bytes without blocking
                        view = view[os.write(1, view[: select.PIPE_BUF]) :]
                    except OSError:
                        progress.gone.set()

    def _last_words(self, reason: str) -> None:
        """Say why it ends if that can be said at once."""
        if self._writing.acquire(timeout=1):
            if select.select([], [1], [], 0)[1]:
                with contextlib.suppress(OSError):
                    os.write(1, _framed({"ended": reason[:200]}))
            self._writing.release()

    def _listen(self) -> None:
        try:
            while True:
                sizes = struct.unpack(">II", self._read(8))
                if sizes[0] > JSON_BYTES or sizes[1] > BODY_BYTES:
                    raise EndError("a frame is too long")
                header = json.loads(bytes(self._read(sizes[0])).decode())
                body = self._read(sizes[1], work=True)
                if not isinstance(header, dict):
                    raise EndError("a frame is no request")
                if header.get("op") != "beat":
                    self._requests.put((header, body))
        except BaseException as error:  # noqa: BLE001 - else the lock would be held for ever
            self._last_words(str(error) or type(error).__name__)
            progress.gone.set()
            self._requests.put(None)

    def _read(self, count: int, work: bool = False) -> bytearray:
        """Return the next bytes of the input; waiting for them may not take longer than a lease.

        Only data that comes in is work: heartbeats would make a disk that hangs look busy.
        """
        data = bytearray(count)
        view = memoryview(data)
        while view:
            ready = select.select([0, self._wake], [], [], LEASE_S)[0]
            if not ready:
                raise EndError("lease")
            if self._wake in ready:
                raise EndError("signal")
            got = os.readv(0, [view])
            if not got:
                raise EndError("input")
            progress.done += got if work else 0
            view = view[got:]
        return data

    def _say_alive(self) -> None:
        while not progress.gone.is_set():
            self._working.wait()
            time.sleep(ALIVE_S)
            if self._working.is_set():
                self.say({"alive": progress.done})


def _framed(header: Dict[str, Any], body: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack(">II", len(text), len(body)) + text + body


class Agent:
    """The operations on one depot, by name."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._root = ""
        self._reverted: Optional[str] = None
        self._lock = lock.Lock()
        self._switch = switch.Switch(self._lock)
        self._operations: Dict[str, Callable[[Request, Any], Answer]] = {
            name[4:]: getattr(self, name) for name in dir(self) if name.startswith("_do_")
        }

    def serve(self) -> None:
        """Answer requests until the host is gone, then leave the depot as it must be."""
        try:
            self._converse()
        finally:
            self._leave()

    def _converse(self) -> None:
        while True:
            try:
                request = self._session.next(self._switch.left_s())
                if request is None:
                    break
                if request[0].get("op") in ("data", "end"):
                    continue  # on their way when the receiving of them failed
                with self._session.work():
                    header, body = self._answer(request[0], request[1])
                self._session.say(header, body)
            except queue.Empty:
                try:
                    self._expire()
                except (OSError, RefusalError):
                    time.sleep(1.0)  # a disk that refuses is asked again, not without a pause
            except GoneError:
                break

    def _leave(self) -> None:
        with contextlib.suppress(OSError, RefusalError):
            self._switch.end_trial()
        self._lock.free()

    def _answer(self, header: Request, body: Any) -> Answer:
        name = header.get("op")
        try:
            if not self._root and name != "open":
                raise RefusalError("E431", "no depot is open")
            if name not in self._operations:
                raise RefusalError("E431", "there is no operation %.40r" % (name,))
            self._expire()
            return self._operations[name](header, body)
        except RefusalError as error:
            return {"error": error.code, "message": error.message}, b""
        except OSError as error:
            told = disk.refusal(error)
            return {"error": told.code, "message": told.message}, b""
        except (KeyError, TypeError, ValueError) as error:
            return {"error": "E431", "message": "%s: %s" % (type(error).__name__, error)}, b""

    def _expire(self) -> None:
        before = switch.read_pending() if self._switch.left_s() == 0 else None
        self._switch.expire()
        if before is not None:
            self._reverted = before["version"]

    def _do_open(self, header: Request, _: Any) -> Answer:
        self._root = layout.enter(header["folder"])
        return self._do_hello(header, b"")

    def _do_hello(self, _: Request, __: Any) -> Answer:
        if not self._lock.held and switch.read_pending() is not None and self._lock.seize():
            try:
                self._reverted = self._switch.settle() or self._reverted
            finally:
                self._lock.free()
        disk.sync_folder("versions")
        pending = switch.read_pending()
        told, self._reverted = self._reverted, None
        names = [name for name in layout.version_names() if layout.whole(name) is not None]
        state = {
            "root": self._root,
            "versions": names,
            "current": layout.link("current"),
            "previous": layout.link("previous"),
            "pending": pending["version"] if pending and pending["kind"] == "trial" else None,
            "reverted": told,
            "free_bytes": disk.free_bytes(),
            "clock_s": time.time(),
            "codecs": ["zlib"],
        }
        return {"ok": state}, b""

    def _do_lock(self, header: Request, _: Any) -> Answer:
        if not self._lock.held:
            self._lock.take(str(header["who"])[:200], float(header["wait_s"]))
            self._reverted = self._switch.settle() or self._reverted
        return {"ok": self._lock.token}, b""

    def _do_unlock(self, _: Request, __: Any) -> Answer:
        self._switch.end_trial()
        self._lock.free()
        return {"ok": None}, b""

    def _do_manifest(self, header: Request, _: Any) -> Answer:
        return {"ok": None}, layout.read_manifest(_digest(header["version"]))

    def _do_have(self, header: Request, _: Any) -> Answer:
        sizes = layout.sizes()
        found = []
        for sha256 in header["objects"]:
            path = layout.object_path(_digest(sha256))
            if disk.kind(path) == "file":
                size = os.lstat(path).st_size
                if sizes.get(sha256, size) == size:
                    found.append(sha256)
        return {"ok": found}, b""

    def _do_incoming(self, header: Request, _: Any) -> Answer:
        length, frames = transfer.incoming(_digest(header["stream"]))
        return {"ok": {"length": length, "frames": frames}}, b""

    def _do_receive(self, header: Request, _: Any) -> Answer:
        self._lock.check()
        total = header.get("total")
        receiver = transfer.Receiver(_digest(header["stream"]), _count(header["offset"]), total)
        self._session.say({"ok": "go"})
        try:
            while True:
                item = self._session.next(None)
                if item is None:
                    raise GoneError
                if item[0].get("op") != "data":
                    return {"ok": receiver.length}, b""
                frame = _frame(item[0], item[1])
                self._lock.check()
                self._session.say({"ack": receiver.write(frame)})
        finally:
            receiver.close()

    def _do_assemble(self, header: Request, _: Any) -> Answer:
        parts = [
            transfer.Part(None if part[0] is None else _digest(part[0]), *map(_count, part[1:3]))
            for part in header["parts"]
        ]
        stream = None if header["stream"] is None else _digest(header["stream"])
        sha256, size = _digest(header["sha256"]), _count(header["size"])
        transfer.assemble(self._lock, sha256, size, stream, parts)
        return {"ok": None}, b""

    def _do_stage(self, header: Request, body: Any) -> Answer:
        downgrade = bool(header["downgrade"])
        return {"ok": versions.stage(self._lock, bytes(body), downgrade)}, b""

    def _do_admit(self, header: Request, _: Any) -> Answer:
        version = _digest(header["version"])
        if layout.whole(version) is None:
            raise RefusalError("E425", "there is no complete version %s" % version)
        admission.admit(layout.read_manifest(version), _allowed(header))
        return {"ok": None}, b""

    def _do_activate(self, header: Request, body: Any) -> Answer:
        version, trial_s = _digest(header["version"]), float(header["trial_s"])
        self._switch.activate(version, trial_s, bytes(body), _allowed(header))
        return {"ok": None}, b""

    def _do_trust(self, _: Request, __: Any) -> Answer:
        content = admission.read_trust()
        return {"ok": content is not None}, content or b""

    def _do_entrust(self, _: Request, body: Any) -> Answer:
        admission.entrust(self._lock, bytes(body))
        return {"ok": None}, b""

    def _do_confirm(self, _: Request, __: Any) -> Answer:
        self._switch.confirm()
        return {"ok": None}, b""

    def _do_revert(self, _: Request, __: Any) -> Answer:
        self._switch.revert()
        return {"ok": None}, b""

    def _do_rollback(self, _: Request, __: Any) -> Answer:
        return {"ok": self._switch.rollback()}, b""

    def _do_fsck(self, header: Request, _: Any) -> Answer:
        return {
            "ok": [list(damage) for damage in care.fsck(self._lock, bool(header["repair"]))]
        }, b""

    def _do_collect(self, header: Request, _: Any) -> Answer:
        return {"ok": versions.collect(self._lock, _count(header["keep"]))}, b""

    def _do_journal(self, header: Request, _: Any) -> Answer:
        return {"ok": lock.read_journal(_count(header["count"]))}, b""

    def _do_note(self, header: Request, _: Any) -> Answer:
        self._lock.check()
        lock.write_journal(str(header["event"])[:100], details=str(header["details"])[:4000])
        return {"ok": None}, b""


def _allowed(header: Request) -> admission.Allowed:
    return admission.Allowed(bool(header["development"]), bool(header["downgrade"]))


def _digest(value: Any) -> str:
    if not isinstance(value, str) or not layout.HEX.match(value):
        raise ValueError("%.80r is no digest" % (value,))
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("%.80r is no count" % (value,))
    return value


def _frame(header: Request, body: Any) -> Any:
    """Return a frame's bytes as they were before they were compressed."""
    size = _count(header["size"])
    if size > FRAME_BYTES:
        raise ValueError("a frame of %d bytes" % size)
    if header["codec"] == "zlib":
        try:
            body = zlib.decompressobj().decompress(bytes(body), size + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from None
    if len(body) != size:
        raise ValueError("a frame of %d bytes, not %d" % (len(body), size))
    return body


def main(greeting: str) -> None:
    """Greet, then serve until the host is gone."""
    os.umask(0o022)
    os.write(1, greeting.encode())
    session = Session()
    session.begin()
    Agent(session).serve()
    os._exit(0)  # the listening thread may still wait for input
