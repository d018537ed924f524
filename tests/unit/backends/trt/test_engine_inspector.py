"""What engine inspectors tell, in every layout that there is, and hostile answers.

The samples are composed by us, after the forms that these show: the developer guide's "Engine
Inspector" (8.6, 10.16, 11.4), "Migrating IEngineInspector Usage from TensorRT 10.x to 11.x", and
the public issues NVIDIA/TensorRT #4020 (10.2, both layouts), #4397 (10.x, ``gemm`` and ``kgen``),
#3143 (a DLA core's ``{ForeignNode[...]}``). No engine was inspected for them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onboard_jobs import PROFILE, recipe, small_model

from edgedeploy.backends.trt.inspector import (
    EngineLayers,
    read_layers,
)
from edgedeploy.backends.trt.placed import (
    arithmetic,
    layers_by_node,
    placement,
    read_program,
    report,
)


def tensor(name: str, words: str, dims: list[int] | None = None) -> dict[str, Any]:
    """Return a tensor as 8.6 and 10.x tell it."""
    return {
        "Name": name,
        "Location": "Device",
        "Dimensions": dims or [4, 8, 14, 14],
        "Format/Datatype": words,
    }


def layer(name: str, kind: str, first: Any, second: Any, *nodes: str, **more: Any) -> Any:
    """Return a layer with details; metadata as the parser writes it."""
    metadata = "\x1f".join(f"[ONNX Layer: {node}]" for node in nodes)
    told = {"Name": name, "LayerType": kind, "Inputs": [first], "Outputs": [second]}
    return {**told, "StreamId": 0, "Metadata": metadata, **more}


def encoded(layers: list[Any], **more: Any) -> bytes:
    """Return the inspector's answer."""
    return json.dumps({"Layers": layers, "Bindings": ["x", "y"], **more}).encode()


_IN8 = "Channel major Int8 format where channel % 4 == 0"
_OLD = [
    layer(
        "Reformatting CopyNode for Input Tensor 0 to conv + odd",
        "Reformat",
        tensor("x", "Row major linear FP32", [4, 3, 16, 16]),
        tensor("Reformatted Input Tensor 0 to conv + odd", _IN8, [4, 3, 16, 16]),
        ParameterType="Reformat",
        Origin="REFORMAT",
        TacticValue="0x00000000000003e8",
    ),
    layer(
        "conv + odd",
        "CaskConvolution",
        tensor("Reformatted Input Tensor 0 to conv + odd", _IN8),
        tensor("r", "Thirty-two wide channel vectorized row major Int8 format."),
        "conv",
        "odd",
        Weights={"Type": "Int8", "Count": 216},
        TacticName="sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32",
    ),
    layer(
        "pool",
        "CaskPooling",
        tensor("r", "Row major Int8 format"),
        tensor("g", "Half"),
        "pool",
    ),
    layer(
        "fc_myl0_7",
        "gemm",
        tensor("g", "Half", [4, 8]),
        tensor("y", "Half", [4, 4]),
        "fc",
        TacticName="sm80_xmma_gemm_f16f16_f16f16_f16_nn_n_tilesize32x32x64_stage6",
    ),
]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The artifact of the small model."""
    import onnx

    (tmp_path / "program").mkdir()
    onnx.save(small_model(), str(tmp_path / "program" / "model.onnx"))
    (tmp_path / "program" / "recipe.json").write_text(json.dumps(recipe()))
    return tmp_path


def test_details_of_8_6_and_10() -> None:
    layers = read_layers(encoded(_OLD))
    assert layers.detail == "full"
    moving, conv, pool, product = layers.layers
    assert [item.moves for item in layers.layers] == [True, False, False, False]
    assert [item.dtype for item in layers.layers] == ["float32", "int8", "int8", "float16"]
    assert conv.nodes == ("conv", "odd")
    assert conv.kernel.startswith("sm80_xmma_fprop")
    assert (moving.outputs[0].dtype, moving.inputs[0].dims) == ("int8", (4, 3, 16, 16))
    assert (pool.outputs[0].dtype, product.kind, product.device) == ("float16", "gemm", "gpu")


def test_details_of_11_with_format_and_type_apart() -> None:
    def new(name: str, kind: str) -> dict[str, Any]:
        words = "Row major linear FP16 format (kLINEAR)"
        return {"Name": name, "Dimensions": [1, 8], "Format": words, "DataType": kind}

    told = layer("fc", "gemm", new("f", "Half"), new("y", "Float"), "fc")
    io = [{"Name": "x", "IOMode": "Input", "DataType": "Float", "Dimensions": [1, 3, 16, 16]}]
    data = json.dumps({"Layers": [told], "I/O Tensors": io}).encode()
    (found,) = read_layers(data).layers
    # The type, not what the words for the format may say beside it.
    assert (found.inputs[0].dtype, found.outputs[0].dtype) == ("float16", "float32")


def test_names_alone() -> None:
    """As 8.4 to 10.x write them for engines that were built without details."""
    names = ["Reformatting CopyNode for Input Tensor 0 to conv + odd", "conv + odd", "PWN(pool)"]
    layers = read_layers(encoded([*names, "conv + odd [profile 1]"]))
    assert layers.detail == "names"
    assert [item.nodes for item in layers.layers] == [(), ("conv", "odd"), ("pool",)]
    assert {item.device for item in layers.layers} == {None}
    assert read_layers(encoded([])).detail == "none"


@pytest.mark.parametrize(
    ("more", "dtype"),
    [
        ({"Weights": {"Type": "Half", "Count": 216}}, "float16"),
        ({"TacticName": "sm86_xmma_fprop_implicit_gemm_i8i8_i8i32_f32_nhwc"}, "int8"),
        ({"TacticName": "sm80_xmma_gemm_f16f16_f16f32_f32_tn_n"}, "float16"),
        ({"TacticName": "sm80_xmma_gemm_tf32f32_tf32f32_f32_tn"}, "float32"),
        ({"TacticName": "0x00000000000003e8"}, None),
    ],
)
def test_open_dims_hide_types_and_weights_or_kernels_tell_them(more: Any, dtype: str) -> None:
    """NVIDIA/TensorRT writes "N/A due to dynamic shapes" where no sizes were given."""
    hidden = tensor("x", "N/A due to dynamic shapes", [-1, 3, 16, 16])
    (found,) = read_layers(
        encoded([layer("conv", "CaskConvolution", hidden, hidden, **more)])
    ).layers
    assert found.inputs[0].dtype is None
    assert found.inputs[0].dims == (-1, 3, 16, 16)
    assert found.dtype == dtype


def test_metadata_is_taken_apart() -> None:
    told = layer("a", "kgen", tensor("x", "Half"), tensor("y", "Half"))
    told["Metadata"] = "[ONNX Layer: /a/b.0/MatMul | call (fn)][ONNX Layer: c]\x1e[ONNX Layer: c]"
    told["Name"] = "a\x1fb"
    (found,) = read_layers(encoded([told])).layers
    assert found.nodes == ("/a/b.0/MatMul", "c")
    assert found.name == "a + b"


@pytest.mark.parametrize(
    ("words", "dtype"),
    [
        ("Row major linear UInt8 format", "uint8"),
        ("Row major linear BFloat16 format", "bfloat16"),
        ("Row major linear BOOL", "bool"),
        ("Row major linear Int64 format", "int64"),
        ("Row major linear FP8 format", "float8"),
        ("Float", "float32"),
        ("Unknown format", None),
    ],
)
def test_words_for_types(words: str, dtype: str | None) -> None:
    (found,) = read_layers(
        encoded([layer("a", "k", tensor("x", words), tensor("y", words))])
    ).layers
    assert found.inputs[0].dtype == dtype


def test_a_file_keeps_all_that_is_told() -> None:
    layers = read_layers(encoded(_OLD))
    assert EngineLayers.from_json(json.loads(json.dumps(layers.to_json()))) == layers


def test_nodes_belong_to_what_computes_them(program: Path) -> None:
    graph, layers = read_program(program), read_layers(encoded(_OLD))
    found = {name: item.name for name, item in layers_by_node(graph, layers).items()}
    assert found == {"conv": "conv + odd", "odd": "conv + odd", "pool": "pool", "fc": "fc_myl0_7"}
    (provider,) = placement(graph, layers, "TensorRT 10.3.0 for Orin (SM87)").providers
    assert (provider.supported, len(provider.nodes), provider.partitions) == (5, 5, 4)
    assert provider.notes == (
        "4 layers, 1 of them only convert or reorder",
        "1 nodes are in no layer: folded, or taken out",
    )


def test_multiply_adds_are_those_at_the_sizes_that_the_engine_is_tuned_for(program: Path) -> None:
    graph, layers = read_program(program), read_layers(encoded(_OLD))
    found = arithmetic(graph, layers)
    assert found is not None and not found.stated
    batch = PROFILE["x"]["opt"][0]
    conv, product = found.layers
    # 14 x 14 places, 8 channels, 3 x 3 x 3 weights each; then 8 inputs for each of 4 outputs.
    assert (conv.integer, conv.macs) == (True, batch * 14 * 14 * 8 * 27)
    assert (product.integer, product.macs) == (False, batch * 8 * 4)
    assert found.conversions == 1


def test_an_engine_without_details_tells_nothing_of_integers(program: Path) -> None:
    told = report(program, read_layers(encoded(["conv + odd", "pool", "fc"])).to_json(), "engine")
    assert told["arithmetic"] is None
    assert told["placement"]["providers"][0]["notes"][-1].startswith("the engine tells names")


def test_what_runs_on_a_dla_core(program: Path) -> None:
    """A DLA core's region names its ends alone; layers around it carry data there and back."""
    region = layer(
        "{ForeignNode[conv...pool]}",
        "DLA",
        tensor("x", "Row major linear FP16 format"),
        tensor("g", "Row major linear FP16 format"),
    )
    product = layer("fc", "gemm", tensor("g", "Half"), tensor("y", "Half"), "fc")
    copies = [
        layer(name, "Reformat", tensor("x", "Half"), tensor("x'", "Half"))
        for name in ("x to nvm", "g from nvm")
    ]
    layers = read_layers(encoded([copies[0], region, copies[1], product]))
    assert layers.layers[1].within == ("conv", "pool")
    providers = placement(read_program(program), layers, "engine").to_json()["providers"]
    dla = providers[1]
    assert (dla["provider"], dla["supported"], dla["total"], dla["partitions"]) == ("DLA", 3, 4, 1)
    (left,) = dla["unsupported"]
    assert (left["node"], left["reason"]) == ("fc", "runs on the GPU, in fc")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'{"Layers": {}}',
        b'{"Layers": ["a", {"Name": "b"}]}',
        b'{"Layers": [{"LayerType": "x"}]}',
        b'{"Layers": [{"Name": "a", "Inputs": 3}]}',
        b'{"Layers": [{"Name": "a", "Inputs": [{}]}]}',
        b"[" * 100_000,
    ],
)
def test_what_no_inspector_writes_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_layers(data)


def test_hostile_names_cannot_steer_a_terminal_or_take_long() -> None:
    names = ["a\x1b[31m" * 10_000, "[ONNX Layer: " * 20_000, "{ForeignNode[" * 20_000 + "..."]
    told = [
        layer("x", "k", tensor("x", "Half"), tensor("y", "Half"), Metadata=name) for name in names
    ]
    layers = read_layers(encoded([*told, *({**told[0], "Name": name} for name in names)]))
    for item in layers.layers:
        assert len(item.name) <= 4000 + 100
        assert all(text.isprintable() for text in (item.name, item.kernel, *item.nodes))
        assert len(item.nodes) <= 1000


_KEYS = (
    *("Name", "LayerType", "Inputs", "Outputs", "Dimensions", "Format/Datatype", "Weights"),
    *("Metadata", "TacticName", "Type", "DataType"),
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=5)
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(_JSON)
def test_any_json_is_read_or_refused_in_words(data: Any) -> None:
    for encode in ({"Layers": data}, {"Layers": [data]}, data):
        text = json.dumps(encode).encode()
        try:
            found = read_layers(text)
        except ValueError:
            continue
        assert EngineLayers.from_json(json.loads(json.dumps(found.to_json()))) == found
