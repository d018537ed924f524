"""Converting operators between opsets keeps what they compute, or refuses by name."""

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

from edgedeploy.errors import ModelError
from edgedeploy.passes.equality import verify_equal
from edgedeploy.passes.normalise import NormaliseOptions, normalise

X = {"x": (2, 3, 4, 6)}
GRID = np.random.default_rng(5).uniform(-1, 1, (2, 3, 3, 2)).astype(np.float32)
BOXES = np.array([[0, 0, 3, 3], [1, 1, 4, 3]], np.float32)


def single(op: str, opset: int, weights: dict[str, Any], outputs: int, **attributes: Any):
    """Return a maker of a model of one node whose first input is ``x``."""

    def make(folder: Path) -> Path:
        names = [f"y{index}" for index in range(outputs)]
        node = h.make_node(op, ["x", *weights], names, name="node", **attributes)
        return nasty.write(
            folder,
            [node],
            [h.make_tensor_value_info("x", T.FLOAT, X["x"])],
            [h.make_empty_tensor_value_info(name) for name in names],
            [nh.from_array(np.asarray(array), name) for name, array in weights.items()],
            opset=opset,
            ir=4,
        )

    return make


CASES = {
    "clip": (single("Clip", 7, {}, 1, min=-0.5, max=0.25), 17),
    "clip without limits": (single("Clip", 7, {}, 1), 17),
    "pad reflect": (single("Pad", 9, {}, 1, mode="reflect", pads=[0, 0, 1, 2, 0, 0, 0, 1]), 17),
    "slice": (single("Slice", 9, {}, 1, starts=[1, -3], ends=[9, 5], axes=[1, 3]), 17),
    "top-k": (single("TopK", 9, {}, 2, k=2, axis=3), 17),
    "split": (single("Split", 11, {}, 2, axis=1, split=[1, 2]), 18),
    "split evenly": (single("Split", 11, {}, 3, axis=1), 18),
    "softmax default axis": (single("Softmax", 11, {}, 1), 17),
    "softmax last axis": (single("Softmax", 11, {}, 1, axis=3), 17),
    "softmax negative axis": (single("LogSoftmax", 11, {}, 1, axis=-2), 17),
    "hardmax": (single("Hardmax", 11, {}, 1, axis=2), 17),
    "reduce sum": (single("ReduceSum", 11, {}, 1, axes=[1, 3], keepdims=0), 18),
    "reduce mean": (single("ReduceMean", 13, {}, 1, axes=[-1]), 18),
    "reduce all": (single("ReduceMax", 13, {}, 1), 18),
    "upsample 7": (single("Upsample", 7, {}, 1, mode="nearest", scales=[1.0, 1, 2, 3]), 17),
    "upsample 9": (
        single("Upsample", 9, {"s": np.array([1, 1, 2, 1.5], "f4")}, 1, mode="linear"),
        17,
    ),
    "resize down": (single("Resize", 10, {"s": np.array([1, 1, 0.5, 0.34], "f4")}, 1), 17),
    "scatter": (
        single(
            "Scatter",
            9,
            {"i": np.array([[[[0, 2]]]]), "u": np.ones((1, 1, 1, 2), "f4")},
            1,
            axis=3,
        ),
        17,
    ),
    "grid sample": (single("GridSample", 16, {"g": GRID}, 1, mode="bilinear"), 20),
    "roi align": (
        single(
            "RoiAlign",
            10,
            {"r": BOXES, "b": np.array([0, 1], "i8")},
            1,
            output_height=2,
            output_width=2,
        ),
        17,
    ),
    "batch norm": (
        single(
            "BatchNormalization",
            8,
            {name: np.linspace(0.5, 1, 3, dtype="f4") for name in ("s", "b", "m", "v")},
            1,
        ),
        17,
    ),
    "dropout": (single("Dropout", 7, {}, 1, ratio=0.4), 17),
    "depth to space": (single("Transpose", 7, {}, 1, perm=[0, 3, 2, 1]), 21),
    "down": (single("Relu", 16, {}, 1), 14),
    "down same schema": (single("LeakyRelu", 18, {}, 1, alpha=0.1), 16),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_conversion_keeps_the_output(name: str, tmp_path: Path) -> None:
    make, target = CASES[name]
    (tmp_path / "out").mkdir()
    source = make(tmp_path)
    report = normalise(source, tmp_path / "out", NormaliseOptions(opset=target))
    assert report.facts.opsets == {"": target}
    feed = np.random.default_rng(9).normal(0, 1, X["x"]).astype(np.float32)
    found = verify_equal(source, tmp_path / "out" / "model.onnx", [{"x": feed}], rtol=1e-6)
    assert found.equal, found


@pytest.mark.parametrize(
    ("make", "target"),
    [
        (
            single(
                "GroupNormalization",
                18,
                {"s": np.ones(3, "f4"), "b": np.ones(3, "f4")},
                1,
                num_groups=3,
            ),
            21,
        ),
        (single("HardSwish", 14, {}, 1), 13),
        (single("BatchNormalization", 7, {n: np.ones(3, "f4") for n in "sbmv"}, 1, spatial=0), 17),
        (single("ReduceSum", 13, {"a": np.array([1])}, 1), 12),
    ],
)
def test_what_would_change_is_refused_by_name(make: Any, target: int, tmp_path: Path) -> None:
    source = make(tmp_path)
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError) as caught:
        normalise(source, tmp_path / "out", NormaliseOptions(opset=target))
    assert caught.value.diagnostics[0].code == "E223"
    assert caught.value.diagnostics[0].subject == "node"


def test_node_that_breaks_its_schema_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    source = single("Concat", 17, {}, 1)(tmp_path)
    with pytest.raises(ModelError) as caught:
        normalise(source, tmp_path / "out", NormaliseOptions())
    assert caught.value.diagnostics[0].code == "E216"


def test_function_of_another_opset_is_converted(tmp_path: Path) -> None:
    inner = h.make_node("Squeeze", ["p"], ["q"], axes=[0])
    function = h.make_function("mine", "F", ["p"], ["q"], [inner], [h.make_opsetid("", 11)])
    source = nasty.write(
        tmp_path,
        [h.make_node("F", ["x"], ["y"], domain="mine")],
        [h.make_tensor_value_info("x", T.FLOAT, [1, 4])],
        [h.make_tensor_value_info("y", T.FLOAT, [4])],
        domains={"mine": 1},
        functions=[function],
    )
    (tmp_path / "out").mkdir()
    report = normalise(source, tmp_path / "out", NormaliseOptions())
    assert report.facts.ops == {"Squeeze": 1}
    node = onnx.load(tmp_path / "out" / "model.onnx").graph.node[0]
    assert len(node.input) == 2
