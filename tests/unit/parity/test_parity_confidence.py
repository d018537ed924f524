"""Intervals against SciPy, published values and simulation."""

import numpy as np
import pytest

from edgedeploy.parity.confidence import blocks, bootstrap, paired_proportions, wilson


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (7, 10), (10, 10), (450, 509)])
def test_wilson_equals_scipy(hits, n):
    from scipy.stats import binomtest

    expected = binomtest(hits, n).proportion_ci(method="wilson")
    found = wilson(hits, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_paired_interval_covers_the_truth_and_never_shrinks_to_nothing():
    random = np.random.default_rng(0)
    gain, loss, n, inside = 0.02, 0.06, 200, 0
    for _ in range(1000):
        gained, lost, _same = random.multinomial(n, [gain, loss, 1 - gain - loss])
        found = paired_proportions(int(gained), int(lost), n)
        inside += found.low <= gain - loss <= found.high
    assert inside >= 930
    none = paired_proportions(0, 0, 20)
    assert none.low < -0.05
    assert none.high > 0.05


def test_bootstrap_of_a_mean_is_near_the_normal_interval():
    x = np.random.default_rng(1).standard_normal(400)
    found = bootstrap(lambda w: w @ x / w.sum(axis=1), np.arange(400), 2000)
    half = 1.96 * x.std() / 20
    assert found.low == pytest.approx(x.mean() - half, abs=0.015)
    assert found.high == pytest.approx(x.mean() + half, abs=0.015)
    assert found == bootstrap(lambda w: w @ x / w.sum(axis=1), np.arange(400), 2000)


def test_bootstrap_draws_whole_sequences():
    numbers = blocks([None, "a", "a", None, "b", "a"])
    assert numbers.tolist() == [0, 1, 1, 2, 3, 1]
    # 20 sequences of 50 equal frames carry the spread of 20 samples, not of 1000.
    x = np.repeat(np.random.default_rng(2).standard_normal(20), 50)
    mean = lambda w: w @ x / w.sum(axis=1)  # noqa: E731
    whole = bootstrap(mean, np.repeat(np.arange(20), 50), 1000)
    alone = bootstrap(mean, np.arange(1000), 1000)
    assert whole.high - whole.low > 4 * (alone.high - alone.low)


def test_too_few_blocks_or_undefined_values_give_no_interval():
    assert bootstrap(lambda w: w.sum(axis=1), np.arange(9), 100) is None
    assert bootstrap(lambda w: np.full(len(w), np.nan), np.arange(20), 100) is None
