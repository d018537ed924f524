"""Folding of scales and shifts into weights, and of constants, against the runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nasty
import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from edgedeploy.passes.equality import verify_equal
from edgedeploy.passes.normalise import NormaliseOptions, normalise
from edgedeploy.passes.optimise import optimise

RNG = np.random.default_rng(11)


def weight(name: str, *shape: int) -> onnx.TensorProto:
    return nh.from_array(RNG.uniform(0.2, 1.0, shape).astype(np.float32), name)


def info(name: str, dims: Any = None, kind: int = T.FLOAT) -> onnx.ValueInfoProto:
    return h.make_tensor_value_info(name, kind, dims)


def optimised(source: Path, folder: Path) -> dict[str, int]:
    for part in ("normal", "fast"):
        (folder / part).mkdir()
    normalise(source, folder / "normal", NormaliseOptions())
    report = optimise(folder / "normal" / "model.onnx", folder / "fast")
    return dict(report.facts.ops)


def made(folder: Path) -> onnx.GraphProto:
    return onnx.load(folder / "fast" / "model.onnx").graph


def same(source: Path, folder: Path, feed: dict[str, np.ndarray]) -> bool:
    found = verify_equal(source, folder / "fast" / "model.onnx", [feed], rtol=1e-5, atol=1e-5)
    return found.equal


BN = [weight(name, 6) for name in ("gamma", "beta", "mean", "var")]
IMAGE = {"x": RNG.normal(0, 1, (2, 4, 5, 5)).astype(np.float32)}


@pytest.mark.parametrize(
    ("op", "shape", "group", "bias"),
    [
        ("Conv", (6, 4, 3, 3), 1, True),
        ("Conv", (6, 2, 3, 3), 2, False),
        ("ConvTranspose", (4, 6, 2, 2), 1, False),
        ("ConvTranspose", (4, 3, 2, 2), 2, True),
    ],
)
def test_batch_norm_and_arithmetic_fold(
    op: str, shape: tuple[int, ...], group: int, bias: bool, tmp_path: Path
) -> None:
    inputs = ["x", "w", "b"] if bias else ["x", "w"]
    nodes = [
        h.make_node(op, inputs, ["c"], group=group, name="conv"),
        h.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["n"]),
        h.make_node("Mul", ["scale", "n"], ["m"]),
        h.make_node("Add", ["m", "shift"], ["y"]),
    ]
    weights = [weight("w", *shape), *BN, weight("scale", 1, 6, 1, 1), weight("shift")]
    weights += [weight("b", 6)] if bias else []
    source = nasty.write(tmp_path, nodes, [info("x", ["N", 4, 5, 5])], [info("y")], weights)
    assert optimised(source, tmp_path) == {op: 1}
    assert same(source, tmp_path, IMAGE)


@pytest.mark.parametrize(
    ("first", "second"),
    [(("Sub", "c", "k"), ("Div", "m", "d")), (("Sub", "k", "c"), ("Add", "d", "m"))],
)
def test_differences_and_quotients_fold(
    first: tuple[str, str, str], second: tuple[str, str, str], tmp_path: Path
) -> None:
    nodes = [
        h.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        h.make_node(first[0], first[1:], ["m"]),
        h.make_node(second[0], second[1:], ["y"]),
    ]
    weights = [weight("w", 6, 4, 3, 3), weight("k", 6, 1, 1), weight("d", 1, 6, 1, 1)]
    source = nasty.write(tmp_path, nodes, [info("x", ["N", 4, 5, 5])], [info("y")], weights)
    assert optimised(source, tmp_path) == {"Conv": 1}
    assert same(source, tmp_path, IMAGE)


def test_names_of_layer_and_surviving_tensors_stay(tmp_path: Path) -> None:
    nodes = [
        h.make_node("Conv", ["x", "w", "b"], ["c"], name="conv"),
        h.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["n"], name="bn"),
        h.make_node("Relu", ["n"], ["y"], name="relu"),
    ]
    weights = [weight("w", 6, 4, 3, 3), weight("b", 6), *BN]
    source = nasty.write(tmp_path, nodes, [info("x", ["N", 4, 5, 5])], [info("y")], weights)
    optimised(source, tmp_path)
    graph = made(tmp_path)
    assert [(node.name, *node.output) for node in graph.node] == [
        ("conv", "n"),
        ("relu", "y"),
    ]
    assert list(graph.node[0].input) == ["x", "w", "b"]
    assert {tensor.name for tensor in graph.initializer} == {"w", "b"}


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_factors_fold(transposed: int, tmp_path: Path) -> None:
    gemm = h.make_node("Gemm", ["x", "w", "b"], ["g"], alpha=0.5, beta=2.0, transB=transposed)
    nodes = [gemm, h.make_node("Mul", ["g", "scale"], ["y"])]
    weights = [weight("w", *((6, 4) if transposed else (4, 6))), weight("b"), weight("scale", 6)]
    source = nasty.write(tmp_path, nodes, [info("x", ["N", 4])], [info("y")], weights)
    assert optimised(source, tmp_path) == {"Gemm": 1}
    assert not {"alpha", "beta"} & {item.name for item in made(tmp_path).node[0].attribute}
    assert same(source, tmp_path, {"x": IMAGE["x"][:, :, 0, 0]})


def test_gemm_with_a_bias_per_row_stays(tmp_path: Path) -> None:
    """As many rows as channels: the sizes agree, the axes do not."""
    nodes = [
        h.make_node("Gemm", ["x", "w", "b"], ["g"], beta=2.0),
        h.make_node("Mul", ["g", "scale"], ["y"]),
    ]
    weights = [weight("w", 4, 6), weight("b", 6, 1), weight("scale", 6)]
    source = nasty.write(tmp_path, nodes, [info("x", [6, 4])], [info("y")], weights)
    assert optimised(source, tmp_path) == {"Gemm": 1, "Mul": 1}
    assert same(source, tmp_path, {"x": RNG.normal(0, 1, (6, 4)).astype(np.float32)})


@pytest.mark.parametrize(("dims", "ops"), [(["N", 4], {"Gemm": 1}), (["N", 2, 4], None)])
def test_matmul_and_bias_are_a_gemm_where_both_are_matrices(
    dims: list[Any], ops: dict[str, int] | None, tmp_path: Path
) -> None:
    nodes = [
        h.make_node("MatMul", ["x", "w"], ["m"], name="dense"),
        h.make_node("Add", ["b", "m"], ["a"], name="bias"),
        h.make_node("Mul", ["a", "scale"], ["y"]),
    ]
    weights = [weight("w", 4, 6), weight("b", 6), weight("scale", 6)]
    source = nasty.write(tmp_path, nodes, [info("x", dims)], [info("y")], weights)
    assert optimised(source, tmp_path) == (ops or {"MatMul": 1, "Add": 1, "Mul": 1})
    assert made(tmp_path).node[0].name == "dense"
    shape = (3, *dims[1:])
    assert same(source, tmp_path, {"x": RNG.normal(0, 1, shape).astype(np.float32)})


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_takes_scale_and_shift(transposed: int, tmp_path: Path) -> None:
    nodes = [
        h.make_node("Gemm", ["x", "w"], ["g"], transB=transposed),
        h.make_node("Mul", ["g", "scale"], ["m"]),
        h.make_node("Add", ["m", "shift"], ["y"]),
    ]
    weights = [weight("w", *((6, 4) if transposed else (4, 6))), weight("scale", 6)]
    weights.append(weight("shift", 1, 6))
    source = nasty.write(tmp_path, nodes, [info("x", ["N", 4])], [info("y")], weights)
    assert optimised(source, tmp_path) == {"Gemm": 1}
    assert same(source, tmp_path, {"x": IMAGE["x"][:, :, 0, 0]})


def test_shared_weight_is_not_scaled_for_others(tmp_path: Path) -> None:
    nodes = [
        h.make_node("Conv", ["x", "w"], ["a"], name="first"),
        h.make_node("BatchNormalization", ["a", "gamma", "beta", "mean", "var"], ["y"]),
        h.make_node("Conv", ["x", "w"], ["z"], name="second"),
    ]
    weights = [weight("w", 6, 4, 1, 1), *BN]
    outputs = [info("y"), info("z")]
    source = nasty.write(tmp_path, nodes, [info("x", ["N", 4, 5, 5])], outputs, weights)
    assert optimised(source, tmp_path) == {"Conv": 2}
    assert same(source, tmp_path, IMAGE)


def test_a_large_shared_weight_is_shifted_but_not_copied(tmp_path: Path) -> None:
    nodes = [
        h.make_node("Gemm", ["x", "w"], ["a"], name="scaled"),
        h.make_node("Mul", ["a", "c"], ["y"]),
        h.make_node("Gemm", ["x", "w"], ["b"], name="shifted"),
        h.make_node("Add", ["b", "c"], ["z"]),
    ]
    weights = [weight("w", 4, (1 << 16) + 1), weight("c")]
    outputs = [info("y"), info("z")]
    source = nasty.write(tmp_path, nodes, [info("x", ["N", 4])], outputs, weights)
    assert optimised(source, tmp_path) == {"Gemm": 2, "Mul": 1}
    assert same(source, tmp_path, {"x": IMAGE["x"][:, :, 0, 0]})


def test_half_precision_constants_that_would_overflow_do_not_fold(tmp_path: Path) -> None:
    half = [
        nh.from_array(np.full(dims, value, np.float16), name)
        for name, dims, value in (("w", (6, 4, 1, 1), 300), ("k", (), 300), ("d", (), 1 / 300))
    ]
    nodes = [
        h.make_node("Conv", ["x", "w"], ["c"]),
        h.make_node("Mul", ["c", "k"], ["y"]),
        h.make_node("Conv", ["x", "w"], ["e"]),
        h.make_node("Mul", ["e", "d"], ["z"]),
    ]
    outputs = [info("y", kind=T.FLOAT16), info("z", kind=T.FLOAT16)]
    inputs = [info("x", ["N", 4, 5, 5], T.FLOAT16)]
    source = nasty.write(tmp_path, nodes, inputs, outputs, half)
    assert optimised(source, tmp_path) == {"Conv": 2, "Mul": 1}


def test_quotient_by_zero_does_not_fold(tmp_path: Path) -> None:
    nodes = [h.make_node("Conv", ["x", "w"], ["c"]), h.make_node("Div", ["c", "zero"], ["y"])]
    weights = [weight("w", 6, 4, 1, 1), nh.from_array(np.zeros((6, 1, 1), np.float32), "zero")]
    source = nasty.write(tmp_path, nodes, [info("x", ["N", 4, 5, 5])], [info("y")], weights)
    assert optimised(source, tmp_path) == {"Conv": 1, "Div": 1}


@pytest.mark.parametrize("case", ["output", "used twice", "spatial constant"])
def test_what_must_not_fold(case: str, tmp_path: Path) -> None:
    shift = weight("shift", 1, 1, 5, 5) if case == "spatial constant" else weight("shift", 6, 1, 1)
    nodes = [h.make_node("Conv", ["x", "w"], ["c"]), h.make_node("Add", ["c", "shift"], ["y"])]
    outputs = [info("y")]
    if case == "output":
        outputs.append(info("c"))
    elif case == "used twice":
        nodes.append(h.make_node("Relu", ["c"], ["z"]))
        outputs.append(info("z"))
    weights = [weight("w", 6, 4, 1, 1), shift]
    source = nasty.write(tmp_path, nodes, [info("x", ["N", 4, 5, 5])], outputs, weights)
    assert optimised(source, tmp_path)["Add"] == 1
    assert same(source, tmp_path, IMAGE)


def test_quantization_nodes_stay(tmp_path: Path) -> None:
    quantized = nh.from_array(RNG.integers(-9, 9, (4, 4)).astype(np.int8), "q")
    nodes = [
        h.make_node("DequantizeLinear", ["q", "s"], ["w"]),
        h.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    source = nasty.write(
        tmp_path, nodes, [info("x", ["N", 4])], [info("y")], [quantized, weight("s")]
    )
    assert optimised(source, tmp_path) == {"DequantizeLinear": 1, "MatMul": 1}


@pytest.mark.parametrize(
    ("elements", "folds"), [(1000, True), (1 << 18, True), ((1 << 18) + 1, False)]
)
def test_growth_decides_what_is_stored(elements: int, folds: bool, tmp_path: Path) -> None:
    shape = nh.from_array(np.array([elements]), "shape")
    nodes = [
        h.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        h.make_node("Add", ["x", "zeros"], ["y"]),
    ]
    source = nasty.write(tmp_path, nodes, [info("x", [1])], [info("y")], [shape])
    (tmp_path / "out").mkdir()
    report = normalise(source, tmp_path / "out", NormaliseOptions())
    assert ("ConstantOfShape" not in report.facts.ops) == folds


def test_large_transpose_of_a_weight_folds_but_not_of_a_shared_one(tmp_path: Path) -> None:
    big = weight("w", 600, 700)
    nodes = [
        h.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        h.make_node("MatMul", ["x", "t"], ["y"]),
    ]
    (tmp_path / "out").mkdir()
    (tmp_path / "both").mkdir()
    source = nasty.write(tmp_path, nodes, [info("x", [1, 700])], [info("y")], [big])
    assert normalise(source, tmp_path / "out", NormaliseOptions()).facts.ops == {"MatMul": 1}
    nodes.append(h.make_node("Gather", ["w", "i"], ["g"]))
    source = nasty.write(
        tmp_path,
        nodes,
        [info("x", [1, 700]), info("i", [1], T.INT64)],
        [info("y"), info("g")],
        [big],
    )
    assert "Transpose" in normalise(source, tmp_path / "both", NormaliseOptions()).facts.ops


def test_shape_arithmetic_folds_where_the_dims_are_known(tmp_path: Path) -> None:
    nodes = [
        h.make_node("Shape", ["x"], ["s"]),
        h.make_node("Gather", ["s", "one"], ["c"]),
        h.make_node("Unsqueeze", ["c", "zero"], ["d"]),
        h.make_node("Concat", ["minus", "d"], ["t"], axis=0),
        h.make_node("Reshape", ["x", "t"], ["y"]),
    ]
    weights = [
        nh.from_array(np.array(1), "one"),
        nh.from_array(np.array([0]), "zero"),
        nh.from_array(np.array([-1]), "minus"),
    ]
    source = nasty.write(tmp_path, nodes, [info("x", ["N", 6, "H"])], [info("y")], weights)
    (tmp_path / "out").mkdir()
    report = normalise(source, tmp_path / "out", NormaliseOptions())
    assert report.facts.ops == {"Reshape": 1}
    assert report.facts.signature.outputs[0].dims is not None
    assert report.facts.signature.outputs[0].dims[1] == 6
