"""Operations on shapes in the MIL interpreter against NumPy, ONNX Runtime and known answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.errors import EdgedeployError
from edgedeploy.mil.registry import entries
from tests.unit.mil.programs import call, machine, tensor
from tests.unit.mil.reference import by_runtime, floats


def compute(kind, x, **given):
    return entries()[kind].compute(x=x, **given)


def ints(*values):
    return np.array(values, np.int32)


def reshaped(x, shape, declared, opset="CoreML7"):
    steps = [call("reshape", tensor("y", *declared), x="x", shape=[np.array(shape, np.int32)])]
    return machine([tensor("x", *x.shape)], steps, ["y"], opset=opset).run({"x": x})["y"]


@pytest.mark.parametrize(
    ("before", "shape", "after"),
    [
        ((2, 6), (3, -1), (3, 4)),
        ((2, 6), (0, 3, -1), None),
        ((2, 50), (1, 0, -1, 0), (1, 1, 2, 50)),
        ((2, 3, 4), (0, 0, -1), (2, 3, 4)),
        ((2, 3, 4), (0, 12), None),
        ((2, 3, 4), (-1, 0), (6, 4)),
        ((), (1, 1), (1, 1)),
    ],
)
def test_from_ios17_a_0_counts_from_the_last_axis(before, shape, after):
    """The fourth is the example of MIL's documentation."""
    x = floats(*before)
    if after is None:
        with pytest.raises(EdgedeployError, match="reshape"):
            reshaped(x, shape, shape)
        return
    np.testing.assert_array_equal(reshaped(x, shape, after), x.reshape(after))


@pytest.mark.parametrize("opset", ["CoreML5", "CoreML6"])
def test_up_to_ios16_a_0_needs_an_axis_of_its_own(opset):
    x = floats(2, 3, 4)
    np.testing.assert_array_equal(reshaped(x, (0, -1, 2), (2, 6, 2), opset), x.reshape(2, 6, 2))
    with pytest.raises(EdgedeployError, match="has a 0, and x has 3 axes"):
        reshaped(x, (-1, 0), (6, 4), opset)


def test_reshape_like_joins_pieces_of_shapes():
    """The example of MIL's documentation."""
    refs = (np.zeros((2, 3, 4)), np.zeros((1, 5, 6)))
    found = compute(
        "reshape_like",
        floats(6, 30),
        ref_tensors=refs,
        begins=(np.int32(0), np.int32(1)),
        ends=(np.int32(2), np.int32(0)),
        end_masks=(np.False_, np.True_),
    )
    assert found.shape == (2, 3, 5, 6)
    one = {"begins": np.int32(0), "ends": np.int32(0), "end_masks": np.True_}
    assert compute("reshape_like", floats(6, 30), ref_tensors=found, **one).shape == (2, 3, 5, 6)


def test_squeeze_leaves_axes_of_other_sizes():
    x = floats(1, 3, 1, 2)
    assert compute("squeeze", x).shape == (3, 2)
    assert compute("squeeze", x, axes=ints(0, 1)).shape == (3, 1, 2)
    assert compute("squeeze", x, axes=ints(-2)).shape == (1, 3, 2)


def test_expand_dims_counts_in_the_result():
    assert compute("expand_dims", floats(3, 4), axes=ints(0, -1)).shape == (1, 3, 4, 1)
    assert compute("expand_dims", floats(3, 4), axes=ints(1, 2)).shape == (3, 1, 1, 4)


def test_transpose_takes_negative_axes():
    x = floats(2, 3, 4)
    np.testing.assert_array_equal(
        compute("transpose", x, perm=ints(-1, 0, 1)), x.transpose(2, 0, 1)
    )


@pytest.mark.parametrize(
    ("shape", "axis", "wanted"),
    [
        ((3,), -1, (1, 3)),
        ((3,), 1, (3, 1)),
        ((4, 3), -1, (4, 3)),
        ((2, 3, 2), -1, (6, 2)),
        ((5, 5, 2), 1, (5, 10)),
    ],
)
def test_flatten2d_has_the_shapes_of_the_documentation(shape, axis, wanted):
    assert compute("flatten2d", floats(*shape), axis=np.int32(axis)).shape == wanted


def test_blocks_of_channels_become_pixels_as_in_the_runtime():
    x = floats(2, 12, 3, 4)
    (by_depth,) = by_runtime("DepthToSpace", [x], blocksize=2, mode="DCR")
    (by_column,) = by_runtime("DepthToSpace", [x], blocksize=2, mode="CRD")
    np.testing.assert_array_equal(compute("depth_to_space", x, block_size=np.int32(2)), by_depth)
    np.testing.assert_array_equal(
        compute("pixel_shuffle", x, upscale_factor=np.int32(2)), by_column
    )


def test_pixels_become_channels_again():
    x = floats(2, 12, 3, 4)
    two = np.int32(2)
    spread = compute("depth_to_space", x, block_size=two)
    np.testing.assert_array_equal(compute("space_to_depth", spread, block_size=two), x)
    spread = compute("pixel_shuffle", x, upscale_factor=two)
    np.testing.assert_array_equal(compute("pixel_unshuffle", spread, downscale_factor=two), x)


def test_space_to_batch_is_that_of_tensorflow():
    """The example of tf.space_to_batch, channels first; and one with padding."""
    x = np.array([[[[1, 2], [3, 4]]]], np.float32)
    blocks = {"block_shape": ints(2, 2)}
    found = compute("space_to_batch", x, paddings=ints([0, 0], [0, 0]), **blocks)
    assert found.tolist() == [[[[1]]], [[[2]]], [[[3]]], [[[4]]]]
    x = floats(2, 3, 3, 5)
    sides = ints([1, 0], [2, 1])
    made = compute("space_to_batch", x, paddings=sides, **blocks)
    assert made.shape == (8, 3, 2, 4)
    assert (made[0, :, 0, 0] == 0).all()
    np.testing.assert_array_equal(compute("batch_to_space", made, crops=sides, **blocks), x)


@st.composite
def cuts(draw):
    """Return the parameters of a slice of a tensor of rank 1 to 3, and NumPy's index for it."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    given = {name: [] for name in ("begin", "end", "stride", "begin_mask", "end_mask")}
    given["squeeze_mask"] = []
    index = []
    for size in sizes:
        begin, end = draw(st.integers(-size, size - 1)), draw(st.integers(-8, 8))
        stride = draw(st.integers(-3, 3).filter(bool))
        first, last, single = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
        values = (begin, end, stride, first, last, single)
        for name, value in zip(given, values, strict=True):
            given[name].append(value)
        part = slice(None if first else begin, None if last else end, stride)
        index.append((0 if first else begin) if single else part)
    return sizes, {name: np.array(values) for name, values in given.items()}, tuple(index)


@given(cuts())
def test_slice_by_index_is_numpys(cut):
    sizes, given, index = cut
    x = floats(*sizes)
    np.testing.assert_array_equal(compute("slice_by_index", x, **given), x[index])


@given(cuts())
def test_slice_update_replaces_what_slice_by_index_takes(cut):
    sizes, given, index = cut
    x = floats(*sizes)
    update = np.full_like(x[index], 99)
    wanted = x.copy()
    wanted[index] = 99
    found = compute("slice_update", x, update=update, **given)
    np.testing.assert_array_equal(found, wanted)


def test_slice_update_wants_the_shape_of_the_part():
    part = {"begin": ints(0), "end": ints(2)}
    with pytest.raises(ValueError, match="shape"):
        compute("slice_update", floats(3), update=floats(1), **part)


def test_slice_by_size_lies_within():
    x = floats(4, 5)
    found = compute("slice_by_size", x, begin=ints(1, -3), size=ints(2, -1))
    np.testing.assert_array_equal(found, x[1:3, 2:])
    for begin, size in [((3, 0), (2, 1)), ((0, 0), (0, 1)), ((-5, 0), (1, 1))]:
        with pytest.raises(ValueError, match="elements from"):
            compute("slice_by_size", x, begin=ints(*begin), size=ints(*size))


def test_reverse_and_tile():
    x = floats(2, 3)
    np.testing.assert_array_equal(compute("reverse", x), x[::-1, ::-1])
    np.testing.assert_array_equal(compute("reverse", x, axes=ints(-1)), x[:, ::-1])
    np.testing.assert_array_equal(compute("tile", x, reps=ints(2, 3)), np.tile(x, (2, 3)))
    with pytest.raises(ValueError, match="repetitions"):
        compute("tile", x, reps=ints(2))


@pytest.mark.parametrize(("time", "batch"), [(0, 1), (1, 0)])
def test_reverse_sequence_is_the_runtimes(time, batch):
    x = floats(4, 4, 3)
    lengths = np.array([1, 2, 4, 3], np.int64)
    (wanted,) = by_runtime("ReverseSequence", [x, lengths], time_axis=time, batch_axis=batch)
    axes = {"seq_axis": np.int32(time), "batch_axis": np.int32(batch)}
    found = compute("reverse_sequence", x, lengths=lengths, **axes)
    np.testing.assert_array_equal(found, wanted)
    with pytest.raises(ValueError, match="lengths"):
        compute("reverse_sequence", x, lengths=lengths + 2, **axes)


def test_sliding_windows_have_an_axis_after_theirs():
    x = np.arange(12, dtype=np.float32).reshape(2, 6)
    given = {"axis": np.int32(1), "size": np.int32(3), "stride": np.int32(2)}
    found = compute("sliding_windows", x, **given)
    assert found.tolist() == [[[0, 1, 2], [2, 3, 4]], [[6, 7, 8], [8, 9, 10]]]
    given = {"axis": np.int32(-2), "size": np.int32(2)}
    assert compute("sliding_windows", x, **given).tolist() == [[x[0].tolist(), x[1].tolist()]]


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate"])
def test_pad_is_the_runtimes(mode):
    x = floats(2, 3, 4)
    named = "edge" if mode == "replicate" else mode
    pads = np.array([0, 1, 2, 0, 2, 1], np.int64)
    inputs = [x, pads, np.array(7, np.float32)]
    (wanted,) = by_runtime("Pad", inputs if mode == "constant" else inputs[:2], mode=named)
    given = {"constant_val": np.float32(7)} if mode == "constant" else {}
    found = compute("pad", x, pad=ints(1, 2, 2, 1), mode=mode, **given)
    np.testing.assert_array_equal(found, wanted)


def test_pad_refuses_what_mil_does_not_define():
    with pytest.raises(ValueError, match="reflect"):
        compute("pad", floats(2, 3), pad=ints(3, 0), mode="reflect")
    with pytest.raises(ValueError, match="mode wrap"):
        compute("pad", floats(2, 3), pad=ints(1, 0), mode="wrap")


def test_concat_may_interleave():
    """The example of MIL's documentation."""
    values = (np.array([[1, 2], [3, 4], [5, 6]]), np.array([[7, 8], [9, 10], [11, 12]]))
    concat = entries()["concat"].compute
    plain = concat(values=values, axis=np.int32(0))
    assert plain.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12]]
    mixed = concat(values=values, axis=np.int32(-2), interleave=np.True_)
    assert mixed.tolist() == [[1, 2], [7, 8], [3, 4], [9, 10], [5, 6], [11, 12]]


def test_one_tensor_or_scalars_may_be_joined():
    concat, stack = entries()["concat"].compute, entries()["stack"].compute
    assert concat(values=np.ones((2, 3)), axis=np.int32(0)).shape == (2, 3)
    assert stack(values=np.ones((2, 3)), axis=np.int32(-1)).shape == (2, 3, 1)
    assert concat(values=(np.int32(3), np.int32(4)), axis=np.int32(0)).tolist() == [3, 4]
    assert stack(values=(np.zeros(2), np.ones(2)), axis=np.int32(1)).tolist() == [[0, 1], [0, 1]]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.sampled_from([0, 1, -1]))
def test_concat_undoes_split(sizes, axis):
    x = floats(*(sum(sizes) if place == axis % 2 else 3 for place in range(2)))
    given = {"axis": np.int32(axis), "split_sizes": np.array(sizes)}
    pieces = compute("split", x, **given)
    assert [piece.shape[axis] for piece in pieces] == sizes
    joined = entries()["concat"].compute(values=pieces, axis=np.int32(axis))
    np.testing.assert_array_equal(joined, x)


def test_split_makes_up_the_whole():
    halves = compute("split", ints(1, 2, 3, 4), axis=0, num_splits=2)
    assert [piece.tolist() for piece in halves] == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "pieces",
    [{}, {"num_splits": 3}, {"split_sizes": [1, 2]}, {"split_sizes": [2, 2], "num_splits": 3}],
)
def test_pieces_that_do_not_make_up_the_whole_are_an_error(pieces):
    with pytest.raises(ValueError, match=r"split|pieces"):
        compute("split", floats(4), axis=0, **pieces)
