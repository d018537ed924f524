"""Sorting and what changes the order of elements by data."""

from __future__ import annotations

from edgedeploy.backends.apple.mil_api import Var, is_symbolic, mb
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.registry import op


@op("TopK")
def top_k(node: Node) -> list[Var]:
    """Return the largest or smallest values and where they were (ONNX TopK-11).

    Of equal values ONNX takes the first; MIL leaves open which it takes.
    """
    x = node.var(0)
    axis = node.axis(node.attribute("axis", -1), x.rank)
    count = int(node.need_constant(1, "k").reshape(()))
    size = x.shape[axis]
    if not is_symbolic(size) and not 0 < count <= size:
        node.refuse(f"k = {count} of {size} elements", "take at least one, and no more than all")
    values, indices = mb.topk(
        x=x,
        k=count,
        axis=axis,
        ascending=not node.attribute("largest", 1),
        sort=bool(node.attribute("sorted", 1)),
        return_indices=True,
    )
    return [values, indices]


@op("ReverseSequence")
def reverse_sequence(node: Node) -> Var:
    """Reverse the first elements of each row, as many as its length says (ONNX-10)."""
    x = node.var(0)
    batch_axis, time_axis = node.attribute("batch_axis", 1), node.attribute("time_axis", 0)
    return mb.reverse_sequence(x=x, lengths=node.var(1), seq_axis=time_axis, batch_axis=batch_axis)
