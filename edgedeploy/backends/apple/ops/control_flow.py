"""If, Loop and Scan (ONNX If-21, Loop-21, Scan-21).

What is decided when the program is built is decided then: a branch alone, iterations one after the
other. The rest becomes ``cond`` and ``while_loop``, whose blocks see the values around them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from edgedeploy.backends.apple import dtypes
from edgedeploy.backends.apple.mil_api import MIL_TYPES, Var, is_symbolic, mb, types, unknown
from edgedeploy.backends.apple.node import Node, Value
from edgedeploy.backends.apple.registry import op
from edgedeploy.backends.apple.shapes import Size, check_rank, minus, reshape, scalar, sizes, vector

UNROLLED_NODES = 1000
"""Loops that are no longer than this many nodes when unrolled are: hardware runs them faster."""


@op("If")
def if_(node: Node) -> list[Var]:
    """Return the outputs of one of two bodies."""
    condition = node.constant(0)
    if condition is not None:
        return node.body("then_branch" if condition.all() else "else_branch")
    made: list[list[Var]] = []

    def branch(name: str) -> Callable[[], list[Var]]:
        def build() -> list[Var]:
            with node.translator.block():
                made.append([mb.identity(x=var) for var in node.body(name)])
            _check_alike(node, made)
            return made[-1]

        return build

    chosen = mb.cond(
        pred=_flag(node.var(0)),
        _true_fn=branch("then_branch"),
        _false_fn=branch("else_branch"),
    )
    return list(chosen) if isinstance(chosen, (list, tuple)) else [chosen]


def _check_alike(node: Node, branches: list[list[Var]]) -> None:
    """Refuse branches whose outputs do not have the same types."""
    for first, second in zip(branches[0], branches[-1], strict=True):
        if tuple(first.shape) != tuple(second.shape) or first.dtype != second.dtype:
            node.refuse(
                f"its branches make {_told(first)} and {_told(second)}",
                "bind the dims that the condition depends on, or make the shapes agree",
            )


def _told(var: Var) -> str:
    sizes_ = ", ".join("?" if is_symbolic(size) else str(size) for size in var.shape)
    return f"{types.builtin_to_string(var.dtype)}[{sizes_}]"


def _flag(var: Var) -> Var:
    """Return a condition of one element as MIL wants it: without axes."""
    return reshape(var, [])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """What is done again and again.

    Attributes:
        node: The Loop or Scan.
        count: How often at most: a size; None without a limit.
        start: Whether to begin; None where the body does not end the loop by a condition.
        carried: What the first round gets of the round before.
        step: Makes one round: its number, the condition that led to it, and what is carried become
            the next condition, what is carried on, and one slice per output that collects.
        kinds: ONNX dtype and sizes of these slices.
        places: For each, its new axis and whether it is filled from the end.
        length: Number of nodes of one round.
    """

    node: Node
    count: Size | None
    start: Value | None
    carried: Sequence[Value]
    step: Callable[[Value, Value, Sequence[Value]], tuple[Var, list[Var], list[Var]]]
    kinds: Sequence[tuple[str, Sequence[Any]]]
    places: Sequence[tuple[int, bool]]
    length: int


@op("Loop")
def loop(node: Node) -> list[Var]:
    """Return what a body leaves after its last round, and what it collected."""
    body: ir.Graph = node.attribute("body")
    count: Size | None = None
    if node.given(0):
        fixed = node.constant(0)
        count = reshape(node.var(0), [1]) if fixed is None else int(fixed.reshape(()))
    start = node.value(1) if node.given(1) else Value("bool", array=np.array(True))
    carried = [node.value(index) for index in range(2, len(node.inputs))]

    def step(number: Value, flag: Value, held: Sequence[Value]) -> tuple[Var, list[Var], list[Var]]:
        going_on, *made = node.body("body", [number, flag, *held])
        return going_on, made[: len(held)], made[len(held) :]

    collected = body.outputs[1 + len(carried) :]
    kinds = [(_dtype(value), _sizes(value)) for value in collected]
    fixed_start = node.constant(1) if node.given(1) else np.bool_(True)
    endless = _keeps_condition(body) and fixed_start is not None and bool(fixed_start.all())
    if fixed_start is not None and not fixed_start.all():
        count = 0
    return _run(
        Rounds(
            node=node,
            count=count,
            start=None if endless or count == 0 else start,
            carried=carried,
            step=step,
            kinds=kinds,
            places=[(0, False)] * len(kinds),
            length=len(body),
        )
    )


def _keeps_condition(body: ir.Graph) -> bool:
    """Return whether a body hands on the condition it gets, or a constant true."""
    value = body.outputs[0]
    while (producer := value.producer()) is not None and producer.op_type == "Identity":
        if producer.inputs[0] is None:
            return False
        value = producer.inputs[0]
    if value is body.inputs[1]:
        return True
    return value.const_value is not None and bool(value.const_value.numpy().all())


@op("Scan")
def scan(node: Node) -> list[Var]:
    """Return what a body leaves after the last slice of its inputs, and what it collected."""
    if node.since < 9:
        node.refuse("Scan of opset 8 with its batch", "convert the model to opset 9 or newer")
    body: ir.Graph = node.attribute("body")
    moving = node.attribute("num_scan_inputs")
    held = len(node.inputs) - moving
    axes = node.attribute("scan_input_axes", [0] * moving)
    turned = node.attribute("scan_input_directions", [0] * moving)
    inputs = [node.var(held + place) for place in range(moving)]
    axes = [node.axis(axis, x.rank) for axis, x in zip(axes, inputs, strict=True)]
    count = sizes(inputs[0])[axes[0]]
    collected = body.outputs[held:]
    out_axes = node.attribute("scan_output_axes", [0] * len(collected))
    out_turned = node.attribute("scan_output_directions", [0] * len(collected))
    kinds = [(_dtype(value), _sizes(value)) for value in collected]

    def step(number: Value, flag: Value, kept: Sequence[Value]) -> tuple[Var, list[Var], list[Var]]:
        rows = [
            Value(node.dtype(held + place), var=_row(node, x, axis, _place(number, count, back)))
            for place, (x, axis, back) in enumerate(zip(inputs, axes, turned, strict=True))
        ]
        made = node.body("body", [*kept, *rows])
        return mb.const(val=True), made[:held], made[held:]

    return _run(
        Rounds(
            node=node,
            count=count,
            start=None,
            carried=[node.value(place) for place in range(held)],
            step=step,
            kinds=kinds,
            places=[
                (node.axis(axis, len(kind[1]) + 1), bool(back))
                for axis, back, kind in zip(out_axes, out_turned, kinds, strict=True)
            ],
            length=len(body) + moving,
        )
    )


def _place(number: Value, count: Size, back: int) -> int | Var:
    """Return the number of a slice from the number of its round."""
    if number.array is not None:
        return int(count) - 1 - int(number.array) if back else int(number.array)
    if not back:
        return number.var
    return mb.sub(x=scalar(minus(count, 1)), y=number.var)


def _row(node: Node, x: Var, axis: int, place: int | Var) -> Var:
    """Return one slice along an axis, without the axis."""
    if isinstance(place, int):
        only = [other == axis for other in range(x.rank)]
        rest = [not flag for flag in only]
        return mb.slice_by_index(
            x=x,
            begin=[place * flag for flag in only],
            end=[(place + 1) * flag for flag in only],
            begin_mask=rest,
            end_mask=rest,
            squeeze_mask=only,
        )
    checked = {"validate_indices": False} if node.ios >= 17 else {}
    made = mb.gather(x=_number(x), indices=place, axis=axis, **checked)
    return mb.cast(x=made, dtype="bool") if x.dtype == types.bool else made


def _number(x: Var) -> Var:
    return mb.cast(x=x, dtype="int32") if x.dtype == types.bool else x


def _dtype(value: ir.Value) -> str:
    return "" if value.dtype is None else str(value.dtype.numpy().name)


def _sizes(value: ir.Value) -> list[Any]:
    return [] if value.shape is None else list(value.shape)


def _run(rounds: Rounds) -> list[Var]:
    """Return what is carried out of the last round, and what was collected."""
    count = rounds.count
    if rounds.start is None and isinstance(count, int):
        if not count and rounds.kinds:
            rounds.node.refuse("it collects nothing: the result is empty", "remove it")
        if count * rounds.length <= UNROLLED_NODES:
            return _unrolled(rounds, count)
    return _looped(rounds)


def _unrolled(rounds: Rounds, count: int) -> list[Var]:
    carried = list(rounds.carried)
    rows: list[list[Var]] = [[] for _ in rounds.kinds]
    flag = Value("bool", array=np.array(True))
    for number in range(count):
        _, made, slices = rounds.step(Value("int64", array=np.array(number)), flag, carried)
        carried = [Value(value.dtype, var=var) for value, var in zip(carried, made, strict=True)]
        for row, item in zip(rows, slices, strict=True):
            row.append(item)
    kept = [_var(rounds.node, value) for value in carried]
    return kept + [
        _stacked(row[::-1] if back else row, axis)
        for row, (axis, back) in zip(rows, rounds.places, strict=True)
    ]


def _var(node: Node, value: Value) -> Var:
    return node.translator.constant(value) if value.var is None else value.var


def _stacked(rows: list[Var], axis: int) -> Var:
    check_rank(len(rows[0].shape) + 1)
    made = mb.stack(values=[_number(row) for row in rows], axis=axis)
    return mb.cast(x=made, dtype="bool") if rows[0].dtype == types.bool else made


def _looped(rounds: Rounds) -> list[Var]:
    """Return the outputs of a ``while_loop``.

    Its variables are the number of the round, the condition where there is one, what is carried,
    and a tensor for each output that collects, into whose rows the rounds write.
    """
    node, width = rounds.node, len(rounds.carried)
    conditional = rounds.start is not None
    limit = None if rounds.count is None else scalar(rounds.count)
    flag = [] if rounds.start is None else [_flag(_var(node, rounds.start))]
    begin = [mb.const(val=np.int32(0)), *flag]
    begin += [_var(node, value) for value in rounds.carried]
    begin += [_empty(rounds, kind) for kind in rounds.kinds]

    def going_on(number: Var, *rest: Var) -> Var:
        with node.translator.block():
            if limit is None:
                return mb.identity(x=rest[0])
            within = mb.less(x=number, y=limit)
            return mb.logical_and(x=within, y=rest[0]) if conditional else within

    def body(number: Var, *rest: Var) -> list[Var]:
        with node.translator.block():
            known = Value("bool", array=np.array(True))
            before = Value("bool", var=rest[0]) if conditional else known
            held, rows = rest[conditional:][:width], rest[conditional:][width:]
            given = [
                Value(value.dtype, var=var) for value, var in zip(rounds.carried, held, strict=True)
            ]
            after, made, slices = rounds.step(Value("int64", var=number), before, given)
            outputs = [mb.add(x=number, y=np.int32(1))]
            outputs += [_flag(after)] if conditional else []
            outputs += made
            outputs += [
                _with_row(rounds, place, row, item, number)
                for place, (row, item) in enumerate(zip(rows, slices, strict=True))
            ]
            return [mb.identity(x=var) for var in outputs]

    number, *made = mb.while_loop(
        _cond=going_on, _body=body, loop_vars=tuple(unknown(var) for var in begin)
    )
    made = made[conditional:]
    collected = [_in_place(rounds, place, row, number) for place, row in enumerate(made[width:])]
    return [*made[:width], *collected]


def _empty(rounds: Rounds, kind: tuple[str, Sequence[Any]]) -> Var:
    """Return a tensor with a row for each round that there may be."""
    dtype, shape = kind
    if rounds.count is None:
        rounds.node.refuse("it collects without a limit of rounds", "give it a trip count")
    if not dtype or not all(isinstance(size, int) for size in shape):
        rounds.node.refuse("the shape of what it collects is open", "bind the model's dims")
    held = dtypes.held_as(dtype)
    if held is None:
        rounds.node.refuse(f"it collects {dtype}", "cast it in the body")
    number = "int32" if held == "bool" else held
    check_rank(len(shape) + 1)
    if isinstance(rounds.count, int):
        return mb.const(val=np.zeros([rounds.count, *shape], number))
    zero = types.nptype_from_builtin(MIL_TYPES[number])(0)
    return mb.fill(shape=vector([rounds.count, *shape]), value=zero)


def _with_row(rounds: Rounds, place: int, rows: Var, item: Var, number: Var) -> Var:
    """Return the collected rows with the one of this round."""
    _, back = rounds.places[place]
    index = number
    if back:
        index = mb.sub(x=scalar(minus(rounds.count, 1)), y=number)
    checked = {"validate_indices": False} if rounds.node.ios >= 17 else {}
    return mb.scatter(
        data=rows,
        indices=mb.expand_dims(x=index, axes=[0]),
        updates=mb.expand_dims(x=_number(item), axes=[0]),
        axis=0,
        mode="update",
        **checked,
    )


def _in_place(rounds: Rounds, place: int, rows: Var, number: Var) -> Var:
    """Return collected rows as the node gives them: those that were written, along their axis."""
    axis, _ = rounds.places[place]
    if rounds.start is not None:
        rest = [other > 0 for other in range(rows.rank)]
        written = mb.expand_dims(x=number, axes=[0])
        rows = mb.slice_by_index(
            x=rows,
            begin=[0] * rows.rank,
            end=vector([written, *[0] * (rows.rank - 1)]),
            end_mask=rest,
        )
    if axis:
        order = [*range(1, axis + 1), 0, *range(axis + 1, rows.rank)]
        rows = mb.transpose(x=rows, perm=order)
    return mb.cast(x=rows, dtype="bool") if rounds.kinds[place][0] == "bool" else rows
