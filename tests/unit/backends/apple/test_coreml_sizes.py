"""Sizes while a program is built: what is known stays known."""

from __future__ import annotations

import numpy as np
import pytest

from edgedeploy.backends.apple import shapes
from edgedeploy.backends.apple.mil_api import TARGETS, Function, get_new_symbol, mb, quiet
from edgedeploy.backends.apple.node import Refusal


@pytest.fixture
def x():
    """Return a value of shape [N, 3, W] with two open sizes, in a function under construction."""
    placeholder = mb.placeholder(shape=[get_new_symbol(), 3, get_new_symbol()])
    with quiet(), Function({"x": placeholder}, opset_version=TARGETS[17]) as function:
        yield function.inputs["x"]


def test_sizes_are_numbers_where_they_are_known(x) -> None:
    batch, channels, width = shapes.sizes(x)
    assert channels == 3
    assert not shapes.known(batch) and not shapes.known(width)
    assert shapes.same(batch, shapes.sizes(x)[0])
    assert not shapes.same(batch, width)


def test_arithmetic_on_known_sizes_stays_known(x) -> None:
    width = shapes.sizes(x)[2]
    assert shapes.product([2, 3, 4]) == 24
    assert shapes.times(1, width) is width
    assert shapes.plus(width, 0) is width
    assert not shapes.known(shapes.times(2, width))


def test_entries_of_a_vector_of_sizes_are_found_again(x) -> None:
    vector = shapes.vector([shapes.sizes(x)[0], 7, 5])
    first, *rest = shapes.elements(vector)
    assert not shapes.known(first)
    assert rest == [7, 5]


def test_one_open_size_needs_no_shape_at_run_time(x) -> None:
    batch, channels, width = shapes.sizes(x)
    made = shapes.reshape(x, [batch, channels, 1, width])
    assert made.op.shape.val is None
    only = shapes.reshape(mb.slice_by_index(x=x, begin=[0, 0, 0], end=[1, 3, 4]), [3, -1])
    assert only.op.shape.val.tolist() == [3, -1]


def test_common_shape_prefers_what_is_known(x) -> None:
    batch, _, width = shapes.sizes(x)
    found = shapes.common([[batch, 1, 5], [3, width]])
    assert found[0] is batch
    assert found[1:] == [3, 5]


def test_alike_leaves_equal_shapes_alone(x) -> None:
    assert shapes.alike(x, x) == [x, x]


def test_expand_repeats_only_what_is_one(x) -> None:
    column = mb.const(val=np.ones((3, 1), np.float32))
    made = shapes.expand(column, [2, 3, 4])
    assert made.shape == (2, 3, 4)
    assert made.op.reps.val.tolist() == [2, 1, 4]


def test_a_vector_of_open_length_is_no_shape() -> None:
    placeholder = mb.placeholder(shape=[get_new_symbol()])
    with (
        quiet(),
        Function({"x": placeholder}, opset_version=TARGETS[17]) as function,
        pytest.raises(Refusal, match="open length"),
    ):
        shapes.elements(function.inputs["x"])
