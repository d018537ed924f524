"""One engine, built on one device: the program goes up, the engine comes down, nothing stays.

All that a device prints is bounded, and believed only as far as it is checked here. Whatever cuts a
build off, its folder on the device goes with it (:mod:`edgedeploy.devices.workbench`); what stays
is the timing cache, by which the next engine is built faster there.
"""

from __future__ import annotations

import collections
import contextlib
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any, Literal

from edgedeploy.devices.holder import holder, is_gone
from edgedeploy.devices.workbench import Workbench, workbench
from edgedeploy.disk import disk_errors
from edgedeploy.errors import DeviceError, EdgedeployError, IntegrityError
from edgedeploy.events import EngineProgress, EventLog, Note
from edgedeploy.gpu import GpuPlatform
from edgedeploy.manifest import canonical, file_sha256
from edgedeploy.remote import Reader, Remote, get_file, printable, put_file
from edgedeploy.report.figures import size
from edgedeploy.stage import Made
from edgedeploy.worker.launch import Stopped

PLACE = ".tensorrt"
"""Folder below a device's root: timing caches by platform, and the one build that runs."""

ENGINE = "model.engine"
LAYERS = "layers.json"
RESULT = "result.json"
CACHE = "timing.cache"
PROVENANCE = "engine.json"
LOG = "build.log"

BUILD_S = 4 * 3600.0
"""The longest that one build may take: large models on small boards take an hour."""

CACHE_BYTES = 256 << 20
"""The largest timing cache that is kept on a device."""

CACHES = 8
"""Platforms whose timing caches a device keeps; the longest unused go."""

LAYERS_BYTES = 64 << 20
RESULT_BYTES = 1 << 20
LOG_BYTES = 4 << 20
SPARE_BYTES = 64 << 20
"""What a build needs beside the program and the engine."""

_ENGINE_RATIO = 8  # engines for several shapes, or of another precision, outgrow their program
_ENGINE_BYTES = 512 << 20
_LOG_BYTES = 256 << 10
_LINE = 4096
_LOOK_S = 0.5
_TELL_S = 0.5
_ANONYMOUS_S = 3.0
# What programs tell each other, and what a builder says of every single kernel.
_MINOR = re.compile(r"\{\"|\[[^\]]*\] \[V\]")
_SUM = re.compile(r"([0-9a-f]{64})  ?\*?(\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How far a build is, as its output tells.

    Attributes:
        done, total: Parts of the work; a total of 0 where that is not known.
        left_s: How long it will take.
        detail: What is being done.
    """

    done: int = 0
    total: int = 0
    left_s: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How a device builds one engine; its command runs in a folder with the program's files.

    Attributes:
        way: ``python`` or ``trtexec``.
        command: Shell command; leaves :data:`ENGINE`, and :data:`LAYERS` and :data:`RESULT` where
            it can, and takes and leaves :data:`CACHE`.
        shown: The same as the provenance shows it: no path of the device or the operator.
        files: What travels besides the program, by name.
        log: File that the build leaves as its log; empty: its output is.
        watch: Takes a line of the output; returns how far the build is where the line says so.
        failure: Returns what went wrong by the status and :data:`RESULT`; None where they, and what
            was watched, do not tell.
        layers: Turns what the device says of layers into the one form of it.
        told: Turns :data:`RESULT` into facts of the build for its provenance.
    """

    way: Literal["python", "trtexec"]
    command: str
    shown: Sequence[str]
    files: Mapping[str, bytes] = field(default_factory=dict)
    log: str = ""
    watch: Callable[[str], Step | None] = lambda line: None
    failure: Callable[[int, bytes], EdgedeployError | None] = lambda status, result: None
    layers: Callable[[bytes], Mapping[str, Any]] = lambda data: {"layers": []}
    told: Callable[[bytes], Mapping[str, Any]] = lambda result: {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What one build is of.

    Attributes:
        node: The engine's stage, for messages.
        platform: What builds it.
        program: Folder of the program, here.
        root: Folder of edgedeploy on the device, absolute or below ``~/``.
        conditions: What the provenance says of the device: its clocks and power mode.
        deadline_s: The build is ended after this.
    """

    node: str
    platform: GpuPlatform
    program: Path
    root: str
    conditions: Mapping[str, Any] = field(default_factory=dict)
    deadline_s: float = BUILD_S

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of the program."""
        return tuple(sorted(path for path in self.program.iterdir() if path.is_file()))


def build_engine(
    remote: Remote,
    wanted: Wanted,
    order: Order,
    outputs: Mapping[str, Path],
    events: EventLog,
    stop: threading.Event,
) -> Made:
    """Build an engine on a connected device.

    Args:
        remote: The device.
        wanted: What to build.
        order: How.
        outputs: Empty folders ``engine`` and ``report``, as stage ``engine`` wants them filled.
        events: Where progress is told.
        stop: Set to give up.

    Raises:
        DeviceError: The link is lost, the device has no room (E423), does not end the build in time
            (E483) or without an engine (E484), or as
            :func:`~edgedeploy.devices.workbench.workbench`.
        BuildError: TensorRT refuses the program.
        IntegrityError: What came is not what the device has (E720).
        StoreError: The engine cannot be kept here (E601, E602).
        Stopped: ``stop`` was set; nothing of the build is left on the device.
    """
    run = _Run(remote, wanted, order, events, stop)
    with workbench(remote, f"{wanted.root.rstrip('/')}/{PLACE}", run.wait) as bench:
        return run.build(bench, outputs)


class _Run:
    """One build."""

    def __init__(
        self,
        remote: Remote,
        wanted: Wanted,
        order: Order,
        events: EventLog,
        stop: threading.Event,
    ) -> None:
        self._remote = remote
        self._wanted = wanted
        self._order = order
        self._events = events
        self._stop = stop
        self._waits = False
        self._told = ("", "")
        self._told_at = 0.0

    def wait(self, who: str, waited_s: float) -> None:
        """Say once who else builds there; who just begins has not yet said who it is."""
        self._look()
        if self._waits or not (who or waited_s > _ANONYMOUS_S):
            return
        self._waits = True
        if is_gone(who):
            text = "waiting until the device lets go of an earlier build that was cut off"
        elif who == holder():
            text = "waiting until it has built another engine of this profile"
        else:
            text = f"waiting until another build there ends ({who or 'by somebody'})"
        self._say(text)

    def _say(self, text: str) -> None:
        self._events.emit(Note(text=f"{self._remote.name}: {text}"))

    def build(self, bench: Workbench, outputs: Mapping[str, Path]) -> Made:
        """Build in a folder on the device."""
        self._check_space(bench)
        self._upload(bench)
        before = self._cache_in(bench)
        log = _Log()
        started = time.monotonic()
        self._watch(bench, log)
        build_s = time.monotonic() - started
        sums, sizes = self._sums(bench)
        self._pull(bench, outputs["engine"] / ENGINE, sums, sizes)
        layers, facts = self._layers(bench), self._facts(bench)
        cache = {"sha256_before": before, "sha256_after": self._cache_out(bench, sums)}
        provenance = {
            "schema": 1,
            "platform": self._wanted.platform.to_json(),
            "way": self._order.way,
            "command": list(self._order.shown),
            "sha256": sums[ENGINE],
            "size_bytes": sizes[ENGINE],
            "timing_cache": cache,
            "build_s": round(build_s, 3),
            "simulated": self._wanted.platform.simulated or self._remote.pretended,
            **self._wanted.conditions,
            **facts,
        }
        text = self._log(bench, log)
        with disk_errors("cannot keep the engine"):
            (outputs["engine"] / PROVENANCE).write_bytes(canonical(provenance) + b"\n")
            (outputs["report"] / LAYERS).write_bytes(canonical(layers) + b"\n")
            (outputs["report"] / LOG).write_text(text, encoding="utf-8")
        shown = ("sha256", "size_bytes", "way", "build_s", "simulated")
        return Made(summary={name: provenance[name] for name in shown})

    def _facts(self, bench: Workbench) -> Mapping[str, Any]:
        try:
            return self._order.told(self._read(bench, RESULT, RESULT_BYTES))
        except ValueError as error:
            raise self._failed(
                f"what it says of the build cannot be: {str(error)[:200]}",
                "see what else runs there under the name of TensorRT",
            ) from error

    def _log(self, bench: Workbench, output: _Log) -> str:
        """Return the log that the build keeps, with what libraries printed besides."""
        kept = self._read(bench, self._order.log, LOG_BYTES) if self._order.log else b""
        return printable(kept) + output.text()

    def _look(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _tell(self, doing: Literal["uploading", "building", "pulling"], step: Step) -> None:
        now = time.monotonic()
        told = (doing, step.detail)
        if told == self._told and now - self._told_at < _TELL_S:
            return
        self._told, self._told_at = told, now
        self._events.emit(
            EngineProgress(
                node=self._wanted.node,
                device=self._remote.name,
                doing=doing,
                done=step.done,
                total=step.total,
                left_s=step.left_s,
                detail=step.detail,
            )
        )

    # -- what travels ------------------------------------------------------------------------

    @property
    def _program_bytes(self) -> int:
        return sum(path.stat().st_size for path in self._wanted.files)

    def _check_space(self, bench: Workbench) -> None:
        """Refuse before anything travels what cannot fit: the program, and an engine like it."""
        need = 2 * self._program_bytes + SPARE_BYTES
        if need > bench.free_bytes:
            raise DeviceError(
                f"{self._remote.name} has too little space for {self._wanted.node}: "
                f"{size(need)} are needed, {size(bench.free_bytes)} are free",
                code="E423",
                subject=self._remote.name,
                hint="`edgedeploy devices fsck --gc` removes old versions there; or give it "
                "another `root:` in devices.yaml",
            )

    def _upload(self, bench: Workbench) -> None:
        pace, before = _Pace(self._program_bytes), 0
        for path in self._wanted.files:

            def told(sent: int, before: int = before) -> None:
                self._look()
                self._tell("uploading", pace.step(before + sent))

            told(0)
            put_file(self._remote, path, f"{bench.path}/{path.name}", told)
            before += path.stat().st_size
        for name, data in self._order.files.items():
            self._ask(bench, f"cat > {quote(name)}", f"cannot write {name}", stdin=data)

    def _pull(
        self, bench: Workbench, goal: Path, sums: Mapping[str, str], sizes: Mapping[str, int]
    ) -> None:
        """Copy the engine here and hold it against what the device says of it."""
        if ENGINE not in sums or not sizes.get(ENGINE):
            raise self._failed("it ended well and left no engine", "see the log with -v")
        limit = _ENGINE_BYTES + _ENGINE_RATIO * self._program_bytes
        if sizes[ENGINE] > limit:
            raise self._failed(
                f"it left an engine of {size(sizes[ENGINE])}, and {size(limit)} is the most that "
                f"a program of {size(self._program_bytes)} may come to",
                "see what else runs there under the name of TensorRT",
            )
        pace = _Pace(sizes[ENGINE])

        def told(got: int) -> None:
            self._look()
            self._tell("pulling", pace.step(got))

        told(0)
        with disk_errors("cannot keep the engine"):
            get_file(self._remote, f"{bench.path}/{ENGINE}", goal, limit, told)
        if file_sha256(goal) != sums[ENGINE] or goal.stat().st_size != sizes[ENGINE]:
            raise IntegrityError(
                f"{self._wanted.node}: the engine that came is not the one that "
                f"{self._remote.name} says it built",
                code="E720",
                subject=self._wanted.node,
                hint="run it again; if it stays so, look at the device's disk and memory",
            )

    def _layers(self, bench: Workbench) -> Mapping[str, Any]:
        try:
            return self._order.layers(self._read(bench, LAYERS, LAYERS_BYTES))
        except ValueError as error:
            raise self._failed(
                f"what it says of the engine's layers cannot be: {str(error)[:200]}",
                "see what else runs there under the name of TensorRT",
            ) from error

    def _read(self, bench: Workbench, name: str, limit_bytes: int) -> bytes:
        """Return what a build left in a file, nothing where there is none."""
        command = f"cd {quote(bench.path)} && [ ! -f {name} ] || cat {name}"
        return self._remote.run(command, timeout_s=300.0, limit_bytes=limit_bytes).stdout

    def _sums(self, bench: Workbench) -> tuple[dict[str, str], dict[str, int]]:
        """Return digest and size of what a build left, by name."""
        names = f"{ENGINE} {CACHE}"
        told = self._ask(
            bench,
            f"for f in {names}; do [ ! -f $f ] || {{ sha256sum $f && "
            'echo "size $(wc -c <$f) $f"; }; done',
            "cannot tell what it built",
            timeout_s=300.0,
        )
        sums, sizes = {}, {}
        for line in told.splitlines():
            words = line.split()
            if found := _SUM.fullmatch(line):
                sums[found[2]] = found[1]
            elif len(words) == 3 and words[0] == "size" and words[1].isdecimal():
                sizes[words[2]] = int(words[1][:18])
        return sums, sizes

    # -- the timing cache --------------------------------------------------------------------

    def _cache(self) -> str:
        return f"../{quote(self._wanted.platform.id)}"

    def _cache_in(self, bench: Workbench) -> str | None:
        """Put the platform's timing cache into the folder; return its digest, None for none.

        The build works on a copy: what is cut off in the middle of writing it is thrown away.
        """
        told = self._ask(
            bench,
            f"cache={self._cache()}/{CACHE}; [ ! -f $cache ] || {{ "
            f"cp $cache {CACHE} && sha256sum {CACHE} || rm -f {CACHE}; }}",
            "cannot take its timing cache",
        )
        found = _SUM.search(told)
        return found[1] if found else None

    def _cache_out(self, bench: Workbench, sums: Mapping[str, str]) -> str | None:
        """Keep the timing cache for the next build on this platform; return its digest.

        The engine is here by now: that the next one takes longer is no reason to lose it.
        """
        if CACHE not in sums:
            return None
        try:
            self._keep_cache(bench)
        except DeviceError as error:
            self._say(f"timings are not kept there: {error.diagnostics[0].message}")
            return None
        return sums[CACHE]

    def _keep_cache(self, bench: Workbench) -> None:
        self._ask(
            bench,
            f"place={self._cache()}; [ $(wc -c <{CACHE}) -le {CACHE_BYTES} ] || exit 0; "
            f"mkdir -p $place && mv -f {CACHE} $place/{CACHE} && touch $place || exit 1; "
            f"ls -dt ../*/{CACHE} 2>/dev/null | tail -n +{CACHES + 1} | "
            'while IFS= read -r old; do rm -rf "${old%/*}"; done; :',
            "cannot keep its timing cache",
        )

    # -- the build ---------------------------------------------------------------------------

    def _watch(self, bench: Workbench, log: _Log) -> None:
        """Run the build to its end."""
        end = time.monotonic() + self._wanted.deadline_s
        self._tell("building", Step())
        pipe = self._remote.open(
            f"cd {quote(bench.path)} && export TMPDIR={quote(bench.path)} LC_ALL=C "
            f"PYTHONDONTWRITEBYTECODE=1 && {{ {self._order.command}; }} 2>&1 </dev/null"
        )
        reader = Reader(pipe)
        try:
            while True:
                self._look()
                bench.check()
                if time.monotonic() > end:
                    raise self._failed(
                        f"it did not end within {self._wanted.deadline_s:g} s and was ended",
                        "lower `optimisation_level`, or give it fewer sizes (`dims:`)",
                        code="E483",
                    )
                try:
                    line = printable(reader.line(_LOOK_S)[:_LINE]).rstrip()
                except EOFError:
                    break
                except DeviceError as error:
                    if error.diagnostics[0].code != "E404":
                        raise
                    continue
                step = self._order.watch(line)
                if step is not None:
                    self._tell("building", step)
                if not _MINOR.match(line):
                    log.add(line)
            status = pipe.wait(10.0)
        finally:
            pipe.close()
        if status != 0:
            self._check_folder(bench)
            result = self._read(bench, RESULT, RESULT_BYTES)
            raise self._order.failure(status, result) or self._ended(status, log)

    def _check_folder(self, bench: Workbench) -> None:
        """Blame no builder for a program that was taken from under it."""
        program = f"{bench.path}/{self._wanted.files[0].name}"
        if self._remote.run(f"[ -f {quote(program)} ]").status != 0:
            raise self._failed(
                "its folder there was removed while it ran: what guards it was ended",
                "run it again; see what ends processes there",
            )

    def _ended(self, status: int, log: _Log) -> DeviceError:
        last = next((line for line in reversed(log.last()) if line.strip()), "")
        what = f"by {_signal(status - 128)}" if status > 128 else f"with status {status}"
        hint = "give the device more memory, or end what else runs there" if status == 137 else ""
        return self._failed(
            f"it ended {what}{f': {last[:300]}' if last else ''}",
            hint or "the last lines of its log say why; see whether the device has memory left",
        )

    def _ask(
        self,
        bench: Workbench,
        command: str,
        what: str,
        *,
        stdin: bytes = b"",
        timeout_s: float = 60.0,
    ) -> str:
        """Run a small command in the folder and return what it printed."""
        self._look()
        done = self._remote.run(
            f"cd {quote(bench.path)} && {command}",
            stdin=stdin,
            timeout_s=timeout_s,
            limit_bytes=1 << 16,
        )
        if done.status != 0:
            said = printable(done.stderr).strip()[-200:] or "it does not say why"
            raise self._failed(f"{what}: {said}", "look at its disk and its permissions")
        return printable(done.stdout)

    def _failed(self, what: str, hint: str, code: str = "E484") -> DeviceError:
        subject = f"{self._remote.name}: {self._wanted.node}"
        return DeviceError(f"{subject}: {what}", code=code, subject=subject, hint=hint)


def _signal(number: int) -> str:
    """Return a signal's name, such as ``SIGKILL``."""
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


class _Pace:
    """How long bytes that travel will take, by those that did."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._started = time.monotonic()

    def step(self, done: int) -> Step:
        spent_s = time.monotonic() - self._started
        left_s = (self._total - done) * spent_s / done if done and spent_s > 1 else None
        return Step(done=done, total=self._total, left_s=left_s)


class _Log:
    """The output of a build: its beginning and its end."""

    def __init__(self) -> None:
        self._head: list[str] = []
        self._tail: collections.deque[str] = collections.deque()
        self._head_bytes = self._tail_bytes = 0
        self._left_out = 0

    def add(self, line: str) -> None:
        if self._head_bytes < _LOG_BYTES:
            self._head.append(line)
            self._head_bytes += len(line) + 1
            return
        self._tail.append(line)
        self._tail_bytes += len(line) + 1
        while self._tail_bytes > 2 * _LOG_BYTES or len(self._tail) > _LOG_BYTES:
            self._tail_bytes -= len(self._tail.popleft()) + 1
            self._left_out += 1

    def last(self) -> list[str]:
        """Return the last lines, up to 200."""
        return [*self._head, *self._tail][-200:]

    def text(self) -> str:
        gap = [f"... {self._left_out} lines ..."] if self._left_out else []
        return "\n".join([*self._head, *gap, *self._tail, ""])
