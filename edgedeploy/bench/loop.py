# Syntax and library held to Python 3.6; a failure of any kind is told on stdout, then typed there.
# ruff: noqa: UP006, UP031, UP035, PTH100, PTH110, PTH118, PTH120, PTH122
# ruff: noqa: B905, BLE001, RUF046
"""Measures artifacts on the machine it runs on: ``python loop.py job.json > result.json``.

It needs ``environment.py``, ``power.py``, ``nvml.py``, ``runtimes.py``, ``gpu.py`` and ``cuda.py``
beside it, the standard library, the runtime and NumPy alone, so that it runs on a device as it is.
Progress goes to stderr as JSON lines, the result to stdout, or gzipped into the file ``result``.

The job (paths are relative to the job file)::

    {"loop": 1, "mode": "quick", "seed": 0,
     "artifacts": [{"id": "int8", "path": "m.ort", "files": ["m.ort"], "threads": 1, "options": {},
                    "family": "ort" | "openvino" | "coreml" | "tensorrt" | "tensorrt-rtx",
                    "sha256": "of the file at path; engines are not loaded without"}],
     "inputs": {"pack": "folder of a tensor pack", "samples": 16,
                "generated": [{"name", "dtype", "shape", "seed", "low", "high"}]},
     "state": [["state input", "state output"]],
     "plan": {"warmup_max_s", "window_s", "min_s", "min_count", "min_repetitions", "max_s",
              "layer_runs"},
     "cpus": [0, 1], "held": false, "result": "result.json.gz",
     "sysfs": "/sys", "procfs": "/proc"}

``cpus`` bind everything to these CPUs; a ``held`` run ends with its standard input. ``options`` of
family ``ort``: ``providers``, ``config`` (session entries), ``optimise: false``; of ``openvino``:
``device``, ``properties``; of ``coreml``: ``compute_units`` (``ALL``, ``CPU_ONLY``,
``CPU_AND_GPU``, ``CPU_AND_NE``); of engines: ``sync`` (``gpu.py``). ``plan.min_*`` hold for each
artifact; "all reached" or ``max_s`` ends the run; the result says which.

What is timed: one call of the runtime's Python API with inputs that lie in memory, outputs
included, pre- and post-processing not. Load time, first inference and memory come from a fresh
process per artifact; "cold" means that the artifact's own files were not in the page cache.
Repetitions run a window of each artifact in random order, then reversed: drift hits all alike.

A ``state`` is carried from sample to sample of a sequence, and starts anew with each sequence. What
that takes lies outside the times, but within the windows, whose energy it counts to. Loads and
layers have the state at the start of a sequence.

``python loop.py job.json outputs ID`` writes what artifact ID answers to every sample instead, as a
tensor pack in two files beside the job, ``outputs.bin.gz`` and ``outputs.json.gz``. It takes
``"outputs": [names]`` of the job.
"""

import array
import gc
import gzip
import importlib.util
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
from typing import Any, Dict, Iterator, List, NoReturn, Tuple

# The folder of this script must not shadow standard modules (``statistics`` lies beside it).
if sys.path and os.path.abspath(sys.path[0]) == os.path.dirname(os.path.abspath(__file__)):
    del sys.path[0]

LOOP_VERSION = 1
WARMUP_AGREEMENT_RATIO = 0.02
WARMUP_WINDOWS = 3
MEMORY_RUNS_S = 1.0

Feed = Dict[str, Any]


def _beside(name: str) -> Any:
    """Return the module in the file of that name beside this one."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".py")
    spec = importlib.util.spec_from_file_location("edgedeploy_" + name, path)  # type: Any
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


environment = _beside("environment")
nvml = _beside("nvml")
power = _beside("power")
runtimes = _beside("runtimes")
gpu = _beside("gpu")
now_ns = environment.now_ns
JobError = runtimes.JobError  # type: Any
FAMILIES = dict(runtimes.FAMILIES, **gpu.families(_beside("cuda")))
_MODULES = {"coreml": "coremltools", "openvino": "openvino", "ort": "onnxruntime"}


def say(event: str, **fields: Any) -> None:
    """Write one progress line to stderr."""
    sys.stderr.write(json.dumps(dict(fields, event=event), sort_keys=True) + "\n")
    sys.stderr.flush()


def _generated(numpy: Any, spec: Dict[str, Any]) -> Any:
    """Return one random (or, with low == high, constant) tensor."""
    dtype = numpy.dtype(spec["dtype"])
    low, high = spec.get("low", 0), spec.get("high", 1)
    source = numpy.random.RandomState(spec.get("seed", 0))
    if low == high:
        return numpy.full(spec["shape"], low, dtype)
    if dtype.kind == "f":
        return source.uniform(low, high, spec["shape"]).astype(dtype)
    return source.randint(int(low), int(high) + 1, spec["shape"]).astype(dtype)


def read_samples(
    numpy: Any, spec: Dict[str, Any], folder: str
) -> Iterator[Tuple[Dict[str, Any], Feed]]:
    """Yield the samples of a job's pack with their inputs, generated ones added."""
    extra = {item["name"]: _generated(numpy, item) for item in spec.get("generated", [])}
    if not spec.get("pack"):
        yield {"id": "generated"}, extra
        return
    pack = os.path.join(folder, spec["pack"])
    with open(os.path.join(pack, "index.json"), encoding="utf-8") as file:
        samples = json.load(file)["samples"]
    path = os.path.join(pack, "tensors.bin")
    packed = os.path.exists(path + ".gz")
    with gzip.open(path + ".gz", "rb") if packed else open(path, "rb") as raw:  # type: Any
        for sample in samples[: spec.get("samples") or len(samples)]:
            feed = dict(extra)
            for name, entry in sample["tensors"].items():
                if entry["dtype"] == "string":
                    value = numpy.array(entry["values"], dtype=object)
                else:
                    raw.seek(entry["offset"])
                    dtype = numpy.dtype(entry["dtype"]).newbyteorder("<")
                    value = numpy.frombuffer(raw.read(entry["nbytes"]), dtype)
                    value = value.astype(dtype.newbyteorder("="))
                feed[name] = value.reshape(entry["shape"])
            yield sample, feed


def read_inputs(numpy: Any, spec: Dict[str, Any], folder: str) -> List[Feed]:
    """Return the inputs to cycle through, one dict of tensors by name per inference."""
    feeds = [feed for _, feed in read_samples(numpy, spec, folder)]
    if not feeds:
        raise JobError("the tensor pack holds no samples")
    return feeds


def _files(artifact: Dict[str, Any], path: str, folder: str) -> List[str]:
    given = [os.path.join(folder, item) for item in artifact.get("files") or []]
    return given or [
        path for path in (path, os.path.splitext(path)[0] + ".bin") if os.path.exists(path)
    ]


def load_phase(job: Dict[str, Any], artifact: Dict[str, Any], cold: bool) -> Dict[str, Any]:
    """Load one artifact in this fresh process and return its times and memory."""
    path, feeds = _prepare(job, artifact)
    why_not_cold = (
        environment.drop_page_cache(_files(artifact, path, job["folder"])) if cold else None
    )
    exact = environment.reset_peak(job["procfs"])
    unit = 1 if sys.platform == "darwin" else 1024
    peak_so_far = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    baseline = environment.memory_bytes(job["procfs"], "VmRSS") or peak_so_far
    start = now_ns()
    session = FAMILIES[artifact["family"]](artifact, path)
    loaded = now_ns()
    bound = session.bind(feeds)
    begin = now_ns()
    session.run(bound[0])
    first = now_ns()
    position = 1
    while position < len(bound) and now_ns() - first < MEMORY_RUNS_S * 1e9:
        session.run(bound[position])
        position += 1
    peak = environment.memory_bytes(job["procfs"], "VmHWM") if exact else None
    if peak is None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {
        "simulated": session.simulated,
        "device_bytes": session.device_bytes(),
        "load_ns": loaded - start,
        "first_inference_ns": first - begin,
        "cold": cold and why_not_cold is None,
        "why_not_cold": why_not_cold,
        "baseline_bytes": baseline,
        "peak_bytes": peak,
        "memory_method": "VmHWM" if exact else "ru_maxrss",
        "version": session.version,
    }


def layers_phase(job: Dict[str, Any], artifact: Dict[str, Any]) -> Dict[str, Any]:
    """Return the time per layer, measured apart because profiling slows the runtime down."""
    path, feeds = _prepare(job, artifact)
    runs = job["plan"]["layer_runs"]
    with tempfile.TemporaryDirectory(prefix="edgedeploy-layers-") as folder:
        session = FAMILIES[artifact["family"]](artifact, path, os.path.join(folder, "profile"))
        bound = session.bind(feeds)
        device_ms = session.device_ms(bound, runs)
        layers = session.layers(bound, runs)
        return {"layers": layers, "placement": session.placement(), "device_ms": device_ms}


def outputs_phase(job: Dict[str, Any], artifact: Dict[str, Any]) -> Dict[str, Any]:
    """Write what the artifact answers to every sample, its state carried along sequences."""
    import numpy

    session = FAMILIES[artifact["family"]](artifact, _loaded(job, artifact))
    wanted = job["outputs"]
    ports = [
        (position, name)
        for position, names in enumerate(session.outputs)
        for name in names
        if name in wanted
    ]
    state, carried, sequence = job.get("state", []), {}, None  # type: Any, Feed, Any
    index, times = [], []  # type: List[Dict[str, Any]], List[int]
    with gzip.open(os.path.join(job["folder"], "outputs.bin.gz"), "wb", 1) as out:
        offset = 0
        for sample, feed in read_samples(numpy, job["inputs"], job["folder"]):
            if sample.get("sequence") is None or sample["sequence"] != sequence:
                carried = {}
            sequence = sample.get("sequence")
            (bound,) = session.bind([dict(feed, **carried)])
            start = now_ns()
            answers = session.run(bound)
            times.append(now_ns() - start)
            found = {name: numpy.array(answers[position]) for position, name in ports}
            carried = {given: found[made] for given, made in state}
            entries = {}
            for name, value in sorted(found.items()):
                about = {"shape": list(value.shape), "dtype": value.dtype.name}  # type: Dict[str, Any]
                if value.dtype.kind in "OUS":
                    texts = [str(item) for item in value.reshape(-1)]
                    entries[name] = dict(about, dtype="string", values=texts)
                    continue
                raw = numpy.ascontiguousarray(value.astype(value.dtype.newbyteorder("<"))).tobytes()
                out.write(raw)
                entries[name] = dict(about, offset=offset, nbytes=len(raw))
                offset += len(raw)
            index.append({"tensors": entries})
            say("outputs", done=len(index))
    told = {"pack": 1, "samples": index}
    with gzip.open(os.path.join(job["folder"], "outputs.json.gz"), "wb") as out:
        out.write(json.dumps(told).encode())
    return {"times_ns": times, "version": session.version}


def _prepare(job: Dict[str, Any], artifact: Dict[str, Any]) -> Tuple[str, List[Feed]]:
    """Import the runtime and NumPy, read the inputs and return them with the artifact's path."""
    family = artifact["family"]
    gpu.load_module(family) if family in gpu.MODULES else __import__(_MODULES[family])
    import numpy

    feeds = read_inputs(numpy, job["inputs"], job["folder"])
    return _loaded(job, artifact), feeds


def _loaded(job: Dict[str, Any], artifact: Dict[str, Any]) -> str:
    """Return the path of what the runtime loads."""
    path = os.path.join(job["folder"], artifact["path"])
    return str(FAMILIES[artifact["family"]].prepare(artifact, path, job["folder"]))


class ChildFailed(Exception):
    """A measuring process of one artifact died or reported a failure."""

    def __init__(self, phase: str, artifact: str, status: int, message: str) -> None:
        super().__init__(message)
        self.about = {"phase": phase, "artifact": artifact, "status": status, "message": message}


def in_fresh_process(job_path: str, phase: str, artifact: str) -> Dict[str, Any]:
    """Return what ``phase`` found for ``artifact`` in a new process of this very file."""
    say("phase", phase=phase, artifact=artifact)
    command = [sys.executable, __file__, job_path, phase, artifact]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, universal_newlines=True)
    text, _ = child.communicate()
    try:
        found = json.loads(text)  # type: Dict[str, Any]
    except ValueError:
        found = {"failed": {"message": "the process ended without a result"}}
    if "failed" in found:
        raise ChildFailed(phase, artifact, child.returncode, found["failed"]["message"])
    return found


class Stream:
    """Carries the state of one artifact along the sequences of the samples.

    Args:
        session: Of the artifact.
        job: With ``state`` and the pack of the samples.
        feeds: The samples' inputs, with the state at the start of a sequence.
    """

    def __init__(self, session: Any, job: Dict[str, Any], feeds: List[Feed]) -> None:
        import numpy

        self._numpy = numpy
        self._session = session
        self._feeds = feeds
        about = [sample for sample, _ in read_samples(numpy, job["inputs"], job["folder"])]
        names = [sample.get("sequence") for sample in about]
        self._anew = [
            name is None or not place or name != names[place - 1]
            for place, name in enumerate(names)
        ]
        self._made = [
            (given, place)
            for given, made in job["state"]
            for place, outputs in enumerate(session.outputs)
            if made in outputs
        ]
        if len(self._made) != len(job["state"]):
            raise JobError("outputs %s, but the state is %s" % (session.outputs, job["state"]))
        self._state = {}  # type: Feed

    def feed(self, position: int) -> Feed:
        """Return the bound inputs of a sample; its state is that of the run before."""
        carried = {} if self._anew[position] else self._state
        (bound,) = self._session.bind([dict(self._feeds[position], **carried)])
        return dict(bound)

    def keep(self, found: Any) -> None:
        """Keep the state that a run left; a copy, as outputs may belong to the session."""
        self._state = {given: self._numpy.array(found[place]) for given, place in self._made}


class Measured:
    """One artifact in the measuring session: its feeds, its window size, what was found."""

    def __init__(self, artifact: Dict[str, Any], job: Dict[str, Any]) -> None:
        path, feeds = _prepare(job, artifact)
        self.id = artifact["id"]  # type: str
        self._session = FAMILIES[artifact["family"]](artifact, path)
        self._feeds = self._session.bind(feeds)
        self._stream = Stream(self._session, job, feeds) if job.get("state") else None
        self._position = 0
        self.window_count = 1
        self.count = 0
        self.total_ns = 0
        self.warmup = {}  # type: Dict[str, Any]

    def window(self, count: int) -> "array.array[int]":
        """Run ``count`` inferences and return the duration of each in ns."""
        run, feeds, position = self._session.run, self._feeds, self._position
        durations = array.array("q", [0]) * count
        for index in range(count):
            feed = self._stream.feed(position) if self._stream else feeds[position]
            start = now_ns()
            found = run(feed)
            durations[index] = now_ns() - start
            if self._stream:
                self._stream.keep(found)
            found = None  # its memory serves the next run
            position = position + 1 if position + 1 < len(feeds) else 0
        self._position = position
        return durations

    def warm_up(self, window_s: float, limit_s: float) -> None:
        """Run windows until the last three medians agree within 2 % or ``limit_s`` is over."""
        say("phase", phase="warm-up", artifact=self.id)
        begin = now_ns()
        medians = []  # type: List[int]
        stable = False
        while not stable and (now_ns() - begin < limit_s * 1e9 or len(medians) < WARMUP_WINDOWS):
            durations = self.window(self.window_count)
            median = sorted(durations)[len(durations) // 2]
            self.window_count = max(1, int(round(window_s * 1e9 / max(median, 1))))
            medians.append(median)
            last = medians[-WARMUP_WINDOWS:]
            spread = (max(last) - min(last)) / float(max(min(last), 1))
            stable = len(last) == WARMUP_WINDOWS and spread <= WARMUP_AGREEMENT_RATIO
        self.warmup = {"stable": stable, "medians_ns": medians, "elapsed_ns": now_ns() - begin}
        say("warm", artifact=self.id, stable=stable)

    def enough(self, plan: Dict[str, Any]) -> bool:
        """Return whether the least time and count of the plan are reached."""
        return bool(self.total_ns >= plan["min_s"] * 1e9 and self.count >= plan["min_count"])


def measure_windows(
    measured: List[Measured], job: Dict[str, Any], evidence: Any, meter: Any
) -> Dict[str, Any]:
    """Run the interleaved repetitions and return the windows with their evidence."""
    plan, order = job["plan"], random.Random(job.get("seed", 0))
    for item in measured:
        item.warm_up(plan["window_s"], plan["warmup_max_s"])
    begin = now_ns()
    before = evidence.sample()
    windows = []  # type: List[Dict[str, Any]]
    repetition = 0
    ended = "complete"
    while repetition < plan["min_repetitions"] or not all(item.enough(plan) for item in measured):
        if now_ns() - begin > plan["max_s"] * 1e9:
            ended = "max_s"
            break
        slots = list(range(len(measured)))
        order.shuffle(slots)
        for slot in slots + slots[::-1]:
            item = measured[slot]
            windows.append(_window(item, repetition, evidence, meter))
            gc.collect()
        repetition += 1
        least = min(measured, key=lambda item: item.total_ns)
        say(
            "progress",
            done_s=round(least.total_ns / 1e9, 3),
            of_s=plan["min_s"],
            n=least.count,
            of_n=plan["min_count"],
        )
    return {"windows": windows, "before": before, "ended": ended}


def _window(item: Measured, repetition: int, evidence: Any, meter: Any) -> Dict[str, Any]:
    """Run one window of an artifact and return its durations and what was seen meanwhile."""
    spent, begin = meter.joules(), now_ns()
    durations = item.window(item.window_count)
    end, after = now_ns(), meter.joules()
    item.count += len(durations)
    item.total_ns += sum(durations)
    return {
        "artifact": item.id,
        "repetition": repetition,
        "environment": evidence.sample(),
        "samples_ns": durations,
        "begin_ns": begin,
        "end_ns": end,
        "energy_j": None if spent is None or after is None else after - spent,
    }


def _card(job: Dict[str, Any]) -> Any:
    """Return the graphics card when the job computes on it, else None."""
    on_gpu = any(artifact["family"] in gpu.MODULES for artifact in job["artifacts"])
    return nvml.find_card()[0] if on_gpu else None


def run_job(job: Dict[str, Any], job_path: str) -> Dict[str, Any]:
    """Measure every artifact of the job and return the whole result."""
    card = _card(job)
    evidence = environment.Environment(job["sysfs"], job["procfs"], card=card)
    artifacts = []  # type: List[Dict[str, Any]]
    for artifact in job["artifacts"]:
        found = {
            "id": artifact["id"],
            "cold": in_fresh_process(job_path, "cold", artifact["id"]),
            "warm": in_fresh_process(job_path, "warm", artifact["id"]),
            "layers": [],
            "placement": None,
            "device_ms": None,
        }
        if job["plan"].get("layer_runs"):
            found.update(in_fresh_process(job_path, "layers", artifact["id"]))
        artifacts.append(found)
    measured = [Measured(artifact, job) for artifact in job["artifacts"]]
    gc.disable()  # collected between the windows instead
    meter = power.Meter(job["sysfs"], now_ns, card)
    with tempfile.TemporaryDirectory(prefix="edgedeploy-power-") as folder:
        sampler = [sys.executable, __file__, job_path, "power"]
        meter.start(sampler, os.path.join(folder, "samples"))
        result = measure_windows(measured, job, evidence, meter)
        energy = meter.finish(result["windows"], several=len(measured) > 1)
    for found, item in zip(artifacts, measured):
        found["warmup"] = item.warmup
    return dict(
        result,
        loop=LOOP_VERSION,
        carried=bool(job.get("state")),
        clock=environment.CLOCK_NAME,
        python="%d.%d.%d" % sys.version_info[:3],
        environment=evidence.facts(),
        power=energy,
        artifacts=artifacts,
    )


def read_job(path: str) -> Dict[str, Any]:
    """Return the job with its defaults filled in.

    Raises:
        JobError: It is not readable or not for this version of the loop.
    """
    try:
        with open(path, encoding="utf-8") as file:
            job = {"sysfs": "/sys", "procfs": "/proc"}  # type: Dict[str, Any]
            job.update(json.load(file))
        if job["loop"] != LOOP_VERSION:
            raise JobError("the job is for loop version %r" % (job["loop"],))
        ids = [item["id"] for item in job["artifacts"]]
        if not ids or len(set(ids)) != len(ids):
            raise JobError("the job needs artifacts with different ids")
        unknown = sorted({item["family"] for item in job["artifacts"]} - set(FAMILIES))
        if unknown:
            raise JobError("unknown family %s" % ", ".join(unknown))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JobError("cannot read the job: %s %s" % (type(error).__name__, error)) from error
    job["folder"] = os.path.dirname(os.path.abspath(path))
    return job


def run_phase(job: Dict[str, Any], phase: str, wanted: str) -> Dict[str, Any]:
    """Return what one phase finds about the artifact of that id."""
    artifact = next((item for item in job["artifacts"] if item["id"] == wanted), None)
    if artifact is None:
        raise JobError("the job has no artifact %r" % (wanted,))
    if phase == "outputs":
        return outputs_phase(job, artifact)
    if phase == "layers":
        return layers_phase(job, artifact)
    return load_phase(job, artifact, cold=phase == "cold")


def main(arguments: List[str]) -> NoReturn:
    """Run the job named on the command line; status 2 for a bad job, 3 for a failed runtime."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # Only the result may reach stdout: what a native library prints goes to stderr.
    result_handle = os.dup(1)
    os.dup2(2, 1)
    status, watcher, path = 0, 0, None
    try:
        job = read_job(arguments[1])
        phase, wanted = [*arguments[2:4], "", ""][:2]
        if job.get("held") and phase in ("", "outputs"):
            watcher = environment.end_with_input()
            path = os.path.join(job["folder"], job["result"])
        if job.get("cpus"):
            if not hasattr(os, "sched_setaffinity"):
                raise JobError("this system binds no process to CPUs; leave `cpus` out")
            os.sched_setaffinity(0, job["cpus"])
        if phase == "power":
            power.record(job["sysfs"], wanted, now_ns, _card(job))
        result = run_phase(job, phase, wanted) if phase else run_job(job, arguments[1])
    except JobError as error:
        status, result = 2, {"failed": {"phase": "job", "message": str(error)}}
    except ChildFailed as error:
        status, result = 3, {"failed": error.about}
    except Exception as error:  # the runtime's own: told to the caller, which types it
        message = "%s: %s" % (type(error).__name__, error)
        status, result = 3, {"failed": {"phase": "measure", "message": message}}
    text = json.dumps(result, default=list)
    if path:
        with gzip.open(path, "wb") as packed:
            packed.write(text.encode())
    else:
        with os.fdopen(result_handle, "w") as out:
            out.write(text)
    if watcher:
        os.kill(watcher, signal.SIGKILL)
    sys.exit(status)


if __name__ == "__main__":
    main(sys.argv)
