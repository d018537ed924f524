"""What changed incompatibly in an operator at an opset version, and the change that undoes it.

Source: the operator changelog, https://github.com/onnx/onnx/blob/main/docs/Changelog.md. An
adapter rewrites a node that is valid just below its version so that it means the same at it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgedeploy.errors import ModelError
from edgedeploy.passes.base import label
from edgedeploy.passes.rewire import constant_array, insert_constant

Adapter = Callable[[ir.Node], None]


def _pop(node: ir.Node, name: str) -> ir.Attr | None:
    """Remove an attribute and return it; one that a function fills in cannot be moved."""
    attribute = node.attributes.pop(name, None)
    if attribute is not None and attribute.is_ref():
        raise _refused(node, f"its {name!r} comes from the function's caller")
    return attribute


def _refused(node: ir.Node, why: str) -> ModelError:
    return ModelError(
        f"the operator {node.op_type} cannot be converted to a newer opset: {why}",
        code="E223",
        subject=label(node),
        hint="export the model again with opset 17",
    )


def _set_input(node: ir.Node, index: int, value: ir.Value) -> None:
    if len(node.inputs) <= index:
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)


def _ints_to_input(name: str, index: int) -> Adapter:
    """Return an adapter that moves an integer-list attribute to an input (int64, [n])."""

    def adapt(node: ir.Node) -> None:
        attribute = _pop(node, name)
        if attribute is not None:
            array = np.array(attribute.value, np.int64).reshape(-1)
            _set_input(node, index, insert_constant(node, array))

    return adapt


def _clip_11(node: ir.Node) -> None:
    for index, name in ((1, "min"), (2, "max")):
        attribute = _pop(node, name)
        if attribute is not None:
            array = np.array(attribute.as_float(), _dtype(node))
            _set_input(node, index, insert_constant(node, array))


def _dtype(node: ir.Node) -> np.dtype:
    """Return the element type of a node's first input; float32 where it is unknown."""
    value = node.inputs[0]
    return value.dtype.numpy() if value is not None and value.dtype else np.dtype(np.float32)


def _pad_11(node: ir.Node) -> None:
    pads, fill = _pop(node, "pads"), _pop(node, "value")
    if pads is None:
        raise _refused(node, "it has no pads")
    _set_input(node, 1, insert_constant(node, np.array(pads.as_ints(), np.int64)))
    if fill is not None:
        array = np.array(fill.as_float(), _dtype(node))
        _set_input(node, 2, insert_constant(node, array))


def _slice_10(node: ir.Node) -> None:
    for index, name in ((1, "starts"), (2, "ends"), (3, "axes")):
        _ints_to_input(name, index)(node)


def _upsample_9(node: ir.Node) -> None:
    scales = _pop(node, "scales")
    if scales is None:
        raise _refused(node, "it has no scales")
    array = np.array(scales.as_floats(), np.float32)
    _set_input(node, 1, insert_constant(node, array))


def _upsample_10(node: ir.Node) -> None:
    node.op_type = "Resize"


def _resize_11(node: ir.Node) -> None:
    """Resize-10 took coordinates ``out / scale`` and, for nearest, rounded towards the origin."""
    scales = node.inputs[1]
    node.resize_inputs(3)
    node.replace_input_with(1, None)
    node.replace_input_with(2, scales)
    node.attributes["coordinate_transformation_mode"] = ir.AttrString(
        "coordinate_transformation_mode", "asymmetric"
    )
    mode = node.attributes.get("mode")
    if mode is None or mode.as_string() == "nearest":
        array = constant_array(scales)
        down = array is not None and bool((array < 1).any())
        node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", "ceil" if down else "floor")


def _batch_norm_9(node: ir.Node) -> None:
    spatial = _pop(node, "spatial")
    if spatial is not None and spatial.as_int() != 1:
        raise _refused(node, "spatial=0 has no successor")


def _batch_norm_14(node: ir.Node) -> None:
    if sum(bool(output.name) for output in node.outputs) > 1:
        raise _refused(node, "it is in training mode")


def _dropout_12(node: ir.Node) -> None:
    # The ratio has no effect outside of training.
    _pop(node, "ratio")


def _scatter_11(node: ir.Node) -> None:
    node.op_type = "ScatterElements"


def _softmax_13(node: ir.Node) -> None:
    """Before 13 the input was seen as a matrix, cut at ``axis``; from 13 on one axis counts."""
    attribute = _pop(node, "axis")
    axis = 1 if attribute is None else attribute.as_int()
    source, graph = node.inputs[0], node.graph
    if source is None or graph is None:
        raise _refused(node, "it has no input")
    rank = None if source.shape is None else source.shape.rank()
    node.attributes["axis"] = ir.AttrInt64("axis", -1)
    if axis == -1 or (rank is not None and axis == rank - 1):
        return
    matrix = ir.node("Flatten", [source], attributes={"axis": axis})
    shape = ir.node("Shape", [source])
    back = ir.node("Reshape", [node.outputs[0], shape.outputs[0]])
    for made in (matrix, shape, back):
        made.meta.update(node.meta)
    graph.insert_before(node, [matrix, shape])
    node.replace_input_with(0, matrix.outputs[0])
    graph.insert_after(node, back)
    result, output = node.outputs[0], back.outputs[0]
    output.type, output.shape = result.type, result.shape
    for user, index in list(result.uses()):
        if user is not back:
            user.replace_input_with(index, output)
    result.shape = None
    if result.is_graph_output():
        name, result.name = result.name, None
        for owner, index in [
            (graph, index) for index, value in enumerate(graph.outputs) if value is result
        ]:
            owner.outputs[index] = output
        output.name = name


def _split_18(node: ir.Node) -> None:
    if len(node.inputs) < 2 or node.inputs[1] is None:
        node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", len(node.outputs))


def _roi_align_16(node: ir.Node) -> None:
    node.attributes["coordinate_transformation_mode"] = ir.AttrString(
        "coordinate_transformation_mode", "output_half_pixel"
    )


def _grid_sample_20(node: ir.Node) -> None:
    mode = _pop(node, "mode")
    name = "bilinear" if mode is None else mode.as_string()
    renamed = {"bilinear": "linear", "bicubic": "cubic"}.get(name, name)
    node.attributes["mode"] = ir.AttrString("mode", renamed)


def _never(why: str) -> Adapter:
    def adapt(node: ir.Node) -> None:
        raise _refused(node, why)

    return adapt


ADAPTERS: dict[tuple[str, int], Adapter] = {
    ("BatchNormalization", 9): _batch_norm_9,
    ("BatchNormalization", 14): _batch_norm_14,
    ("Clip", 11): _clip_11,
    ("Dropout", 12): _dropout_12,
    ("GridSample", 20): _grid_sample_20,
    ("GroupNormalization", 21): _never("scale and bias became per channel"),
    ("Pad", 11): _pad_11,
    ("ReduceSum", 13): _ints_to_input("axes", 1),
    ("Resize", 11): _resize_11,
    ("RoiAlign", 16): _roi_align_16,
    ("Scan", 9): _never("its inputs changed"),
    ("Scatter", 11): _scatter_11,
    ("Slice", 10): _slice_10,
    ("Split", 13): _ints_to_input("split", 1),
    ("Split", 18): _split_18,
    ("Squeeze", 13): _ints_to_input("axes", 1),
    ("TopK", 10): _ints_to_input("k", 1),
    ("Unsqueeze", 13): _ints_to_input("axes", 1),
    ("Upsample", 9): _upsample_9,
    ("Upsample", 10): _upsample_10,
    **{(op, 13): _softmax_13 for op in ("Softmax", "LogSoftmax", "Hardmax")},
    **{
        (f"Reduce{kind}", 18): _ints_to_input("axes", 1)
        for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
    },
}
"""By operator and the version at which it changed."""
