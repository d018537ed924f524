# Syntax and library held to Python 3.6.
# ruff: noqa: UP006, UP031, UP035
"""The runtimes that ``loop.py`` measures, each behind the same few calls.

Travels to devices beside ``loop.py``; a runtime is imported when an artifact of its is loaded.
"""

import json
import sys
from typing import Any, Dict, List, Sequence

Feed = Dict[str, Any]


class JobError(Exception):
    """The job cannot be obeyed as it stands."""


class Session:
    """One loaded artifact; each of its inputs and outputs answers to several names."""

    inputs: Sequence[List[str]]
    outputs: Sequence[List[str]]

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


FAMILIES = {"ort": OrtSession, "openvino": OpenVinoSession}  # type: Dict[str, Any]
