"""The TensorRT-RTX backend with its real parser and builder, which need no GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from rtx_models import (
    FLOAT,
    HALF,
    blocks,
    convolution,
    graph,
    many_refusals,
    numbers,
    packed,
    pair,
    passed,
    product,
    quantized_bias,
    save,
    tensor,
)

from edgedeploy.backends import load
from edgedeploy.backends.base import CompileReport
from edgedeploy.backends.ortmobile.graph import read_graph
from edgedeploy.backends.rtx.build import Wish, build_engine
from edgedeploy.backends.rtx.capabilities import KNOWN, capability_findings
from edgedeploy.errors import BuildError

pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT for RTX")

FP8 = TensorProto.FLOAT8E4M3FN
ROOT = Path(__file__).parents[4]
BACKEND = load("tensorrt-rtx")


def fields(*capabilities: str) -> dict[str, Any]:
    return {"board.gpu": {"compute_capabilities": list(capabilities)}}


def made(model: onnx.ModelProto, folder: Path, *capabilities: str, **words: Any) -> CompileReport:
    """Compile a model in ``folder/given`` into ``folder/made``."""
    out = folder / "made"
    out.mkdir(parents=True)
    options = words.pop("options", {})
    source = save(model, folder / "given")
    return BACKEND.compile(source, out, options, fields(*(capabilities or ["8.9"])), **words)


def refusals(model: onnx.ModelProto, folder: Path, *capabilities: str, **words: Any) -> list[Any]:
    with pytest.raises(BuildError) as caught:
        made(model, folder, *capabilities, **words)
    return list(caught.value.diagnostics)


def dynamic(size: str = "W") -> onnx.ModelProto:
    node = helper.make_node("Relu", ["x"], ["y"], name="relu")
    return graph([node], [tensor("x", FLOAT, [1, size])], [tensor("y", FLOAT, [1, size])])


def test_an_artifact_holds_the_engine_and_its_program(tmp_path: Path) -> None:
    report = made(product(), tmp_path, "8.6", "8.9", "12.0")
    assert (tmp_path / "made/model.engine").read_bytes()[:4].isalpha()
    files = {file.path: (file.role, file.release) for file in report.files}
    assert files == {"model.engine": ("model", True), "program/model.onnx": ("program", False)}
    capabilities = ["8.6", "8.9", "12.0"]
    assert report.metadata["compute_capabilities"] == capabilities


def test_open_dims_become_optimisation_profiles(tmp_path: Path) -> None:
    report = made(dynamic(), tmp_path, ranges={"W": (160, 640)}, options={"opt": "W=320"})
    assert report.metadata["profiles"] == [
        {"x": {"min": [1, 160], "opt": [1, 320], "max": [1, 640]}}
    ]
    (found,) = refusals(dynamic(), tmp_path / "open")
    assert found.code == "E335" and "axis 1 of 'x'" in found.message


def test_an_input_that_decides_on_shapes_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Reshape", ["x", "to"], ["y"], name="reshape")
    inputs = [tensor("x", FLOAT, [8, 4]), tensor("to", TensorProto.INT64, [2])]
    model = graph([node], inputs, [tensor("y", FLOAT, ["a", "b"])])
    (found,) = refusals(model, tmp_path)
    assert (found.code, found.subject) == ("E335", "to") and "value" in found.hint


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"refit": True}, "no option 'refit'"),
        ({"opt": "W"}, "no dim with a size"),
        ({"workspace": "1 furlong"}, "workspace"),
        ({"buckets": "many"}, "cannot be 'many'"),
    ],
)
def test_options_that_do_not_exist_are_refused(
    options: Mapping[str, Any], told: str, tmp_path: Path
) -> None:
    (found,) = refusals(product(), tmp_path, options=options)
    assert found.code == "E310" and told in found.message


def test_too_little_workspace_names_the_option(tmp_path: Path) -> None:
    (found,) = refusals(product(), tmp_path, options={"workspace": "1 KiB"})
    assert found.code == "E328" and "`workspace`" in (found.hint or "")


def test_options_reach_the_engine(tmp_path: Path) -> None:
    engines = set()
    settings = [{}, {"tf32": True}, {"weight_streaming": True}, {"workspace": "1 GiB"}]
    for number, options in enumerate([*settings, {"layer_details": True}]):
        made(product(), tmp_path / str(number), options=options)
        engines.add((tmp_path / str(number) / "made/model.engine").read_bytes())
    assert len(engines) == 5


SILENT = {
    "uint8": pair(TensorProto.UINT8, 0),
    "uint8 unsaid": pair(zero=None),
    "float64": passed(TensorProto.DOUBLE),
}


@pytest.mark.parametrize("name", SILENT)
def test_the_builder_takes_what_it_computes_otherwise(name: str, tmp_path: Path) -> None:
    """Why these are refused here: left to TensorRT, they become engines."""
    source = save(SILENT[name], tmp_path)
    build_engine(source, tmp_path / "engine", Wish(capabilities=["8.9"]))
    assert (tmp_path / "engine").stat().st_size > 1000
    (first, *_) = refusals(SILENT[name], tmp_path / "refused")
    assert first.code == "E329"


VERDICTS = [
    ("fp8", lambda: pair(FP8, weight_kind=FP8), "8.6", "8.9"),
    ("int4", blocks, "7.5", "8.0"),
    ("bfloat16", lambda: product(TensorProto.BFLOAT16), "7.5", "8.0"),
    ("fp4", lambda: passed(TensorProto.FLOAT4E2M1), "8.9", "12.0"),
    ("product", product, "7.5", "8.0"),
    ("3D", lambda: convolution(3), "7.5", "8.0"),
]


@pytest.mark.parametrize(("make", "without", "least"), [it[1:] for it in VERDICTS])
def test_what_a_capability_lacks_is_known_before_the_builder_says_it(
    make: Any, without: str, least: str, tmp_path: Path
) -> None:
    source = save(make(), tmp_path)
    facts = read_graph(source)
    (found,) = capability_findings([without], facts)
    assert found.code == "E334" and found.subject in {node.name for node in facts.nodes}
    assert capability_findings([least], facts) == ()
    with pytest.raises(BuildError) as caught:
        build_engine(source, tmp_path / "engine", Wish(capabilities=[without]))
    (told,) = caught.value.diagnostics
    assert told.code == "E328" and "/_src/" not in told.message
    build_engine(source, tmp_path / "engine", Wish(capabilities=[least]))


@pytest.mark.parametrize(
    "make", [lambda: product(HALF), lambda: convolution(2), lambda: pair(scale_kind=HALF)]
)
def test_turing_takes_the_rest(make: Any, tmp_path: Path) -> None:
    assert made(make(), tmp_path, "7.5").entry


def test_capabilities_are_those_of_the_builder(tmp_path: Path) -> None:
    import tensorrt_rtx_bindings as trt

    names = [name[2:] for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    assert sorted(names) == sorted(item.replace(".", "") for item in KNOWN)
    found = refusals(product(), tmp_path, "8.7", "8.9", "9.0", "10.0")
    assert [item.subject for item in found] == ["8.7", "9.0", "10.0"]


def test_every_node_that_the_parser_refuses_is_named(tmp_path: Path) -> None:
    placement = BACKEND.preflight(save(many_refusals(), tmp_path), fields("8.9"))
    (provider,) = placement.providers
    found = {node.node: node.reason for node in provider.nodes if not node.supported}
    assert list(found) == ["shift", "bad_form", "uniq", "foo", "branch", "branch/inner_det"]
    assert "no importer" in (found["uniq"] or "") and "plugin" in (found["foo"] or "")
    assert "type Int32" in (found["bad_form"] or "")
    assert found["branch"] == "its body holds inner_det, which is refused"
    assert provider.partitions == 3 and provider.supported == 4
    codes = {item.subject: item.code for item in placement.diagnostics}
    assert codes.pop("bad_form") == "E329"  # said once, in the words of the check before
    assert codes == dict.fromkeys(["shift", "uniq", "foo", "branch/inner_det"], "E327")


def test_a_compile_names_them_too(tmp_path: Path) -> None:
    model = many_refusals()
    del model.graph.node[2]
    model.graph.node[2].input[1] = "a"
    found = refusals(model, tmp_path)
    assert [item.subject for item in found] == ["shift", "uniq", "foo", "branch/inner_det"]


def test_a_whole_graph_is_one_partition(tmp_path: Path) -> None:
    (provider,) = BACKEND.preflight(save(packed(64)[0], tmp_path), fields("8.9")).providers
    assert provider.partitions == 1 and provider.supported == len(provider.nodes) == 2


def test_quantized_biases_are_refused_before_the_parser(tmp_path: Path) -> None:
    (found,) = refusals(quantized_bias(), tmp_path)
    assert (found.code, found.subject) == ("E329", "bdq")


def test_a_missing_builder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgedeploy.backends.rtx.build.is_installed", lambda: False)
    (found,) = refusals(product(), tmp_path)
    assert found.code == "E326" and "pip install" in found.hint


# Two outputs whose order in the engine follows their addresses, if one lets it.
TWO = """
import json, sys
from pathlib import Path
sys.path[:0] = json.loads(sys.argv[1])
from edgedeploy.backends import load
model, out = Path(sys.argv[2]), Path(sys.argv[3])
gpu = {"compute_capabilities": ["8.6"]}
load("tensorrt-rtx").compile(model, out, {}, {"board.gpu": gpu})
"""


def recurrent() -> onnx.ModelProto:
    """An LSTM with its state: of equal graphs like it the builder makes unequal engines."""
    from onnx import numpy_helper

    weights = [
        numpy_helper.from_array(numbers(1, 4 * SIDE, SIDE), "w"),
        numpy_helper.from_array(numbers(1, 4 * SIDE, SIDE), "r"),
    ]
    make = helper.make_node
    nodes = [
        make("LSTM", ["x", "w", "r", "", "", "h", "c"], ["all", "hn", "cn"], "l", hidden_size=SIDE),
        make("Sigmoid", ["all"], ["output"], name="sigmoid"),
        make("Concat", ["hn", "cn"], ["state"], name="join", axis=0),
    ]
    state = [tensor(name, FLOAT, [1, 1, SIDE]) for name in ("h", "c")]
    outputs = [tensor("output", FLOAT, [4, 1, 1, SIDE]), tensor("state", FLOAT, [2, 1, SIDE])]
    return graph(nodes, [tensor("x", FLOAT, [4, 1, SIDE]), *state], outputs, weights)


SIDE = 64


def test_equal_inputs_give_equal_engines_wherever_they_are_built(tmp_path: Path) -> None:
    engines = set()
    for number, folder in enumerate(("a", "a-much-longer-name-for-a-folder" * 5, "c", "d")):
        place = tmp_path / folder
        source = save(recurrent(), place / "given")
        out = place / "made"
        out.mkdir()
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONHASHSEED": str(number),
            "HOME": str(place),
            "OTHER": "x" * 5000 * number,
        }
        arguments = [json.dumps([str(ROOT)]), str(source), str(out)]
        subprocess.run(
            [sys.executable, "-c", TWO, *arguments],
            env=environment,
            cwd=place,
            check=True,
            timeout=300,
        )
        engines.add((out / "model.engine").read_bytes())
    assert len(engines) == 1


def test_a_build_that_failed_leaves_no_mark_on_the_next(tmp_path: Path) -> None:
    """In one process the engine after a refused one is another, and larger."""
    source = save(product(), tmp_path / "given")
    build_engine(source, tmp_path / "before", Wish(capabilities=["8.6"]))
    with pytest.raises(BuildError):
        build_engine(source, tmp_path / "refused", Wish(capabilities=["7.5"]))
    build_engine(source, tmp_path / "after", Wish(capabilities=["8.6"]))
    assert (tmp_path / "before").read_bytes() == (tmp_path / "after").read_bytes()
    assert not (tmp_path / "refused").exists()


def test_the_page_names_the_operators_without_importer() -> None:
    import tensorrt_rtx_bindings as trt

    text = (ROOT / "docs/tensorrt-rtx.md").read_text(encoding="utf-8")
    said = text.partition("<!-- operators -->")[2].partition("<!-- /operators -->")[0]
    builder = trt.Builder(trt.Logger(trt.Logger.INTERNAL_ERROR))
    parser = trt.OnnxParser(builder.create_network(1), trt.Logger(trt.Logger.INTERNAL_ERROR))
    known = {schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}
    assert {it.strip() for it in said.split(",")} == {
        name for name in known if not parser.supports_operator(name)
    }
