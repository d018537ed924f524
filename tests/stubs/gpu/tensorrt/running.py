"""Engines, contexts and what an application gives them; see the package."""

from __future__ import annotations

import ctypes
import enum
import json
from typing import Any

import numpy as np
import onnxruntime

from tensorrt import __version__

HEADER = b"edgedeploy stand-in engine\n"
MAJOR = int(__version__.partition(".")[0])


class TensorIOMode(enum.Enum):
    """What a tensor is to an engine."""

    NONE = 0
    INPUT = 1
    OUTPUT = 2


class TensorLocation(enum.Enum):
    """Where a tensor's data lie."""

    DEVICE = 0
    HOST = 1


_KINDS = ["FLOAT", "HALF", "INT8", "INT32", "BOOL", "UINT8", "FP8"]
_KINDS += ["BF16", "INT64", "INT4"] if MAJOR >= 10 else []
DataType = enum.Enum("DataType", _KINDS)  # type: ignore[misc]
_OF_NUMPY = {
    "float32": "FLOAT",
    "float16": "HALF",
    "int8": "INT8",
    "int32": "INT32",
    "int64": "INT64" if MAJOR >= 10 else "INT32",
    "bool": "BOOL",
    "uint8": "UINT8",
}
_TO_NUMPY = {"FLOAT": "float32", "HALF": "float16"}


class _Base:
    """A class of pybind11's: who derives from it must call its constructor."""

    _made = False

    def __init__(self) -> None:
        self._made = True


def _checked(value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or not value._made:  # type: ignore[attr-defined]
        raise TypeError(f"{type(value).__name__}.__init__() must be called when overriding it")
    return value


class ILogger(_Base):
    """Gets messages by severity."""

    class Severity(enum.Enum):
        """How grave a message is."""

        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    def log(self, severity: Severity, msg: str) -> None:
        """Take a message."""
        raise NotImplementedError


class IProfiler(_Base):
    """Gets the times of layers."""


class IOutputAllocator(_Base):
    """Gives memory to outputs."""


def init_libnvinfer_plugins(logger: ILogger, namespace: str) -> bool:
    """Register nothing."""
    _checked(logger, ILogger)
    return namespace == ""


def stand_in_engine(
    model: bytes,
    *,
    version: str = __version__,
    profiles: list[dict[str, list[list[int]]]] | None = None,
    types: dict[str, str] | None = None,
    on_host: tuple[str, ...] = (),
) -> bytes:
    """Return an "engine" of an ONNX model without external data.

    Args:
        model: The model.
        version: Of the TensorRT that would have built it.
        profiles: Of the inputs with open dims: least, best and largest shape by name.
        types: Types of tensors by name that differ from the model's.
        on_host: Inputs that decide shapes.
    """
    about = {"version": version, "profiles": profiles, "types": types, "on_host": on_host}
    return HEADER + json.dumps(about).encode() + b"\n" + model


class Runtime:
    """Loads engines."""

    def __init__(self, logger: ILogger) -> None:
        self._logger = _checked(logger, ILogger)
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        """Return an engine, None after an error."""
        header, _, rest = serialized_engine.partition(b"\n")
        if header + b"\n" != HEADER:
            return self._refuse("Serialization assertion magicTagRead == kMAGIC_TAG failed.")
        about, _, model = rest.partition(b"\n")
        found = json.loads(about)
        if found["version"] != __version__:
            return self._refuse("Serialization assertion stdVersionRead failed. Version tag.")
        if found.get("host_code") and not self.engine_host_code_allowed:
            return self._refuse("Deserialization of host code is not allowed.")
        return ICudaEngine(model, found, self._logger)

    def _refuse(self, why: str) -> None:
        self._logger.log(ILogger.Severity.ERROR, why)


class ICudaEngine:
    """An engine."""

    def __init__(self, model: bytes, about: dict[str, Any], logger: ILogger) -> None:
        self._about, self._logger = about, logger
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {item.name: item for item in self._session.get_inputs()}
        self._outputs = {item.name: item for item in self._session.get_outputs()}
        self._names = [*self._inputs, *self._outputs]

    @property
    def num_io_tensors(self) -> int:
        """How many inputs and outputs there are."""
        return len(self._names)

    @property
    def num_optimization_profiles(self) -> int:
        """How many there are; at least one."""
        return len(self._about["profiles"] or [{}])

    def get_tensor_name(self, index: int) -> str:
        """Return a tensor's name."""
        return self._names[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        """Return what a tensor is."""
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_location(self, name: str) -> TensorLocation:
        """Return where a tensor lies."""
        return TensorLocation.HOST if name in self._about["on_host"] else TensorLocation.DEVICE

    def get_tensor_dtype(self, name: str) -> Any:
        """Return a tensor's type."""
        special = (self._about["types"] or {}).get(name)
        if special:
            return DataType[special]
        return DataType[_OF_NUMPY[self._onnx_dtype(name)]]

    def _onnx_dtype(self, name: str) -> str:
        kind = {**self._inputs, **self._outputs}[name].type[len("tensor(") : -1]
        return {"float": "float32", "double": "float64"}.get(kind, kind)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape, -1 for what is open."""
        dims = {**self._inputs, **self._outputs}[name].shape
        return tuple(size if isinstance(size, int) else -1 for size in dims)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        """Return the least, best and largest shape."""
        return [tuple(shape) for shape in self._about["profiles"][profile_index][name]]

    def create_execution_context(self) -> IExecutionContext:
        """Return what runs it."""
        return IExecutionContext(self)


_LAUNCH = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)


class IExecutionContext:
    """Runs an engine on a stream."""

    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._driver = ctypes.CDLL("libcuda.so.1")  # the stand-in's
        for name in ("fake_resolve", "fake_host"):
            getattr(self._driver, name).restype = ctypes.c_void_p
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._allocators: dict[str, Any] = {}
        self._profile = 0
        self.profiler: Any = None
        self._call = _LAUNCH(self._launched)
        for name in engine._inputs:
            shape = engine.get_tensor_shape(name)
            if -1 not in shape:
                self._shapes[name] = shape

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        """Choose a profile; addresses and shapes must be set again."""
        if not 0 <= profile_index < self._engine.num_optimization_profiles:
            return False
        self._profile = profile_index
        self._addresses.clear()
        self._shapes.clear()
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        """Set an input's shape."""
        fixed = self._engine.get_tensor_shape(name)
        low = high = fixed
        if -1 in fixed:
            low, _, high = self._engine.get_tensor_profile_shape(name, self._profile)
        if len(shape) != len(low) or any(
            not a <= b <= c for a, b, c in zip(low, shape, high, strict=True)
        ):
            return False
        self._shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        """Set where a tensor lies; 0 is no address."""
        if not isinstance(memory, int) or name not in self._engine._names:
            raise TypeError("set_tensor_address(): incompatible arguments")
        self._addresses[name] = memory
        return memory != 0

    def set_output_allocator(self, name: str, output_allocator: IOutputAllocator) -> bool:
        """Set what gives an output its memory."""
        self._allocators[name] = _checked(output_allocator, IOutputAllocator)
        return True

    def infer_shapes(self) -> list[str]:
        """Return the tensors that lack a shape, or values that decide shapes."""
        return [
            name
            for name in self._engine._inputs
            if name not in self._shapes
            or (name in self._engine._about["on_host"] and name not in self._addresses)
        ]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """Return a shape as far as it follows from the inputs'; -1 where it follows from values.

        An output that the model states open while every input is known is run for; one named
        ``found`` stands for those whose size follows from values.
        """
        if name in self._shapes:
            return self._shapes[name]
        shape = self._engine.get_tensor_shape(name)
        if -1 not in shape or name == "found" or self.infer_shapes():
            return shape
        feed = {
            item: self._read(item)
            if item in self._engine._about["on_host"]
            else np.zeros(self._shapes[item], self._engine._onnx_dtype(item))
            for item in self._engine._inputs
        }
        return tuple(self._engine._session.run([name], feed)[0].shape)

    def execute_async_v3(self, stream_handle: int) -> bool:
        """Queue an inference."""
        unset = [
            name
            for name in self._engine._names
            if name not in self._addresses and name not in self._allocators
        ]
        if unset or self.infer_shapes():
            say = self._engine._logger.log
            say(ILogger.Severity.ERROR, f"no address or shape for {unset or self.infer_shapes()}")
            return False
        stream = ctypes.c_void_p(stream_handle)
        if self._driver.fake_launch(stream, self._call, 0) != 0:
            return False
        if self._allocators or self.profiler is not None:
            return self._driver.cuStreamSynchronize(stream) == 0
        return True

    def _launched(self, _: int) -> int:
        try:
            self._compute()
        except BaseException as error:  # cannot pass through C
            self._engine._logger.log(ILogger.Severity.ERROR, f"{type(error).__name__}: {error}")
            return 1
        return 0

    def _compute(self) -> None:
        engine = self._engine
        feed = {name: self._read(name).astype(engine._onnx_dtype(name)) for name in engine._inputs}
        made = engine._session.run(list(engine._outputs), feed)
        for name, value in zip(engine._outputs, made, strict=True):
            self._write(name, np.ascontiguousarray(value.astype(self._numpy(name))))
        if self.profiler is not None:
            for position, name in enumerate(("first", "second")):
                self.profiler.report_layer_time(name, 0.25 + position)

    def _numpy(self, name: str) -> str:
        kind = self._engine.get_tensor_dtype(name).name
        return _TO_NUMPY.get(kind, kind.lower())

    def _place(self, name: str, address: int, nbytes: int) -> int:
        word = ctypes.c_uint64(address)
        how = self._driver.fake_resolve
        if self._engine.get_tensor_location(name) == TensorLocation.HOST:
            how = self._driver.fake_host
        found = how(word, ctypes.c_size_t(nbytes))
        if not found:
            raise MemoryError(f"{name} lies outside of what was allocated, or in other memory")
        return int(found)

    def _read(self, name: str) -> np.ndarray:
        dtype, shape = np.dtype(self._numpy(name)), self._shapes[name]
        nbytes = int(np.prod(shape)) * dtype.itemsize
        place = self._place(name, self._addresses[name], max(1, nbytes))
        return np.frombuffer(ctypes.string_at(place, nbytes), dtype).reshape(shape)

    def _write(self, name: str, value: np.ndarray) -> None:
        address = self._addresses.get(name, 0)
        if name in self._allocators:
            given = self._allocators[name]
            most = max(1, value.nbytes + 64)  # an upper bound, as TensorRT asks for
            if MAJOR >= 10:
                address = given.reallocate_output_async(name, address, most, 256, 0)
            else:
                address = given.reallocate_output(name, address, most, 256)
            given.notify_shape(name, value.shape)
        place = self._place(name, address, max(1, value.nbytes))
        ctypes.memmove(place, value.tobytes(), value.nbytes)
