"""The rules that hold what devices do against a saved program."""

import dataclasses

import numpy as np
import pytest

from edgedeploy.mil.program import Feature
from edgedeploy.mil.rules import findings
from tests.unit.mil.programs import block, call, const, program, state, tensor


def rules_of(inputs, operations, outputs=("y",), **keywords):
    """Return the rules that a program breaks, each with what it names."""
    made = program(inputs, operations, outputs, **keywords)
    return [(item.rule, item.subject) for item in findings(made)]


def test_a_plain_program_has_no_findings():
    steps = [
        call("relu", tensor("r", 2, 3), x="x"),
        const("shape", np.array([3, -1], np.int32)),
        call("reshape", tensor("s", 3, 2), x="r", shape="shape"),
        const("i", np.array([0, 2], np.int32)),
        const("v", np.False_),
        call("gather", tensor("y", 2, 2), x="s", indices="i", validate_indices="v"),
    ]
    feature = Feature(name="x", kind="array", dtype="float32", shapes=((2, 3),))
    assert rules_of([tensor("x", 2, 3)], steps, features={"x": feature}) == []


@pytest.mark.parametrize(
    ("cond", "b", "wanted"),
    [((2, 3), (2, 3), 0), ((2, 1), (2, 3), 1), ((2, 3), (), 1), ((2, 3), (1, 3), 1)],
)
def test_a_select_must_not_broadcast(cond, b, wanted):
    inputs = [tensor("c", *cond, dtype="bool"), tensor("a", 2, 3), tensor("b", *b)]
    ports = [item for item in inputs if item.type.dims]
    steps = [
        *(const(item.name, np.float32(0)) for item in inputs if not item.type.dims),
        call("select", tensor("y", 2, 3), cond="c", a="a", b="b"),
    ]
    assert rules_of(ports, steps) == [("select-shapes", "y")] * wanted


def test_a_rule_holds_inside_blocks_as_well():
    inner = block([call("select", tensor("t", 2, 3), cond="c", a="a", b="b")], ["t"])
    steps = [
        call("greater", tensor("c", 1, 3, dtype="bool"), x="b", y="b"),
        call("cond", tensor("y", 2, 3), blocks=[inner, block([], ["a"])], pred=np.True_),
    ]
    inputs = [tensor("a", 2, 3), tensor("b", 1, 3)]
    assert rules_of(inputs, steps) == [("select-shapes", "t")]


def test_six_axes_are_too_many():
    steps = [call("expand_dims", tensor("y", 1, 1, 1, 1, 1, 2), x="x", axes=[np.arange(5)])]
    assert rules_of([tensor("x", 2)], steps) == [("rank", "y")]


@pytest.mark.parametrize(
    ("opset", "indices", "stated", "wanted"),
    [
        ("CoreML7", [0, 1], True, 0),
        ("CoreML7", [0, 1], False, 1),
        ("CoreML7", [0, -1], True, 1),
        ("CoreML8", [0, -1], False, 2),
        ("CoreML6", [0, -1], False, 0),
    ],
)
def test_from_ios17_indices_are_validated_and_not_negative(opset, indices, stated, wanted):
    given = {"validate_indices": np.False_} if stated else {}
    steps = [
        const("i", np.array(indices, np.int32)),
        call("gather", tensor("y", 2), x="x", indices="i", **given),
    ]
    assert rules_of([tensor("x", 3)], steps, opset=opset) == [("indices", "y")] * wanted


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [((4, 6), (8, 18), 0), ((4, 6), (6, 12), 1), ((4, 6), (2, 3), 2), ((4, None), (8, None), 1)],
)
def test_nearest_resizes_by_whole_factors_alone(before, after, wanted):
    steps = [call("resize_nearest_neighbor", tensor("y", 1, 1, *after), x="x")]
    assert rules_of([tensor("x", 1, 1, *before)], steps) == [("nearest", "y")] * wanted


@pytest.mark.parametrize(
    ("mode", "pads", "wanted"),
    [
        ("reflect", [1, 1, 1, 1], 0),
        ("reflect", [0, 0, 1, 1, 1, 1], 0),
        ("reflect", [1, 0, 1, 1, 1, 1], 1),
        ("constant", [1, 0, 1, 1, 1, 1], 0),
    ],
)
def test_reflection_stays_on_the_last_two_axes(mode, pads, wanted):
    steps = [
        dataclasses.replace(const("mode", np.int32(0)), attributes={"val": mode}),
        call("pad", tensor("y", 4, 4, 4), x="x", pad=[np.array(pads)], mode="mode"),
    ]
    assert rules_of([tensor("x", 3, 3, 3)], steps) == [("padding", "y")] * wanted


def test_a_reshape_with_a_0_is_told():
    steps = [call("reshape", tensor("y", 2, 3), x="x", shape=[np.array([0, 3])])]
    assert rules_of([tensor("x", 2, 3)], steps) == [("zero-size", "y")]


def test_a_resize_with_a_0_is_told():
    steps = [call("resize", tensor("y", 1, 6, 6), x="x", shape=[np.array([0, 6, 6])])]
    assert rules_of([tensor("x", 1, 3, 3)], steps) == [("inherited-sizes", "y")]


@pytest.mark.parametrize(("axes", "wanted"), [([0, -1], 0), ([0, 1], 1), ([2], 0)])
def test_squeezed_axes_have_size_1(axes, wanted):
    steps = [call("squeeze", tensor("y", 3, None), x="x", axes=[np.array(axes)])]
    assert rules_of([tensor("x", 1, 3, None, 1)], steps) == [("squeezed", "y")] * wanted


def test_an_update_has_axes():
    steps = [
        const("u", np.float32(1)),
        call(
            "slice_update",
            tensor("y", 3),
            x="x",
            update="u",
            begin=[np.array([0])],
            end=[np.array([1])],
        ),
    ]
    assert rules_of([tensor("x", 3)], steps) == [("scalar-update", "y")]


def test_an_input_has_axes():
    assert rules_of([tensor("x")], [], ["x"]) == [("input-rank", "x")]


@pytest.mark.parametrize(
    ("dtype", "bounds", "told"),
    [
        ("float32", ((1, 8),), None),
        ("float32", ((1, None),), "no highest size"),
        ("float32", ((1, 2),), "1 to 2"),
        ("int32", (), "apps feed int32, the program takes float32"),
    ],
)
def test_the_interface_is_that_of_the_program(dtype, bounds, told):
    feature = Feature(name="x", kind="array", dtype=dtype, shapes=((2,),), bounds=bounds)
    found = findings(program([tensor("x", None)], [], ["x"], features={"x": feature}))
    assert len(found) == (told is not None)
    if told:
        assert (found[0].rule, found[0].subject) == ("interface", "x")
        assert told in found[0].message


def test_a_state_of_the_right_type_is_fine():
    feature = Feature(name="s", kind="array", dtype="float16", shapes=((2,),))
    steps = [call("read_state", tensor("y", 2, dtype="float16"), input="s")]
    assert rules_of([state("s", 2)], steps, features={"s": feature}) == []
