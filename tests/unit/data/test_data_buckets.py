"""Samples of several sizes: each goes to the bucket it fits, and ranges are kept."""

import numpy as np
import pytest

from edgedeploy.data.conform import Conformer
from edgedeploy.errors import DataError
from edgedeploy.profile.types import DimSpec
from edgedeploy.signature import TensorSpec

AXES = {"x": (None, "W")}


def conformer(width, dim):
    spec = TensorSpec(name="x", dtype="float32", dims=(1, width))
    return Conformer([spec], {}, AXES, {"W": dim})


def sample(width, rank=2):
    return {"x": np.zeros((1, width)[2 - rank :], np.float32)}


@pytest.mark.parametrize("rank", [1, 2])
def test_a_sample_of_another_bucket_is_left_to_it(rank):
    own = conformer(160, DimSpec(buckets=(160, 320)))
    assert own.is_of_other_bucket(sample(320, rank))
    assert not own.is_of_other_bucket(sample(160, rank))
    assert own.conform("a", sample(160, rank))["x"].shape == (1, 160)


def test_a_sample_of_no_bucket_is_refused_with_the_sizes():
    own = conformer(160, DimSpec(buckets=(160, 320)))
    assert not own.is_of_other_bucket(sample(200))
    with pytest.raises(DataError, match=r"\[160, 320\]") as caught:
        own.conform("a", sample(200))
    assert caught.value.diagnostics[0].code == "E257"


@pytest.mark.parametrize(("width", "fits"), [(96, True), (128, True), (100, False), (224, False)])
def test_a_range_is_kept(width, fits):
    own = conformer("W", DimSpec(low=96, high=192, step=32))
    if fits:
        assert own.conform("a", sample(width))["x"].shape == (1, width)
        return
    with pytest.raises(DataError, match=r"outside 96\.\.192/32") as caught:
        own.conform("a", sample(width))
    assert caught.value.diagnostics[0].code == "E257"


@pytest.mark.parametrize(("width", "fits"), [(160, True), (320, True), (200, False)])
def test_a_model_for_all_buckets_takes_the_samples_of_each(width, fits):
    own = conformer("W", DimSpec(buckets=(160, 320)))
    assert not own.is_of_other_bucket(sample(width))
    if fits:
        assert own.conform("a", sample(width))["x"].shape == (1, width)
        return
    with pytest.raises(DataError) as caught:
        own.conform("a", sample(width))
    assert caught.value.diagnostics[0].code == "E257"
