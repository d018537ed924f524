"""The program that builds engines on devices, against stand-ins that are strict about versions."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path

import pytest
from onboard_jobs import LIMIT_S, PROFILE, VERSIONS, Job, recipe

from edgedeploy.backends.trt import inspector, onboard
from edgedeploy.backends.trt.onboard_build import OPTIONS, STATUSES

MADE = {"model.engine", "layers.json", "build.log", "result.json", "timing.cache"}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_build_writes_the_engine_and_all_that_is_told_of_it(version: str, tmp_path: Path) -> None:
    job = Job(tmp_path, version)
    status, steps, answer = job.run()
    assert (status, answer.failure) == (0, None)
    assert job.files() == MADE
    engine = (job.folder / "model.engine").read_bytes()
    assert answer.sha256 == hashlib.sha256(engine).hexdigest()
    assert answer.size_bytes == len(engine)
    assert answer.tensorrt.startswith(version)
    assert answer.simulated
    assert answer.facts["typed"] == ("weak" if version == "8.6.1" else "strong")
    assert answer.signature == {
        "inputs": [
            {
                "name": "x",
                "dtype": "FLOAT",
                "shape": [-1, 3, 16, 16],
                "profiles": [[PROFILE["x"][end] for end in ("min", "opt", "max")]],
            }
        ],
        "outputs": [{"name": "y", "dtype": "FLOAT", "shape": [-1, 4]}],
    }
    layers = inspector.read_layers((job.folder / "layers.json").read_bytes())
    assert layers.detail == "full"
    assert [layer.nodes for layer in layers.layers] == [
        ("conv",), ("odd",), ("pool",), ("flat",), ("fc",)
    ]  # fmt: skip
    # Open dims: types are told because the sizes to tune for were given.
    assert {layer.dtype for layer in layers.layers} == {"float32"}
    phases = [step.phase for step in steps if step.fraction is None]
    assert phases == ["load", "parse", "configure", "build", "write", "inspect", "ended"]


@pytest.mark.parametrize("version", VERSIONS)
def test_progress_never_falls_and_ends_whole(version: str, tmp_path: Path) -> None:
    """8.6 tells nothing by itself: there the layers that its log says it times are counted."""
    _, steps, _ = Job(tmp_path, version, steps=6, step_s=0.05).run()
    told = [step.fraction for step in steps if step.fraction is not None]
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(told) >= 2
    assert all(0 <= fraction <= 1 for fraction in told)


@pytest.mark.parametrize(
    ("version", "precision", "flags"),
    [
        ("8.6.1", ["float32"], set()),
        ("8.6.1", ["float16", "float32"], {"FP16", "OBEY_PRECISION_CONSTRAINTS"}),
        ("8.6.1", ["float32", "int8"], {"INT8"}),
        ("10.3.0", ["float16", "float32", "int8"], set()),
        ("11.4.0", ["float16", "float32", "int8"], set()),
    ],
)
def test_types_are_flags_only_where_typing_is_weak(
    version: str, precision: list[str], flags: set[str], tmp_path: Path
) -> None:
    """A strongly typed builder refuses them, and 11 does not even have them."""
    job = Job(tmp_path, version)
    job.write("recipe.json", recipe(precision=precision, layers={**_MIXED}))
    status, _, answer = job.run()
    assert (status, answer.failure) == (0, None)
    assert set(job.asked["flags"]) == flags


_MIXED = {"default": "float16", "exceptions": {"fc": "float32"}}


def test_a_weakly_typed_builder_is_held_to_the_type_of_every_node(tmp_path: Path) -> None:
    job = Job(tmp_path, "8.6.1")
    job.write("recipe.json", recipe(precision=["float16", "float32"], layers=_MIXED))
    _, _, answer = job.run()
    half, single = ["HALF", {"0": "HALF"}], ["FLOAT", {"0": "FLOAT"}]
    assert job.asked["constraints"] == {
        "conv": half, "odd": half, "pool": half, "flat": half, "fc": single
    }  # fmt: skip
    assert answer.facts["constrained_layers"] == 5


def test_a_dla_core_is_typed_weakly_before_11(tmp_path: Path) -> None:
    """DLA takes strongly typed networks from 11 on (developer guide 11.4.1)."""
    for version, typed in (("10.3.0", "weak"), ("11.4.0", "strong")):
        folder = tmp_path / version
        folder.mkdir()
        job = Job(folder, version, dla_cores=2)
        options = {"dla": 1, "dla_fallback": True, "precision": ["float16"], "layers": _MIXED}
        job.write("recipe.json", recipe(**options))
        status, _, answer = job.run()
        assert (status, answer.failure) == (0, None)
        assert answer.facts["typed"] == typed
        assert job.asked["values"]["default_device_type"] == "DLA"
        assert job.asked["values"]["DLA_core"] == 1
        assert "GPU_FALLBACK" in job.asked["flags"]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_option_reaches_the_builder(version: str, tmp_path: Path) -> None:
    given = {
        "workspace": 64 << 20,
        "sparsity": True,
        "refit": True,
        "version_compatible": True,
        "hardware_compatible": "ampere+",
        "optimisation_level": 5,
        "timing_cache": False,
        "tf32": True,
    }
    job = Job(tmp_path, version)
    job.write("recipe.json", recipe(**given))
    status, _, answer = job.run()
    assert (status, answer.failure) == (0, None)
    assert set(job.asked["flags"]) == {
        "SPARSE_WEIGHTS", "REFIT", "VERSION_COMPATIBLE", "TF32", "DISABLE_TIMING_CACHE"
    }  # fmt: skip
    assert job.asked["pools"] == {"WORKSPACE": 64 << 20}
    assert job.asked["values"] == {
        "builder_optimization_level": 5,
        "hardware_compatibility_level": "AMPERE_PLUS",
        "profiling_verbosity": "DETAILED",
    }
    assert set(OPTIONS) == set(recipe()["options"])
    assert "timing.cache" not in job.files()


def test_the_timing_cache_is_taken_again_and_another_versions_is_not(tmp_path: Path) -> None:
    job = Job(tmp_path)
    _, _, first = job.run()
    kept = (job.folder / "timing.cache").read_bytes()
    assert first.facts["timing_cache"] == {
        "taken": False,
        "sha256_before": None,
        "sha256_after": hashlib.sha256(kept).hexdigest(),
    }
    _, _, second = job.run()
    assert second.facts["timing_cache"]["taken"]
    assert second.facts["timing_cache"]["sha256_before"] == hashlib.sha256(kept).hexdigest()
    (job.folder / "timing.cache").write_bytes(kept.replace(b"10.3.0", b"10.7.0"))
    status, _, third = job.run()
    assert (status, third.facts["timing_cache"]["taken"]) == (0, False)
    assert (job.folder / "timing.cache").read_bytes() == kept


@pytest.mark.parametrize(
    ("fail", "kind", "said"),
    [
        ("import", "missing", "libnvinfer.so.10"),
        ("builder", "device", "CUDA initialization failure with error: 35"),
        ("build", "refused", "Could not find any implementation for node conv."),
        ("memory", "memory", "Error Code 2: OutOfMemory"),
        ("load", "load", "magicTag"),
    ],
)
def test_every_failure_has_its_kind_and_status(
    fail: str, kind: str, said: str, tmp_path: Path
) -> None:
    job = Job(tmp_path, fail=fail)
    status, steps, answer = job.run()
    assert answer.failure is not None
    assert (answer.failure.kind, status) == (kind, STATUSES[kind])
    assert said in answer.failure.message
    assert steps[-1].phase == "ended"
    assert not {"model.engine", "model.engine.part"} & job.files()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_node_that_the_parser_refuses_is_named(version: str, tmp_path: Path) -> None:
    """8.6 has only its number, from which the host knows it."""
    job = Job(tmp_path, version, fail="parse GlobalAveragePool")
    status, _, answer = job.run()
    assert answer.failure is not None
    assert (answer.failure.kind, status) == ("parse", STATUSES["parse"])
    (complaint,) = answer.failure.complaints
    old = version == "8.6.1"
    assert (complaint.node, complaint.name, complaint.op) == (
        2, None if old else "pool", None if old else "GlobalAveragePool"
    )  # fmt: skip
    assert complaint.code == "UNSUPPORTED_NODE"


@pytest.mark.parametrize(
    ("version", "changes", "option"),
    [
        ("8.6.1", {"hardware_compatible": "same-compute-capability"}, "SAME_COMPUTE_CAPABILITY"),
        ("10.3.0", {"dla": 0}, "dla"),
        ("8.6.1", {"precision": ["float8e4m3fn"]}, "float8e4m3fn"),
        ("8.6.1", {"precision": ["float16", "int8"]}, "int8 together with float16"),
    ],
)
def test_an_option_that_is_not_to_be_had_ends_the_build(
    version: str, changes: dict[str, object], option: str, tmp_path: Path
) -> None:
    job = Job(tmp_path, version)
    job.write("recipe.json", recipe(**changes))
    status, _, answer = job.run()
    assert answer.failure is not None
    assert (answer.failure.kind, status) == ("option", STATUSES["option"])
    assert option in answer.failure.option


def test_what_the_program_does_not_know_is_not_left_out_silently(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.write("recipe.json", recipe() | {"options": {"tiling": 3}})
    status, _, answer = job.run()
    assert answer.failure is not None
    assert (answer.failure.kind, status) == ("job", STATUSES["job"])
    assert "tiling" in answer.failure.message


def test_a_profile_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    for name, profile in (
        ("crossed", {"min": [8, 3, 16, 16], "opt": [4, 3, 16, 16], "max": [8, 3, 16, 16]}),
        ("another", {"min": [1, 3, 16, 8], "opt": [1, 3, 16, 8], "max": [1, 3, 16, 8]}),
    ):
        (tmp_path / name).mkdir()
        job = Job(tmp_path / name)
        job.write("recipe.json", recipe(profiles=[{"x": profile}]))
        _, _, answer = job.run()
        assert answer.failure is not None
        assert answer.failure.kind == "refused"


def test_a_killed_builder_leaves_no_engine_and_no_result(tmp_path: Path) -> None:
    """As by the kernel that is out of memory: the status says it, nothing else can."""
    job = Job(tmp_path, fail="killed")
    process = job.start()
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == -signal.SIGKILL
    assert job.files() == {"build.log"}


def test_a_build_ends_when_its_connection_does(tmp_path: Path) -> None:
    """The builder is asked to stop between two steps, and no engine gets its name."""
    job = Job(tmp_path, steps=2000, step_s=0.02)
    job.write("job.json", onboard.job(held=True, timing_cache=None))
    read, write = os.pipe()
    process = job.start(stdin=read)
    os.close(read)
    assert process.stdout is not None
    while b'"progress"' not in process.stdout.readline():
        pass
    os.close(write)
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == STATUSES["interrupted"]
    answer = onboard.read_answer((job.folder / "result.json").read_bytes())
    assert answer.failure is not None and answer.failure.kind == "interrupted"
    assert job.files() == {"build.log", "result.json"}


def test_a_builder_that_hangs_is_killed_when_its_connection_ends(tmp_path: Path) -> None:
    job = Job(tmp_path, fail="hang")
    watch = job.folder / onboard.DEVICE_FILES[1]
    text = watch.read_text()
    assert "GRACE_S = 10.0" in text
    watch.write_text(text.replace("GRACE_S = 10.0", "GRACE_S = 0.2"))
    job.write("job.json", onboard.job(held=True, timing_cache=None))
    read, write = os.pipe()
    process = job.start(stdin=read)
    os.close(read)
    assert process.stdout is not None
    while b'"progress"' not in process.stdout.readline():
        pass
    os.close(write)
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == -signal.SIGKILL
    assert "model.engine" not in job.files()


@pytest.mark.parametrize(
    ("version", "status"), [("10.3.0", STATUSES["interrupted"]), ("8.6.1", -signal.SIGTERM)]
)
def test_a_signal_stops_it_too(version: str, status: int, tmp_path: Path) -> None:
    """A builder before 10.0 cannot be asked to stop: there the signal ends the process."""
    job = Job(tmp_path, version, steps=2000, step_s=0.02)
    process = job.start()
    assert process.stdout is not None
    while b'"build"' not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == status
    assert "model.engine" not in job.files()


def test_an_unreadable_job_ends_before_anything_begins(tmp_path: Path) -> None:
    job = Job(tmp_path)
    for text in ("{", "[]", json.dumps({"build": 99})):
        (job.folder / "job.json").write_text(text)
        process = job.start()
        out, _ = process.communicate(timeout=LIMIT_S)
        assert process.returncode == STATUSES["job"]
        assert json.loads(out)["kind"] == "job"
    assert job.files() == set()


def test_the_stand_in_refuses_what_a_version_lacks(tmp_path: Path) -> None:
    """Otherwise these tests would show nothing."""
    script = (
        "import tensorrt as t\n"
        "class L(t.ILogger):\n"
        "    def log(self, severity, msg): pass\n"
        "config = t.Builder(L()).create_builder_config()\n"
        "config.max_workspace_size = 1\n"
    )
    job = Job(tmp_path, "11.4.0")
    (job.folder / "onboard_build.py").write_text(script)
    process = job.start()
    _, err = process.communicate(timeout=LIMIT_S)
    assert b"AttributeError" in err and b"max_workspace_size" in err
