"""Products of matrices."""

from __future__ import annotations

import numpy as np

from edgedeploy.backends.apple.einsum import einsum, parse
from edgedeploy.backends.apple.mil_api import Var, mb
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.registry import op
from edgedeploy.backends.apple.scalars import is_float, like
from edgedeploy.backends.apple.shapes import check_rank
from edgedeploy.backends.apple.weights import is_weight, transposed


@op("MatMul")
def matmul(node: Node) -> Var:
    """Return the matrix product with NumPy's rules.

    Vectors get an axis that the product loses again. Source: ONNX MatMul-13; MIL ``matmul``, and
    ``linear`` for weights, behind which Core ML looks for integers.
    """
    x, y = node.var(0), node.var(1)
    if not x.rank or not y.rank:
        node.refuse("a scalar operand", "repair the model")
    gone = []
    if x.rank == 1:
        x = mb.expand_dims(x=x, axes=[0])
        gone.append(-2)
    if y.rank == 1:
        y = mb.expand_dims(x=y, axes=[1])
        gone.append(-1)
    check_rank(max(x.rank, y.rank))
    if _takes_linear(x, y):
        made = mb.linear(x=x, weight=transposed(y, (1, 0), node.ios))
    else:
        made = mb.matmul(x=x, y=y)
    return mb.squeeze(x=made, axes=[made.rank + axis for axis in gone]) if gone else made


@op("Gemm")
def gemm(node: Node) -> Var:
    """Return ``alpha * A' * B' + beta * C``, transposed as told.

    The layout of weights that ``linear`` wants is used as it is; no weight is changed, for the
    quantizer replaces them. Source: ONNX Gemm-13; MIL ``linear`` and ``matmul``.
    """
    a, b = node.var(0), node.var(1)
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    if not is_float(a) and not (float(alpha).is_integer() and float(beta).is_integer()):
        node.refuse("integers times a fraction", "cast to float first")
    across = bool(node.attribute("transA", 0)), bool(node.attribute("transB", 0))
    if across == (False, False) and alpha == 1 and is_weight(b) and is_float(a):
        across, b = (False, True), transposed(b, (1, 0), node.ios)
    bias = _scaled(node.var(2), beta) if node.given(2) else None
    if across == (False, True) and alpha == 1 and b.is_descendant_of_const:
        vector = _as_vector(bias, int(b.shape[0]))
        if bias is None or vector is not None:
            given = {} if vector is None else {"bias": vector}
            return mb.linear(x=a, weight=b, **given)
    made = mb.matmul(x=a, y=b, transpose_x=across[0], transpose_y=across[1])
    made = _scaled(made, alpha)
    return made if bias is None else mb.add(x=made, y=bias)


def _takes_linear(x: Var, weight: Var) -> bool:
    """Return whether ``linear`` multiplies a tensor by a constant matrix."""
    return bool(is_float(x) and x.rank <= 3 and weight.rank == 2 and is_weight(weight))


def _scaled(x: Var, factor: float) -> Var:
    """Return ``factor * x``."""
    if factor == 1:
        return x
    if x.val is not None:
        return mb.const(val=like(x, np.asarray(x.val) * factor))
    return mb.mul(x=x, y=like(x, factor))


def _as_vector(bias: Var | None, size: int) -> np.ndarray | None:
    """Return a constant that adds the same to every row, as a vector; else None."""
    if bias is None or bias.val is None:
        return None
    value = np.asarray(bias.val)
    if value.size not in (1, size) or (value.ndim == 2 and value.shape[0] != 1):
        return None
    return np.broadcast_to(value.reshape(-1), (size,)).copy()


@op("Einsum")
def einsum_(node: Node) -> Var:
    """Return the Einstein sum of all inputs."""
    operands = [node.var(place) for place in range(len(node.inputs))]
    equation = parse(str(node.attribute("equation")), [var.rank for var in operands])
    return einsum(equation, operands)
