"""Where more than five axes are allowed on the way.

coremltools' pass ``expand_high_rank_reshape_and_transpose`` lowers a reshape to a higher rank whose
only use is a transpose whose only use is a reshape to at most five axes, all of fixed sizes. Window
attention and pixel shuffles are written so.
"""

from __future__ import annotations

import onnx_ir as ir

from edgedeploy.backends.apple.shapes import MAX_RANK


def lowered_later(value: ir.Value) -> bool:
    """Return whether coremltools will lower the rank of what a reshape or transpose makes."""
    node = value.producer()
    if node is not None and node.op_type == "Transpose" and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None or node.op_type != "Reshape":
        return False
    transpose = _only_use(node.outputs[0], "Transpose")
    last = None if transpose is None else _only_use(transpose.outputs[0], "Reshape")
    return last is not None and _rank(last.outputs[0]) <= MAX_RANK


def _only_use(value: ir.Value, op: str) -> ir.Node | None:
    """Return the node that alone uses a value of fixed sizes, if it is of that operator."""
    fixed = value.shape is not None and value.shape.is_static()
    users = [usage.node for usage in value.uses()]
    single = len(users) == 1 and users[0].op_type == op and users[0].inputs[0] is value
    return users[0] if fixed and single and not value.is_graph_output() else None


def _rank(value: ir.Value) -> int:
    return MAX_RANK + 1 if value.shape is None else len(value.shape)
