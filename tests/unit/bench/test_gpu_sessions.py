"""Engines in the device program, with stand-ins for the driver and for Python's TensorRT.

The stand-ins (``tests/stubs/gpu``) are written from NVIDIA's references and were never held against
a GPU. What is shown here: that the program calls what is documented of 8.6, 10 and 11, that memory,
streams and waiting are right, and that what is no engine of ours is never loaded.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper

from edgedeploy.bench.job import (
    BenchArtifact,
    BenchInputs,
    BenchJob,
    BenchPlan,
    GeneratedTensor,
    OutputsJob,
)
from edgedeploy.bench.record import build_record
from edgedeploy.data.pack import PackReader
from edgedeploy.errors import DeviceError
from tests.unit.bench.gpu_stand_in import (
    FLOAT,
    INT64,
    artifact,
    build,
    engine_of,
    environment,
    model_of,
    onboard,
    pack_of,
    script,
)

VERSIONS = ("8.6.1", "11.4.0")
"""What differs between releases lies between these; the rest of the tests is by 10.3."""
PLAN = BenchPlan(
    warmup_max_s=0.1, window_s=0.005, min_s=0.02, min_count=8, max_s=30, layer_runs=2,
    min_repetitions=2,
)  # fmt: skip


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the stand-in for the driver."""
    folder = tmp_path_factory.mktemp("driver")
    build(folder, "libcuda.c", "libcuda.so.1")
    return folder


def expected(model: bytes, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def answers(
    root: Path, variables: dict[str, str], given: BenchArtifact, pack: Path, **how: Any
) -> list[dict[str, np.ndarray]]:
    goal = root / "goal"
    goal.mkdir(exist_ok=True)
    onboard(root, variables).outputs(given, OutputsJob(pack=pack, **how), goal)
    return [sample.tensors() for sample in PackReader(goal)]


def refused(root: Path, variables: dict[str, str], given: BenchArtifact, pack: Path) -> DeviceError:
    with pytest.raises(DeviceError) as error:
        answers(root, variables, given, pack, outputs=("y",))
    return error.value


def double(dims: list[Any]) -> bytes:
    """y = 2x + x: two nodes."""
    nodes = [helper.make_node("Add", ["x", "x"], ["d"]), helper.make_node("Add", ["d", "x"], ["y"])]
    return model_of(nodes, [("x", FLOAT, dims)], [("y", FLOAT, dims)])


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def same(made: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    for name, value in made.items():
        assert (value.dtype, value.shape) == (wanted[name].dtype, wanted[name].shape)
        np.testing.assert_array_equal(value, wanted[name])


@pytest.mark.parametrize("version", VERSIONS)
def test_what_an_engine_answers_comes_back(version: str, libraries: Path, tmp_path: Path) -> None:
    """The known answer is ONNX Runtime's; three samples show that none is another's."""
    model = double([2, 3])
    samples = [{"x": floats(2, 3, seed=seed)} for seed in range(3)]
    given = artifact(tmp_path / "v", engine_of(model, version))
    pack = pack_of(tmp_path / "pack", *samples)
    made = answers(tmp_path, environment(libraries, version), given, pack, outputs=("y",))
    for found, sample in zip(made, samples, strict=True):
        same(found, expected(model, sample))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_profile_that_fits_is_chosen(version: str, libraries: Path, tmp_path: Path) -> None:
    """Widths 3 and 7 lie in the second profile alone, and change from sample to sample."""
    model = double([1, "w"])
    profiles = [{"x": [[1, 8], [1, 9], [1, 16]]}, {"x": [[1, 1], [1, 4], [1, 7]]}]
    samples = [{"x": floats(1, width, seed=width)} for width in (7, 3, 7)]
    given = artifact(tmp_path / "v", engine_of(model, version, profiles=profiles))
    pack = pack_of(tmp_path / "pack", *samples)
    made = answers(tmp_path, environment(libraries, version), given, pack, outputs=("y",))
    for found, sample in zip(made, samples, strict=True):
        same(found, expected(model, sample))


@pytest.mark.parametrize("version", VERSIONS)
def test_an_output_whose_size_follows_from_values(
    version: str, libraries: Path, tmp_path: Path
) -> None:
    """Positions that are not zero; their number differs from sample to sample."""
    nodes = [helper.make_node("NonZero", ["x"], ["found"])]
    model = model_of(nodes, [("x", FLOAT, [8])], [("found", INT64, [1, "n"])])
    samples = [{"x": np.array(row, np.float32)} for row in ([1] * 8, [0] * 8, [0, 1] * 4)]
    given = artifact(tmp_path / "v", engine_of(model, version))
    pack = pack_of(tmp_path / "pack", *samples)
    made = answers(tmp_path, environment(libraries, version), given, pack, outputs=("found",))
    assert [found["found"].shape for found in made] == [(1, 8), (1, 0), (1, 4)]
    assert made[2]["found"].tolist() == [[1, 3, 5, 7]]


def test_what_decides_shapes_stays_in_the_memory_of_the_host(
    libraries: Path, tmp_path: Path
) -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    inputs = [("x", FLOAT, [2, 6]), ("shape", INT64, [2])]
    model = model_of(nodes, inputs, [("y", FLOAT, ["a", "b"])])
    samples = [{"x": floats(2, 6), "shape": np.array(dims)} for dims in ([3, 4], [12, 1])]
    given = artifact(tmp_path / "v", engine_of(model, on_host=["shape"]))
    pack = pack_of(tmp_path / "pack", *samples)
    made = answers(tmp_path, environment(libraries), given, pack, outputs=("y",))
    assert [found["y"].shape for found in made] == [(3, 4), (12, 1)]


def test_int64_of_the_model_is_int32_in_old_engines(libraries: Path, tmp_path: Path) -> None:
    nodes = [helper.make_node("Cast", ["ids"], ["y"], to=FLOAT)]
    model = model_of(nodes, [("ids", INT64, [3])], [("y", FLOAT, [3])])
    given = artifact(tmp_path / "v", engine_of(model, "8.6.1", host_code=True))
    pack = pack_of(tmp_path / "pack", {"ids": np.array([1, -2, 3])})
    variables = environment(libraries, "8.6.1")
    (found,) = answers(tmp_path, variables, given, pack, outputs=("y",))
    assert found["y"].tolist() == [1, -2, 3]
    large = pack_of(tmp_path / "large", {"ids": np.array([1, 2, 2**31])})
    assert "a value does not fit" in str(refused(tmp_path, variables, given, large))


def test_state_is_carried_along_a_sequence(libraries: Path, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["x", "h"], ["next"]),
        helper.make_node("Neg", ["next"], ["y"]),
    ]
    ports = [("x", FLOAT, [1]), ("h", FLOAT, [1])], [("y", FLOAT, [1]), ("next", FLOAT, [1])]
    given = artifact(tmp_path / "v", engine_of(model_of(nodes, *ports)))
    steps = [{"x": np.array([value], np.float32)} for value in (1, 2, 4)]
    pack = pack_of(tmp_path / "pack", *steps, sequence="s")
    zeros = (GeneratedTensor(name="h", dtype="float32", shape=(1,), low=0, high=0),)
    how = {"outputs": ("y", "next"), "state": (("h", "next"),), "zeros": zeros}
    made = answers(tmp_path, environment(libraries), given, pack, **how)
    assert [float(found["y"][0]) for found in made] == [-1, -3, -7]


def test_a_whole_measurement_is_simulated_and_says_so(libraries: Path, tmp_path: Path) -> None:
    """Both artifacts in turns; layers and the GPU's own times come from runs of their own."""
    engine = engine_of(double([4, 16]))
    job = BenchJob(
        artifacts=(artifact(tmp_path / "a", engine, "float"), artifact(tmp_path / "b", engine)),
        inputs=BenchInputs(
            pack=pack_of(tmp_path / "pack", {"x": floats(4, 16)}, {"x": floats(4, 16)})
        ),
        baseline="float",
        evidence="device",
        plan=PLAN,
    )
    result = onboard(tmp_path, environment(libraries)).measure(job)
    record = build_record(job, job.artifacts[1], result, "2026-01-01T00:00:00+00:00", tmp_path)
    assert record["evidence"] == "simulated"
    assert record["conditions"]["runtime_version"] == "10.3.0"
    # The stand-in gives input and output memory, and nothing else: 4 x 16 floats each.
    assert record["memory"]["device_bytes"] == 2 * 4 * 16 * 4
    assert [(item["name"], item["mean_ms"]) for item in record["layers"]] == [
        ("first", 0.25),
        ("second", 1.25),
    ]
    assert record["device_ms"].keys() == {"upload_ms", "compute_ms", "download_ms"}
    assert record["device_ms"]["compute_ms"] > 0
    assert record["latency"]["n"] >= 8


# -- what is never loaded ------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> tuple[BenchArtifact, Path]:
    """Return an engine that the stand-in takes, and a sample for it."""
    given = artifact(tmp_path / "v", engine_of(double([2])))
    return given, pack_of(tmp_path / "pack", {"x": floats(2)})


def code(error: DeviceError) -> str:
    return error.diagnostics[0].code


def test_another_digest_than_the_jobs_is_never_loaded(
    small: Any, libraries: Path, tmp_path: Path
) -> None:
    """Engines are code: the header stays right, so that only the digest can tell."""
    given, pack = small
    given.path.write_bytes(given.path.read_bytes() + b"\0")
    error = refused(tmp_path, environment(libraries), given, pack)
    assert code(error) == "E493" and "was not loaded" in str(error)


def test_without_a_digest_nothing_is_loaded(small: Any, libraries: Path, tmp_path: Path) -> None:
    given, pack = small
    error = refused(tmp_path, environment(libraries), replace(given, sha256=None), pack)
    assert code(error) == "E493" and "does not say which digest" in str(error)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"simulated": False}, "was made by a real one, and this is a stand-in"),
        ({"sha256": "0" * 64}, "is not the engine that engine.json describes"),
    ],
)
def test_provenance_that_is_not_the_engines(
    fields: dict[str, Any], said: str, small: Any, libraries: Path, tmp_path: Path
) -> None:
    given, pack = small
    file = given.path.with_name("engine.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))
    error = refused(tmp_path, environment(libraries), given, pack)
    assert code(error) == "E493" and said in str(error)


def test_an_engine_of_another_version_is_told_in_words(
    small: Any, libraries: Path, tmp_path: Path
) -> None:
    given, pack = small
    error = refused(tmp_path, environment(libraries, "10.7.0"), given, pack)
    assert code(error) == "E493"
    assert "of TensorRT 10.3.0 for Orin (SM87), is not loaded by TensorRT 10.7.0" in str(error)
    assert "Version tag" in str(error)


def test_a_machine_without_a_driver(small: Any, tmp_path: Path) -> None:
    given, pack = small
    error = refused(tmp_path, environment(tmp_path / "nothing"), given, pack)
    assert code(error) == "E492" and "no NVIDIA driver: libcuda.so.1" in str(error)


def test_a_driver_without_a_gpu(small: Any, libraries: Path, tmp_path: Path) -> None:
    given, pack = small
    error = refused(tmp_path, environment(libraries, FAKE_CUDA="no-gpu"), given, pack)
    assert code(error) == "E492" and "CUDA_ERROR_NO_DEVICE (100)" in str(error)


def test_no_memory_on_the_gpu(small: Any, libraries: Path, tmp_path: Path) -> None:
    given, pack = small
    error = refused(tmp_path, environment(libraries, FAKE_CUDA="12"), given, pack)
    assert code(error) == "E471" and "CUDA_ERROR_OUT_OF_MEMORY" in str(error)


def test_no_python_package_of_tensorrt(small: Any, libraries: Path, tmp_path: Path) -> None:
    """The way out is JetPack or the vendor's packages, and not us."""
    given, pack = small
    variables = environment(libraries) | {"PYTHONPATH": ""}
    error = refused(tmp_path, variables, given, pack)
    assert code(error) == "E475" and "JetPack" in (error.diagnostics[0].hint or "")


@pytest.mark.parametrize("kind", ["BF16", "FP8"])
def test_types_that_numpy_has_not_are_refused_by_name(
    kind: str, libraries: Path, tmp_path: Path
) -> None:
    given = artifact(tmp_path / "v", engine_of(double([2]), types={"x": kind}))
    pack = pack_of(tmp_path / "pack", {"x": floats(2)})
    error = refused(tmp_path, environment(libraries), given, pack)
    assert code(error) == "E494" and f"x of the engine is of type {kind}" in str(error)


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        ({"x": np.zeros(9, np.float32)}, "x is [9], and takes [1] to [8] in profile 0"),
        ({"x": np.zeros((1, 1), np.float32)}, "x is [1, 1], and takes [1] to [8] in profile 0"),
        ({"x": np.zeros(3, np.int32)}, "x of the engine is float32, and the job gives int32"),
        ({"other": np.zeros(3, np.float32)}, "the engine wants x, but the job gives other"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    sample: dict[str, np.ndarray], said: str, libraries: Path, tmp_path: Path
) -> None:
    profiles = [{"x": [[1], [4], [8]]}]
    given = artifact(tmp_path / "v", engine_of(double(["n"]), profiles=profiles))
    error = refused(tmp_path, environment(libraries), given, pack_of(tmp_path / "pack", sample))
    assert code(error) == "E494" and said in str(error)


# -- the driver ----------------------------------------------------------------------------------

_MISUSE = """
import json
from edgedeploy.bench import cuda
gpu = cuda.Gpu()
stream, here, there = cuda.Stream(gpu), cuda.HostMemory(gpu, 16), cuda.DeviceMemory(gpu, 16)
said = []
def tried(call, *arguments):
    try:
        call(*arguments)
        said.append("")
    except cuda.CudaError as error:
        said.append(str(error))
tried(stream.upload, there, here, 16)
tried(stream.upload, there, here, 17)             # more than there is
class Plain:
    handle = 4096                                 # not page-locked by the driver
tried(stream.upload, there, Plain, 16)
tried(stream.download, here, Plain, 16)           # an address of the host, not of the GPU
early, late = cuda.Event(gpu), cuda.Event(gpu)
early.record(stream); late.record(stream)
tried(late.ms_since, early)                       # nobody waited
stream.wait()
tried(late.ms_since, early)
there.close(); there.close()
tried(stream.upload, there, here, 16)             # after it was given back
stream.close()
tried(stream.wait)
tried(gpu.call, "cuMemFree_v2", 4096)
print(json.dumps(said))
"""


def test_misuse_of_the_driver_is_an_error(libraries: Path) -> None:
    good, more, plain, mixed, early, late, gone, waited, free = script(
        _MISUSE, environment(libraries)
    )
    assert good == late == ""
    assert more == plain == "cuMemcpyHtoDAsync_v2: CUDA_ERROR_INVALID_VALUE (1)"
    assert mixed == "cuMemcpyDtoHAsync_v2: CUDA_ERROR_INVALID_VALUE (1)"
    assert early == "cuEventElapsedTime: CUDA_ERROR_NOT_READY (600)"
    assert gone == "cuMemFree_v2 was called before this use"
    assert waited == "cuStreamDestroy_v2 was called before this use"
    assert free == "cuMemFree_v2: CUDA_ERROR_INVALID_VALUE (1)"


_LEAK = """
import ctypes, gc, json, sys
import numpy, tensorrt
from edgedeploy.bench import cuda, gpu
path, digest, sync = sys.argv[1:]
driver = ctypes.CDLL("libcuda.so.1")
session = gpu.families(cuda)["tensorrt"](
    {"options": {"sync": sync} if sync else {}, "sha256": digest}, path)
flags = driver.fake_flags()
for least in (1, 5, 3):
    bound = session.bind([{"x": numpy.full(least + at, at, "float32")} for at in range(4)])
    for at, feed in enumerate(bound):
        assert session.run(feed)[0].tolist() == [3.0 * at] * (least + at)
session.device_ms(bound, 2)
while_alive = [driver.fake_live(kind) for kind in range(4)]
del session, bound, feed
gc.collect()
after = [driver.fake_live(kind) for kind in range(4)]
print(json.dumps([flags, while_alive, after, driver.fake_retained()]))
"""


@pytest.mark.parametrize(("sync", "flags"), [("", 4), ("blocking", 4), ("spin", 1)])
def test_nothing_of_the_driver_is_left(
    sync: str, flags: int, libraries: Path, tmp_path: Path
) -> None:
    """Device memory, page-locked memory, streams, events, the context: all are given back."""
    profiles = [{"x": [[1], [4], [8]]}]
    given = artifact(tmp_path / "v", engine_of(double(["n"]), profiles=profiles))
    arguments = str(given.path), str(given.sha256), sync
    found = script(_LEAK, environment(libraries), *arguments)
    # Alive: input and output on the GPU; four pinned feeds and an output; one stream; no event.
    assert found == [flags, [2, 5, 1, 0], [0, 0, 0, 0], 0]


_REAL = """
import json, sys
import tensorrt_rtx_bindings as trt
from edgedeploy.bench import cuda, gpu
said = []
class Fake:
    BLOCKING = "blocking"
    class Gpu:
        name, capability = "NVIDIA GeForce RTX 3060", "8.6"
        def __init__(self, sync): pass
        def free_bytes(self): return 0
for driver in (cuda, Fake):
    try:
        gpu.TensorRtSession(trt, driver, {"options": {}}, sys.argv[1])
    except Exception as error:
        said.append([type(error).__name__, str(error)])
print(json.dumps(said))
"""


def test_the_real_runtime_of_rtx_without_a_driver(tmp_path: Path) -> None:
    """First we say what lacks; if we did not, TensorRT's own words would come through."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT for RTX")
    engine = tmp_path / "model.engine"
    engine.write_bytes(b"vtrt" + bytes(100))
    nobody, words = script(_REAL, {"LD_LIBRARY_PATH": str(tmp_path)}, str(engine))
    assert nobody[0] == "NoGpu" and nobody[1].startswith("no NVIDIA driver: libcuda.so.1")
    assert words[0] == "EngineRefused" and "cudaError 35" in words[1]
    assert "by TensorRT 1.7" in words[1] and "RTX 3060 (SM86)" in words[1]
