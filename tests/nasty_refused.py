"""Nasty models that must be refused, each with its code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nasty_base import io, nasty, write
from onnx import helper as h
from onnx import numpy_helper as nh


@nasty(code="E215")
def unknown_domain(folder: Path) -> Path:
    """An operator that nobody has."""
    node = h.make_node("Magic", ["x"], ["y"], domain="com.acme", name="wand")
    return write(folder, [node], [io("x", [1])], [io("y", [1])], domains={"com.acme": 1})


@nasty(code="E216")
def unknown_operator(folder: Path) -> Path:
    """An operator that the default domain does not have."""
    node = h.make_node("Convolve", ["x"], ["y"], name="typo")
    return write(folder, [node], [io("x", [1])], [io("y", [1])])


@nasty(code="E213")
def cycle(folder: Path) -> Path:
    """Two nodes that feed each other."""
    nodes = [
        h.make_node("Add", ["x", "b"], ["a"], name="first"),
        h.make_node("Relu", ["a"], ["b"], name="second"),
    ]
    return write(folder, nodes, [io("x", [1])], [io("b", [1])])


@nasty(code="E212")
def duplicate_value(folder: Path) -> Path:
    """Two nodes that make the same value."""
    nodes = [
        h.make_node("Relu", ["x"], ["y"], name="first"),
        h.make_node("Abs", ["x"], ["y"], name="second"),
    ]
    return write(folder, nodes, [io("x", [1])], [io("y", [1])])


@nasty(code="E214")
def missing_input(folder: Path) -> Path:
    """A node whose weight is not there."""
    node = h.make_node("MatMul", ["x", "gone"], ["y"], name="layer")
    return write(folder, [node], [io("x", [1, 4])], [io("y", [1, 4])])


@nasty(code="E210")
def opset_too_new(folder: Path) -> Path:
    """An opset of the future."""
    node = h.make_node("Relu", ["x"], ["y"])
    return write(folder, [node], [io("x", [1])], [io("y", [1])], opset=99)


@nasty(code="E211")
def ir_too_new(folder: Path) -> Path:
    """A file format of the future."""
    node = h.make_node("Relu", ["x"], ["y"])
    return write(folder, [node], [io("x", [1])], [io("y", [1])], ir=77)


@nasty(code="E209")
def nan_weight(folder: Path) -> Path:
    """A weight with NaN and infinities."""
    weight = np.array([1, np.nan, np.inf, -np.inf], "f4")
    node = h.make_node("Mul", ["x", "w"], ["y"])
    return write(folder, [node], [io("x", [4])], [io("y", [4])], [nh.from_array(weight, "w")])
