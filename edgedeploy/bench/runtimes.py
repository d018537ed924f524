# Syntax and library held to Python 3.6.
# ruff: noqa: UP006, UP031, UP035, UP045, BLE001, PTH102, PTH110, PTH118, PTH120
"""The runtimes that ``loop.py`` measures, each behind the same few calls.

Travels to devices beside ``loop.py``; a runtime is imported when an artifact of its is loaded.
"""

import hashlib
import json
import os
import shutil
import sys
import time
from typing import Any, Dict, List, Optional, Sequence

Feed = Dict[str, Any]

# Classes of coremltools.models.compute_device.
_UNITS = {
    "MLCPUComputeDevice": "CPU",
    "MLGPUComputeDevice": "GPU",
    "MLNeuralEngineComputeDevice": "Neural Engine",
}
_COMPILED = "compiled.json"


class JobError(Exception):
    """The job cannot be obeyed as it stands."""


class Session:
    """One loaded artifact; each of its inputs and outputs answers to several names."""

    inputs: Sequence[List[str]]
    outputs: Sequence[List[str]]
    simulated = False

    @staticmethod
    def prepare(artifact: Dict[str, Any], path: str, folder: str) -> str:
        """Return what is loaded for an artifact; what is made of it first goes to ``folder``."""
        return path

    def device_bytes(self) -> Optional[int]:
        """Return how much memory of an accelerator is taken, None without one."""
        return None

    def device_ms(self, feeds: List[Feed], runs: int) -> Optional[Dict[str, float]]:
        """Return an accelerator's own mean times of the parts of an inference, None without one."""
        return None

    def placement(self) -> Optional[Dict[str, Any]]:
        """Return on which units the operations run, None where the runtime does not tell."""
        return None

    def bind(self, feeds: List[Feed]) -> List[Feed]:
        """Return the feeds reduced to this artifact's inputs."""
        chosen = [[name for name in names if name in feeds[0]][:1] for names in self.inputs]
        if not all(chosen):
            raise JobError("inputs %s, but the job gives %s" % (self.inputs, sorted(feeds[0])))
        return [{name: feed[name] for (name,) in chosen} for feed in feeds]


def session_entries(artifact: Dict[str, Any], path: str) -> Dict[str, str]:
    """Return the session entries with which ONNX Runtime loads an artifact."""
    # A spinning worker burns a core while nothing runs: it heats and disturbs what follows.
    entries = {"session.intra_op.allow_spinning": "0"}
    if path.endswith(".ort"):
        entries["session.use_memory_mapped_ort_model"] = "1"
        entries["session.use_ort_model_bytes_for_initializers"] = "1"
    entries.update(artifact["options"].get("config", {}))
    return entries


def kernel_times(events: Sequence[Dict[str, Any]], runs: int) -> List[Dict[str, Any]]:
    """Return the mean time of each node in a profile of ONNX Runtime; its first run is warm-up."""
    layers = {}  # type: Dict[str, Dict[str, Any]]
    seen_runs = 0
    for event in events:
        seen_runs += event["name"] == "model_run"  # comes after the events of its run
        name, found, _ = event["name"].partition("_kernel_time")
        if seen_runs == 0 or not found:
            continue
        given = event["args"]
        about = {"name": name, "op": given["op_name"], "provider": given["provider"]}
        layer = layers.setdefault(name, dict(about, mean_ms=0.0))
        layer["mean_ms"] += event["dur"] / 1000.0 / runs
    return list(layers.values())


class OrtSession(Session):
    """One artifact loaded by ONNX Runtime; an ``.ort`` file is memory-mapped."""

    def __init__(self, artifact: Dict[str, Any], path: str, profile_prefix: str = "") -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = artifact["threads"]
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        for key, value in sorted(session_entries(artifact, path).items()):
            options.add_session_config_entry(key, value)
        if artifact["options"].get("optimise") is False:
            level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.graph_optimization_level = level
        if profile_prefix:
            options.enable_profiling = True
            options.profile_file_prefix = profile_prefix
        providers = artifact["options"].get("providers", ["CPUExecutionProvider"])
        self._session = onnxruntime.InferenceSession(path, options, providers=providers)
        self.version = onnxruntime.__version__
        self.inputs = [[item.name] for item in self._session.get_inputs()]
        self.outputs = [[item.name] for item in self._session.get_outputs()]

    def run(self, feed: Feed) -> Any:
        """Run one inference and return its outputs."""
        return self._session.run(None, feed)

    def layers(self, feeds: List[Feed], runs: int) -> List[Dict[str, Any]]:
        """Return the mean time of each node over ``runs`` inferences after one of warm-up."""
        for position in range(runs + 1):
            self.run(feeds[position % len(feeds)])
        with open(self._session.end_profiling()) as file:
            return kernel_times(json.load(file), runs)


class OpenVinoSession(Session):
    """One artifact loaded by OpenVINO."""

    def __init__(self, artifact: Dict[str, Any], path: str, profile_prefix: str = "") -> None:
        # Without its reporter openvino takes a silent stub, instead of sending and writing ids.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino

        properties = {
            "INFERENCE_NUM_THREADS": artifact["threads"],
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        device = artifact["options"].get("device", "CPU")
        if device != "CPU":
            del properties["INFERENCE_NUM_THREADS"]
        if profile_prefix:
            properties["PERF_COUNT"] = "YES"
        properties.update(artifact["options"].get("properties", {}))
        model = openvino.Core().compile_model(path, device, properties)
        self._request = model.create_infer_request()
        self.version = openvino.__version__
        self.inputs = [sorted(port.get_names()) for port in model.inputs]
        self.outputs = [sorted(port.get_names()) for port in model.outputs]

    def bind(self, feeds: List[Feed]) -> List[Feed]:
        """Return the feeds as the runtime's tensors: made here, not while time is taken."""
        import openvino

        return [
            {name: openvino.Tensor(value, shared_memory=True) for name, value in feed.items()}
            for feed in super().bind(feeds)
        ]

    def run(self, feed: Feed) -> Any:
        """Run one inference and return its outputs (not copied: they belong to the request)."""
        for name, tensor in feed.items():
            self._request.set_tensor(name, tensor)
        self._request.start_async()  # with wait(), half of what infer() adds
        self._request.wait()
        return self

    def __getitem__(self, position: int) -> Any:
        """Return one output of the last inference."""
        return self._request.get_output_tensor(position).data

    def layers(self, feeds: List[Feed], runs: int) -> List[Dict[str, Any]]:
        """Return the mean time of each executed node over ``runs`` inferences."""
        self.run(feeds[0])
        layers = {}  # type: Dict[str, Dict[str, Any]]
        for position in range(runs):
            self.run(feeds[position % len(feeds)])
            for info in self._request.get_profiling_info():
                if str(info.status).split(".")[-1] != "EXECUTED":
                    continue
                about = {"name": info.node_name, "op": info.node_type, "provider": info.exec_type}
                layer = layers.setdefault(info.node_name, dict(about, mean_ms=0.0))
                layer["mean_ms"] += info.real_time.total_seconds() * 1000.0 / runs
        return list(layers.values())


class CoreMlSession(Session):
    """One package run by Core ML, by the names and types of the ONNX model that it was made from.

    Written from the documentation of coremltools 9.0; it was never run on a Mac. What each input
    and output is says ``interface.json`` beside the package.
    """

    def __init__(self, artifact: Dict[str, Any], path: str, profile_prefix: str = "") -> None:
        import coremltools

        with open(os.path.join(os.path.dirname(path), "interface.json"), encoding="utf-8") as file:
            interface = json.load(file)
        self._path = path
        self._units = coremltools.ComputeUnit[artifact["options"].get("compute_units", "ALL")]
        self._model = coremltools.models.CompiledMLModel(path, compute_units=self._units)
        self._given, self._made = interface["inputs"], interface["outputs"]
        self.version = coremltools.__version__
        self.inputs = [[port["onnx_name"]] for port in self._given]
        self.outputs = [[port["onnx_name"]] for port in self._made]

    @staticmethod
    def prepare(artifact: Dict[str, Any], path: str, folder: str) -> str:
        """Compile the package unless that was done; return the model, its interface beside it.

        Core ML loads compiled models alone: an app's are compiled when it is built.
        """
        from coremltools.models.utils import compile_model

        goal = os.path.join(folder, "core-ml-" + hashlib.sha256(path.encode()).hexdigest()[:16])
        compiled, done = os.path.join(goal, "model.mlmodelc"), os.path.join(goal, _COMPILED)
        if not os.path.exists(done):
            shutil.rmtree(goal, ignore_errors=True)
            os.mkdir(goal)
            shutil.copy(os.path.join(os.path.dirname(path), "interface.json"), goal)
            start = time.monotonic()
            compile_model(path, compiled)
            with open(done, "w") as file:
                json.dump({"compile_ms": (time.monotonic() - start) * 1000.0}, file)
        return compiled

    def bind(self, feeds: List[Feed]) -> List[Feed]:
        """Return the feeds as Core ML takes them, each with a state of its own.

        A state is written here, and Core ML carries it from there on: while time is taken, too.
        """
        bound = []
        for feed in super().bind(feeds):
            state = None
            given = {}
            for port in self._given:
                value = feed[port["onnx_name"]]
                if port["kind"] == "state":
                    state = state or self._model.make_state()
                    state.write_state(port["name"], value.astype("float16"))
                else:
                    given[port["name"]] = _core_ml_value(value, port)
            bound.append({"given": given, "state": state})
        return bound

    def run(self, feed: Feed) -> Any:
        """Run one inference; the outputs are turned into the ONNX model's when they are read."""
        self._state = feed["state"]
        self._answer = self._model.predict(feed["given"], self._state)
        return self

    def __getitem__(self, position: int) -> Any:
        """Return one output of the last inference, as the ONNX model gives it."""
        import numpy

        port = self._made[position]
        if port["kind"] == "state":
            made = self._state.read_state(port["name"])
        elif port["kind"] == "classes":
            scores = self._answer[port["name"]]
            shape = [size if isinstance(size, int) else 1 for size in port["dims"]]
            made = numpy.array([scores[name] for name in port["classes"]]).reshape(shape)
        else:
            made = self._answer[port["name"]]
        made = numpy.asarray(made).astype(port["onnx_dtype"])
        return made if port["dims"] else made.reshape(())

    def layers(self, feeds: List[Feed], runs: int) -> List[Dict[str, Any]]:
        """Return no times: Core ML tells none of its layers."""
        return []

    def placement(self) -> Dict[str, Any]:
        """Return on which unit Core ML plans to run each operation, and its share of the cost.

        It tells that from macOS 14.4 on. It is a plan and an estimate, not a measurement.
        """
        from coremltools.models.compute_plan import MLComputePlan

        with open(os.path.join(os.path.dirname(self._path), _COMPILED)) as file:
            found = dict(json.load(file), units=self._units.name)  # type: Dict[str, Any]
        found.update(operations=[], why_not=None)
        try:
            plan = MLComputePlan.load_from_path(self._path, compute_units=self._units)
            program = plan.model_structure.program
            for _, function in sorted(program.functions.items()):
                found["operations"] += _planned(plan, function.block)
        except Exception as error:  # an older system's: the measurement stands without a plan
            found["why_not"] = "%s: %s" % (type(error).__name__, error)
        return found


def _core_ml_value(value: Any, port: Dict[str, Any]) -> Any:
    """Return an input as Core ML takes it: float32 or int32, rank 1 for a scalar, or an image."""
    import numpy

    if port["kind"] == "image":
        return _core_ml_image(value, port["image"], port["onnx_name"])
    if port["dtype"] == "int32" and value.dtype.kind in "iu":
        limits = numpy.iinfo(numpy.int32)
        value = numpy.clip(value, limits.min, limits.max)
    # coremltools takes float16 as float32, and would convert it in each prediction.
    dtype = "int32" if port["dtype"] == "int32" else "float32"
    return numpy.ascontiguousarray(numpy.atleast_1d(value).astype(port["dtype"]).astype(dtype))


def _core_ml_image(value: Any, image: Dict[str, Any], name: str) -> Any:
    """Return the image that a preprocessed sample was made of: ``(pixel * scale - mean) / std``."""
    import numpy
    from PIL import Image

    shape = [1] * value.ndim
    shape[-1 if image["layout"] == "nhwc" else 1] = -1
    pixels = value.astype("float64")
    if image["std"]:
        pixels = pixels * numpy.reshape(image["std"], shape)
    if image["mean"]:
        pixels = pixels + numpy.reshape(image["mean"], shape)
    pixels = numpy.rint(pixels / image["scale"])
    if pixels.size and (pixels.min() < 0 or pixels.max() > 255):
        raise JobError("input %s is an image, and a sample has values that no pixel has" % name)
    pixels = pixels[0] if image["layout"] == "nhwc" else pixels[0].transpose(1, 2, 0)
    if image["colour"] == "bgr":  # Core ML turns the channels of an image round itself
        pixels = pixels[..., ::-1]
    pixels = numpy.ascontiguousarray(pixels.astype("uint8"))
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _planned(plan: Any, block: Any) -> List[Dict[str, Any]]:
    """Return what a compute plan says of each operation of a block and of those within."""
    found = []
    for operation in block.operations:
        if operation.operator_name == "const":
            continue
        usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
        cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
        found.append(
            {
                "name": operation.outputs[0].name if operation.outputs else "",
                "op": operation.operator_name,
                "preferred": usage and _unit(usage.preferred_compute_device),
                "supported": [_unit(item) for item in usage.supported_compute_devices]
                if usage
                else [],
                "cost": cost and cost.weight,
            }
        )
        for inner in operation.blocks:
            found += _planned(plan, inner)
    return found


def _unit(device: Any) -> str:
    """Return what a compute device of Core ML is."""
    return _UNITS.get(type(device).__name__, "another unit")


FAMILIES = {
    "coreml": CoreMlSession,
    "openvino": OpenVinoSession,
    "ort": OrtSession,
}  # type: Dict[str, Any]
