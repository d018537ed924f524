"""The stand-ins for TensorRT's tools do what each version does with a command line; no GPU here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedeploy.backends.trt.options import argument, known_flags, parse_version, table
from edgedeploy.backends.trt.settings import settings
from edgedeploy.backends.trt.trtexec import HARDWARE, bench_command, build_command
from tests.lab.tensorrt.machines import FLAGS, MACHINES, MODES, Machine, change, install

NAMES = tuple(MACHINES)
MAGIC = b"edgedeploy stand-in engine: not executable\n"

# Flags that one of two lists made apart from the same sources has and the other does not.
ALIASES = {"--vc", "--pi", "-h"}  # short forms, which edgedeploy's table leaves out
HIDDEN = {"--tuningResultFile"}  # between trtexec and its own children
CONDITIONAL = {"--safetyPlugins"}  # only where ENABLE_UNIFIED_BUILDER is defined
VALUES = {"--hardwareCompatibilityLevel=sameComputeCapability"}  # a row for a value


class Stand:
    """One machine's programs in a folder."""

    def __init__(self, machine: Machine, folder: Path, **changes: object) -> None:
        self.machine, self.folder = machine, folder
        self.root = folder / "root"
        self.trtexec = install(
            machine, self.root, str(self.root), **{"build_s": 0, "run_s": 0, **changes}
        )
        self.model = folder / "model.onnx"
        onnx.save(network(), self.model)

    def __call__(self, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.trtexec / "trtexec"), *map(str, words)]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            cwd=self.folder,
            env={**os.environ, **environment},
            timeout=60,
        )

    def build(self, *words: str, to: str = "engine", **environment: str) -> bytes:
        done = self(f"--onnx={self.model}", f"--saveEngine={to}", "--skipInference", *words)
        assert done.returncode == 0, done.stderr
        return (self.folder / to).read_bytes()


@pytest.fixture(params=NAMES)
def stand(request: pytest.FixtureRequest, tmp_path: Path) -> Stand:
    return Stand(MACHINES[request.param], tmp_path)


def network(operator: str = "Relu", dims: tuple[int | str, ...] = (1, 3, 8, 8)) -> Any:
    """Return a small network; its second node is `operator`."""
    weights = np.full((4, 3, 3, 3), 0.1, np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="/cön/v"),
        helper.make_node(operator, ["a"], ["b"], name="act"),
        helper.make_node("GlobalAveragePool", ["b"], ["y"], name="pool"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (dims[0], 4, 1, 1))],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def taken(machine: Machine) -> set[str]:
    lines = (FLAGS / f"{machine.flags}.txt").read_text().splitlines()
    return {line.split()[0] for line in lines if line.startswith("-")}


# -- The options -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_both_lists_of_options_made_apart_agree(name: str) -> None:
    machine = MACHINES[name]
    ours, product = taken(machine), set(known_flags(parse_version(machine.release)))
    assert product - ours <= CONDITIONAL | VALUES
    more = ours - product - ALIASES - HIDDEN
    if name == "orin-trt10.3":
        # The product's table has these from a later release on, and sends none of them.
        assert all(table()[flag].known.first > (10, 0) for flag in more - {"--int4"})
    else:
        assert not more


def test_what_the_product_knows_to_be_removed_is_refused(stand: Stand) -> None:
    version = parse_version(stand.machine.release)
    removed = [flag for flag, row in table().items() if row.known.end and row.known.end <= version]
    assert removed or version < (10,)
    for flag in removed:
        done = stand(f"--onnx={stand.model}", f"--saveEngine={stand.folder}/no", f"{flag}=1")
        assert done.returncode == 1
        assert f"[E] Unknown option: {flag} 1\n" in done.stderr
        assert done.stdout.splitlines()[-1].startswith("&&&& FAILED TensorRT.trtexec [TensorRT v")
    assert not (stand.folder / "no").exists()


@pytest.mark.parametrize("word", ["--nothing=1", "--onnxx", "model.onnx", "--saveengine=x"])
def test_unknown_words_are_refused(stand: Stand, word: str) -> None:
    done = stand(f"--onnx={stand.model}", word)
    assert done.returncode == 1
    assert f"Unknown option: {word.partition('=')[0]} {word.partition('=')[2]}\n" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--version"], "Model missing or format not recognized"),
        (["--onnx=m", "--loadEngine=e", "--saveEngine=f"], "Incompatible load and save engine"),
        (["--onnx=m", "--sparsity=some"], "Unknown sparsity mode: some"),
        (["--onnx=m", "--memPoolSize=heap:1"], "Unknown memory pool: heap"),
        (["--onnx=m", "--profilingVerbosity=all"], "Unknown profilingVerbosity: all"),
        (["--onnx=m", "--hardwareCompatibilityLevel=turing"], "Unknown hardwareCompatibilityLevel"),
    ],
)
def test_bad_values_are_refused_first(stand: Stand, words: list[str], message: str) -> None:
    done = stand(*words, "--unknown")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Unknown option" not in done.stderr


def test_help_and_nothing_at_all_end_well(stand: Stand) -> None:
    for words in ([], ["--help"], ["-h"]):
        done = stand(*words)
        assert done.returncode == 0
        first = done.stdout.splitlines()[0]
        assert f"[TensorRT v{stand.machine.number}]" in first
        assert "[edgedeploy stand-in]" in first


OPTIONS: tuple[dict[str, Any], ...] = (
    {"tf32": True, "workspace": "1 GiB", "optimisation_level": 5, "timing_cache": False},
    {"sparsity": True, "refit": True, "version_compatible": True, HARDWARE: "ampere+"},
)
PROFILE = {"x": {"min": [1, 3, 8, 8], "opt": [2, 3, 8, 8], "max": [4, 3, 8, 8]}}


@pytest.mark.parametrize(("options", "profiles"), [(OPTIONS[0], []), (OPTIONS[1], [PROFILE])])
def test_every_command_of_the_product_is_taken(
    stand: Stand, options: dict[str, Any], profiles: list[Any]
) -> None:
    onnx.save(network(dims=("n", 3, 8, 8) if profiles else (1, 3, 8, 8)), stand.model)
    recipe = {
        "precision": ["float32"],
        "profiles": profiles,
        "options": settings(options, {}),
        "layers": None,
    }
    release = stand.machine.release
    files = {"engine": "e", "timing_cache": "cache", "layers": "layers.json"}
    command = build_command(release, recipe, model=str(stand.model), **files)
    done = stand(*command[1:])
    assert done.returncode == 0, done.stderr
    assert (stand.folder / "e").read_bytes().startswith(MAGIC)
    command = bench_command(
        release,
        recipe,
        engine="e",
        shapes={"x": (2, 3, 8, 8)} if profiles else {},
        warm_up_ms=100,
        duration_s=1,
        iterations=10,
        times="times.json",
        outputs="outputs.json",
        layer_times="layer_times.json",
    )
    done = stand(*command[1:])
    assert done.returncode == 0, done.stderr
    (output,) = json.loads((stand.folder / "outputs.json").read_text())
    assert output["dimensions"] == ("2x4x1x1" if profiles else "1x4x1x1")


# -- Building --------------------------------------------------------------------------------------


def test_engines_follow_from_network_and_options_alone(stand: Stand) -> None:
    first = stand.build()
    assert first.startswith(MAGIC)
    elsewhere = stand.folder / "elsewhere.onnx"
    elsewhere.write_bytes(stand.model.read_bytes())
    stand.model = elsewhere
    assert stand.build("--timingCacheFile=c", "--verbose", to="other") == first
    assert stand.build("--noTF32") != first
    onnx.save(network("Sigmoid"), stand.model)
    assert stand.build() != first


def test_timings_are_kept_for_the_next_build(stand: Stand) -> None:
    words = [f"--onnx={stand.model}", "--skipInference", "--verbose", "--timingCacheFile=kept"]
    runs = [stand(*words).stdout.count("Timing Runner: ") for _ in range(2)]
    assert runs == [2, 0]
    text = (stand.folder / "kept").read_text()
    (stand.folder / "kept").write_text(text.replace("timing cache ", "timing cache 9", 1))
    done = stand(*words)
    assert "Detected invalid timing cache" in done.stderr
    assert done.stdout.count("Timing Runner: ") == 2


def test_lines_come_while_it_works(tmp_path: Path) -> None:
    stand = Stand(MACHINES["orin-trt10.3"], tmp_path, build_s=30)
    command = [str(stand.trtexec / "trtexec"), f"--onnx={stand.model}", "--verbose"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "Computing costs for /c" in line:
                break
        assert process.poll() is None
        process.terminate()
    assert process.returncode == -signal.SIGTERM or process.returncode == 143


def test_the_graph_is_read_as_onnx_has_it(stand: Stand) -> None:
    names = [f"/bløck.{at}/Add" for at in range(300)]
    nodes = [
        helper.make_node("Add", [names[at - 1] if at else "x", "w"], [name], name=name)
        for at, name in enumerate(names)
    ]
    big = numpy_helper.from_array(np.random.default_rng(1).normal(size=70_001), "unused")
    graph = helper.make_graph(
        nodes,
        "long",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ("batch", 5)),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, (5,)),
        ],
        [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, ("batch", 5))],
        [numpy_helper.from_array(np.zeros(5, np.float32), "w"), big],
    )
    onnx.save(helper.make_model(graph), stand.model)
    done = stand(
        f"--onnx={stand.model}",
        "--shapes=x:7x5",
        "--exportLayerInfo=layers",
        "--exportOutput=outputs",
    )
    assert done.returncode == 0, done.stderr
    told = json.loads((stand.folder / "layers").read_text())
    assert told["Layers"] == names
    assert told["Bindings"] == ["x", names[-1]], "an input with a value is none of the engine's"
    (output,) = json.loads((stand.folder / "outputs").read_text())
    assert (output["dimensions"], len(output["values"])) == ("7x5", 35)


def test_what_is_exported_has_the_versions_layout(stand: Stand) -> None:
    files = ("exportLayerInfo", "exportTimes", "exportProfile", "exportOutput")
    done = stand(
        f"--onnx={stand.model}",
        "--profilingVerbosity=detailed",
        *(f"--{name}={name}" for name in files),
    )
    assert done.returncode == 0, done.stderr
    layers, times, profile, outputs = (
        json.loads((stand.folder / name).read_text()) for name in files
    )
    first = layers["Layers"][0]
    assert first["Name"] == "/cön/v + act"
    assert first["Metadata"] == "[ONNX Layer: /cön/v]\x1e[ONNX Layer: act]"
    assert ("Location" in first["Inputs"][0]) == (stand.machine.number < 10000)
    for item in times:
        parts = item["h2dMs"] + item["computeMs"] + item["d2hMs"]
        assert item["latencyMs"] == pytest.approx(parts, rel=1e-4)
    moves = {item["h2dMs"] > 0 for item in times}
    assert moves == {stand.machine.number < 110000}
    assert profile[0] == {"count": len(times)}
    assert sum(item["percentage"] for item in profile[1:]) == pytest.approx(100, rel=1e-3)
    assert [item["name"] for item in outputs] == ["y"]


def test_an_operator_without_importer_is_refused_by_the_parser(stand: Stand) -> None:
    onnx.save(network("Det"), stand.model)
    done = stand(f"--onnx={stand.model}", "--saveEngine=e")
    assert done.returncode == 1
    assert 'While parsing node number 1 [Det -> "b"]:' in done.stderr
    assert "Plugin not found" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("[E] Engine set up failed")
    assert not (stand.folder / "e").exists()


@pytest.mark.parametrize("content", [b"", b"no protobuf at all", b"\x3a\xff\xff\xff\xff\x7f"])
def test_what_is_no_network_is_refused(stand: Stand, content: bytes) -> None:
    stand.model.write_bytes(content)
    done = stand(f"--onnx={stand.model}")
    assert done.returncode == 1
    assert "Failed to parse onnx file" in done.stderr


# -- Loading ---------------------------------------------------------------------------------------


def test_engines_load_where_they_were_built_alone(tmp_path: Path) -> None:
    stands = {}
    for name, machine in MACHINES.items():
        folder = tmp_path / name
        folder.mkdir()
        stands[name] = Stand(machine, folder, run_s=0)
        stands[name].build()
    for name, other in zip(NAMES, NAMES[1:] + NAMES[:1], strict=True):
        assert stands[name]("--loadEngine=engine").returncode == 0
        done = stands[name](f"--loadEngine={stands[other].folder}/engine")
        assert done.returncode == 1
        assert "Version tag does not match. Note: Current Version: " in done.stderr
        assert "Got invalid engine!" in done.stderr


def test_an_engine_of_another_gpu_is_refused(tmp_path: Path) -> None:
    engine = Stand(MACHINES["server-trt10.14"], tmp_path).build()
    other = Stand(MACHINES["server-trt10.14"], tmp_path / "..").folder / "engine"
    other.write_bytes(engine.replace(b"compute 8.9", b"compute 8.6"))
    done = Stand(MACHINES["server-trt10.14"], tmp_path)(f"--loadEngine={other}")
    assert done.returncode == 1
    assert "expecting compute 8.9 got compute 8.6, please rebuild." in done.stderr


def test_what_is_no_engine_is_refused(stand: Stand) -> None:
    (stand.folder / "e").write_bytes(b"\0" * 5000)
    done = stand("--loadEngine=e")
    assert done.returncode == 1
    assert "kPLAN_MAGIC_TAG" in done.stderr


# -- Failing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [mode for mode in MODES if not mode.startswith("hang")])
def test_it_fails_as_it_is_told(mode: str, tmp_path: Path) -> None:
    stand = Stand(MACHINES["orin-trt10.3"], tmp_path)
    words = [f"--onnx={stand.model}", "--saveEngine=e", "--skipInference"]
    change(stand.machine, stand.root, fail=mode, build_s=0)
    done = stand(*words)
    built = tmp_path / "e"
    whole = Stand(MACHINES["orin-trt10.3"], tmp_path).build(to="whole")
    match mode:
        case "oom":
            assert "OutOfMemory" in done.stderr and done.returncode == 1 and not built.exists()
        case "killed":
            assert done.returncode == -signal.SIGKILL and not built.exists()
        case "full":
            assert done.returncode == 1 and "Saving engine to file failed" in done.stderr
            assert built.read_bytes() == whole[: len(whole) // 2]
        case "empty":
            assert done.returncode == 1 and "empty engine" in done.stderr
            assert "Created engine with size: 0 MiB" in done.stdout
        case "nofile":
            assert done.returncode == 0 and not built.exists()
        case "garbage":
            assert done.returncode == 0 and not built.exists()
            assert max(map(len, done.stdout.split("\n"))) > 500_000
    assert mode == "killed" or not list(tmp_path.glob(".stand-in-*"))


@pytest.mark.parametrize("mode", ["hang", "hang-run"])
def test_it_hangs_until_it_is_ended(mode: str, tmp_path: Path) -> None:
    stand = Stand(MACHINES["server-trt11.1"], tmp_path, fail=mode)
    command = [str(stand.trtexec / "trtexec"), f"--onnx={stand.model}", "--saveEngine=e"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=3)
        process.kill()
    assert (tmp_path / "e").exists() == (mode == "hang-run")


def test_argument_of_the_product_is_what_the_stand_in_reads(stand: Stand) -> None:
    version = parse_version(stand.machine.release)
    word = argument("--saveEngine", version, "there")
    assert stand(f"--onnx={stand.model}", word, "--skipInference").returncode == 0
    assert (stand.folder / "there").exists()


# -- The other tools -------------------------------------------------------------------------------


def test_nvidia_smi_answers_what_is_asked(tmp_path: Path) -> None:
    install(MACHINES["server-trt10.14"], tmp_path, str(tmp_path))
    tool = str(tmp_path / "usr/bin/nvidia-smi")
    query = "--query-gpu=name,compute_cap,memory.total"
    done = subprocess.run([tool, query, "--format=csv"], capture_output=True, text=True)
    assert done.stdout == "name, compute_cap, memory.total [MiB]\nNVIDIA L4, 8.9, 22563 MiB\n"
    done = subprocess.run([tool, "--query-gpu=price"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (
        2,
        'Field "price" is not a valid field to query.\n',
    )


def test_tegrastats_goes_on_until_it_is_ended(tmp_path: Path) -> None:
    install(MACHINES["orin-trt10.3"], tmp_path, str(tmp_path))
    command = [str(tmp_path / "usr/bin/tegrastats"), "--interval", "20"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        process.terminate()
    assert all(" VDD_IN 5006mW/5006mW " in line for line in lines)
