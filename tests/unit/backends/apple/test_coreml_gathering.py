"""What coremltools gets wrong of gathers and scatters, and what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgedeploy.backends.apple.translate import identifiers
from edgedeploy.errors import BuildError
from tests.coreml.agree import by_runtime
from tests.coreml.harness import Converted, one_node

pytestmark = pytest.mark.slow

DATA = np.arange(12, dtype=np.float32).reshape(2, 3, 2)


def check(
    model: onnx.ModelProto, inputs: dict[str, np.ndarray], constants: frozenset[str] = frozenset()
) -> None:
    """Check that the package does what ONNX Runtime does; some inputs become constants."""
    wanted = by_runtime(model, inputs)
    fixed = {name: inputs[name] for name in constants}
    fed = {name: array for name, array in inputs.items() if name not in constants}
    made = Converted(model, constants=fixed).run(fed)
    for name, array in wanted.items():
        np.testing.assert_array_equal(made[name], array)


def test_negative_tuples_behind_batch_axes() -> None:
    """``guard_negative_gather_indices`` adds the size of the wrong axis there."""
    inputs = {"x": DATA, "i": np.array([[[-1], [0]], [[-3], [2]]])}
    check(one_node("GatherND", inputs, {"y": "float32"}, batch_dims=1), inputs)


def test_constant_scatter_with_a_reduction() -> None:
    """coremltools folds ``scatter_along_axis`` of constants as if its mode were ``update``."""
    inputs = {
        "x": np.ones((2, 3), np.float32),
        "i": np.array([[0, 0, 2], [-1, 1, 1]]),
        "u": np.arange(6, dtype=np.float32).reshape(2, 3),
        "z": np.zeros((2, 3), np.float32),
    }
    model = one_node(
        "ScatterElements",
        {name: inputs[name] for name in "xiu"},
        {"y": "float32"},
        axis=1,
        reduction="add",
    )
    model.graph.node.append(onnx.helper.make_node("Add", ["y", "z"], ["sum"], name="add"))
    model.graph.input.append(
        onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [2, 3])
    )
    model.graph.output[0].name = "sum"
    check(model, inputs, frozenset("xiu"))


@pytest.mark.parametrize("chosen", [frozenset(), frozenset({"c"})])
def test_compress_by_data_and_by_constants(chosen: frozenset[str]) -> None:
    inputs = {"x": DATA, "c": np.array([True, False, True])}
    check(one_node("Compress", inputs, {"y": "float32"}, axis=1), inputs, chosen)


@pytest.mark.parametrize(
    ("op", "inputs", "reason"),
    [
        ("Unique", {"x": DATA}, "MIL has no operation for it"),
        (
            "RoiAlign",
            {
                "x": np.zeros((1, 1, 4, 4), np.float32),
                "r": np.zeros((1, 4), np.float32),
                "b": np.zeros(1, np.int64),
            },
            "the number of samples depends on the regions",
        ),
    ],
)
def test_refused(op: str, inputs: dict[str, np.ndarray], reason: str) -> None:
    model = one_node(op, inputs, {"y": "float32"})
    with pytest.raises(BuildError, match=reason):
        Converted(model)


def test_words_of_mil_are_no_names() -> None:
    """coremltools would rename an input ``state`` without a word."""
    names = identifiers(["state", "x", "state_", "_hidden", "a:0", "a/0", "3d"])
    assert names["x"] == "x"
    assert names["state_"] == "state_"
    assert len(set(names.values())) == len(names)
    assert all(name.isidentifier() and name[0].isalpha() for name in names.values())
    assert "state" not in names.values()
    inputs = {"state": DATA, "fp16": DATA}
    check(one_node("Add", inputs, {"tensor": "float32"}), inputs)
