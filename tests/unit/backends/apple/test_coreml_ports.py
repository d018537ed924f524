"""Models whose outputs are odd, and constants that Core ML has no type for."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgedeploy.errors import BuildError
from tests.coreml.harness import Converted

pytestmark = pytest.mark.slow

FLOAT, INT64, DOUBLE = TensorProto.FLOAT, TensorProto.INT64, TensorProto.DOUBLE


def model(
    op: str, inputs: list[str], outputs: list[str], kind: int, **weights: object
) -> ModelProto:
    """Return a model of one node that makes ``y``; all inputs and outputs have two elements."""

    def info(name: str) -> object:
        return helper.make_tensor_value_info(name, kind, [2])

    graph = helper.make_graph(
        [helper.make_node(op, [*inputs, *weights], ["y"], name="the_node")],
        "ports",
        [info(name) for name in inputs],
        [info(name) for name in outputs],
        [numpy_helper.from_array(np.array(value), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_an_input_may_be_an_output_as_well() -> None:
    made = Converted(model("Sub", ["x", "x_out"], ["x", "y", "x_out"], FLOAT))
    given = {"x": np.float32([1, -2]), "x_out": np.float32([3, 5])}
    answer = made.run(given)
    assert {name: list(value) for name, value in answer.items()} == {
        "x": [1, -2],
        "y": [-2, -7],
        "x_out": [3, 5],
    }
    assert [port.name for port in made.translation.outputs] == ["x_out_", "y", "x_out_out"]


def test_an_output_may_be_listed_twice() -> None:
    made = Converted(model("Neg", ["x"], ["y", "y"], FLOAT))
    assert list(made.run({"x": np.float32([1, -2])})["y"]) == [-1, 2]


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        (INT64, [2, 2654435761], "the value 2654435761, and Core ML has integers of 32 bits"),
        (INT64, [-(2**40), 1], "the value -1099511627776"),
        (DOUBLE, [1.0, 1e300], "the value 1e+300, and Core ML has no wider floats"),
        (DOUBLE, [1.0, 1e-300], "the value 1e-300"),
    ],
)
def test_constants_beyond_the_types_of_core_ml_are_refused(
    kind: int, value: list[float], told: str
) -> None:
    for outputs, subject in ((["y"], "the_node"), (["x", "w"], "w")):
        with pytest.raises(BuildError) as caught:
            Converted(model("Mul", ["x"], outputs, kind, w=value))
        (found,) = caught.value.diagnostics
        assert (found.code, found.subject) == ("E340", subject)
        assert told in found.message


def test_the_ends_of_64_bits_become_those_of_32() -> None:
    ends = [np.iinfo(np.int64).max, np.iinfo(np.int64).min + 1]
    made = Converted(model("Min", ["x"], ["y"], INT64, w=ends))
    assert list(made.run({"x": np.array([7, 7])})["y"]) == [7, -(2**31)]
