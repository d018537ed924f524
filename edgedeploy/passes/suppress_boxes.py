"""Box decoding and non-maximum suppression as a part of the model, with an output of fixed size.

The head of a detector of the YOLO family becomes rows of x1 y1 x2 y2 score class, best score
first, padded by rows of class -1. Standard operators of opset 13 do it, NonMaxSuppression among
them, so that every backend either takes the model or names the node that it does not take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgedeploy.errors import ModelError
from edgedeploy.passes.base import Pass
from edgedeploy.passes.rewire import add_initializer

COLUMNS = 6
"""x1 y1 x2 y2 score class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppression:
    """What is chosen of the boxes of a head.

    Attributes:
        output: The head: float32 ``[1, 4 + classes, n]`` or ``[1, n, 4 + classes]``, x and y of
            the centre, width, height, then scores; None takes the first output.
        objectness: Whether a score of the box stands before those of the classes.
        score: Least score, 0..1.
        iou: Overlap above which the weaker of two boxes of a class is dropped, 0..1.
        most: Rows of the new output, and the most boxes of one class.
    """

    output: str | None
    objectness: bool
    score: float
    iou: float
    most: int


class SuppressBoxes(Pass):
    """Puts rows ``[1, most, 6]`` in the place of a head, under its name."""

    def __init__(self, wish: Suppression) -> None:
        self._wish = wish

    def requires(self, model: ir.Model) -> None:
        """Refuse a head that is not there (E222) or that cannot be read (E890)."""
        self._rows_first(_head(model, self._wish.output))

    def _rows_first(self, head: ir.Value) -> bool:
        """Return whether a head is ``[1, n, numbers of a box]``.

        Raises:
            ModelError: It is no head of known size, or may be read both ways (E890).
        """
        sizes = [] if head.shape is None else [d for d in head.shape.dims if isinstance(d, int)]
        known = head.shape is not None and len(sizes) == len(head.shape) == 3
        width = min(sizes[1:]) if known else 0
        fits = known and sizes[0] == 1 and sizes[1] != sizes[2]
        if not fits or width <= 4 + self._wish.objectness or head.dtype != ir.DataType.FLOAT:
            raise ModelError(
                f"output {head.name!r} is {head.dtype} {head.shape}, and `nms: model` needs a "
                "float32 head [1, 4 + classes, n] or [1, n, 4 + classes] of known size",
                code="E890",
                subject=head.name,
                hint="Fix the input's shape in the profile, name the head under `decode: {output: "
                "...}`, or leave suppression to the app: `nms: app`.",
            )
        return sizes[2] == width

    def apply(self, model: ir.Model) -> bool:
        """Append the nodes and exchange the output."""
        head = _head(model, self._wish.output)
        rows_first = self._rows_first(head)
        writer = _Writer(model.graph, f"{head.name}_nms")
        table = writer.one("Transpose", [head], perm=[0, 2, 1]) if rows_first else head
        wide, count = sorted(size for size in head.shape or () if isinstance(size, int))[1:]
        place = list(model.graph.outputs).index(head)
        rows = self._rows(writer, table, wide - 4 - self._wish.objectness, count)
        name, head.name = head.name, f"{head.name}_head"
        rows.name = name
        rows.shape = ir.Shape([1, self._wish.most, COLUMNS])
        rows.type = ir.TensorType(ir.DataType.FLOAT)
        model.graph.outputs[place] = rows
        return True

    def _rows(self, writer: _Writer, table: ir.Value, classes: int, count: int) -> ir.Value:
        """Return ``[1, most, 6]`` of a table ``[1, numbers of a box, count]``."""
        wish = self._wish
        boxes, scores = self._split(writer, table, classes)
        chosen = writer.one(
            "NonMaxSuppression",
            [
                boxes,
                scores,
                writer.whole("most_of_class", [wish.most]),
                writer.real("iou", [wish.iou]),
                writer.real("score", [wish.score]),
            ],
            center_point_box=1,
        )
        label = writer.one("Gather", [chosen, writer.whole("label_at", 1)], axis=1)
        box = writer.one("Gather", [chosen, writer.whole("box_at", 2)], axis=1)
        offset = writer.one("Mul", [label, writer.whole("boxes_of_class", count)])
        place = writer.one("Add", [offset, box])
        flat = writer.one("Reshape", [scores, writer.whole("flat", [-1, 1])])
        columns = [
            writer.one("Gather", [_corners(writer, boxes), box], axis=0),
            writer.one("Gather", [flat, place], axis=0),
            writer.one(
                "Cast",
                [writer.one("Unsqueeze", [label, writer.whole("column", [1])])],
                to=int(ir.DataType.FLOAT),
            ),
        ]
        found = writer.one("Concat", columns, axis=1)
        padding = np.tile(np.array([0, 0, 0, 0, -1, -1], np.float32), (wish.most, 1))
        padded = writer.one("Concat", [found, writer.constant("padding", padding)], axis=0)
        by_score = writer.one("Gather", [padded, writer.whole("score_at", 4)], axis=1)
        _, best = writer.node("TopK", [by_score, writer.whole("most", [wish.most])], 2)
        rows = writer.one("Gather", [padded, best], axis=0)
        shape = writer.whole("shape", [1, wish.most, COLUMNS])
        return writer.one("Reshape", [rows, shape])

    def _split(self, writer: _Writer, table: ir.Value, classes: int) -> tuple[ir.Value, ir.Value]:
        """Return boxes ``[1, n, 4]`` and scores ``[1, classes, n]``."""
        sizes = [4, 1, classes] if self._wish.objectness else [4, classes]
        parts = writer.node("Split", [table, writer.whole("parts", sizes)], len(sizes), axis=1)
        boxes = writer.one("Transpose", [parts[0]], perm=[0, 2, 1])
        return boxes, writer.one("Mul", parts[1:]) if self._wish.objectness else parts[1]

    def ensures(self, model: ir.Model) -> str | None:
        """The output has its fixed size."""
        head = _head(model, self._wish.output)
        wanted = [1, self._wish.most, COLUMNS]
        sizes = None if head.shape is None else list(head.shape.dims)
        return None if sizes == wanted else f"output {head.name!r} has shape {sizes}"


def _head(model: ir.Model, name: str | None) -> ir.Value:
    """Return the output of a name, the first where there is none.

    Raises:
        ModelError: There is no such output (E222).
    """
    outputs = list(model.graph.outputs)
    for value in outputs:
        if name in (None, value.name):
            return value
    raise ModelError(
        f"the model has no output {name!r}; it has {', '.join(str(v.name) for v in outputs)}",
        code="E222",
        subject=name,
        hint="name outputs of the model",
    )


def _corners(writer: _Writer, boxes: ir.Value) -> ir.Value:
    """Return x1 y1 x2 y2 ``[n, 4]`` of centres and sizes ``[1, n, 4]``."""
    rows = writer.one("Squeeze", [boxes, writer.whole("batch", [0])])
    centre, size = writer.node("Split", [rows, writer.whole("halves", [2, 2])], 2, axis=1)
    half = writer.one("Mul", [size, writer.real("half", 0.5)])
    low, high = writer.one("Sub", [centre, half]), writer.one("Add", [centre, half])
    return writer.one("Concat", [low, high], axis=1)


class _Writer:
    """Appends nodes and constants to a graph."""

    def __init__(self, graph: ir.Graph, prefix: str) -> None:
        self._graph = graph
        self._prefix = prefix
        self._count = 0

    def node(
        self, op: str, inputs: Sequence[ir.Value], outputs: int, **attributes: int | list[int]
    ) -> Sequence[ir.Value]:
        """Append a node; return its outputs."""
        self._count += 1
        name = f"{self._prefix}_{self._count}_{op}"
        values = [ir.Value(name=f"{name}_{number}") for number in range(outputs)]
        made = ir.node(op, inputs, attributes=attributes, outputs=values, name=name)
        self._graph.append(made)
        return made.outputs

    def one(self, op: str, inputs: Sequence[ir.Value], **attributes: int | list[int]) -> ir.Value:
        """Append a node with one output; return that."""
        return self.node(op, inputs, 1, **attributes)[0]

    def constant(self, name: str, array: np.ndarray) -> ir.Value:
        """Add a constant."""
        return add_initializer(self._graph, f"{self._prefix}_{name}", array)

    def whole(self, name: str, value: int | list[int]) -> ir.Value:
        """Add an int64 constant."""
        return self.constant(name, np.array(value, np.int64))

    def real(self, name: str, value: float | list[float]) -> ir.Value:
        """Add a float32 constant."""
        return self.constant(name, np.array(value, np.float32))
