"""Undoing and doing a preprocessing again, held against the one that reads images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedeploy.data.alternatives import (
    audio_alternatives,
    image_alternatives,
    pixel_statistics,
    pixels_of,
    tensor_of,
)
from edgedeploy.data.preprocess import normalise
from edgedeploy.errors import DataError
from edgedeploy.profile.types import AudioPreprocess, ImagePreprocess
from edgedeploy.signature import TensorSpec

IMAGENET = {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def image(**words):
    return ImagePreprocess(height=3, width=4, **words)


@st.composite
def preprocessings(draw):
    colour = draw(st.sampled_from(["rgb", "bgr", "gray"]))
    channels = 1 if colour == "gray" else 3
    number = st.floats(0.01, 2.0)
    return image(
        colour=colour,
        layout=draw(st.sampled_from(["nchw", "nhwc"])),
        scale=draw(st.sampled_from([1.0, 1 / 255, 1 / 127.5, -1 / 255, 2.0])),
        mean=tuple(draw(st.lists(number, min_size=channels, max_size=channels)) or ()),
        std=tuple(draw(st.one_of(st.just(()), st.tuples(*[number] * channels)))),
    )


@settings(max_examples=60, deadline=None)
@given(preprocessings(), preprocessings(), st.integers(0, 2**32 - 1))
def test_undone_and_done_otherwise_is_as_read_so(spec, wanted, seed):
    """The law that the check rests on: alternative(declared(picture)) == alternative(picture)."""
    channels = 1 if spec.colour == "gray" else 3
    if (wanted.colour == "gray") != (spec.colour == "gray"):
        wanted = image(layout=wanted.layout, colour=spec.colour, scale=wanted.scale)
    picture = np.random.default_rng(seed).integers(0, 256, (3, 4, channels), np.uint8)
    tensor = normalise(picture, spec)
    pixels = pixels_of(tensor, spec)
    np.testing.assert_allclose(pixels[0], picture, atol=2e-3)
    expected = normalise(picture, wanted)
    span = 255 * abs(wanted.scale) / min(wanted.std or (1.0,))
    np.testing.assert_allclose(tensor_of(pixels, wanted), expected, atol=1e-5 * span + 1e-4)


def tried(spec, dims=(1, 3, 8, 8), dtype="float32"):
    """Return the alternatives for random pictures, by what they do."""
    channels = 1 if spec.colour == "gray" else 3
    pictures = np.random.default_rng(0).integers(0, 256, (4, 8, 8, channels), np.uint8)
    tensors = [normalise(picture, spec) for picture in pictures]
    seen = pixel_statistics("x", tensors, spec)
    np.testing.assert_allclose(seen.mean, pictures.mean(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(seen.std, pictures.std(axis=(0, 1, 2)), rtol=1e-4)
    given = TensorSpec(name="x", dtype=dtype, dims=dims)
    return {item.what: item for item in image_alternatives([given], spec, seen)}


def test_what_is_declared_already_is_not_tried():
    assert "with the mean and std of ImageNet" not in tried(image(**IMAGENET))
    # The same numbers on the scale of 0 to 255.
    whole = {key: tuple(255 * value for value in IMAGENET[key]) for key in ("mean", "std")}
    assert "with the mean and std of ImageNet" not in tried(image(**whole))
    assert "on pixels of -1 to 1" not in tried(image(scale=1 / 127.5, mean=(1.0,)))
    plain = tried(image())
    assert {"on pixels of 0 to 255", "without `mean` and `std`"}.isdisjoint(plain)
    assert "on pixels of 0 to 1" in plain


def test_numbers_stand_in_the_order_of_the_channels():
    found = tried(image(colour="bgr"))["with the mean and std of ImageNet"]
    assert "mean: [0.406, 0.456, 0.485], std: [0.225, 0.224, 0.229]" in found.write
    picture = np.zeros((1, 1, 3), np.uint8)  # black: every channel is -mean / std
    tensor = found.change(normalise(picture, image(colour="bgr")).astype(np.float32))
    blue_first = [-0.406 / 0.225, -0.456 / 0.224, -0.485 / 0.229]
    np.testing.assert_allclose(tensor.reshape(3), blue_first, rtol=1e-6)


def test_the_samples_own_numbers_are_tried_where_they_have_some():
    what = "with the mean and std of these samples (better: of those that it was trained on)"
    found = tried(image())[what]
    numbers = found.change(normalise(np.full((1, 1, 3), 127, np.uint8), image()).astype(np.float32))
    assert np.abs(numbers).max() < 0.1  # the middle of random pixels is their mean
    spec = image(colour="gray")
    flat = pixel_statistics("x", [np.full((1, 1, 4, 4), 200.0)], spec)
    given = TensorSpec(name="x", dtype="float32", dims=(1, 1, 4, 4))
    assert what not in {item.what for item in image_alternatives([given], spec, flat)}


def test_grey_pictures_have_no_colours_and_whole_numbers_no_scale():
    grey = tried(image(colour="gray", scale=1 / 255), dims=(1, 1, 8, 8))
    assert not any("ImageNet" in what or "colour" in what for what in grey)
    assert set(tried(image(), dtype="uint8")) == {"with `colour: bgr`"}


@pytest.mark.parametrize(
    ("dims", "ambiguous"),
    [
        ((1, 3, 8, 8), False),
        ((1, 3, None, None), False),
        (("n", "a", "b", "c"), True),
        (None, True),
        ((1, 3, 3, 3), True),
        ((1, 3), False),
    ],
)
def test_the_order_of_axes_is_tried_where_sizes_do_not_tell(dims, ambiguous):
    assert ("with `layout: nhwc`" in tried(image(), dims=dims)) == ambiguous


def test_pixels_that_overshoot_a_little_are_pixels():
    spec = image(**IMAGENET)
    pixels = np.array([-20.0, 270.0] * 6).reshape(1, 2, 2, 3)
    seen = pixel_statistics("x", [tensor_of(pixels, spec)], spec)
    assert (round(seen.low), round(seen.high)) == (-20, 270)
    with pytest.raises(DataError, match="leaves nothing of a picture"):
        pixel_statistics("x", [tensor_of(pixels, image(scale=0))], image(scale=0))
    with pytest.raises(DataError, match="pixels from -80 to 270"):
        pixel_statistics("x", [tensor_of(np.where(pixels < 0, -80, pixels), spec)], spec)


def test_sound_is_tried_on_both_scales():
    (whole,) = audio_alternatives(["x"], AudioPreprocess(rate_hz=8000))
    samples = np.array([[-1.0, 0.5]], np.float32)
    assert whole.change(samples).tolist() == [[-32768.0, 16384.0]]
    assert whole.change(samples).dtype == np.float32
    back = {
        item.write: item for item in audio_alternatives(["x"], AudioPreprocess(rate_hz=8, scale=4))
    }
    assert set(back) == {"write `scale: 1`", "write `scale: 32768`"}
    assert back["write `scale: 1`"].change(samples).tolist() == [[-0.25, 0.125]]
