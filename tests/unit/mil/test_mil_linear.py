"""Matrix products of the MIL interpreter."""

import numpy as np
import pytest

from edgedeploy.mil.ops.linear import einsum, linear, matmul
from tests.unit.mil.reference import floats

CLOSE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_linear_multiplies_with_the_transposed_weight(lead):
    x, weight, bias = floats(*lead, 4), floats(5, 4, seed=1), floats(5, seed=2)
    wanted = np.einsum("...i,oi->...o", x, weight)
    np.testing.assert_allclose(linear(x, weight), wanted, **CLOSE)
    np.testing.assert_allclose(linear(x, weight, bias), wanted + bias, **CLOSE)


def test_matmul_transposes_and_broadcasts():
    x, y = floats(5, 1, 4, 3), floats(2, 6, 4, seed=1)
    found = matmul(x, y, transpose_x=np.bool_(True), transpose_y=np.bool_(True))
    np.testing.assert_allclose(found, np.einsum("abki,cjk->acij", x, y), **CLOSE)


def test_matmul_of_vectors_drops_their_axis():
    row, matrix = floats(4), floats(2, 4, 3, seed=1)
    np.testing.assert_allclose(matmul(row, matrix), np.einsum("k,bkn->bn", row, matrix), **CLOSE)
    np.testing.assert_allclose(matmul(row, row), np.square(row).sum(), **CLOSE)
    # A vector has nothing to transpose.
    np.testing.assert_allclose(matmul(row, matrix, transpose_x=True), matmul(row, matrix))


def test_matmul_of_integers_is_exact():
    x = np.array([[2**24 + 1, 1]], np.int32)
    np.testing.assert_array_equal(matmul(x, np.ones((2, 1), np.int32)), [[2**24 + 2]])


@pytest.mark.parametrize("equation", ["nchw,nwhu->nchu", "abcd, adce -> abce"])
def test_einsum_of_rank_four(equation):
    x, y = floats(2, 3, 1, 5), floats(1, 5, 4, 6, seed=1)
    found = einsum((x, y), equation)
    wanted = np.einsum(
        equation.replace(" ", ""),
        np.broadcast_to(x, (2, 3, 4, 5)),
        np.broadcast_to(y, (2, 5, 4, 6)),
    )
    np.testing.assert_allclose(found, wanted, **CLOSE)


def test_einsum_of_rank_three_and_no_other():
    x, y = floats(3, 4, 5), floats(5, 4, 6, seed=1)
    np.testing.assert_allclose(
        einsum((x, y), "chw,whr->chr"), np.einsum("chw,whr->chr", x, y), **CLOSE
    )
    with pytest.raises(ValueError, match="none of the two equations"):
        einsum((x, y), "chw,whr->crh")
