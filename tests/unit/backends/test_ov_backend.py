"""Building, loading and running OpenVINO IR of real and generated models."""

from __future__ import annotations

import hashlib
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

backend = load("openvino")


def built(model, folder, options=(), fields=()):
    folder.mkdir(exist_ok=True)
    return backend.compile(model, folder, dict(options), dict(fields))


def refusals(call, *arguments, **named):
    with pytest.raises(BuildError) as caught:
        call(*arguments, **named)
    return caught.value.diagnostics


# The light models have equal weights everywhere: squeezenet's logits are 4.8e9 each, so that one
# rounding decides its softmax. densenet121 is left to the other backend for time.
@pytest.mark.parametrize("name", sorted(set(SIZES) - {"squeezenet", "densenet121"}))
def test_a_real_model_computes_what_the_float_reference_computes(name, real_model, tmp_path):
    model = real_model(name)
    report = built(model, tmp_path / "out")
    inputs = feed(model, SIZES[name])
    with reference_runner(model) as plain, backend.runner(tmp_path / "out") as made:
        assert [spec.name for spec in made.signature.inputs] == list(inputs)
        expected, found = plain.run(inputs), made.run(inputs)
        assert list(found) == list(expected)
    for key in expected:
        assert found[key].dtype == expected[key].dtype
        np.testing.assert_allclose(found[key], expected[key], rtol=2e-3, atol=2e-4)
    assert sorted(item.path for item in report.files) == sorted(
        path.name for path in (tmp_path / "out").iterdir()
    )


_BUILD = """
import hashlib, json, sys
from pathlib import Path
from edgedeploy.backends import load
found = {}
for name, path in json.loads(sys.argv[1]).items():
    folder = Path(name)
    folder.mkdir()
    load("openvino").compile(Path(path), folder, {}, {})
    for item in sorted(folder.iterdir()):
        found[str(item)] = hashlib.sha256(item.read_bytes()).hexdigest()
print(json.dumps(found))
"""


def test_two_users_build_the_same_bytes_and_nothing_else(real_model, quantized_model, tmp_path):
    names = ["rec", "magika", "cls"]
    answers = []
    # In the other order the process's name counter stands elsewhere at every model.
    for seed, order in (("0", names), ("5", names[::-1])):
        models = {name: str(real_model(name)) for name in order} | {"qdq": str(quantized_model)}
        work, home, scratch = (tmp_path / f"{kind}{seed}" for kind in ("work", "home", "scratch"))
        for folder in (work, home, scratch):
            folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", _BUILD, json.dumps(models)],
            cwd=work,
            env={
                **os.environ,
                "PYTHONHASHSEED": seed,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "PYTHONDONTWRITEBYTECODE": "1",
                "HOME": str(home),
                "TMPDIR": str(scratch),
                "TZ": "Asia/Tokyo" if seed == "5" else "UTC",
            },
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        answers.append(json.loads(done.stdout))
        assert list(home.rglob("*")) == []
        assert list(scratch.rglob("*")) == []
    assert answers[0] == answers[1]
    text = (tmp_path / "work0" / "rec" / "model.xml").read_text()
    assert str(tmp_path) not in text
    assert "OpenVINO Runtime" not in text
    # The model's own metadata, such as the recogniser's characters, stays.
    assert 'name="character"' in text or "<character " in text


def test_quantized_weights_stay_int8(real_model, quantized_model, tmp_path):
    built(real_model("cls"), tmp_path / "float")
    report = built(quantized_model, tmp_path / "int8")
    sizes = [(tmp_path / name / "model.bin").stat().st_size for name in ("float", "int8")]
    assert sizes[1] < 0.4 * sizes[0]
    assert report.metadata["fake_quantize"] > 20
    inputs = feed(quantized_model, SIZES["cls"])
    with reference_runner(quantized_model) as plain, backend.runner(tmp_path / "int8") as made:
        for expected, found in zip(
            plain.run(inputs).values(), made.run(inputs).values(), strict=True
        ):
            np.testing.assert_allclose(found, expected, atol=0.05)


def test_half_weights_halve_the_file_on_request_only(real_model, tmp_path):
    built(real_model("cls"), tmp_path / "full")
    built(real_model("cls"), tmp_path / "half", {"half_weights": True})
    sizes = [(tmp_path / name / "model.bin").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.55 * sizes[0]
    inputs = feed(real_model("cls"), SIZES["cls"])
    with backend.runner(tmp_path / "full") as full, backend.runner(tmp_path / "half") as half:
        for one, other in zip(full.run(inputs).values(), half.run(inputs).values(), strict=True):
            np.testing.assert_allclose(one, other, atol=5e-3)
            assert not np.array_equal(one, other)


def mixed_model(folder):
    """A product by int8 weights on quantized activations, then one by float weights."""
    generator = np.random.default_rng(0)
    constants = {
        "scale": np.float32(0.03),
        "zero": np.uint8(128),
        "integers": generator.integers(-127, 128, (128, 128)).astype(np.int8),
        "unit": np.float32(1e-3),
        "none": np.int8(0),
        "floats": (generator.normal(size=(128, 128)) / 11).astype(np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["integers", "unit", "none"], ["w"]),
        helper.make_node("MatMul", ["d", "w"], ["h"]),
        helper.make_node("MatMul", ["h", "floats"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mixed",
        [value("x", ["n", 128])],
        [value("y", ["n", 128])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    path = folder / "mixed.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def test_half_weights_reach_what_stays_float_beside_integers(real_model, tmp_path):
    """OpenVINO's own compression passes over models with FakeQuantize nodes."""
    model = mixed_model(tmp_path)
    built(model, tmp_path / "full")
    built(model, tmp_path / "half", {"half_weights": True})
    sizes = [(tmp_path / name / "model.bin").stat().st_size for name in ("full", "half")]
    assert sizes[0] - sizes[1] == 128 * 128 * 2
    inputs = {"x": np.random.default_rng(1).normal(size=(2, 128)).astype(np.float32)}
    with backend.runner(tmp_path / "full") as full, backend.runner(tmp_path / "half") as half:
        one, other = (next(iter(item.run(inputs).values())) for item in (full, half))
    np.testing.assert_allclose(one, other, atol=2e-2)
    assert not np.array_equal(one, other)


def test_float16_on_the_cpu_is_said(half_model, tmp_path):
    report = built(half_model, tmp_path / "out")
    assert any("float16" in note for note in report.notes)
    with backend.runner(tmp_path / "out") as made:
        assert made.run(feed(half_model, SIZES["cls"]))


def test_bounded_dims_are_kept_and_checked(real_model, tmp_path):
    built(real_model("rec"), tmp_path / "out", {"dims": {"x": [1, 3, 48, [32, 320]]}})
    with backend.runner(tmp_path / "out") as made:
        assert made.signature.inputs[0].dims == (1, 3, 48, None)
        for width in (32, 320):
            found = made.run({"x": np.zeros((1, 3, 48, width), np.float32)})
            assert next(iter(found.values())).shape[1] == width // 8
        for shape in ((1, 3, 48, 24), (1, 3, 48, 328), (2, 3, 48, 64)):
            assert refusals(made.run, {"x": np.zeros(shape, np.float32)})[0].code == "E333"


def test_fixed_dims_make_a_static_model_and_suit_the_npu(real_model, tmp_path):
    options = {"dims": {"x": [1, 3, 48, 64]}, "device": "NPU"}
    report = built(real_model("rec"), tmp_path / "out", options)
    assert report.metadata["device"] == "NPU"
    signature = json.loads((tmp_path / "out" / "signature.json").read_text())
    assert signature["inputs"][0]["dims"] == [1, 3, 48, 64]
    assert all(isinstance(dim, int) for dim in signature["outputs"][0]["dims"])


def test_the_npu_refuses_dynamic_shapes(real_model, tmp_path):
    found = refusals(built, real_model("rec"), tmp_path / "out", {"device": "NPU"})[0]
    assert (found.code, found.subject) == ("E322", "x")
    placement = backend.preflight(real_model("rec"), {"board.processor": "npu"})
    assert [item.code for item in placement.diagnostics] == ["E322"]


@pytest.mark.parametrize(
    "dims",
    [{"nope": [1]}, {"x": [1, 3]}, {"x": [1, 4, 48, 64]}],
    ids=["name", "rank", "channels"],
)
def test_dims_that_do_not_fit_are_refused(dims, real_model, tmp_path):
    assert refusals(built, real_model("rec"), tmp_path / "out", {"dims": dims})[0].code == "E323"


def test_devices_that_are_not_here_are_not_judged(real_model):
    placement = backend.preflight(real_model("magika"), {})
    found = {item.provider: item for item in placement.providers}
    assert found["CPU"].judged
    assert found["CPU"].supported == len(found["CPU"].nodes) > 50
    import openvino

    for device in {"GPU", "NPU"} - set(openvino.Core().available_devices):
        assert not found[device].judged
        assert found[device].to_json()["supported"] is None
        assert "not judged" in found[device].notes[0]


def test_the_blob_is_for_this_machine_only(real_model, tmp_path):
    report = built(real_model("pnet"), tmp_path / "out", {"blob": True})
    files = {item.path: item for item in report.files}
    assert not files["model.blob"].release
    assert all(item.release for name, item in files.items() if name != "model.blob")
    assert (tmp_path / "out" / "model.blob").stat().st_size > 1000
    assert any("this machine" in note for note in report.notes)


def test_a_blob_for_a_device_that_is_not_here_is_refused(real_model, tmp_path):
    import openvino

    if "GPU" in openvino.Core().available_devices:
        pytest.skip("this machine has a GPU")
    options = {"blob": True, "device": "GPU"}
    assert refusals(built, real_model("pnet"), tmp_path / "out", options)[0].code == "E324"
    built(real_model("pnet"), tmp_path / "ir", {"device": "GPU"})
    found = refusals(backend.runner, tmp_path / "ir", options={"device": "GPU"})[0]
    assert found.code == "E324"


def test_unknown_operators_are_named(save, tmp_path):
    model = save(
        [
            helper.make_node("Wobble", ["x"], ["y"], name="odd", domain="my.domain"),
            helper.make_node("Relu", ["y"], ["z"], name="fine"),
        ],
        [value("x", ("N", 4))],
        [value("z", ("N", 4))],
        domains=[("my.domain", 1)],
    )
    found = refusals(built, model, tmp_path / "out")
    assert [(item.code, item.subject) for item in found] == [("E320", "odd")]
    assert backend.preflight(model, {}).diagnostics == found


def test_a_node_that_cannot_be_converted_is_named(save, tmp_path):
    model = save(
        [
            helper.make_node(
                "FusedConv", ["x", "w"], ["y"], name="bent", domain="com.microsoft", activation="No"
            )
        ],
        [value("x", (1, 1, 4, 4))],
        [value("y", (1, 1, 4, 4))],
        initializers=[numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "w")],
        domains=[("com.microsoft", 1)],
    )
    found = refusals(built, model, tmp_path / "out")
    assert [(item.code, item.subject) for item in found] == [("E321", "bent")]
    assert "No activation" in found[0].message


def test_string_tensors_are_refused(save, tmp_path):
    model = save(
        [helper.make_node("Identity", ["x"], ["y"], name="same")],
        [value("x", ("N",), TensorProto.STRING)],
        [value("y", ("N",), TensorProto.STRING)],
    )
    found = refusals(built, model, tmp_path / "out")[0]
    assert (found.code, found.subject) == ("E325", "x")


def test_names_survive_tensors_with_several_names(save, tmp_path):
    """OpenVINO drops Identity nodes, and then one tensor has the names of both."""
    model = save(
        [
            helper.make_node("Relu", ["x"], ["a"], name="act"),
            helper.make_node("Identity", ["a"], ["b"], name="same"),
        ],
        [value("x", (2, 3))],
        [value("b", (2, 3)), value("a", (2, 3))],
    )
    built(model, tmp_path / "out")
    with backend.runner(tmp_path / "out") as made:
        found = made.run({"x": np.array([[-1, 2, -3], [4, -5, 6]], np.float32)})
    assert list(found) == ["b", "a"]
    for result in found.values():
        np.testing.assert_array_equal(result, [[0, 2, 0], [4, 0, 6]])


def test_control_flow(save, tmp_path):
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
        [helper.make_node("Loop", ["count", "on", "x"], ["y"], name="loop", body=body)],
        [value("x", (2,)), value("count", (), TensorProto.INT64)],
        [value("y", (2,))],
        initializers=[
            numpy_helper.from_array(np.array([1, 2], np.float32), "step"),
            numpy_helper.from_array(np.array(True), "on"),
        ],
    )
    digests = set()
    for name in ("one", "two"):
        built(model, tmp_path / name)
        digests.add(hashlib.sha256((tmp_path / name / "model.xml").read_bytes()).hexdigest())
    assert len(digests) == 1
    with backend.runner(tmp_path / "one") as made:
        found = made.run({"x": np.zeros(2, np.float32), "count": np.array(4, np.int64)})
    np.testing.assert_array_equal(found["y"], [4, 8])


def test_external_data_goes_into_the_artifact(real_model, tmp_path):
    model = tmp_path / "model.onnx"
    onnx.save(
        onnx.load(str(real_model("cls"))),
        str(model),
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=64,
    )
    built(model, tmp_path / "external")
    built(real_model("cls"), tmp_path / "inline")
    for name in ("model.bin", "model.xml"):
        assert (tmp_path / "external" / name).read_bytes() == (
            tmp_path / "inline" / name
        ).read_bytes()


def test_long_chains_of_elementwise_nodes_end(save, tmp_path):
    length = 300
    model = save(
        [
            helper.make_node("Add", [f"t{index}", "t0"], [f"t{index + 1}"], name=f"n{index}")
            for index in range(length)
        ],
        [value("t0", (4,))],
        [value(f"t{length}", (4,))],
    )
    built(model, tmp_path / "out")
    with backend.runner(tmp_path / "out") as made:
        found = made.run({"t0": np.ones(4, np.float32)})
    np.testing.assert_array_equal(found[f"t{length}"], np.full(4, length + 1, np.float32))


def test_options_are_checked(real_model, tmp_path):
    for options in ({"devise": "CPU"}, {"device": "TPU"}, {"blob": "yes"}):
        found = refusals(built, real_model("pnet"), tmp_path / "out", options)
        assert found[0].code == "E310"


def test_a_file_that_is_no_model_is_said(tmp_path):
    model = tmp_path / "model.onnx"
    assert refusals(built, model, tmp_path / "out")[0].code == "E312"
    model.write_bytes(b"no model")
    assert refusals(built, model, tmp_path / "out")[0].code == "E312"


def test_an_incomplete_artifact_does_not_load(real_model, tmp_path):
    assert refusals(backend.runner, tmp_path)[0].code == "E317"
    built(real_model("pnet"), tmp_path / "out")
    (tmp_path / "out" / "model.bin").write_bytes(b"")
    assert refusals(backend.runner, tmp_path / "out")[0].code == "E317"


def test_layer_times_cover_the_graph(real_model, tmp_path):
    model = real_model("squeezenet")
    built(model, tmp_path / "out")
    times = backend.layer_times(tmp_path / "out", feed(model, SIZES["squeezenet"]), repeats=2)
    assert sum(item.op == "Convolution" for item in times) == 26  # SqueezeNet 1.0's convolutions
    assert all(item.provider.startswith("CPU ") and item.mean_ms >= 0 for item in times)


def shared_zero_model(save):
    """A quantized convolution and a matrix product whose weights share one zero point."""
    random = np.random.default_rng(0)
    constants = {
        "filter": random.integers(-127, 127, (32, 32, 3, 3)).astype(np.int8),
        "matrix": random.integers(-127, 127, (12, 32)).astype(np.int8),
        "scales": random.uniform(0.001, 0.002, 32).astype(np.float32),
        "zeros": np.zeros(32, np.int8),
        "scale": np.float32(0.02),
        "zero": np.uint8(128),
    }
    nodes = []
    for given, weight, axis, op, result in (
        ("x", "filter", 0, "Conv", "h"),
        ("h", "matrix", 1, "MatMul", "y"),
    ):
        pair = [f"{given}_q", "scale", "zero"]
        nodes += [
            helper.make_node("QuantizeLinear", [given, "scale", "zero"], pair[:1]),
            helper.make_node("DequantizeLinear", pair, [f"{given}_d"]),
            helper.make_node(
                "DequantizeLinear", [weight, "scales", "zeros"], [weight + "_d"], axis=axis
            ),
            helper.make_node(op, [f"{given}_d", weight + "_d"], [result], name=op.lower()),
        ]
    shapes = {"x": (1, 32, 14, 14), "y": (1, 32, 12, 32)}
    inputs, outputs = ([value(name, shapes[name])] for name in ("x", "y"))
    tensors = [numpy_helper.from_array(np.asarray(item), name) for name, item in constants.items()]
    return save(nodes, inputs, outputs, initializers=tensors)


def test_a_zero_point_that_two_kinds_of_layers_share_leaves_them_integer(save, tmp_path):
    """Read along two axes, it made the plugin compute both layers in float."""
    model = shared_zero_model(save)
    built(model, tmp_path / "out")
    inputs = feed(model, ())
    times = backend.layer_times(tmp_path / "out", inputs, repeats=1)
    kernels = [it.provider for it in times if it.op.startswith(("Convolution", "FullyConnected"))]
    assert len(kernels) == 2 and all("i8" in kernel.lower() for kernel in kernels), kernels
    with reference_runner(model) as plain, backend.runner(tmp_path / "out") as made:
        expected, found = plain.run(inputs)["y"], made.run(inputs)["y"]
    # A step of the product's operand may round the other way, for a few of its 12 terms.
    np.testing.assert_allclose(found, expected, atol=4 * 0.02 * 127 * 0.002)
