# Syntax and library held to Python 3.6.
# ruff: noqa: UP006, UP031, UP035, UP045, B905, PTH110, PTH118, PTH119, PTH120
"""Engines of TensorRT and TensorRT-RTX, behind the calls that ``loop.py`` makes.

Travels to devices beside ``loop.py`` and ``cuda.py``. Source: NVIDIA TensorRT documentation,
"Python API": what 8.6, 10 and 11 have in common is what is used (tensors by name,
``execute_async_v3``); the module ``tensorrt_rtx`` has the same.

One inference is: inputs from page-locked host memory to the GPU, the engine, outputs back to
page-locked host memory, and waiting for the end of it. That is what an application pays that has
its data on the host. No CUDA graph is used. The thread sleeps while it waits, unless the
artifact's option ``sync`` is ``spin``.
"""

import functools
import hashlib
import importlib
import json
import os
from typing import Any, Dict, List, Optional, Tuple

Feed = Dict[str, Any]
Shape = Tuple[int, ...]

PROVENANCE = "engine.json"
MARK = "__edgedeploy_stand_in__"
"""What a module says of itself that stands for TensorRT: its engines are no engines."""

MODULES = {"tensorrt": ("tensorrt",), "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}

# Types that an engine's inputs and outputs may have here, by TensorRT's names. The rest has no
# type in NumPy (BF16, FP8, INT4, FP4, E8M0), and a program's outer types are the model's own.
_TYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "BOOL": "bool",
}
_MESSAGES = 8
_CHUNK = 1 << 20


class EngineRefused(Exception):
    """The file is not the engine that it should be, or this TensorRT does not load it."""


class InputsRefused(Exception):
    """The engine does not take the inputs, or has some that cannot be given."""


def load_module(family: str) -> Any:
    """Return the module of a family.

    Raises:
        ImportError: There is none.
    """
    names = MODULES[family]
    for name in names[:-1]:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return importlib.import_module(names[-1])


def sha256_of(path: str) -> str:
    """Return the digest of a file, in hexadecimal digits."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        data = file.read(_CHUNK)
        while data:
            found.update(data)
            data = file.read(_CHUNK)
    return found.hexdigest()


def check_engine(artifact: Dict[str, Any], path: str, simulated: bool) -> None:
    """Refuse a file that is not the engine of the job: an engine is code that would be run.

    Args:
        artifact: Of the job; ``sha256`` is that of its engine.
        path: Of the engine; the provenance may lie beside it.
        simulated: Whether a stand-in would load it.

    Raises:
        EngineRefused: It is missing, another, or made for the other one of GPU and stand-in.
    """
    name = os.path.basename(path)
    if not artifact.get("sha256"):
        raise EngineRefused("the job does not say which digest %s has" % name)
    try:
        found = sha256_of(path)
    except OSError as error:
        raise EngineRefused("%s cannot be read: %s" % (name, error.strerror))  # noqa: B904
    if found != artifact["sha256"]:
        what = (name, found[:12], artifact["sha256"][:12])
        raise EngineRefused("%s has the digest %s, and the job says %s: it was not loaded" % what)
    made = provenance(path)
    if made and bool(made.get("simulated")) != simulated:
        who = ("a stand-in", "a real TensorRT") if not simulated else ("a real one", "a stand-in")
        raise EngineRefused("%s was made by %s, and this is %s" % (name, *who))
    if made and made.get("sha256") not in (None, found):
        raise EngineRefused("%s is not the engine that %s describes" % (name, PROVENANCE))


def provenance(path: str) -> Dict[str, Any]:
    """Return what ``engine.json`` beside an engine says; nothing where there is none."""
    beside = os.path.join(os.path.dirname(path), PROVENANCE)
    if not os.path.exists(beside):
        return {}
    with open(beside, encoding="utf-8") as file:
        return dict(json.load(file))


class Port:
    """One input or output of an engine."""

    def __init__(self, engine: Any, name: str, trt: Any) -> None:
        self.name = name
        self.is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        # Tensors that decide shapes are read by the CPU, and lie in its memory.
        self.on_host = engine.get_tensor_location(name) == trt.TensorLocation.HOST
        kind = engine.get_tensor_dtype(name).name
        if kind not in _TYPES:
            what = (name, kind, ", ".join(sorted(_TYPES)))
            raise InputsRefused("%s of the engine is of type %s; it can be one of %s" % what)
        self.dtype = _TYPES[kind]
        self.memory = None  # type: Any  # of the GPU, for the largest tensor so far
        self.host = None  # type: Any  # an output's
        self.shape = None  # type: Optional[Shape]


class Engines:
    """The engines of one family: called as the other families' classes of sessions are.

    Args:
        family: ``tensorrt`` or ``tensorrt-rtx``.
        cuda: The module in ``cuda.py``.
    """

    def __init__(self, family: str, cuda: Any) -> None:
        self._family = family
        self._cuda = cuda

    def prepare(self, artifact: Dict[str, Any], path: str, folder: str) -> str:
        """Check the engine before anything loads it, apart from what is timed."""
        check_engine(artifact, path, bool(getattr(load_module(self._family), MARK, False)))
        return path

    def __call__(
        self, artifact: Dict[str, Any], path: str, profile_prefix: str = ""
    ) -> "TensorRtSession":
        """Return the engine, loaded."""
        return TensorRtSession(load_module(self._family), self._cuda, artifact, path)


def families(cuda: Any) -> Dict[str, Any]:
    """Return the families whose engines run here.

    Args:
        cuda: The module in ``cuda.py``.
    """
    return {family: Engines(family, cuda) for family in MODULES}


class TensorRtSession:
    """One engine, loaded into the memory of GPU 0.

    Args:
        trt: The module ``tensorrt``, ``tensorrt_rtx`` or what stands for it.
        cuda: The module in ``cuda.py``.
        artifact: Of the job; option ``sync``: ``blocking`` (default) or ``spin``.
        path: Of the engine, which :func:`check_engine` let pass.

    Raises:
        NoGpu: There is no driver or no GPU.
        EngineRefused: TensorRT does not load it.
        InputsRefused: It has an input or output of a type that cannot be given.
    """

    def __init__(self, trt: Any, cuda: Any, artifact: Dict[str, Any], path: str) -> None:
        self._trt, self._cuda = trt, cuda
        self._log = _log(trt)
        # First of all: TensorRT without a driver says nothing that helps.
        self._gpu = cuda.Gpu(artifact["options"].get("sync", cuda.BLOCKING))
        self._free_bytes = self._gpu.free_bytes()
        if hasattr(trt, "init_libnvinfer_plugins"):
            trt.init_libnvinfer_plugins(self._log, "")
        self._runtime = trt.Runtime(self._log)
        if hasattr(self._runtime, "engine_host_code_allowed"):
            # Version-compatible engines bring code of the host's along; the digest says whose.
            self._runtime.engine_host_code_allowed = True
        with open(path, "rb") as file:
            self._engine = self._runtime.deserialize_cuda_engine(file.read())
        if self._engine is None:
            raise EngineRefused(self._why_not(path))
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EngineRefused("no memory for its activations: %s" % self._log.text())
        self._stream = cuda.Stream(self._gpu)
        names = [self._engine.get_tensor_name(at) for at in range(self._engine.num_io_tensors)]
        ports = [Port(self._engine, name, trt) for name in names]
        self._given = [port for port in ports if port.is_input]
        self._made = [port for port in ports if not port.is_input]
        self._unsized = {}  # type: Dict[str, Any]  # outputs whose size is known when it is done
        self._profile = 0
        self.version = str(trt.__version__)
        self.simulated = bool(getattr(trt, MARK, False))
        self.inputs = [[port.name] for port in self._given]
        self.outputs = [[port.name] for port in self._made]

    def _why_not(self, path: str) -> str:
        made = provenance(path).get("platform") or {}
        here = "TensorRT %s for %s (SM%s)" % (
            self._trt.__version__,
            self._gpu.name,
            self._gpu.capability.replace(".", ""),
        )
        built = "TensorRT %s for %s (SM%s)" % (
            made.get("tensorrt", "?"),
            made.get("gpu", "?"),
            str(made.get("compute_capability", "?")).replace(".", ""),
        )
        return "the engine, of %s, is not loaded by %s: %s" % (built, here, self._log.text())

    # -- what does not count as inference --------------------------------------------------

    def bind(self, feeds: List[Feed]) -> List[Feed]:
        """Return the feeds in page-locked memory; the GPU gets room for the largest of each.

        Raises:
            InputsRefused: An input is missing, of another type, or of a shape that no
                optimisation profile of the engine has.
        """
        missing = [port.name for port in self._given if port.name not in feeds[0]]
        if missing:
            what = (", ".join(missing), ", ".join(sorted(feeds[0])))
            raise InputsRefused("the engine wants %s, but the job gives %s" % what)
        bound = [{port.name: self._pinned(port, feed) for port in self._given} for feed in feeds]
        self._choose_profile(bound)
        for port in self._given:
            if not port.on_host:
                self._room(port, max(feed[port.name].nbytes for feed in bound))
        seen = set()
        for feed in bound:
            shapes = tuple(feed[port.name].shape for port in self._given)
            # What decides shapes may do so by its values: such feeds are all looked at.
            if shapes not in seen or any(port.on_host for port in self._given):
                seen.add(shapes)
                self._size_outputs(feed)
        return bound

    def _pinned(self, port: Port, feed: Feed) -> "_Pinned":
        """Return a tensor as an engine's input takes it.

        Engines of TensorRT 8.6 have int32 where the model has int64; a value that int32 has not
        is refused instead of being cut.
        """
        import numpy

        value = feed[port.name]
        if value.dtype.name != port.dtype:
            if (value.dtype.name, port.dtype) != ("int64", "int32"):
                what = (port.name, port.dtype, value.dtype.name)
                raise InputsRefused("%s of the engine is %s, and the job gives %s" % what)
            limits = numpy.iinfo(numpy.int32)
            if value.size and (value.min() < limits.min or value.max() > limits.max):
                raise InputsRefused("%s of the engine is int32; a value does not fit" % port.name)
        memory = self._cuda.HostMemory(self._gpu, max(1, _nbytes(value.shape, port.dtype)))
        flat = numpy.frombuffer(memory.view(), port.dtype, value.size)
        flat[:] = value.reshape(-1)
        return _Pinned(memory, tuple(value.shape), flat.nbytes)

    def _choose_profile(self, bound: List[Feed]) -> None:
        """Take the first optimisation profile that all feeds fit."""
        engine, refusals = self._engine, []
        for index in range(engine.num_optimization_profiles):
            refusal = self._unfit(bound, index)
            if refusal is None:
                break
            refusals.append(refusal)
        else:
            raise InputsRefused("; ".join(refusals) or "the engine has no optimisation profile")
        if index != self._profile:
            if not self._context.set_optimization_profile_async(index, self._stream.handle):
                raise EngineRefused("profile %d is refused: %s" % (index, self._log.text()))
            self._stream.wait()
            self._profile = index
            self._unsized.clear()
            for port in self._given + self._made:
                port.shape = port.memory = None

    def _unfit(self, bound: List[Feed], index: int) -> Optional[str]:
        """Return why feeds do not fit an optimisation profile, None when they do."""
        for port in self._given:
            fixed = tuple(self._engine.get_tensor_shape(port.name))
            low = high = fixed
            if -1 in fixed:
                low, _, high = (
                    tuple(shape)
                    for shape in self._engine.get_tensor_profile_shape(port.name, index)
                )
            for feed in bound:
                shape = feed[port.name].shape
                same = len(shape) == len(low)
                if not same or any(not a <= b <= c for a, b, c in zip(low, shape, high)):
                    what = (port.name, list(shape), list(low), list(high), index)
                    return "%s is %s, and takes %s to %s in profile %d" % what
        return None

    def _room(self, port: Port, nbytes: int) -> None:
        """Give a port memory of the GPU, and outputs memory of the host for it."""
        if port.memory is None or port.memory.nbytes < nbytes:
            port.memory = self._cuda.DeviceMemory(self._gpu, max(1, nbytes))
            self._address(port.name, port.memory.handle)
        if not port.is_input:
            self._host_room(port, nbytes)

    def _host_room(self, port: Port, nbytes: int) -> None:
        if port.host is None or port.host.nbytes < nbytes:
            port.host = self._cuda.HostMemory(self._gpu, max(1, nbytes))

    def _address(self, name: str, address: int) -> None:
        if not self._context.set_tensor_address(name, address):
            raise EngineRefused("no address can be set for %s: %s" % (name, self._log.text()))

    def _size_outputs(self, feed: Feed) -> None:
        """Learn the sizes of the outputs for a feed and make room."""
        self._shapes(feed)
        unknown = self._context.infer_shapes()
        if unknown:
            raise InputsRefused("the engine cannot tell its shapes without %s" % ", ".join(unknown))
        for port in self._made:
            shape = tuple(self._context.get_tensor_shape(port.name))
            if -1 in shape:
                if port.name not in self._unsized:
                    allocator = _allocator(self._trt, self._cuda, self._gpu, port.name)
                    self._context.set_output_allocator(port.name, allocator)
                    self._unsized[port.name] = allocator
            elif port.on_host:
                self._host_room(port, _nbytes(shape, port.dtype))
                self._address(port.name, port.host.handle)
            else:
                self._room(port, _nbytes(shape, port.dtype))

    # -- one inference ---------------------------------------------------------------------

    def run(self, feed: Feed) -> Any:
        """Run one inference and return its outputs (not copied: they belong to the session)."""
        self._shapes(feed)
        self._upload(feed)
        self._execute()
        self._download()
        self._stream.wait()
        return self

    def _shapes(self, feed: Feed) -> None:
        """Tell the shapes of inputs that changed, and where the CPU finds what it reads."""
        changed = False
        for port in self._given:
            given = feed[port.name]
            if port.shape != given.shape:
                if not self._context.set_input_shape(port.name, given.shape):
                    what = (port.name, list(given.shape), self._log.text())
                    raise InputsRefused("%s of shape %s is refused: %s" % what)
                port.shape, changed = given.shape, True
            if port.on_host:
                self._address(port.name, given.memory.handle)
                changed = True
        if changed:
            for port in self._made:
                port.shape = None

    def _upload(self, feed: Feed) -> None:
        for port in self._given:
            if not port.on_host:
                given = feed[port.name]
                self._stream.upload(port.memory, given.memory, given.nbytes)

    def _execute(self) -> None:
        if not self._context.execute_async_v3(self._stream.handle):
            raise RuntimeError("TensorRT does not run it: %s" % self._log.text())

    def _download(self) -> None:
        if self._unsized:
            self._stream.wait()  # only then their sizes are known
        for port in self._made:
            if port.name in self._unsized:
                allocator = self._unsized[port.name]
                port.shape, port.memory = allocator.shape, allocator.memory
                self._host_room(port, _nbytes(allocator.shape, port.dtype))
            elif port.shape is None:
                port.shape = tuple(self._context.get_tensor_shape(port.name))
            if not port.on_host:
                nbytes = _nbytes(port.shape, port.dtype)
                self._stream.download(port.host, port.memory, nbytes)

    def __getitem__(self, position: int) -> Any:
        """Return one output of the last inference."""
        import numpy

        port = self._made[position]
        shape = port.shape or ()
        count = _nbytes(shape, port.dtype) // numpy.dtype(port.dtype).itemsize
        flat = numpy.frombuffer(port.host.view(), port.dtype, count)
        return flat.reshape(shape)

    # -- what is asked beside --------------------------------------------------------------

    def device_bytes(self) -> int:
        """Return how much memory of the GPU engine, activations and tensors took.

        The driver's own context is not in it. On a Jetson it is the system's memory, and what
        other programs took or gave back meanwhile is in it, too.
        """
        return max(0, int(self._free_bytes - self._gpu.free_bytes()))

    def device_ms(self, feeds: List[Feed], runs: int) -> Dict[str, float]:
        """Return the GPU's own mean times of the parts of an inference, by events on its stream.

        The sum is less than what an application waits: calls, waking up and the gaps between the
        parts are not in it.
        """
        marks = [self._cuda.Event(self._gpu) for _ in range(4)]
        parts = ("upload_ms", "compute_ms", "download_ms")
        found = dict.fromkeys(parts, 0.0)
        self.run(feeds[0])
        for position in range(runs):
            feed = feeds[position % len(feeds)]
            self._shapes(feed)
            upload = functools.partial(self._upload, feed)
            steps = (upload, self._execute, self._download)  # type: Tuple[Any, ...]
            marks[0].record(self._stream)
            for step, mark in zip(steps, marks[1:]):
                step()
                mark.record(self._stream)
            self._stream.wait()
            for part, earlier, later in zip(parts, marks, marks[1:]):
                found[part] += later.ms_since(earlier) / runs
        return found

    def layers(self, feeds: List[Feed], runs: int) -> List[Dict[str, Any]]:
        """Return the mean time of each layer over ``runs`` inferences after one of warm-up.

        The names are the engine's: one layer stands for all that was fused into it.
        """
        times = _times(self._trt)
        self._context.profiler = times
        self.run(feeds[0])
        times.total_ms.clear()
        for position in range(runs):
            self.run(feeds[position % len(feeds)])
        return [
            {"name": name, "op": "", "provider": "TensorRT", "mean_ms": total / runs}
            for name, total in times.total_ms.items()
        ]

    def placement(self) -> None:
        """Return nothing: which layers run on a DLA stands in the report of the engine."""


class _Pinned:
    """A tensor in page-locked memory."""

    def __init__(self, memory: Any, shape: Shape, nbytes: int) -> None:
        self.memory, self.shape, self.nbytes = memory, shape, nbytes


def _nbytes(shape: Shape, dtype: str) -> int:
    import numpy

    size = numpy.dtype(dtype).itemsize
    for extent in shape:
        size *= int(extent)
    return int(size)


def _log(trt: Any) -> Any:
    """Return a logger that keeps the last errors, for messages of ours."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._kept = []  # type: List[str]

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self._kept = [*self._kept[1 - _MESSAGES :], message.strip()]

        def text(self) -> str:
            return "; ".join(self._kept) or "it does not say why"

    return Log()


def _times(trt: Any) -> Any:
    """Return what TensorRT tells its layers' times."""

    class Times(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.total_ms = {}  # type: Dict[str, float]

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.total_ms[layer_name] = self.total_ms.get(layer_name, 0.0) + ms

    return Times()


def _allocator(trt: Any, cuda: Any, gpu: Any, name: str) -> Any:
    """Return what gives memory to an output whose size follows from values.

    TensorRT 8.6 calls ``reallocate_output``, 10 and later ``reallocate_output_async``; it asks
    before each inference for as much as there may be.
    """

    class Allocator(trt.IOutputAllocator):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)
            self.memory = None  # type: Any
            self.shape = ()  # type: Shape

        def reallocate_output(
            self, tensor_name: str, memory: int, size: int, alignment: int
        ) -> int:
            if self.memory is None or self.memory.nbytes < size:
                self.memory = cuda.DeviceMemory(gpu, max(1, size))
            return int(self.memory.handle)

        def reallocate_output_async(
            self, tensor_name: str, memory: int, size: int, alignment: int, stream: int
        ) -> int:
            return self.reallocate_output(tensor_name, memory, size, alignment)

        def notify_shape(self, tensor_name: str, shape: Any) -> None:
            self.shape = tuple(shape)

    return Allocator()
