"""One run of trtexec after the other on a device: sent, watched to its end, and read.

What comes back is in :mod:`.trtexec_result`; what is done with it in :mod:`.trtexec`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from edgedeploy.bench import checking, trtexec_result
from edgedeploy.bench.evidence import Evidence
from edgedeploy.bench.loop import read_samples
from edgedeploy.bench.onboard import ENGINE_REFUSED, HOSTILE, DeviceRun, Progress
from edgedeploy.bench.scratch import Scratch
from edgedeploy.errors import DeviceError
from edgedeploy.remote import DeviceRuntime, Remote, printable

if TYPE_CHECKING:
    import numpy as np

PROVENANCE = "engine.json"
TIMES, OUTPUTS, LAYERS = "times.json", "outputs.json", "layers.json"

_PROVENANCE_BYTES = 1 << 20
_READ_BYTES = 64 << 10
_READ_S = 30.0
_DIGEST_S = 600.0
_LINES = 400

Given = Mapping[str, tuple[str, tuple[int, ...]]]
"""File on the device and shape, by input."""

Read = TypeVar("Read")


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """How long a run of trtexec is.

    Attributes:
        warm_up_ms: Milliseconds that do not count.
        duration_s: Shortest time, in seconds.
        iterations: Fewest inferences.
    """

    warm_up_ms: int = 0
    duration_s: int = 0
    iterations: int = 1


# A run ends with its connection: what waits for the end of the input ends it. A background command
# of a shell has no input of its own, hence the copy.
_HELD = """cd {folder} && rm -f {files} || exit 1
exec 3<&0
{command} 2>&1 </dev/null & run=$!
( cat <&3; kill -9 $run ) >/dev/null 2>&1 & watcher=$!
wait $run; status=$?
kill $watcher 2>/dev/null
exit $status"""


class BenchCommand(Protocol):
    """Makes the command of one run; ``backends/trt/trtexec.py`` knows what each version takes."""

    def __call__(
        self,
        *,
        engine: str,
        shapes: Mapping[str, Sequence[int]],
        warm_up_ms: int,
        duration_s: int,
        iterations: int,
        spin_wait: bool,
        inputs: Mapping[str, str],
        times: str | None = None,
        outputs: str | None = None,
        layer_times: str | None = None,
    ) -> Sequence[str]:
        """Return the program and its arguments, not quoted.

        Args:
            engine: Path of the engine on the device.
            shapes: Size of each input.
            warm_up_ms: Milliseconds that do not count.
            duration_s: Shortest time, in seconds.
            iterations: Fewest inferences.
            spin_wait: Whether the host waits actively.
            inputs: Raw file by input.
            times: JSON file for the time of each inference.
            outputs: JSON file for the outputs of the last inference.
            layer_times: JSON file for times of layers.

        Raises:
            BuildError: The version has no such option, or a name cannot be written.
        """


class TrtexecRun(DeviceRun):
    """The runs of trtexec in one folder on the device.

    Args:
        remote: The device.
        runtime: Of kind ``trtexec``.
        scratch: The folder.
        about: Which artifacts it is about, for messages.
        command: Makes the commands.
        on_progress: Called with each progress line.
    """

    end_s: float = 0.0
    """When all must be over, on this machine's monotonic clock."""

    def __init__(
        self,
        remote: Remote,
        runtime: DeviceRuntime,
        scratch: Scratch,
        about: str,
        command: BenchCommand,
        on_progress: Progress | None,
    ) -> None:
        super().__init__(remote, runtime, scratch, about, on_progress)
        self._command = command
        self._stand_in = False
        self.lines: list[str] = []

    @property
    def version(self) -> str:
        """Version of TensorRT."""
        return self._runtime.version

    @property
    def simulated(self) -> bool:
        """Whether a stand-in is at work, as it was known before or as it says itself."""
        return self._runtime.simulated or self._stand_in

    def unable(self, what: str) -> DeviceError:
        """Return the failure of a run that trtexec cannot do (E495)."""
        return self.failed(
            "E495",
            f"trtexec {self._runtime.version} cannot: {what}",
            "give the device the Python package `tensorrt` (on a Jetson "
            "`sudo apt-get install python3-libnvinfer`)",
        )

    def send_samples(self, inputs: Mapping[str, Any], count: int | None) -> Iterator[Given]:
        """Send samples one by one, and yield each.

        Args:
            inputs: As ``loop.py`` gets them, the pack being a folder here.
            count: How many; None: as many as ``inputs`` say.

        Raises:
            DeviceError: An input is of a type that trtexec does not read from a file (E495).
        """
        import numpy as np

        given = dict(inputs) if count is None else {**inputs, "samples": count}
        for number, (_, feed) in enumerate(read_samples(np, given, "/")):
            sent = {}
            for place, (name, value) in enumerate(sorted(feed.items())):
                file = f"in-{number}-{place}"
                self._scratch.write(self._raw(name, value), file)
                sent[name] = (self._scratch.of(file), tuple(value.shape))
            yield sent

    def _raw(self, name: str, value: np.ndarray) -> bytes:
        """Return a tensor as trtexec reads it: the engine's type, C order, little-endian."""
        import numpy as np

        if value.dtype.kind not in "fiub":
            raise self.unable(f"input {name} is of {value.dtype.name}")
        if value.dtype.name == "int64" and self._runtime.version.startswith("8."):
            limits = np.iinfo(np.int32)  # engines of 8.6 have no int64
            if value.size and (value.min() < limits.min or value.max() > limits.max):
                raise self.unable(f"input {name} holds a value that int32 has not")
            value = value.astype(np.int32)
        return value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes()

    def check(self, artifact: Mapping[str, Any]) -> None:
        """Refuse a file that is not the engine of the job: an engine is code that would be run.

        Raises:
            DeviceError: It is another, or made for the other one of GPU and stand-in (E493).
        """
        self._about = artifact["id"]
        path = artifact["path"]
        folder = quote(path.rpartition("/")[0] or "/")
        answer = self._remote.run(
            f"sha256sum < {quote(path)}; cd {folder} && head -c {_PROVENANCE_BYTES} {PROVENANCE}",
            timeout_s=_DIGEST_S,
            limit_bytes=2 * _PROVENANCE_BYTES,
        )
        first, _, rest = answer.stdout.partition(b"\n")
        found = printable(first)[:64]
        wanted = artifact.get("sha256")
        if not wanted or found != wanted:
            what = f"{found[:12] or 'none'}, and the job says {(wanted or 'none')[:12]}"
            raise self._refused(f"its engine has the digest {what}: it was not loaded")
        if not rest.strip():
            return
        try:
            made = checking.parsed(rest)
            simulated = bool(made.get("simulated"))
        except (ValueError, AttributeError) as error:
            raise self._refused(f"its {PROVENANCE} cannot be read: {error}") from error
        if simulated != self._runtime.simulated:
            made_by = "a stand-in" if simulated else "a real TensorRT"
            here = "a stand-in" if self._runtime.simulated else "a real one"
            raise self._refused(f"its engine was made by {made_by}, and this is {here}")

    def _refused(self, what: str) -> DeviceError:
        return self.failed("E493", what, ENGINE_REFUSED)

    def once(
        self,
        artifact: Mapping[str, Any],
        inputs: Given,
        *,
        length: Length,
        **files: str,
    ) -> Written:
        """Run trtexec once and return what it wrote.

        Args:
            artifact: As ``loop.py`` gets it.
            inputs: File and shape of each input.
            length: How long.
            files: Name in the folder by what :class:`BenchCommand` calls it.

        Raises:
            DeviceError: It failed (E495), died (E470), hangs (E472) or is missing (E475).
        """
        self._about = artifact["id"]
        words = self._command(
            engine=artifact["path"],
            shapes={name: shape for name, (_, shape) in inputs.items()},
            warm_up_ms=length.warm_up_ms,
            duration_s=length.duration_s,
            iterations=length.iterations,
            spin_wait=artifact["options"].get("sync") == "spin",
            inputs={name: file for name, (file, _) in inputs.items()},
            **{name: self._scratch.of(file) for name, file in files.items()},
        )
        self.lines = []
        status = self.watch(
            _HELD.format(
                folder=quote(self._scratch.path),
                files=" ".join(map(quote, files.values())),
                command=" ".join(map(quote, words)),
            ),
            max(1.0, self.end_s - time.monotonic()),
        )
        if status in (126, 127) or status > 128 or status < 0:
            raise self.without_result(status)
        if status != 0:
            raise self.failed(
                "E495",
                f"trtexec ended with status {status}: {trtexec_result.errors(self.lines)}",
                "see what TensorRT says; `edgedeploy devices probe` shows its version and GPU",
            )
        return Written(self, self._scratch)

    def take(self, line: bytes) -> None:
        """Keep a line of trtexec's log."""
        text = printable(line)[:400]
        self._stand_in = self._stand_in or trtexec_result.STAND_IN in text
        self.lines = [*self.lines, text][-_LINES:]
        super().take(line)

    def say(self, event: str, **fields: Any) -> None:
        """Tell progress."""
        if self._on_progress is not None:
            self._on_progress({**fields, "event": event})

    def read_evidence(self, evidence: Evidence, time_ns: int) -> dict[str, Any]:
        """Return what the device shows of heat and load now, after a run.

        Clocks have fallen by then, and trtexec's own share of the CPUs is not known: neither is
        in it.
        """
        shown = "".join(
            f'printf "edgedeploy-read %s " {place}; head -n 1 {quote(path)} 2>/dev/null || echo;'
            for place, (_, path) in enumerate(evidence.watched)
        )
        answer = self._remote.run(shown or ":", timeout_s=_READ_S, limit_bytes=_READ_BYTES)
        read: dict[int, str] = {}
        for line in printable(answer.stdout).splitlines():
            key, _, rest = line.partition(" ")
            place, _, text = rest.partition(" ")
            if key == "edgedeploy-read" and place.isdecimal() and len(place) < 6:
                read[int(place)] = text.strip()
        found = evidence.sample(time_ns, 0, read)
        return {**found, "khz": [None] * len(found["khz"]), "ticks": None}


class Written:
    """What one run of trtexec wrote."""

    def __init__(self, run: TrtexecRun, scratch: Scratch) -> None:
        self._run = run
        self._scratch = scratch

    def read(self, name: str, limit_bytes: int = checking.RESULT_BYTES) -> bytes:
        """Return a file.

        Raises:
            DeviceError: There is none (E473).
        """
        with tempfile.TemporaryDirectory() as here:
            goal = Path(here, "file")
            if not self._scratch.get(name, goal, limit_bytes):
                raise self._run.failed(
                    "E473", f"trtexec wrote no {name}", "see whether the device has room"
                )
            return goal.read_bytes()

    def parsed(self, parse: Callable[..., Read], *arguments: Any) -> Read:
        """Return what a function of :mod:`.trtexec_result` makes of a file.

        Raises:
            DeviceError: It cannot be (E474).
        """
        try:
            return parse(*arguments)
        except (ValueError, UnicodeDecodeError) as error:
            what = f"what trtexec wrote cannot be: {error}"
            raise self._run.failed("E474", what, HOSTILE) from error

    def times(self) -> trtexec_result.Times:
        """Return the times."""
        return self.parsed(trtexec_result.times, self.read(TIMES))
