# Syntax and library held to Python 3.6.
# ruff: noqa: UP006, UP031, UP035, UP045, PTH105, PTH110
"""What ``onboard_build.py`` tells and hears while it builds, and the facts around it.

Travels to devices beside it and, like it, needs the standard library alone. Nothing here raises
where a builder calls it: an exception in a callback from C++ would end the process.
"""

import collections
import contextlib
import ctypes
import ctypes.util
import hashlib
import json
import mmap
import os
import re
import signal
import threading
import time
from typing import Any, Dict, List, Optional, Set

GRACE_S = 10.0
RATE_S = 0.25
LOG_BYTES = 2 << 20
LINE_CHARACTERS = 2000
TAIL_LINES = 200
ERRORS = 20
_TIMED = re.compile(r"Timing Runner: (.+) \(\w+(?:\[\w+\])?\)$")
_COUNTED = re.compile(r"^After [\w -]+: (\d{1,6}) layers$")


class Failed(Exception):
    """The build ends here; ``about`` goes into the result beside the kind and the message."""

    def __init__(self, kind: str, message: str, **about: Any) -> None:
        super().__init__(message)
        self.kind = kind
        self.about = about


class Teller:
    """Standard output: JSON lines, not too many. It never raises: builders call it from C++."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._lock = threading.Lock()
        self._last = 0.0

    def say(self, event: str, **fields: Any) -> None:
        """Write one line; nobody who listens is no failure."""
        line = json.dumps(dict(fields, event=event), sort_keys=True) + "\n"
        with self._lock, contextlib.suppress(OSError):
            os.write(self._handle, line.encode())

    def progress(self, whole: bool, fields: Dict[str, Any]) -> None:
        """Write a progress line, unless the last one is younger than RATE_S and it isn't whole."""
        now = time.monotonic()
        with self._lock:
            if now - self._last < RATE_S and not whole:
                return
            self._last = now
        self.say("progress", **fields)


class Progress:
    """The builder's phases, one within another, as fractions of the outermost."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self._lock = threading.Lock()
        self._phases: Dict[str, List[Any]] = {}
        self._reached: Dict[str, float] = {}

    def start(self, phase: str, parent: Optional[str], steps: int) -> None:
        """A phase of ``steps`` steps has begun within ``parent``, or as an outermost one."""
        with self._lock:
            parent = parent if parent in self._phases and parent != phase else None
            self._phases[phase] = [parent, 0, max(1, int(steps))]
            if parent is None:
                self._reached[phase] = 0.0
        self._tell(phase)

    def step(self, phase: str, step: int) -> None:
        """Step ``step``, counted from 0, of a phase is done."""
        with self._lock:
            if phase not in self._phases:
                return
            entry = self._phases[phase]
            entry[1] = max(entry[1], min(int(step) + 1, entry[2]))
        self._tell(phase)

    def finish(self, phase: str) -> None:
        """A phase has ended, whether or not all its steps were told."""
        with self._lock:
            if phase in self._phases:
                self._phases[phase][1] = self._phases[phase][2]
        self._tell(phase)
        with self._lock:
            self._phases.pop(phase, None)

    def _tell(self, inner: str) -> None:
        with self._lock:
            if inner not in self._phases:
                return
            root, seen = inner, {inner}
            while self._phases[root][0] in self._phases and self._phases[root][0] not in seen:
                root = self._phases[root][0]
                seen.add(root)
            now = max(self._reached.get(root, 0.0), self._fraction(root, 0))
            self._reached[root] = now
            done, of = self._phases[root][1:]
            fields = {"phase": root[:200], "inner": inner[:200], "done": done, "of": of}
            fields["fraction"] = round(now, 4)
        self._teller.progress(inner == root and done == of, fields)

    def _fraction(self, phase: str, depth: int) -> float:
        """Return how much of a phase is done: its steps, and the running one by its phases."""
        _, done, of = self._phases[phase]
        inner = [name for name, entry in self._phases.items() if entry[0] == phase]
        running = [self._fraction(name, depth + 1) for name in inner if depth < 20]
        return float(min(1.0, (done + (sum(running) / len(running) if running else 0.0)) / of))


class Log:
    """``build.log``: the first LOG_BYTES, then the last lines; and the last errors. Never raises.

    Args:
        path: Where to write; None keeps the errors alone.
        progress: Where the layers that are timed are counted; None where the builder itself tells.
    """

    def __init__(self, path: Optional[str], progress: Optional[Progress]) -> None:
        self._file = open(path, "wb") if path else None  # noqa: SIM115 - closed with the build
        self._lock = threading.Lock()
        self._written = 0
        self._left_out = 0
        self._tail: Any = collections.deque(maxlen=TAIL_LINES)
        self._progress = progress
        self._timed: Set[str] = set()
        self._layers = 0
        self.errors: Any = collections.deque(maxlen=ERRORS)
        """The last lines of severity ERROR and worse."""

    def line(self, severity: str, message: str) -> None:
        """Take one line of a severity such as ``ERROR``."""
        with contextlib.suppress(Exception), self._lock:
            text = str(message).replace("\n", " ")[:LINE_CHARACTERS]
            if severity in ("ERROR", "INTERNAL_ERROR"):
                self.errors.append(text)
            if severity == "VERBOSE":
                self._count(text)
            else:
                self._write(("[%s] %s\n" % (severity, text)).encode("utf-8", "replace"))

    def _write(self, line: bytes) -> None:
        if self._written + len(line) > LOG_BYTES:
            self._left_out += 1
            self._tail.append(line)
        elif self._file is not None:
            self._written += len(line)
            self._file.write(line)

    def _count(self, text: str) -> None:
        """Tell progress by what builders before 10.0 say of the layers they time."""
        if self._progress is None:
            return
        counted, timed = _COUNTED.match(text), _TIMED.search(text)
        if counted and not self._timed:
            self._layers = int(counted.group(1))
        elif timed and "reformat" not in timed.group(1).lower() and self._layers:
            if not self._timed:
                self._progress.start("Timing layers", None, self._layers)
            if timed.group(1) not in self._timed:
                self._timed.add(timed.group(1)[:200])
                self._progress.step("Timing layers", len(self._timed) - 1)

    def close(self) -> None:
        """Write the last lines, after how many were left out before them."""
        with contextlib.suppress(OSError), self._lock:
            if self._file is None:
                return
            missing = self._left_out - len(self._tail)
            if missing > 0:
                self._file.write(b"[...] %d lines left out\n" % missing)
            self._file.writelines(self._tail)
            self._file.close()

    def last(self) -> str:
        """Return the last error in one line."""
        return self.errors[-1] if self.errors else "the builder gives no reason"


class Brake:
    """Whether the build shall stop; another process may say so."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)  # the watcher, forked later, writes the same byte

    def pull(self, *_: Any) -> None:
        """Ask the builder to stop."""
        self._shared[0] = 1

    def pulled(self) -> bool:
        """Return whether it was asked to."""
        return bool(self._shared[0])


def end_with_input(brake: Brake) -> int:
    """See to it that this process and its children end when standard input does.

    A process of its own watches: a builder in a driver's call lets no thread of Python run.

    Returns:
        The watcher's process id; the caller kills it when the build is over.
    """
    with contextlib.suppress(OSError):  # that leads a group already
        os.setsid()
    group = os.getpgrp()
    watcher = os.fork()
    if watcher:
        return watcher
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for handle in range(1, 10):  # held open, they would keep the reader waiting
            os.dup2(nowhere, handle)
        while os.read(0, 4096):
            pass
        brake.pull()
        end = time.monotonic() + GRACE_S
        while time.monotonic() < end and os.getppid() != 1:
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)
    finally:
        os._exit(1)


def sha256_of(path: str) -> Optional[str]:
    """Return a file's SHA-256, None when there is none."""
    if not os.path.exists(path):
        return None
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            found.update(piece)
    return found.hexdigest()


def write_atomic(path: str, data: Any) -> None:
    """Write bytes, or what gives its bytes as a buffer, so that the name has all or nothing."""
    part = path + ".part"
    with open(part, "wb") as file:
        file.write(memoryview(data))
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def read_json(path: str, what: str) -> Dict[str, Any]:
    """Return the JSON object in a file; fails as ``job``."""
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except (OSError, ValueError) as error:
        raise Failed("job", "cannot read the %s: %s" % (what, error)) from error
    if not isinstance(data, dict):
        raise Failed("job", "the %s is no JSON object" % what)
    return data


def cuda_facts() -> Dict[str, Any]:
    """Return the versions of CUDA's runtime and of what the driver offers, and the first GPU.

    What is not to be had is None. Source: CUDA Runtime API, "Version Management"; CUDA Driver API,
    "Device Management".
    """
    found: Dict[str, Any] = {"cuda_runtime": None, "cuda_driver": None, "gpu": None}
    number = ctypes.c_int()
    for name in (ctypes.util.find_library("cudart"), "libcudart.so"):
        with contextlib.suppress(OSError, AttributeError):
            if name and ctypes.CDLL(name).cudaRuntimeGetVersion(ctypes.byref(number)) == 0:
                found["cuda_runtime"] = _cuda_version(number.value)
                break
    with contextlib.suppress(OSError, AttributeError):
        cuda = ctypes.CDLL("libcuda.so.1")
        if cuda.cuDriverGetVersion(ctypes.byref(number)) == 0:
            found["cuda_driver"] = _cuda_version(number.value)
        device, name_bytes = ctypes.c_int(), ctypes.create_string_buffer(256)
        if cuda.cuInit(0) == 0 and cuda.cuDeviceGet(ctypes.byref(device), 0) == 0:
            cuda.cuDeviceGetName(name_bytes, 256, device)
            capability = []
            for attribute in (75, 76):  # COMPUTE_CAPABILITY_MAJOR, _MINOR
                cuda.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
                capability.append(str(number.value))
            text = name_bytes.value.decode("utf-8", "replace")
            found["gpu"] = {"name": text, "compute_capability": ".".join(capability)}
    return found


def _cuda_version(number: int) -> str:
    """Return 12060 as ``12.6``."""
    return "%d.%d" % (number // 1000, number % 1000 // 10)
