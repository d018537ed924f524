"""What trtexec prints while it builds, read as it comes: phases, progress, findings.

Formats after the sources of trtexec (``sampleEngines.cpp``, ``trtexec.cpp``, ``logger.cpp``) and
logs that NVIDIA publishes (trt-samples-for-hackathon-cn, ``cookbook/07-Tool/trtexec``). What is
read is a device's: lines and lists have limits, and text is shown through ``printable``.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from edgedeploy.errors import BuildError, Diagnostic
from edgedeploy.remote import printable

Phase = Literal["starting", "parsing", "timing", "finishing", "done", "failed"]
Basis = Literal["previous build", "layers timed"]

LINE_BYTES = 8192
"""What is kept of one line."""
MOST_MESSAGES = 50
TAIL_LINES = 200
_TEXT = 400
_MIB = 1 << 20

_LINE = re.compile(r"(?:\[[^\]]{1,32}\] )?\[(?P<level>[IWEF])\] ?(?:\[TRT\] )?(?P<text>.*)")
_VERBOSE = re.compile(rb"(?:\[[^\]]{1,32}\] )?\[V\] ?(?:\[TRT\] )?")
_BANNER = re.compile(
    r"&&&& (?P<state>RUNNING|PASSED|FAILED) TensorRT\.trtexec"
    r"(?: \[TensorRT v(?P<version>[0-9]{4,6}|[0-9]{1,2}(?:\.[0-9]{1,5}){2,3})\])?"
    r"(?: \[b(?P<build>[0-9]{1,5})\])?(?: (?P<note>\[[^\]]{1,80}\]))?"
)
_LAYERS = re.compile(r"After (?!reformat)[A-Za-z -]{1,40}: ([0-9]{1,6}) layers")
_COSTS = re.compile(r"=+ Computing costs for (?P<node>.+)")
_RUNNER = re.compile(r"-+ Timing Runner: ")
_CACHED = re.compile(r" got cached result: ")
_SIZE = re.compile(r"Created engine with size: ([0-9.]{1,20}) MiB")
_BUILT = re.compile(r"Engine built in ([0-9.]{1,20}) sec")
_LOADED = re.compile(r"Loaded ([0-9]{1,15}) bytes of timing cache from ")
_SAVED = re.compile(r"Saved ([0-9]{1,15}) bytes of timing cache to ")
_NODE = re.compile(
    r"While parsing node number [0-9]+ \[(?P<op>\w+)(?: -> \"(?P<output>[^\"]*)\")?\]"
    r"|Invalid Node - (?P<invalid>.+)"
    r"|any implementation for node (?P<layer>.+?)(?:\.\)|\.$|\)$| due to |$)"
    r"|Error Code [0-9]+: [A-Za-z ]+\((?P<api>[^:()\s]+): "
)
_DUMP = re.compile(r"\w+\.cpp:[0-9]+: (?:--- (?P<end>Begin|End) node ---|input: )")
_NAME = re.compile(r"name: \"(?P<name>[^\"]*)\"")
_MEMORY = re.compile(r"out of memory|OutOfMemory|insufficient memory", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a build is.

    Attributes:
        phase: What it does.
        layers: Layers that were timed in this pass; the builder may make several passes.
        of: Layers of this pass, None before they are known; fusion makes it an upper limit.
        elapsed_s: Seconds since the first line.
        eta_s: Seconds that are left, by estimate; None where nothing allows one.
        basis: What the estimate rests on.
    """

    phase: Phase
    layers: int
    of: int | None
    elapsed_s: float
    eta_s: float | None
    basis: Basis | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A warning or an error.

    Attributes:
        text: What was printed.
        node: The ONNX node or the layer that it is about; None where it names none.
    """

    text: str
    node: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSummary:
    """What a log said, once it ended.

    Attributes:
        version: Of TensorRT, such as ``10.3.0``; ``10.3.0.30`` where the banner has the build.
        passed: Whether trtexec says that it did; None when the log ends before.
        note: What the banner says beside it: a stand-in names itself there.
        engine_bytes: Size of the engine, to a millionth of what was printed; None without.
        build_s: Seconds as trtexec counts them, None where it does not say.
        warnings, errors: The first of them.
        more: How many were not kept.
        cache_loaded_bytes, cache_saved_bytes: Of the timing cache file; None where not said.
        timed: Kernel choices that were timed.
        cached: Choices that the timing cache answered.
    """

    version: str | None
    passed: bool | None
    note: str | None
    engine_bytes: int | None
    build_s: float | None
    warnings: tuple[Message, ...]
    errors: tuple[Message, ...]
    more: int
    cache_loaded_bytes: int | None
    cache_saved_bytes: int | None
    timed: int
    cached: int


def banner_version(text: str) -> str | None:
    """Return the version in the first line of trtexec, None where there is no banner.

    Before 10 the number holds two digits each for minor and patch after the major one, from 10 on
    too, with two for the major one: ``8601`` is 8.6.1, ``100300`` is 10.3.0 (NV_TENSORRT_VERSION
    in NvInferVersion.h). A build number stands apart since 10.4.
    """
    match = _BANNER.search(text[:LINE_BYTES])
    return None if match is None else _version(match)


def _version(match: re.Match[str]) -> str | None:
    number, build = match["version"], match["build"]
    if number is None:
        return None
    if "." in number:
        return number
    major, minor, patch = int(number[:-4] or 0), int(number[-4:-2]), int(number[-2:])
    if len(number) == 4:
        major, minor = int(number[0]), int(number[1])
    return f"{major}.{minor}.{patch}" + (f".{int(build)}" if build else "")


class BuildLog:
    """Reads the log of one build; holds a bounded part of it, however long it is.

    Args:
        previous_s: Seconds that the same program took on the same platform before.
        clock: Seconds; the device's own clock may jump, so its time stamps are not used.
    """

    def __init__(
        self, *, previous_s: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._previous_s = previous_s
        self._clock = clock
        self._started = clock()
        self._timing_since = self._started
        self._rest = b""
        self._skipping = False
        self.phase: Phase = "starting"
        self._layers = 0
        self._of: int | None = None
        self._dumping = False
        self._version: str | None = None
        self._note: str | None = None
        self._passed: bool | None = None
        self._engine_bytes: int | None = None
        self._build_s: float | None = None
        self._loaded: int | None = None
        self._saved: int | None = None
        self._timed = self._cached = self._more = 0
        self._warnings: list[Message] = []
        self._errors: list[Message] = []
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)

    def feed(self, data: bytes) -> None:
        """Read more of the log; lines may be cut anywhere."""
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            if not self._skipping:
                self._line(line[:LINE_BYTES])
            self._skipping = False
        if len(rest) > LINE_BYTES and not self._skipping:
            self._line(rest[:LINE_BYTES])
            self._skipping = True
        self._rest = b"" if self._skipping else rest

    def close(self) -> LogSummary:
        """Read the last line, which may lack its end, and return what the log said."""
        if self._rest and not self._skipping:
            self._line(self._rest)
        self._rest = b""
        return self.summary

    @property
    def progress(self) -> Progress:
        """How far the build is."""
        now = self._clock()
        elapsed = now - self._started
        eta, basis = self._eta(now, elapsed)
        return Progress(
            phase=self.phase,
            layers=self._layers,
            of=self._of,
            elapsed_s=elapsed,
            eta_s=eta,
            basis=basis,
        )

    @property
    def summary(self) -> LogSummary:
        """What the log said so far."""
        return LogSummary(
            version=self._version,
            passed=self._passed,
            note=self._note,
            engine_bytes=self._engine_bytes,
            build_s=self._build_s,
            warnings=tuple(self._warnings),
            errors=tuple(self._errors),
            more=self._more,
            cache_loaded_bytes=self._loaded,
            cache_saved_bytes=self._saved,
            timed=self._timed,
            cached=self._cached,
        )

    @property
    def tail(self) -> str:
        """The last lines but those of single kernels, for a report."""
        return "".join(f"{line}\n" for line in self._tail)

    def failure(self, subject: str) -> BuildError:
        """Return the error of a build that made no engine (E339), naming nodes where it did.

        Args:
            subject: What was built.
        """
        found = [item for item in self._errors if item.node] or self._errors[:1]
        if not found:
            found = [Message(text="trtexec ended without saying why")]
        hint = "choose another `quantize:`, or keep the node in float (`keep_float`)"
        if any(_MEMORY.search(item.text) for item in self._errors):
            hint = "set `workspace` lower, or free memory on the device"
        return BuildError(
            [
                Diagnostic(
                    code="E339",
                    message=f"TensorRT {self._version or ''} refuses it: {item.text}".replace(
                        "  ", " "
                    ),
                    subject=item.node or subject,
                    hint=hint,
                )
                for item in _once_per_node(found)
            ]
        )

    def _eta(self, now: float, elapsed: float) -> tuple[float | None, Basis | None]:
        """Return an estimate of the seconds left.

        A build of the same program on the same platform took as long as it took: what is left of
        that, until it is used up. Else, while layers are timed, those that are left are taken to
        need as long as those that were.
        """
        if self.phase in ("done", "failed"):
            return None, None
        if self._previous_s is not None and elapsed < self._previous_s:
            return self._previous_s - elapsed, "previous build"
        if self.phase == "timing" and self._of and 0 < self._layers <= self._of:
            per_layer = (now - self._timing_since) / self._layers
            return per_layer * (self._of - self._layers), "layers timed"
        return None, None

    def _line(self, raw: bytes) -> None:
        if verbose := _VERBOSE.match(raw):
            # Most of a log. Nothing of it is shown, so it need not be made fit for that.
            self._verbose(raw[verbose.end() :].decode("utf-8", "replace"))
            return
        line = printable(raw).rstrip("\r ")
        if line.startswith("&&&& "):
            self._tail.append(line[:_TEXT])
            self._banner(line)
            return
        match = _LINE.match(line)
        if match is None:
            self._plain(line)
            return
        level, told = match["level"], match["text"]
        self._tail.append(line[:_TEXT])
        if level == "I":
            self._told(told)
        elif level == "W":
            self._keep(self._warnings, told)
        elif dump := _DUMP.match(told):
            # The node that is refused, as text: its name is wanted, and nothing else of it.
            self._dumping = dump["end"] != "End"
        else:
            self._keep(self._errors, told)

    def _banner(self, line: str) -> None:
        match = _BANNER.match(line)
        if match is None:
            return
        self._version = self._version or _version(match)
        self._note = self._note or match["note"]
        if match["state"] != "RUNNING":
            self._passed = match["state"] == "PASSED"
            self.phase = "done" if self._passed else "failed"

    def _verbose(self, told: str) -> None:
        if _CACHED.search(told):
            self._cached += 1
        elif _RUNNER.match(told):
            self._timed += 1
        elif _COSTS.match(told):
            self._layer()
        elif told.startswith("Building graph using backend strategy"):
            self.phase, self._layers, self._of = "timing", 0, None
        elif match := _LAYERS.match(told):
            # Steps of fusion, one after another: the last number is that of the layers to time.
            self._of = int(match[1])
            self._layers = 0

    def _layer(self) -> None:
        if self.phase != "timing" or self._layers == 0:
            self.phase = "timing"
            self._timing_since = self._clock()
        self._layers += 1

    def _told(self, told: str) -> None:
        if told.startswith("Start parsing network model"):
            self.phase = "parsing"
        elif told.startswith("Finished parsing network model"):
            self.phase = "timing"
            self._timing_since = self._clock()
        elif told.startswith(("Engine generation completed", "Total Weights Memory")):
            self.phase = "finishing"
        elif match := _SIZE.match(told):
            self._engine_bytes = round(float(match[1]) * _MIB)
        elif match := _BUILT.match(told):
            self._build_s = float(match[1])
            self.phase = "finishing"
        else:
            self._cache_said(told)

    def _cache_said(self, told: str) -> None:
        if match := _LOADED.match(told):
            self._loaded = int(match[1])
        elif match := _SAVED.match(told):
            self._saved = int(match[1])

    def _plain(self, line: str) -> None:
        """Read a line without a level: it goes on with the error before it."""
        if not line or not self._errors:
            return
        last = self._errors[-1]
        if not self._dumping:
            self._tail.append(line[:_TEXT])
            match = None if last.node else _NODE.search(line)
            node = _named(match) if match else last.node
            self._errors[-1] = Message(text=f"{last.text} {line}"[:_TEXT], node=node)
        elif match := _NAME.match(line):
            self._errors[-1] = Message(text=last.text, node=match["name"][:_TEXT] or last.node)

    def _keep(self, messages: list[Message], told: str) -> None:
        match = _NODE.search(told)
        node = _named(match) if match else None
        if node is None and "In function" in told and self._errors:
            # The reason, after the node that it belongs to.
            node = self._errors[-1].node
        if len(messages) < MOST_MESSAGES:
            messages.append(Message(text=told[:_TEXT], node=node))
        else:
            self._more += 1


def _named(match: re.Match[str]) -> str | None:
    """Return the node that a message names; an output stands for the node that makes it."""
    groups = match.groupdict()
    for key in ("invalid", "layer", "api", "output", "op"):
        if groups.get(key):
            return str(groups[key])[:_TEXT]
    return None


def _once_per_node(messages: list[Message]) -> list[Message]:
    """Return the last message of each node: trtexec tells the reason last."""
    return list({item.node: item for item in messages}.values())
