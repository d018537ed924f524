"""The same program with a real builder: TensorRT for RTX, whose Python API is of the same family.

It parses, configures, tells its progress, keeps a timing cache and builds here without a GPU, for a
compute capability that is given to it; only the engine cannot be loaded. A module named
``tensorrt`` hands its classes on (:data:`_SHIM`). This shows that the calls of
``onboard_build.py``, their order and their types are those that a real builder takes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import tensorrt_rtx_bindings as trt
from onboard_jobs import PROFILE, Job, recipe, small_model
from onnx import TensorProto, helper

from edgedeploy.backends.trt import onboard
from edgedeploy.backends.trt.onboard_build import STATUSES

_SHIM = """
import tensorrt_rtx_bindings as _real
from tensorrt_rtx_bindings import *
from tensorrt_rtx_bindings import __version__


class Builder(_real.Builder):
    def create_builder_config(self):
        config = super().create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(_real.ComputeCapability.{capability}, 0)
        return config
"""

# What stands for the runtime alone, where a test is about what comes after the loading.
_RUNTIME = """
class _Inspector:
    def get_engine_information(self, format):
        assert format == _real.LayerInformationFormat.JSON
        return '{{"Layers": []}}'


class _Engine:
    num_io_tensors = num_optimization_profiles = 0

    def create_engine_inspector(self):
        return _Inspector()


class Runtime:
    def __init__(self, logger):
        pass

    def deserialize_cuda_engine(self, serialized_engine):
        return _Engine() if memoryview(serialized_engine).nbytes else None
"""


def real_job(folder: Path, *, capability: str = "SM86", runtime: bool = False) -> Job:
    """Return a job with the real builder, and its runtime or what stands for it."""
    job = Job(folder, version=None)
    job.python.mkdir()
    text = _SHIM + (_RUNTIME if runtime else "")
    (job.python / "tensorrt.py").write_text(text.format(capability=capability))
    return job


def engine_of(model: Path, *, tf32: bool) -> bytes:
    """Return the engine that the API gives for the small model, asked here directly."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert trt.OnnxParser(network, logger).parse_from_file(str(model))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    profile = builder.create_optimization_profile()
    profile.set_shape("x", *(tuple(PROFILE["x"][end]) for end in ("min", "opt", "max")))
    config.add_optimization_profile(profile)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    return bytes(builder.build_serialized_network(network, config))


def test_a_real_builder_takes_every_call_and_builds(tmp_path: Path) -> None:
    """Up to the loading: there is no GPU here, and that is what it says."""
    job = real_job(tmp_path)
    status, steps, answer = job.run()
    assert answer.failure is not None
    assert (answer.failure.kind, status) == ("load", STATUSES["load"])
    assert "CUDA" in answer.failure.message
    assert answer.tensorrt == trt.__version__
    assert answer.facts["typed"] == "strong"
    assert not answer.simulated
    assert answer.facts["timing_cache"]["sha256_after"]
    fractions = [step.fraction for step in steps if step.fraction is not None]
    assert fractions[-1] == 1.0  # told by the real builder's own phases
    assert "model.engine" not in job.files()


def test_the_engine_is_the_one_that_the_api_gives(tmp_path: Path) -> None:
    job = real_job(tmp_path, runtime=True)
    status, _, answer = job.run()
    assert (status, answer.failure) == (0, None)
    expected = engine_of(job.folder / "model.onnx", tf32=False)
    assert (job.folder / "model.engine").read_bytes() == expected
    assert answer.sha256 == hashlib.sha256(expected).hexdigest()


def test_options_are_taken_by_a_real_builder(tmp_path: Path) -> None:
    job = real_job(tmp_path, runtime=True)
    options: dict[str, Any] = {"workspace": 64 << 20, "optimisation_level": 1, "sparsity": True}
    job.write("recipe.json", recipe(**options, timing_cache=False, tf32=True))
    status, _, answer = job.run()
    assert (status, answer.failure) == (0, None)
    assert answer.facts["timing_cache"]["sha256_after"] is None


def test_a_real_parser_names_the_node(tmp_path: Path) -> None:
    job = real_job(tmp_path)
    job.model(small_model(odd="NoSuchOperator"))
    status, _, answer = job.run()
    assert answer.failure is not None
    assert (answer.failure.kind, status) == ("parse", STATUSES["parse"])
    complaint = answer.failure.complaints[0]
    assert (complaint.node, complaint.name, complaint.op) == (1, "odd", "NoSuchOperator")
    assert complaint.code and complaint.message


def test_a_real_refusal_is_told_in_the_builders_words(tmp_path: Path) -> None:
    """Turing has no float32 products in TensorRT for RTX: the builder says so in its log."""
    job = real_job(tmp_path, capability="SM75")
    status, _, answer = job.run()
    assert answer.failure is not None
    assert (answer.failure.kind, status) == ("refused", STATUSES["refused"])
    assert any("FP32 GEMM is not supported" in line for line in answer.failure.log)


def test_a_real_builder_refuses_a_profile_that_does_not_fit(tmp_path: Path) -> None:
    job = real_job(tmp_path)
    shape = {"min": [1, 3, 16, 8], "opt": [1, 3, 16, 8], "max": [1, 3, 16, 8]}
    job.write("recipe.json", recipe(profiles=[{"x": shape}]))
    _, _, answer = job.run()
    assert answer.failure is not None and answer.failure.kind == "refused"


def test_a_real_builder_stops_when_it_is_asked_to(tmp_path: Path) -> None:
    """By the answer to its own progress: ``step_complete`` returns False."""
    job = real_job(tmp_path)
    job.model(_deep_model())
    job.write("recipe.json", recipe(profiles=[]))
    program = job.folder / onboard.DEVICE_FILES[0]
    # The brake is pulled as soon as the builder tells of its first phase.
    text = program.read_text()
    told = "progress.start(phase_name, parent_phase, num_steps)"
    assert text.count(told) == 1
    program.write_text(text.replace(told, f"{told}; brake.pull()"))
    status, _, answer = job.run()
    assert answer.failure is not None
    assert (answer.failure.kind, status) == ("interrupted", STATUSES["interrupted"])


def _deep_model() -> Any:
    """Return 12 convolutions: enough for the builder to tell of a step before it has ended."""
    model = small_model(1)
    nodes = [helper.make_node("Conv", ["x", "w0"], ["c0"], name="c0")]
    weights = [helper.make_tensor("w0", TensorProto.FLOAT, [3, 3, 1, 1], [0.5] * 9)]
    for number in range(1, 12):
        name = f"c{number}"
        nodes.append(helper.make_node("Conv", [f"c{number - 1}", "w0"], [name], name=name))
    graph = helper.make_graph(
        nodes,
        "deep",
        list(model.graph.input),
        [helper.make_tensor_value_info("c11", TensorProto.FLOAT, [1, 3, 16, 16])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
