"""Normalization of the MIL interpreter against ONNX Runtime and formulas."""

import numpy as np
import pytest

from edgedeploy.mil.ops.normalization import (
    batch_norm,
    instance_norm,
    l2_norm,
    layer_norm,
    local_response_norm,
)
from tests.unit.mil.reference import by_runtime, floats

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.mark.parametrize("sizes", [(5,), (4, 5), (2, 3, 4)])
def test_batch_norm_is_the_runtimes(sizes):
    x = floats(2, 3, *sizes)
    gamma, beta, mean = (floats(3, seed=seed) for seed in (1, 2, 3))
    variance = np.square(floats(3, seed=4))
    (wanted,) = by_runtime("BatchNormalization", [x, gamma, beta, mean, variance], epsilon=1e-3)
    np.testing.assert_allclose(batch_norm(x, mean, variance, gamma, beta, 1e-3), wanted, **CLOSE)
    plain = (x - mean.reshape(3, *[1] * len(sizes))) / np.sqrt(
        variance.reshape(3, *[1] * len(sizes)) + 1e-5
    )
    np.testing.assert_allclose(batch_norm(x, mean, variance), plain, **CLOSE)


@pytest.mark.parametrize("sizes", [(5,), (4, 5)])
def test_instance_norm_is_the_runtimes(sizes):
    x, gamma, beta = floats(2, 3, *sizes), floats(3, seed=1), floats(3, seed=2)
    (wanted,) = by_runtime("InstanceNormalization", [x, gamma, beta], epsilon=1e-2)
    np.testing.assert_allclose(instance_norm(x, gamma, beta, 1e-2), wanted, **CLOSE)


def test_layer_norm_is_the_runtimes():
    x, gamma, beta = floats(2, 3, 4, 5), floats(4, 5, seed=1), floats(4, 5, seed=2)
    (wanted,) = by_runtime("LayerNormalization", [x, gamma, beta], axis=2, epsilon=1e-3)
    found = layer_norm(x, np.array([-2, -1]), gamma, beta, np.float32(1e-3))
    np.testing.assert_allclose(found, wanted, **CLOSE)


def test_layer_norm_takes_any_axes_and_all_by_default():
    x, gamma = floats(2, 3, 4), floats(2, 4, seed=1)
    over = (0, 2)
    wanted = (x - x.mean(over, keepdims=True)) / np.sqrt(x.var(over, keepdims=True) + 1e-5)
    found = layer_norm(x, np.array(over), gamma)
    np.testing.assert_allclose(found, wanted * gamma[:, None], **CLOSE)
    np.testing.assert_allclose(layer_norm(x), (x - x.mean()) / np.sqrt(x.var() + 1e-5), **CLOSE)


def test_layer_norm_keeps_small_deviations_on_a_large_mean():
    x = (np.float32(4096) + np.arange(8, dtype=np.float32) / 64)[None]
    exact = x.astype(np.float64)
    wanted = (exact - exact.mean()) / np.sqrt(exact.var())
    np.testing.assert_allclose(layer_norm(x, np.array([1]), epsilon=0.0), wanted, rtol=1e-6)


def test_l2_norm_takes_three_axes_together():
    x = floats(2, 3, 4, 5)
    norm = np.sqrt(np.square(x.reshape(2, -1)).sum(1) + 1e-6).reshape(2, 1, 1, 1)
    np.testing.assert_allclose(l2_norm(x), x / norm, **CLOSE)


def test_local_response_norm_is_the_runtimes_for_odd_sizes():
    x = floats(2, 7, 4, 5)
    (wanted,) = by_runtime("LRN", [x], size=3, alpha=0.5, beta=0.6, bias=2.0)
    np.testing.assert_allclose(local_response_norm(x, 3, 0.5, 0.6, 2.0), wanted, **CLOSE)


def test_local_response_norm_of_an_even_size_is_not_guessed():
    with pytest.raises(ValueError, match="even size"):
        local_response_norm(floats(1, 3, 1), 2)
