"""Programs for TensorRT: what is written, from small and real models."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from backend_models import SIZES, feed, value
from onnx import TensorProto, helper, numpy_helper
from trt_commands import DEFAULTS

from edgedeploy import backends
from edgedeploy.backends.base import CompileReport, Words
from edgedeploy.backends.trt.backend import BACKEND
from edgedeploy.backends.trt.trtexec import build_command
from edgedeploy.errors import BuildError
from edgedeploy.manifest import canonical
from edgedeploy.plan import make_plan
from edgedeploy.profile.load import load_profile
from edgedeploy.profile.types import DimSpec
from edgedeploy.target.library import TargetLibrary
from edgedeploy.toolchain import is_installed

ORIN = {"board.gpu": {"compute_capabilities": ["8.7"], "dla_cores": 2}}
SMALL = [helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1, 1, 1, 1])]


@pytest.fixture
def small(save: Callable[..., Path]) -> Path:
    """A convolution with an open width."""
    weight = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
    return save(
        SMALL,
        [value("x", (1, 3, 48, "width"))],
        [value("y", (1, 4, 48, "width"))],
        initializers=[weight],
    )


def compiled(
    model: Path, folder: Path, options: Mapping[str, Any] | None = None, **more: Any
) -> tuple[CompileReport, dict[str, Any]]:
    folder.mkdir(parents=True)
    report = BACKEND.compile(model, folder, options or {}, ORIN, **more)
    content = (folder / "program/recipe.json").read_bytes()
    recipe = json.loads(content)
    assert content == canonical(recipe)
    return report, recipe


def codes(model: Path, folder: Path, **more: Any) -> list[str]:
    with pytest.raises(BuildError) as raised:
        compiled(model, folder, **more)
    return [item.code for item in raised.value.diagnostics]


def test_a_program_is_the_graph_and_how_to_build_it(small: Path, tmp_path: Path) -> None:
    report, recipe = compiled(small, tmp_path / "a", ranges={"width": (48, 960)})
    assert report.entry == "program/model.onnx"
    assert {(item.role, item.release) for item in report.files} == {("program", False)}
    written = {
        path.relative_to(tmp_path / "a").as_posix() for path in (tmp_path / "a").rglob("*.*")
    }
    assert {item.path for item in report.files} == written
    assert recipe["schema"] == 1 and recipe["strongly_typed"] is True
    assert recipe["precision"] == ["float32"] and recipe["options"] == DEFAULTS
    assert recipe["profiles"] == [
        {"x": {"min": [1, 3, 48, 48], "opt": [1, 3, 48, 504], "max": [1, 3, 48, 960]}}
    ]


def test_the_same_inputs_give_the_same_bytes(small: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        compiled(small, tmp_path / name, ranges={"width": (48, 960)})
    for path in (tmp_path / "a").rglob("*.*"):
        twin = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert path.read_bytes() == twin.read_bytes()


def test_words_of_the_profile_go_into_the_recipe(small: Path, tmp_path: Path) -> None:
    words = Words(dims={"width": DimSpec(low=32, high=96, step=32)}, state=(("h", "h2"),))
    _, recipe = compiled(small, tmp_path / "a", ranges={"width": (1, 999)}, words=words)
    assert recipe["profiles"][0]["x"] == {
        "min": [1, 3, 48, 32],
        "opt": [1, 3, 48, 64],
        "max": [1, 3, 48, 96],
    }
    assert recipe["state"] == [["h", "h2"]]


def test_an_engine_is_tuned_for_a_size_and_holds_for_buckets(small: Path, tmp_path: Path) -> None:
    _, recipe = compiled(small, tmp_path / "a", {"opt": "width=320"}, ranges={"width": (48, 960)})
    assert recipe["profiles"][0]["x"]["opt"] == [1, 3, 48, 320]
    words = Words(dims={"width": DimSpec(buckets=(160, 320))})
    _, recipe = compiled(small, tmp_path / "b", {"buckets": "profiles"}, words=words)
    assert [item["x"]["max"] for item in recipe["profiles"]] == [[1, 3, 48, 160], [1, 3, 48, 320]]
    command = build_command("10.3.0", recipe, model="m", engine="e")
    assert [item for item in command if item.startswith("--profile=")] == [
        "--profile=0",
        "--profile=1",
    ]


def test_a_width_without_limits_is_refused(small: Path, tmp_path: Path) -> None:
    assert codes(small, tmp_path / "a") == ["E335"]


def test_options_are_checked_before_anything_is_written(small: Path, tmp_path: Path) -> None:
    more = {"ranges": {"width": (48, 960)}}
    assert codes(small, tmp_path / "a", options={"dla": 2}, **more) == ["E338"]
    assert codes(small, tmp_path / "b", options={"dla": 0}, **more) == ["E338"]
    assert codes(small, tmp_path / "c", options={"int8": True}, **more) == ["E310"]
    assert not any((tmp_path / "a").iterdir())


def test_what_a_user_must_know_is_noted(small: Path, tmp_path: Path) -> None:
    more = {"ranges": {"width": (48, 960)}}
    plain, _ = compiled(small, tmp_path / "a", **more)
    loose, recipe = compiled(small, tmp_path / "b", {"tf32": True}, **more)
    portable, _ = compiled(small, tmp_path / "c", {"version_compatible": True}, **more)
    assert plain.notes == () and recipe["options"]["tf32"] is True
    assert "tf32" in loose.notes[0] and "engine_host_code_allowed" in portable.notes[0]


def test_a_float16_graph_says_which_nodes_stay_in_float32(half_model: Path, tmp_path: Path) -> None:
    """Checked against the types of their first inputs, inferred here."""
    model = onnx.load(str(half_model))
    _, recipe = compiled(half_model, tmp_path / "a", ranges=_ranges(model))
    types = _types(model)
    floats = [
        node.name
        for node in model.graph.node
        if node.op_type not in ("Cast", "Constant", "Shape")
        and types.get(node.input[0]) == TensorProto.FLOAT
    ]
    assert recipe["precision"] == ["float16", "float32"]
    assert recipe["layers"]["default"] == "float16"
    assert sorted(recipe["layers"]["exceptions"]) == sorted(floats)
    command = build_command("8.6.1", recipe, model="m", engine="e")
    assert "--fp16" in command and "--precisionConstraints=obey" in command


def test_a_node_that_is_kept_in_float_is_told_by_name(
    save: Callable[..., Path], tmp_path: Path
) -> None:
    half, single = TensorProto.FLOAT16, TensorProto.FLOAT
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="first"),
        helper.make_node("Abs", ["a"], ["b"], name="second"),
        helper.make_node("Cast", ["b"], ["c"], name="up", to=single),
        helper.make_node("Exp", ["c"], ["d"], name="kept"),
        helper.make_node("Cast", ["d"], ["y"], name="down", to=half),
    ]
    model = save(nodes, [value("x", (1, 4), half)], [value("y", (1, 4), half)])
    _, recipe = compiled(model, tmp_path / "a")
    assert recipe["layers"] == {"default": "float16", "exceptions": {"kept": "float32"}}
    command = build_command("8.6.1", recipe, model="m", engine="e")
    assert "--layerPrecisions=*:fp16,kept:fp32" in command


def _ranges(model: onnx.ModelProto) -> dict[str, tuple[int, int]]:
    dims = [dim for item in model.graph.input for dim in item.type.tensor_type.shape.dim]
    return {dim.dim_param: (1, 64) for dim in dims if dim.dim_param}


def _types(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model)
    found = {item.name: item.data_type for item in inferred.graph.initializer}
    for item in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        found[item.name] = item.type.tensor_type.elem_type
    return found


def test_unsigned_activations_are_refused(quantized_model: Path, tmp_path: Path) -> None:
    """TensorRT would read them as signed numbers."""
    ranges = _ranges(onnx.load(str(quantized_model)))
    assert set(codes(quantized_model, tmp_path / "a", ranges=ranges)) == {"E329"}


def test_int8_is_stated_where_both_operands_have_scales(
    save: Callable[..., Path], tmp_path: Path
) -> None:
    """One convolution of two, and its multiply-adds."""
    model = _quantized(save)
    _, recipe = compiled(model, tmp_path / "a")
    assert recipe["precision"] == ["float32", "int8"] and recipe["profiles"] == []
    found = BACKEND.arithmetic(tmp_path / "a", {"x": np.ones((1, 3, 8, 8), np.float32)})
    assert found.stated and found.conversions == 3
    layers = {item.name: (item.integer, item.macs) for item in found.layers}
    assert layers == {
        "quantized": (True, 8 * 8 * 4 * 3 * 9),
        "plain": (False, 8 * 8 * 4 * 4 * 9),
    }
    assert "--int8" in build_command("8.6.1", recipe, model="m", engine="e")


def _quantized(save: Callable[..., Path]) -> Path:
    scale = numpy_helper.from_array(np.float32(0.1), "s")
    zero = numpy_helper.from_array(np.int8(0), "z")
    first = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.int8), "w1")
    second = numpy_helper.from_array(np.ones((4, 4, 3, 3), np.float32), "w2")
    pads = [1, 1, 1, 1]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"], name="q"),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"], name="dx"),
        helper.make_node("DequantizeLinear", ["w1", "s", "z"], ["wd"], name="dw"),
        helper.make_node("Conv", ["xd", "wd"], ["c"], name="quantized", pads=pads),
        helper.make_node("Conv", ["c", "w2"], ["y"], name="plain", pads=pads),
    ]
    return save(
        nodes,
        [value("x", (1, 3, 8, 8))],
        [value("y", (1, 4, 8, 8))],
        initializers=[scale, zero, first, second],
    )


def test_real_models_become_programs_for_every_release(
    real_model: Callable[[str], Path], tmp_path: Path
) -> None:
    """And what the recipes say can be told to all three lines of TensorRT."""
    for name in ("cls", "magika", "pnet"):
        model = real_model(name)
        _, recipe = compiled(model, tmp_path / name, ranges=_ranges(onnx.load(str(model))))
        for version in ("8.6.1", "10.3.0", "11.5.0"):
            command = build_command(version, recipe, model="m", engine="e")
            assert ("--stronglyTyped" in command) is (version == "10.3.0")


def test_a_program_runs_here_as_it_stands(
    real_model: Callable[[str], Path], tmp_path: Path
) -> None:
    model = real_model("cls")
    compiled(model, tmp_path / "a", ranges=_ranges(onnx.load(str(model))))
    with BACKEND.runner(tmp_path / "a") as runner:
        outputs = runner.run(feed(model, SIZES["cls"]))
        assert runner.evidence == "interpreted"
    assert all(np.isfinite(array).all() for array in outputs.values())


def test_the_preflight_gives_a_hint_and_no_judgement(small: Path) -> None:
    """The parser of TensorRT for RTX is another product's: its name in reports says so."""
    engine, *hints = BACKEND.preflight(small, ORIN).providers
    assert engine.provider == "TensorRT" and not engine.judged and engine.nodes == ()
    assert len(hints) == is_installed("tensorrt-rtx-cu13-libs")
    for hint in hints:
        assert hint.provider == "TensorRT-RTX (a hint)" and hint.notes
        assert [(node.op, node.supported) for node in hint.nodes] == [("ai.onnx:Conv", True)]


def test_what_gives_the_hint_is_part_of_the_key(small: Path, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        f"edgedeploy: 1\nname: p\nmodel: {{source: {small.relative_to(tmp_path)},"
        " dims: {width: 48..96}}\nquantize: none\ntargets: [jetson-orin-nano/tensorrt]\n"
    )
    profile = load_profile(tmp_path / "p.yaml")
    target = TargetLibrary(project=tmp_path).load("jetson-orin-nano/tensorrt")
    item = make_plan(profile, {target.id: target}).items[0]
    node = item.candidates[0].compiled
    hint = "tensorrt-rtx-cu13-libs"
    assert (hint in node.tools) is is_installed(hint)
    assert node.params["words"] and node.params["options"]["compile_on"] == "device"
    assert not is_installed("no-such-distribution")


def test_the_family_is_that_of_the_target() -> None:
    family = backends.FAMILIES["tensorrt"]
    assert family.on_device and family.wants_words
    assert backends.load("tensorrt") is BACKEND
