"""Building, loading and running .ort artifacts of real and generated models."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from backend_models import SIZES, feed, value
from onnx import TensorProto, helper, numpy_helper

from edgedeploy.backends import load
from edgedeploy.backends.ortmobile.reference import reference_runner
from edgedeploy.errors import BuildError

ANDROID = {
    "board.os": "android",
    "board.arch": "arm64",
    "runtime.versions": ">=1.17",
    "runtime.opset": 20,
    "runtime.ir_version": 9,
}
backend = load("ort")


def built(model, folder, options=(), fields=ANDROID):
    folder.mkdir(exist_ok=True)
    return backend.compile(model, folder, dict(options), fields)


def refusal(call, *arguments):
    with pytest.raises(BuildError) as caught:
        call(*arguments)
    return caught.value.diagnostics[0]


@pytest.mark.parametrize("name", SIZES)
def test_a_real_model_computes_what_the_float_reference_computes(name, real_model, tmp_path):
    model = real_model(name)
    report = built(model, tmp_path / "out")
    inputs = feed(model, SIZES[name])
    with reference_runner(model) as plain, backend.runner(tmp_path / "out") as made:
        assert made.signature.inputs == plain.signature.inputs
        assert [spec.name for spec in made.signature.outputs] == [
            spec.name for spec in plain.signature.outputs
        ]
        expected, found = plain.run(inputs), made.run(inputs)
    for key in expected:
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-3, atol=1e-4)
    assert report.entry == report.files[0].path == "model.ort"
    assert sorted(item.path for item in report.files) == sorted(
        path.name for path in (tmp_path / "out").iterdir()
    )
    assert json.loads(json.dumps(report.to_json()))["metadata"]["kernels"]


def test_int8_kernels_are_counted(quantized_model, tmp_path):
    report = built(quantized_model, tmp_path / "out")
    model = onnx.load(str(quantized_model))
    convolutions = sum(node.op_type == "Conv" for node in model.graph.node)
    assert report.metadata["kernels"]["ai.onnx:QLinearConv"] == convolutions
    assert report.metadata["int8_kernels"] >= convolutions
    assert "int8_t" in (tmp_path / "out" / "required_operators_and_types.config").read_text()


def test_float16_without_kernels_is_said(half_model, tmp_path):
    report = built(half_model, tmp_path / "out")
    assert any("float16 nodes have no float16 kernel" in note for note in report.notes)
    assert report.metadata["kernels"]["ai.onnx:Cast"] >= 1


def test_runtime_style_needs_both_graphs_in_the_config(real_model, tmp_path):
    report = built(real_model("det"), tmp_path / "out", {"optimization_style": "runtime"})
    config = (tmp_path / "out" / "required_operators_and_types.config").read_text()
    assert report.metadata["saved_optimizations"] > 0
    assert "com.microsoft:FusedConv" not in report.metadata["kernels"]
    assert "FusedConv" in config
    assert "Relu" in config


def test_optimisations_that_no_runtime_can_replay_are_left_out(quantized_model, tmp_path):
    report = built(quantized_model, tmp_path / "out", {"optimization_style": "runtime"})
    assert any("left out" in note for note in report.notes)
    with backend.runner(tmp_path / "out", options={"optimization_style": "runtime"}) as made:
        assert made.run(feed(quantized_model, SIZES["cls"]))


def test_the_text_files_hold_no_paths_and_no_dates(real_model, tmp_path):
    built(real_model("cls"), tmp_path / "out")
    config = (tmp_path / "out" / "required_operators_and_types.config").read_text()
    command = (tmp_path / "out" / "build_runtime.txt").read_text()
    for text in (config, command, (tmp_path / "out" / "placement.json").read_text()):
        assert str(tmp_path) not in text
        assert "/tmp" not in text
    assert config.splitlines()[1].startswith("ai.onnx;")
    for part in (
        "--branch v1.17.0",
        "--minimal_build extended",
        "--include_ops_by_config ../required_operators_and_types.config",
        "--enable_reduced_operator_type_support",
        "--android_abi arm64-v8a",
        "--disable_ml_ops",
    ):
        assert part in command


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"board.os": "linux", "board.arch": "arm64"}, "--arm64"),
        ({"board.os": "linux", "board.arch": "armv7"}, "--arm"),
        ({"board.os": "ios", "board.arch": "arm64"}, "--use_coreml"),
        ({"board.os": "web", "board.arch": "wasm32"}, "--build_wasm"),
    ],
)
def test_the_build_command_follows_the_board(fields, part, real_model, tmp_path):
    built(real_model("pnet"), tmp_path / "out", fields=fields)
    assert part in (tmp_path / "out" / "build_runtime.txt").read_text()


def test_platform_decides_on_signed_activations(tmp_path, save):
    zero, scale = numpy_helper.from_array(np.int8(0), "zero"), np.float32(0.02)
    weight = numpy_helper.from_array(np.arange(-8, 8, dtype=np.int8).reshape(1, 1, 4, 4), "weight")
    model = save(
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"], name="q"),
            helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"], name="d"),
            helper.make_node("DequantizeLinear", ["weight", "scale", "zero"], ["wd"], name="w"),
            helper.make_node("Conv", ["xd", "wd"], ["y"], name="conv"),
            helper.make_node("QuantizeLinear", ["y", "scale", "zero"], ["yq"], name="q2"),
            helper.make_node("DequantizeLinear", ["yq", "scale", "zero"], ["z"], name="d2"),
        ],
        [value("x", (1, 1, 8, 8))],
        [value("z", (1, 1, 5, 5))],
        initializers=[zero, weight, numpy_helper.from_array(scale, "scale")],
    )
    digests = set()
    for platform in ("arm", "amd64"):
        folder = tmp_path / platform
        report = built(model, folder, {"target_platform": platform})
        assert report.metadata["target_platform"] == platform
        digests.add((folder / "model.ort").read_bytes())
    assert len(digests) == 2
    report = built(model, tmp_path / "auto")
    assert report.metadata["target_platform"] == "arm"


def test_a_newer_opset_than_the_oldest_runtime_is_refused_by_node(save, tmp_path):
    model = save(
        [helper.make_node("Gelu", ["x"], ["y"], name="act")],
        [value("x", ("N", 4))],
        [value("y", ("N", 4))],
        opset=20,
    )
    fields = {**ANDROID, "runtime.opset": 19}
    found = refusal(built, model, tmp_path / "out", {}, fields)
    assert (found.code, found.subject) == ("E304", "act")
    assert "opset 20" in found.message
    assert built(model, tmp_path / "out2", {}, ANDROID)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_operator_without_a_kernel_is_named(save, tmp_path):
    model = save(
        [helper.make_node("Conv", ["x", "w"], ["y"], name="wide")],
        [value("x", (1, 1, 4, 4), TensorProto.DOUBLE)],
        [value("y", (1, 1, 4, 4), TensorProto.DOUBLE)],
        initializers=[numpy_helper.from_array(np.ones((1, 1, 1, 1)), "w")],
    )
    found = refusal(built, model, tmp_path / "out")
    assert (found.code, found.subject) == ("E303", "wide")
    assert "tensor(double)" in found.message
    assert found.hint


@pytest.mark.parametrize("domain", ["my.domain", ""])
def test_an_unknown_operator_is_named(domain, save, tmp_path):
    model = save(
        [helper.make_node("Wobble", ["x"], ["y"], name="odd", domain=domain)],
        [value("x", ("N", 4))],
        [value("y", ("N", 4))],
        domains=[(domain, 1)] if domain else (),
    )
    found = refusal(built, model, tmp_path / "out")
    assert (found.code, found.subject) == ("E302", "odd")


def test_a_graph_that_the_runtime_refuses_keeps_its_words_without_paths(save, tmp_path):
    model = save(
        [
            helper.make_node("Relu", ["x"], ["y"], name="twice"),
            helper.make_node("Relu", ["y"], ["z"], name="twice"),
        ],
        [value("x", ("N", 4))],
        [value("z", ("N", 4))],
    )
    found = refusal(built, model, tmp_path / "out")
    assert (found.code, found.subject) == ("E305", "twice")
    assert str(tmp_path) not in found.message


def test_a_graph_in_this_machines_layout_is_refused(real_model, tmp_path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(
        str(real_model("squeezenet")), options, providers=["CPUExecutionProvider"]
    )
    domains = {node.domain for node in onnx.load(str(tmp_path / "model.onnx")).graph.node}
    if "com.microsoft.nchwc" not in domains:
        pytest.skip("the runtime has no blocked layout on this CPU")
    found = refusal(built, tmp_path / "model.onnx", tmp_path / "out")
    assert found.code == "E315"


def test_more_than_two_gib_is_refused_before_it_is_read(real_model, tmp_path):
    model = tmp_path / "model.onnx"
    model.write_bytes(real_model("cls").read_bytes())
    with open(tmp_path / "model.onnx.data", "wb") as file:
        file.truncate(2**31)  # a sparse file: no disk is used
    found = refusal(built, model, tmp_path / "out")
    assert found.code == "E314"
    assert "int8" in found.hint or "quantize" in found.hint


def test_external_data_goes_into_the_artifact(real_model, tmp_path):
    model = tmp_path / "model.onnx"
    onnx.save(
        onnx.load(str(real_model("cls"))),
        str(model),
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=64,
    )
    inputs = feed(real_model("cls"), SIZES["cls"])
    built(model, tmp_path / "external")
    built(real_model("cls"), tmp_path / "inline")
    runs = []
    for name in ("external", "inline"):
        with backend.runner(tmp_path / name) as made:
            runs.append(made.run(inputs))
    for key in runs[0]:
        np.testing.assert_array_equal(runs[0][key], runs[1][key])


def test_control_flow_and_fused_operators(save, tmp_path):
    body = helper.make_graph(
        [
            helper.make_node("Add", ["sum", "step"], ["sum_out"], name="add"),
            helper.make_node("Identity", ["keep"], ["keep_out"], name="same"),
        ],
        "body",
        [
            value("i", (), TensorProto.INT64),
            value("keep", (), TensorProto.BOOL),
            value("sum", (2,)),
        ],
        [value("keep_out", (), TensorProto.BOOL), value("sum_out", (2,))],
    )
    model = save(
        [
            helper.make_node("Loop", ["count", "", "x"], ["y"], name="loop", body=body),
            helper.make_node("Unsqueeze", ["y", "axis"], ["y2"], name="u"),
            helper.make_node("FusedMatMul", ["y2", "m"], ["z"], name="f", domain="com.microsoft"),
        ],
        [value("x", (2,)), value("count", (), TensorProto.INT64)],
        [value("z", (1, 3))],
        initializers=[
            numpy_helper.from_array(np.array([1, 2], np.float32), "step"),
            numpy_helper.from_array(np.array([0], np.int64), "axis"),
            numpy_helper.from_array(np.ones((2, 3), np.float32), "m"),
        ],
        domains=[("com.microsoft", 1)],
    )
    report = built(model, tmp_path / "out")
    assert report.metadata["kernels"]["ai.onnx:Loop"] == 1
    assert report.metadata["kernels"]["ai.onnx:Add"] == 1
    with backend.runner(tmp_path / "out") as made:
        found = made.run({"x": np.zeros(2, np.float32), "count": np.array(4, np.int64)})
    np.testing.assert_array_equal(found["z"], np.full((1, 3), 12, np.float32))


def test_strings_go_through(save, tmp_path):
    model = save(
        [
            helper.make_node(
                "LabelEncoder",
                ["x"],
                ["y"],
                name="encode",
                domain="ai.onnx.ml",
                keys_strings=["cat", "dog"],
                values_int64s=[3, 5],
                default_int64=-1,
            )
        ],
        [value("x", ("N",), TensorProto.STRING)],
        [value("y", ("N",), TensorProto.INT64)],
        domains=[("ai.onnx.ml", 2)],
    )
    built(model, tmp_path / "out")
    assert "--disable_ml_ops" not in (tmp_path / "out" / "build_runtime.txt").read_text()
    with backend.runner(tmp_path / "out") as made:
        assert made.signature.inputs[0].dtype == "string"
        for words in (np.array(["dog", "fish"]), np.array(["dog", "fish"], object)):
            np.testing.assert_array_equal(made.run({"x": words})["y"], [5, -1])


def test_an_output_that_is_no_tensor_is_refused(save, tmp_path):
    sequence = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    model = save(
        [helper.make_node("SequenceConstruct", ["x", "x"], ["y"], name="pair")],
        [value("x", (2,))],
        [sequence],
    )
    found = refusal(built, model, tmp_path / "out")
    assert (found.code, found.subject) == ("E318", "y")


def test_options_are_checked(real_model, tmp_path):
    for options in ({"optimisation_style": "fixed"}, {"optimization_style": "fast"}):
        found = refusal(built, real_model("pnet"), tmp_path / "out", options)
        assert found.code == "E310"


def test_a_damaged_or_missing_artifact_does_not_load(real_model, tmp_path):
    assert refusal(backend.runner, tmp_path).code == "E317"
    built(real_model("pnet"), tmp_path / "out")
    entry = tmp_path / "out" / "model.ort"
    entry.write_bytes(entry.read_bytes()[:1000])
    found = refusal(backend.runner, tmp_path / "out")
    assert found.code == "E317"
    assert str(tmp_path) not in found.message


def test_a_missing_model_is_said(tmp_path):
    assert refusal(built, tmp_path / "model.onnx", tmp_path / "out").code == "E312"
    (tmp_path / "model.onnx").write_bytes(b"no model")
    assert refusal(built, tmp_path / "model.onnx", tmp_path / "out2").code == "E312"


def test_layer_times_cover_the_graph(real_model, tmp_path):
    model = real_model("squeezenet")
    report = built(model, tmp_path / "out")
    times = backend.layer_times(
        tmp_path / "out", feed(model, SIZES["squeezenet"]), threads=1, repeats=2
    )
    operators = {item.op for item in times}
    fused = {name.split(":")[1] for name in report.metadata["kernels"]}
    # Prepacking and layout may rename kernels; those that cannot change are all there.
    assert {"MaxPool", "Softmax"} & fused <= operators
    assert all(item.mean_ms >= 0 and item.provider == "CPUExecutionProvider" for item in times)
    assert sum(item.mean_ms for item in times) > 0


def test_the_runner_needs_numpy_and_the_runtime_alone(real_model, tmp_path):
    """It is imported by environments with an older runtime and nothing else."""
    built(real_model("pnet"), tmp_path / "out")
    script = (
        "import sys; from pathlib import Path\n"
        "from edgedeploy.backends.ortmobile.runner import open_artifact\n"
        f"print(open_artifact(Path({str(tmp_path / 'out')!r})).signature.inputs[0].name)\n"
        "print([n for n in ('onnx', 'pydantic', 'yaml', 'openvino', 'flatbuffers', 'onnx_ir')"
        " if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == ["input_1", "[]"]


def test_nothing_is_written_outside_the_folder(real_model, tmp_path):
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    home.mkdir()
    scratch.mkdir()
    (tmp_path / "out").mkdir()
    script = (
        "from pathlib import Path; from edgedeploy.backends import load\n"
        "backend = load('ort')\n"
        f"out = Path({str(tmp_path / 'out')!r})\n"
        f"backend.compile(Path({str(real_model('cls'))!r}), out, {{}}, {{}})\n"
        "backend.runner(out).close()"
    )
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(scratch)}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=60)
    assert list(home.rglob("*")) == []
    assert list(scratch.rglob("*")) == []
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "model.ort",
        "required_operators_and_types.config",
        "build_runtime.txt",
        "placement.json",
    }
