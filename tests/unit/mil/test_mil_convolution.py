"""Convolutions of the MIL interpreter against ONNX Runtime."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgedeploy.mil.ops import convolution
from edgedeploy.mil.ops.convolution import conv, conv_transpose
from tests.unit.mil.reference import by_runtime, floats

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def interleaved(pads):
    """Return pads of ONNX (all starts, all ends) as MIL has them (start, end per axis)."""
    half = len(pads) // 2
    return np.array([pads[place + end] for place in range(half) for end in (0, half)], np.int32)


@st.composite
def layers(draw):
    rank = draw(st.integers(1, 3))
    sizes = [draw(st.integers(4, 8)) for _ in range(rank)]
    groups, inner, outer = (draw(st.integers(1, 3)) for _ in range(3))
    small = [draw(st.integers(1, 3)) for _ in range(rank)]
    strides = [draw(st.integers(1, 3)) for _ in range(rank)]
    dilations = [draw(st.integers(1, 2)) for _ in range(rank)]
    pads = [draw(st.integers(0, 2)) for _ in range(2 * rank)]
    reach = [(size - 1) * step + 1 for size, step in zip(small, dilations, strict=True)]
    assume(all(size >= width for size, width in zip(sizes, reach, strict=True)))
    return sizes, groups, inner, outer, small, strides, dilations, pads


@given(layers(), st.integers(1, 2))
@settings(max_examples=60, deadline=None)
def test_conv_is_the_runtimes(layer, batch):
    sizes, groups, inner, outer, kernel, strides, dilations, pads = layer
    x = floats(batch, groups * inner, *sizes)
    weight = floats(groups * outer, inner, *kernel, seed=1)
    bias = floats(groups * outer, seed=2)
    (wanted,) = by_runtime(
        "Conv", [x, weight, bias], group=groups, strides=strides, dilations=dilations, pads=pads
    )
    found = conv(x, weight, bias, strides, "custom", interleaved(pads), dilations, groups)
    np.testing.assert_allclose(found, wanted, **CLOSE)
    assert found.dtype == np.float32


@given(layers())
@settings(max_examples=60, deadline=None)
def test_conv_transpose_is_the_runtimes(layer):
    sizes, groups, inner, outer, kernel, strides, dilations, pads = layer
    pads = [min(size, 1) for size in pads]
    x = floats(2, groups * inner, *sizes)
    weight = floats(groups * inner, outer, *kernel, seed=1)
    bias = floats(groups * outer, seed=2)
    (wanted,) = by_runtime(
        "ConvTranspose",
        [x, weight, bias],
        group=groups,
        strides=strides,
        dilations=dilations,
        pads=pads,
    )
    found = conv_transpose(
        x,
        weight,
        bias,
        interleaved(pads),
        pad_type="custom",
        strides=strides,
        dilations=dilations,
        groups=groups,
    )
    np.testing.assert_allclose(found, wanted, **CLOSE)


@pytest.mark.parametrize("upper", [True, False])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
def test_same_padding_is_the_runtimes(kernel, stride, upper):
    x, weight = floats(1, 2, 7, 8), floats(3, 2, kernel, kernel, seed=1)
    (wanted,) = by_runtime(
        "Conv",
        [x, weight],
        strides=[stride, stride],
        auto_pad="SAME_UPPER" if upper else "SAME_LOWER",
    )
    kind = "same" if upper else "same_lower"
    found = conv(x, weight, strides=np.array([stride, stride]), pad_type=kind)
    np.testing.assert_allclose(found, wanted, **CLOSE)


def test_pad_counts_only_where_the_type_is_custom():
    x, weight = floats(1, 1, 5), floats(1, 1, 3, seed=1)
    pad = np.array([1, 1])
    assert conv(x, weight, pad_type="valid", pad=pad).shape == (1, 1, 3)
    assert conv(x, weight, pad_type="custom", pad=pad).shape == (1, 1, 5)


def test_strips_do_not_change_the_result(monkeypatch):
    x, weight = floats(2, 4, 9, 7), floats(6, 2, 3, 3, seed=1)
    whole = conv(x, weight, groups=2)
    monkeypatch.setattr(convolution, "SCRATCH_ELEMENTS", 1)
    np.testing.assert_allclose(conv(x, weight, groups=2), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [9, 10])
def test_an_output_shape_chooses_where_the_padding_is_same(size):
    # A convolution with a stride of 2 maps both sizes to 5.
    x, weight = floats(1, 2, 5), floats(2, 3, 4, seed=1)
    found = conv_transpose(
        x, weight, output_shape=np.array([1, 3, size]), pad_type="same", strides=[2]
    )
    (wanted,) = by_runtime(
        "ConvTranspose", [x, weight], strides=[2], auto_pad="SAME_UPPER", output_shape=[size]
    )
    np.testing.assert_allclose(found, wanted, **CLOSE)


def test_an_output_shape_must_be_what_the_padding_leaves():
    x, weight, pad = floats(1, 2, 5), floats(2, 3, 4, seed=1), np.array([1, 2])
    full = conv_transpose(x, weight)
    shape = np.array([1, 3, 5])
    found = conv_transpose(x, weight, pad=pad, output_shape=shape, pad_type="custom")
    np.testing.assert_array_equal(found, full[..., 1:6])
    with pytest.raises(ValueError, match="8 less padding 1 and 2 is not 6"):
        conv_transpose(x, weight, pad=pad, output_shape=np.array([1, 3, 6]), pad_type="custom")


def test_a_same_transposed_convolution_has_the_input_times_the_stride():
    x, weight = floats(1, 1, 5), floats(1, 1, 4, seed=1)
    found = conv_transpose(x, weight, pad_type="same", strides=[2])
    (wanted,) = by_runtime("ConvTranspose", [x, weight], strides=[2], auto_pad="SAME_UPPER")
    np.testing.assert_allclose(found, wanted, **CLOSE)


@pytest.mark.parametrize("compute", [conv, conv_transpose])
def test_what_is_unknown_or_does_not_fit_raises(compute):
    x = floats(1, 2, 5)
    with pytest.raises(ValueError, match="padding 'mirrored' is unknown"):
        compute(x, floats(2, 2, 3), pad_type="mirrored")
    with pytest.raises(ValueError, match="channels"):
        compute(x, floats(3, 3, 3))


def test_a_kernel_larger_than_its_input_raises():
    with pytest.raises(ValueError, match="no window of 3 fits into 2"):
        conv(floats(1, 1, 2), floats(1, 1, 3))
