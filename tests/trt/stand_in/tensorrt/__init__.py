"""A stand-in for TensorRT's Python package that is strict about what each version has.

It builds nothing: what it writes says that it is simulated. It has exactly the members that the
binding modules of 8.6.1, 10.3.0 and 11.4.0.106 list of themselves (members.json; taken with
``dir()`` from the wheels tensorrt-bindings 8.6.1, tensorrt-cu12-bindings 10.3.0 and
tensorrt-cu13-bindings 11.4.0.106, loaded with empty libraries in place of TensorRT's own), refuses
every other one by AttributeError, and checks the types of arguments as pybind11 does. What it
makes of calls follows the vendor's developer guides: "Strongly-Typed Networks", "Reduced
Precision", "Working with Dynamic Shapes", "Engine Inspector", "IProgressMonitor".

``stand_in.json`` beside this file says which version it is and how it behaves:

    {"version": "10.3.0", "fail": WHERE or "", "steps": 4, "step_s": 0.0, "dla_cores": 0}

It needs the standard library alone and reads models by itself, so that it works on any Python.
"""

import json
import os
import signal
import time
from pathlib import Path

from . import onnx_wire

__edgedeploy_stand_in__ = True

_HERE = Path(__file__).parent
_USUAL = {"fail": "", "steps": 4, "step_s": 0.0, "dla_cores": 0}
_SET = {**_USUAL, **json.loads((_HERE / "stand_in.json").read_text())}
_API = json.loads((_HERE / "members.json").read_text())[_SET["version"]]

__version__ = _API["version"]
_MAGIC = b"edgedeploy simulated engine\n"
_MEMBERS = {name: frozenset(told.split()) for name, told in _API["classes"].items()}

if _SET["fail"] == "import":
    raise ImportError("libnvinfer.so.10: cannot open shared object file")


# -- What pybind11 makes of enumerations and classes ----------------------------------------------


class _Enum:
    def __init__(self, name, value):
        self.name, self.value = name, value

    def __int__(self):
        return self.value

    def __str__(self):
        return f"{type(self).__name__}.{self.name}"

    __repr__ = __str__


def _enum(name):
    kind = type(name, (_Enum,), {"__members__": {}})
    for member, value in _API["enums"][name].items():
        kind.__members__[member] = kind(member, value)
        setattr(kind, member, kind.__members__[member])
    return kind


BuilderFlag = _enum("BuilderFlag")
NetworkDefinitionCreationFlag = _enum("NetworkDefinitionCreationFlag")
MemoryPoolType = _enum("MemoryPoolType")
ProfilingVerbosity = _enum("ProfilingVerbosity")
LayerInformationFormat = _enum("LayerInformationFormat")
DataType = _enum("DataType")
DeviceType = _enum("DeviceType")
HardwareCompatibilityLevel = _enum("HardwareCompatibilityLevel")
TensorIOMode = _enum("TensorIOMode")
ErrorCode = _enum("ErrorCode")
OnnxParserFlag = _enum("OnnxParserFlag")
LayerType = _enum("LayerType")


class _Strict:
    """Has what the version has; a name that begins with ``_`` is the stand-in's own."""

    def __getattribute__(self, name):
        if not name.startswith("_") and name not in _MEMBERS[type(self).__name__]:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return object.__getattribute__(self, name)

    def __setattr__(self, name, value):
        if not name.startswith("_") and name not in _MEMBERS[type(self).__name__]:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        object.__setattr__(self, name, value)


def _check(value, *kinds):
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise TypeError(f"incompatible function arguments: {value!r} is no {kinds[0].__name__}")
    return value


def _names(flags):
    return sorted(flag.name for flag in flags)


class ILogger:
    def __init__(self):
        self._made = True


_SEVERITIES = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")
ILogger.Severity = type("Severity", (_Enum,), {})
for _number, _name in enumerate(_SEVERITIES):
    setattr(ILogger.Severity, _name, ILogger.Severity(_name, _number))
    setattr(ILogger, _name, getattr(ILogger.Severity, _name))


def _say(logger, severity, message):
    if not getattr(logger, "_made", False):
        raise TypeError("ILogger.__init__ was not called")
    logger.log(getattr(ILogger.Severity, severity), message)


if "IProgressMonitor" in _API["classes"]:

    class IProgressMonitor:
        def __init__(self):
            self._made = True


class IHostMemory(bytes):
    @property
    def nbytes(self):
        return len(self)


# -- Networks and the parser ----------------------------------------------------------------------


class ITensor(_Strict):
    def __init__(self, name, dtype, shape):
        self._told = (name, dtype, shape)

    name = property(lambda self: self._told[0])
    dtype = property(lambda self: self._told[1])
    shape = property(lambda self: self._told[2])


class ILayer(_Strict):
    def __init__(self, node, kind, inputs, outputs, weak):
        self._node, self._kind, self._weak = node, kind, weak
        self._inputs, self._outputs = inputs, outputs
        self._precision, self._types = None, {}

    name = property(lambda self: self._node["name"])
    type = property(lambda self: self._kind)
    metadata = property(lambda self: f"[ONNX Layer: {self._node['name']}]")
    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))

    def get_input(self, index):
        return self._inputs[_check(index, int)]

    def get_output(self, index):
        return self._outputs[_check(index, int)]

    def _set_precision(self, dtype):
        if not self._weak:
            raise RuntimeError("setPrecision is not allowed in a strongly typed network")
        self._precision = _check(dtype, DataType)

    precision = property(lambda self: self._precision, _set_precision)

    def set_output_type(self, index, dtype):
        if not self._weak:
            raise RuntimeError("setOutputType is not allowed in a strongly typed network")
        self._types[_check(index, int)] = _check(dtype, DataType)


class INetworkDefinition(_Strict):
    def __init__(self, flags):
        known = {
            int(flag): flag.name for flag in NetworkDefinitionCreationFlag.__members__.values()
        }
        given = {known[bit] for bit in range(8) if flags >> bit & 1}
        has_types = hasattr(BuilderFlag, "FP16")
        self._weak = has_types and "STRONGLY_TYPED" not in given
        self._explicit = "EXPLICIT_BATCH" in given or __version__[0] != "8"
        self._layers, self._inputs, self._outputs = [], [], []

    num_layers = property(lambda self: len(self._layers))
    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))

    def get_layer(self, index):
        return self._layers[_check(index, int)]

    def get_input(self, index):
        return self._inputs[_check(index, int)]

    def get_output(self, index):
        return self._outputs[_check(index, int)]


_KINDS = {
    **{"Conv": "CONVOLUTION", "Gemm": "MATRIX_MULTIPLY", "MatMul": "MATRIX_MULTIPLY"},
    **{"Relu": "ACTIVATION", "Cast": "CAST", "Shape": "SHAPE", "Constant": "CONSTANT"},
    **{"QuantizeLinear": "QUANTIZE", "DequantizeLinear": "DEQUANTIZE", "Softmax": "SOFTMAX"},
}
_TYPES = {1: "FLOAT", 10: "HALF", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 2: "UINT8"}


def _dtype(element):
    name = _TYPES[element]
    return getattr(DataType, name, DataType.INT32)  # 8.6 has no INT64: its parser narrows


class ParserError(_Strict):
    def __init__(self, number, node, code, message):
        self._told = (number, node, code, message)

    def code(self):
        return getattr(ErrorCode, self._told[2], ErrorCode.UNSUPPORTED_NODE)

    def desc(self):
        return self._told[3]

    def node(self):
        return self._told[0]

    def node_name(self):
        return self._told[1]["name"]

    def node_operator(self):
        return self._told[1]["op"]


class OnnxParser(_Strict):
    def __init__(self, network, logger):
        self._network, self._logger = _check(network, INetworkDefinition), _check(logger, ILogger)
        self._errors, self._flags = [], []

    num_errors = property(lambda self: len(self._errors))

    def set_flag(self, flag):
        self._flags.append(_check(flag, OnnxParserFlag))

    def get_error(self, index):
        return self._errors[_check(index, int)]

    def parse_from_file(self, model):
        with open(_check(model, str), "rb") as file:
            graph = onnx_wire.graph(file.read())
        network = self._network
        network._graph = graph
        if not network._explicit:
            self._errors = [ParserError(-1, {}, "INVALID_NODE", "only explicit batch is parsed")]
            return False
        for number, node in enumerate(graph["nodes"]):
            if node["op"] == "NonMaxSuppression" or _SET["fail"] == f"parse {node['op']}":
                text = f"no importer registered for op: {node['op']}"
                self._errors.append(ParserError(number, node, "UNSUPPORTED_NODE", text))
                _say(self._logger, "ERROR", f"In node {number}: {text}")
        known = {}
        for name, element, shape in graph["inputs"]:
            known[name] = ITensor(name, _dtype(element), shape)
            network._inputs.append(known[name])
        for node in graph["nodes"]:
            kind = getattr(LayerType, _KINDS.get(node["op"], "ELEMENTWISE"))
            element = {"Cast": node["to"], "Shape": 7, "QuantizeLinear": 3}.get(node["op"], 1)
            made = [ITensor(name, _dtype(element), (-1,)) for name in node["outputs"]]
            known.update((tensor.name, tensor) for tensor in made)
            read = [known[name] for name in node["inputs"] if name in known]
            network._layers.append(ILayer(node, kind, read, made, network._weak))
        network._outputs = [
            ITensor(name, _dtype(el), shape) for name, el, shape in graph["outputs"]
        ]
        return not self._errors


# -- The builder ----------------------------------------------------------------------------------


class IOptimizationProfile(_Strict):
    def __init__(self):
        self._shapes = {}

    def set_shape(self, input, min, opt, max):
        for shape in (min, opt, max):
            _check(shape, tuple)
        if not all(a <= b <= c for a, b, c in zip(min, opt, max, strict=True)):
            raise ValueError("the dimensions are not min <= opt <= max")
        self._shapes[_check(input, str)] = [list(min), list(opt), list(max)]


class ITimingCache(_Strict):
    def __init__(self, entries):
        self._entries = dict(entries)

    def serialize(self):
        return IHostMemory(json.dumps([__version__, self._entries], sort_keys=True).encode())


class IBuilderConfig(_Strict):
    def __init__(self):
        self._flags, self._pools, self._profiles = {BuilderFlag.TF32}, {}, []
        self._cache, self._values = None, {}

    def set_flag(self, flag):
        self._flags.add(_check(flag, BuilderFlag))

    def clear_flag(self, flag):
        self._flags.discard(_check(flag, BuilderFlag))

    def set_memory_pool_limit(self, pool, pool_size):
        self._pools[_check(pool, MemoryPoolType).name] = _check(pool_size, int)

    def add_optimization_profile(self, profile):
        self._profiles.append(_check(profile, IOptimizationProfile)._shapes)
        return len(self._profiles) - 1

    def create_timing_cache(self, serialized_timing_cache):
        memoryview(serialized_timing_cache)
        data = bytes(serialized_timing_cache)
        version, entries = json.loads(data) if data else (__version__, {})
        cache = ITimingCache(entries)
        cache._of = version
        return cache

    def set_timing_cache(self, cache, ignore_mismatch):
        _check(ignore_mismatch, bool)
        if cache._of != __version__ and not ignore_mismatch:
            return False
        self._cache = cache
        return True

    def get_timing_cache(self):
        return self._cache


def _valued(name, kind):
    def assign(self, value):
        self._values[name] = _check(value, kind)

    return property(lambda self: self._values.get(name), assign)


_PROPERTIES = [
    ("builder_optimization_level", int),
    ("profiling_verbosity", ProfilingVerbosity),
    ("hardware_compatibility_level", HardwareCompatibilityLevel),
    ("default_device_type", DeviceType),
    ("DLA_core", int),
]
if "IProgressMonitor" in _API["classes"]:
    _PROPERTIES.append(("progress_monitor", IProgressMonitor))
for _name, _kind in _PROPERTIES:
    setattr(IBuilderConfig, _name, _valued(_name, _kind))


class Builder(_Strict):
    def __init__(self, logger):
        self._logger = _check(logger, ILogger)
        if _SET["fail"] == "builder":
            _say(logger, "ERROR", "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    num_DLA_cores = property(lambda self: _SET["dla_cores"])

    def create_network(self, flags=0):
        return INetworkDefinition(_check(flags, int))

    def create_builder_config(self):
        return IBuilderConfig()

    def create_optimization_profile(self):
        return IOptimizationProfile()

    def build_serialized_network(self, network, config):
        _check(network, INetworkDefinition)
        _check(config, IBuilderConfig)
        wrong = _wrong(network, config)
        if wrong:
            _say(self._logger, "ERROR", wrong)
            return None
        if not _phases(self._logger, network, config):
            return None
        if _SET["fail"] == "memory":
            _say(self._logger, "ERROR", "Error Code 2: OutOfMemory (no further information)")
            return None
        if config._cache is not None:
            config._cache._entries.update((layer.name, 1) for layer in network._layers)
        return IHostMemory(_MAGIC + json.dumps(_told(network, config), sort_keys=True).encode())


def _wrong(network, config):
    """Return what a builder would refuse, empty where it would go on."""
    flags = set(_names(config._flags))
    types = flags & {"FP16", "INT8", "BF16", "FP8", "OBEY_PRECISION_CONSTRAINTS"}
    if types and not network._weak:
        return f"{sorted(types)} cannot be set with a strongly typed network"
    kinds = {layer.type.name for layer in network._layers}
    if network._weak and {"QUANTIZE", "DEQUANTIZE"} & kinds and "INT8" not in flags:
        return "the network has Q/DQ layers, and the INT8 flag is not set"
    if any(-1 in tensor.shape for tensor in network._inputs) and not config._profiles:
        return "Network has dynamic or shape inputs, but no optimization profile has been defined."
    for shapes in config._profiles:
        for tensor in network._inputs:
            low, _, high = shapes[tensor.name]
            given = zip(tensor.shape, low, high, strict=True)
            if not all(size in (-1, least) and size in (-1, most) for size, least, most in given):
                return f"{tensor.name}: the profile's static dimensions are not the network's"
    if _SET["fail"] == "build":
        return "Could not find any implementation for node conv."
    return ""


def _phases(logger, network, config):
    """Run through what a builder does; return False when it was asked to stop."""
    monitor = config._values.get("progress_monitor")
    if monitor is not None and not monitor._made:
        raise TypeError("IProgressMonitor.__init__ was not called")
    count = len(network._layers)
    _say(logger, "VERBOSE", f"After vertical fusions: {count} layers")
    if monitor is not None:
        monitor.phase_start("Building Engine", None, _SET["steps"])
    if _SET["fail"] == "hang":
        time.sleep(600)
    for step in range(_SET["steps"]):
        if monitor is not None:
            monitor.phase_start(f"Tactic Search {step}", "Building Engine", 2)
        for inner in range(2):
            time.sleep(_SET["step_s"])
            if _SET["fail"] == "killed" and step == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            if monitor is not None and not monitor.step_complete(f"Tactic Search {step}", inner):
                return False
        if monitor is not None:
            monitor.phase_finish(f"Tactic Search {step}")
            if not monitor.step_complete("Building Engine", step):
                return False
    for layer in network._layers:
        _say(logger, "VERBOSE", f"--------------- Timing Runner: {layer.name} (CaskConvolution)")
    if monitor is not None:
        monitor.phase_finish("Building Engine")
    return True


def _told(network, config):
    """Return what the engine file says: all that the builder was asked."""
    layers = network._layers
    return {
        "version": __version__,
        "typed": "weak" if network._weak else "strong",
        "flags": _names(config._flags),
        "pools": config._pools,
        "profiles": config._profiles,
        "values": {
            name: getattr(value, "name", value)
            for name, value in config._values.items()
            if name != "progress_monitor"
        },
        "constraints": {
            layer.name: [layer._precision.name, {str(k): v.name for k, v in layer._types.items()}]
            for layer in layers
            if layer._precision is not None
        },
        "layers": [[layer.name, layer.type.name, layer._node["outputs"][0]] for layer in layers],
        "io": [
            [tensor.name, tensor.dtype.name, list(tensor.shape), side]
            for side in ("INPUT", "OUTPUT")
            for tensor in (network._inputs if side == "INPUT" else network._outputs)
        ],
    }


# -- The runtime and the inspector ----------------------------------------------------------------


class Runtime(_Strict):
    def __init__(self, logger):
        self._logger = _check(logger, ILogger)
        self._allowed, self._core = False, 0

    engine_host_code_allowed = property(
        lambda self: self._allowed, lambda self, on: object.__setattr__(self, "_allowed", on)
    )
    DLA_core = property(
        lambda self: self._core, lambda self, core: object.__setattr__(self, "_core", core)
    )

    def deserialize_cuda_engine(self, serialized_engine):
        data = bytes(memoryview(serialized_engine))
        if not data.startswith(_MAGIC) or _SET["fail"] == "load":
            _say(self._logger, "ERROR", "Error Code 1: Serialization (magicTag does not match)")
            return None
        told = json.loads(data[len(_MAGIC) :])
        if "VERSION_COMPATIBLE" in told["flags"] and not self._allowed:
            _say(self._logger, "ERROR", "the engine has host code, which is not allowed")
            return None
        return ICudaEngine(told)


class IExecutionContext(_Strict):
    def __init__(self, told):
        self._told, self._shapes = told, {}

    def set_input_shape(self, name, shape):
        self._shapes[_check(name, str)] = _check(shape, tuple)
        return True


class ICudaEngine(_Strict):
    def __init__(self, told):
        self._told = told
        self._by_name = {entry[0]: entry for entry in told["io"]}

    num_io_tensors = property(lambda self: len(self._told["io"]))
    num_optimization_profiles = property(lambda self: max(1, len(self._told["profiles"])))

    def get_tensor_name(self, index):
        return self._told["io"][_check(index, int)][0]

    def get_tensor_dtype(self, name):
        return getattr(DataType, self._by_name[name][1])

    def get_tensor_shape(self, name):
        return tuple(self._by_name[name][2])

    def get_tensor_mode(self, name):
        return getattr(TensorIOMode, self._by_name[name][3])

    def get_tensor_profile_shape(self, name, profile_index):
        profiles = self._told["profiles"]
        shape = self._by_name[name][2]
        return profiles[profile_index][name] if profiles else [shape, shape, shape]

    def create_execution_context(self):
        return IExecutionContext(self._told)

    def create_engine_inspector(self):
        return EngineInspector(self._told)


class EngineInspector(_Strict):
    def __init__(self, told):
        self._told, self._context = told, None

    execution_context = property(
        lambda self: self._context,
        lambda self, context: object.__setattr__(self, "_context", context),
    )

    def get_engine_information(self, format):
        _check(format, LayerInformationFormat)
        told, later = self._told, __version__.startswith("11")
        detailed = told["values"].get("profiling_verbosity") == "DETAILED"
        open_dims = any(-1 in entry[2] for entry in told["io"])
        known = not open_dims or (self._context is not None and self._context._shapes)
        words = "Row major linear FP32" if known else "N/A due to dynamic shapes"
        layers = []
        for name, kind, output in told["layers"]:
            if not detailed:
                layers.append(name)
                continue
            tensor = {"Name": output, "Location": "Device", "Dimensions": [1, 8]}
            tensor |= (
                {"Format": words, "DataType": "Float"} if later else {"Format/Datatype": words}
            )
            layer = {"Name": name, "LayerType": kind, "Inputs": [tensor], "Outputs": [tensor]}
            layers.append({**layer, "TacticName": "", "Metadata": f"[ONNX Layer: {name}]"})
        io = [{"Name": entry[0], "IOMode": entry[3].title()} for entry in told["io"]]
        names = {"Bindings": [entry["Name"] for entry in io]}
        return json.dumps({"Layers": layers, **({"I/O Tensors": io} if later else names)})
