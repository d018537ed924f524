"""Attention of the MIL interpreter, row by row."""

import numpy as np
import pytest

from edgedeploy.mil.ops.attention import scaled_dot_product_attention
from tests.unit.mil.reference import floats


def by_rows(query, key, value, bias):
    """Return attention by loops over everything, in float64."""
    out = np.zeros((*query.shape[:-1], value.shape[-1]))
    for place in np.ndindex(*query.shape[:-1]):
        batch = place[:-1]
        scores = key[batch].astype(np.float64) @ query[place] / np.sqrt(query.shape[-1])
        weights = np.exp(scores + bias[place])
        out[place] = weights @ value[batch] / weights.sum()
    return out


@pytest.mark.parametrize("lead", [(2,), (2, 3)])
@pytest.mark.parametrize("mask", [None, "float", "bool"])
def test_attention_is_the_formula(lead, mask):
    query, key = floats(*lead, 4, 8), floats(*lead, 5, 8, seed=1)
    value = floats(*lead, 5, 6, seed=2)
    given, bias = None, np.zeros((4, 5))
    if mask == "float":
        given = bias = floats(4, 5, seed=3)
    if mask == "bool":
        given = np.tril(np.ones((4, 5), bool))
        bias = np.where(given, 0, -np.inf)
    found = scaled_dot_product_attention(query, key, value, given)
    wanted = by_rows(query, key, value, np.broadcast_to(bias, (*lead, 4, 5)))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert found.dtype == np.float32


def test_large_scores_do_not_overflow():
    query = np.full((1, 1, 4), 1e3, np.float32)
    found = scaled_dot_product_attention(query, query, np.ones((1, 1, 2), np.float32))
    np.testing.assert_array_equal(found, np.ones((1, 1, 2)))
