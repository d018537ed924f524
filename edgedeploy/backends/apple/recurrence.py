"""Recurrent layers in parts that any program has: one step after the other.

Short sequences of known length are unrolled; others run in a ``while_loop`` that writes each step's
hidden state into its row of the output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgedeploy.backends.apple.mil_api import Var, is_symbolic, mb, types
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.shapes import alike, scalar, sizes, vector
from edgedeploy.backends.apple.weights import Packed, packed

UNROLLED_STEPS = 32
"""Longer sequences run in a loop: each step is ten to twenty operations of the program."""

Activation = Callable[[Var], Var]

_DEFAULTS: dict[str, tuple[float, ...]] = {
    "Elu": (1.0,),
    "HardSigmoid": (0.2, 0.5),
    "LeakyRelu": (0.01,),
    "ThresholdedRelu": (1.0,),
}
_PARAMETERS = {"Affine": 2, "ScaledTanh": 2} | {name: len(item) for name, item in _DEFAULTS.items()}
_MADE: dict[str, Callable[..., Var]] = {
    "Affine": lambda x, alpha, beta: mb.linear_activation(x=x, alpha=alpha, beta=beta),
    "Elu": lambda x, alpha: mb.elu(x=x, alpha=alpha),
    "HardSigmoid": lambda x, alpha, beta: mb.sigmoid_hard(x=x, alpha=alpha, beta=beta),
    "LeakyRelu": lambda x, alpha: mb.leaky_relu(x=x, alpha=alpha),
    "Relu": lambda x: mb.relu(x=x),
    "ScaledTanh": lambda x, alpha, beta: mb.scaled_tanh(x=x, alpha=alpha, beta=beta),
    "Sigmoid": lambda x: mb.sigmoid(x=x),
    "Softplus": lambda x: mb.softplus(x=x),
    "Softsign": lambda x: mb.softsign(x=x),
    "Tanh": lambda x: mb.tanh(x=x),
    "ThresholdedRelu": lambda x, alpha: mb.thresholded_relu(x=x, alpha=alpha),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """One direction of a layer.

    Attributes:
        backward: Whether it starts at the end of the sequence.
        weight: [gates * hidden, input].
        recurrence: [gates * hidden, hidden].
        bias: [gates * hidden], what is added to the product of the input.
        recurrent_bias: [gates * hidden], what is added to the product of the hidden state.
        peephole: [3 * hidden] of an LSTM in the order input, output, forget; or None.
        states: The initial hidden state [batch, hidden], and the cell state of an LSTM.
        activations: What the operator's ``f``, ``g``, ``h`` are.
        packed: The weight and the recurrence as they are kept in fewer bits, if they are.
    """

    backward: bool
    weight: np.ndarray
    recurrence: np.ndarray
    bias: np.ndarray
    recurrent_bias: np.ndarray
    peephole: np.ndarray | None
    states: tuple[Var, ...]
    activations: tuple[Activation, ...]
    packed: tuple[Packed | None, Packed | None] = (None, None)


@dataclass(frozen=True, slots=True)
class Passed:
    """What one direction makes: hidden states [steps, batch, hidden], and its last states."""

    sequence: Var
    states: tuple[Var, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A recurrent node.

    Attributes:
        node: The node.
        x: Its input, [steps, batch, input].
        directions: One or two.
        lengths: Number of steps of each sample, [batch]; None where all have all steps.
        batch_first: Whether the node has the batch before the steps (``layout`` 1).
        plain: Whether it has only what MIL's operations have.
        clip: Limit of what goes into activations; None for none.
    """

    node: Node
    x: Var
    directions: tuple[Direction, ...]
    lengths: Var | None
    batch_first: bool
    plain: bool
    clip: float | None

    @classmethod
    def of(cls, node: Node, *, gates: int, activations: Sequence[str], states: int) -> Layer:
        """Return the layer that a node asks for.

        Args:
            node: An LSTM, GRU or RNN.
            gates: Number of its gates.
            activations: Its activations where it names none.
            states: 2 with a cell state, else 1.

        Raises:
            Refusal: Its weights are computed, or an activation is not known.
        """
        batch_first = bool(node.attribute("layout", 0))
        x = node.var(0)
        if x.rank != 3:
            node.refuse(
                f"its input has {x.rank} axes, not 3", "feed samples of the length it is for"
            )
        if batch_first:
            x = mb.transpose(x=x, perm=[1, 0, 2])
        lengths = _lengths(node, x)
        clip = node.attribute("clip")
        directions = _directions(node, x, gates, activations, states)
        named = node.attribute("activations", [])
        usual = [name.lower() for name in activations] * len(directions)
        half = x.dtype == types.fp16 and node.ios < 17
        plain = not lengths and clip is None and not half
        plain = plain and [name.lower() for name in named] in ([], usual)
        return cls(
            node=node,
            x=x,
            directions=directions,
            lengths=lengths,
            batch_first=batch_first,
            plain=plain,
            clip=clip,
        )

    def turned(self, x: Var) -> Var:
        """Return the steps of each sample in reverse order; what is beyond its length stays."""
        if self.lengths is None:
            return mb.reverse(x=x, axes=[0])
        return mb.reverse_sequence(x=x, lengths=self.lengths, seq_axis=0, batch_axis=1)

    def clipped(self, x: Var) -> Var:
        """Return what goes into an activation."""
        return x if self.clip is None else mb.clip(x=x, alpha=-self.clip, beta=self.clip)


def _lengths(node: Node, x: Var) -> Var | None:
    if not node.given(4):
        return None
    lengths = node.constant(4)
    steps = x.shape[0]
    whole = lengths is not None and not is_symbolic(steps) and (lengths == steps).all()
    return None if whole else node.var(4)


def _directions(
    node: Node, x: Var, gates: int, activations: Sequence[str], states: int
) -> tuple[Direction, ...]:
    direction = node.attribute("direction", "forward")
    kind = types.nptype_from_builtin(x.dtype)
    weight = node.need_constant(1, "W").astype(kind)
    recurrence = node.need_constant(2, "R").astype(kind)
    count, rows, hidden = recurrence.shape
    if rows != gates * hidden or count != (2 if direction == "bidirectional" else 1):
        node.refuse(f"R is {list(recurrence.shape)}", "repair the model")
    bias = np.zeros((count, 2 * rows), kind)
    if node.given(3):
        bias = node.need_constant(3, "B").astype(kind)
    peephole = None
    if node.op == "LSTM" and node.given(7):
        peephole = node.need_constant(7, "P").astype(kind)
    made = _activations(node, activations, count)
    kept = [packed(node.var(place)) for place in (1, 2)]
    return tuple(
        Direction(
            backward=direction == "reverse" or place == 1,
            weight=weight[place],
            recurrence=recurrence[place],
            bias=bias[place][:rows],
            recurrent_bias=bias[place][rows:],
            peephole=None if peephole is None else peephole[place],
            states=tuple(_state(node, 5 + state, place, x, hidden) for state in range(states)),
            activations=made[place * len(activations) : (place + 1) * len(activations)],
            packed=(_part(kept[0], place), _part(kept[1], place)),
        )
        for place in range(count)
    )


def _part(kept: Packed | None, place: int) -> Packed | None:
    return None if kept is None else kept.at(place)


def _activations(node: Node, defaults: Sequence[str], directions: int) -> tuple[Activation, ...]:
    """Return the activations of all directions in order."""
    names = node.attribute("activations") or list(defaults) * directions
    known = {name.lower(): name for name in _MADE}
    alphas = list(node.attribute("activation_alpha", []))
    betas = list(node.attribute("activation_beta", []))
    made = []
    for given in names:
        name = known.get(given.lower())
        if name is None:
            node.refuse(f"activation {given!r}", f"use one of {', '.join(_MADE)}")
        defaults_here = _DEFAULTS.get(name, ())
        parameters = []
        for place, left in enumerate((alphas, betas)[: _PARAMETERS.get(name, 0)]):
            if not left and place >= len(defaults_here):
                node.refuse(f"activation {name} without its parameters", "give them")
            parameters.append(left.pop(0) if left else defaults_here[place])
        made.append(_activation(name, parameters))
    return tuple(made)


def _activation(name: str, parameters: Sequence[float]) -> Activation:
    def apply(x: Var) -> Var:
        kind = types.nptype_from_builtin(x.dtype)
        return _MADE[name](x, *map(kind, parameters))

    return apply


def _state(node: Node, index: int, place: int, x: Var, hidden: int) -> Var:
    """Return a direction's initial state, [batch, hidden]; zeros where the node gives none."""
    if not node.given(index):
        batch = sizes(x)[1]
        kind = types.nptype_from_builtin(x.dtype)
        if isinstance(batch, int):
            return mb.const(val=np.zeros((batch, hidden), kind))
        return mb.fill(shape=vector([batch, hidden]), value=kind(0))
    states = node.var(index)
    axis = 1 if node.attribute("layout", 0) else 0
    begin, end = [0, 0, 0], [0, 0, 0]
    begin[axis], end[axis] = place, place + 1
    rest = [other != axis for other in range(3)]
    return mb.slice_by_index(
        x=states,
        begin=begin,
        end=end,
        begin_mask=rest,
        end_mask=rest,
        squeeze_mask=[not other for other in rest],
    )


def in_steps(layer: Layer, one: Direction, x: Var) -> Passed:
    """Return what one direction makes of ``x``, step by step."""
    # With the reset after the product, the bias of that product belongs inside the reset.
    inner = layer.node.op == "GRU" and layer.node.attribute("linear_before_reset", 0)
    bias = one.bias if inner else one.bias + one.recurrent_bias
    projected = mb.linear(x=x, weight=one.weight, bias=bias)
    steps = x.shape[0]
    if is_symbolic(steps) or int(steps) > UNROLLED_STEPS:
        return _looped(layer, one, projected)
    return _unrolled(layer, one, projected)


def _unrolled(layer: Layer, one: Direction, projected: Var) -> Passed:
    steps = int(projected.shape[0])
    rows = mb.split(x=projected, num_splits=steps, axis=0) if steps > 1 else [projected]
    states, made = one.states, []
    for step, row in enumerate(rows):
        shown, states = _step(layer, one, mb.squeeze(x=row, axes=[0]), states, np.int32(step))
        made.append(shown)
    return Passed(mb.stack(values=made, axis=0), states)


def _looped(layer: Layer, one: Direction, projected: Var) -> Passed:
    steps, batch, _ = sizes(projected)
    hidden = one.recurrence.shape[1]
    kind = types.nptype_from_builtin(projected.dtype)
    rows = mb.fill(shape=vector([steps, batch, hidden]), value=kind(0))
    end = scalar(steps)
    checked = {"validate_indices": False} if layer.node.ios >= 17 else {}

    def going_on(step: Var, *_: Var) -> Var:
        return mb.less(x=step, y=end)

    def body(step: Var, rows: Var, *states: Var) -> list[Var]:
        row = mb.gather(x=projected, indices=step, axis=0, **checked)
        shown, following = _step(layer, one, row, states, step)
        rows = mb.scatter(
            data=rows,
            indices=mb.expand_dims(x=step, axes=[0]),
            updates=mb.expand_dims(x=shown, axes=[0]),
            axis=0,
            mode="update",
            **checked,
        )
        return [mb.add(x=step, y=np.int32(1)), rows, *following]

    start = mb.const(val=np.int32(0))
    _, rows, *states = mb.while_loop(
        _cond=going_on, _body=body, loop_vars=(start, rows, *one.states)
    )
    return Passed(rows, tuple(states))


def _step(
    layer: Layer, one: Direction, row: Var, states: tuple[Var, ...], step: Any
) -> tuple[Var, tuple[Var, ...]]:
    """Return the hidden state to show, and the states to go on with."""
    following = _CELLS[layer.node.op](layer, one, row, states)
    if layer.lengths is None:
        return following[0], following
    running = mb.expand_dims(x=mb.greater(x=layer.lengths, y=step), axes=[1])
    kept = tuple(_either(running, new, old) for new, old in zip(following, states, strict=True))
    nothing = mb.const(val=types.nptype_from_builtin(row.dtype)(0))
    return _either(running, following[0], nothing), kept


def _either(cond: Var, new: Var, old: Var) -> Var:
    cond, new, old = alike(cond, new, old)
    return mb.select(cond=cond, a=new, b=old)


def _recurrent(one: Direction, hidden: Var, gates: slice, bias: np.ndarray | None = None) -> Var:
    """Return the product of the hidden state with the matrices of some gates."""
    extra = {} if bias is None else {"bias": bias}
    return mb.linear(x=hidden, weight=one.recurrence[gates], **extra)


def _lstm_cell(layer: Layer, one: Direction, row: Var, states: tuple[Var, ...]) -> tuple[Var, ...]:
    hidden, cell = states
    inputs, outputs, forgets = one.activations
    whole = mb.add(x=row, y=_recurrent(one, hidden, slice(None)))
    entry, exit_, forget, new = mb.split(x=whole, num_splits=4, axis=1)
    peep = (None, None, None) if one.peephole is None else np.split(one.peephole, 3)
    entry = inputs(layer.clipped(_peeped(entry, peep[0], cell)))
    if layer.node.attribute("input_forget", 0):
        forget = mb.sub(x=types.nptype_from_builtin(row.dtype)(1), y=entry)
    else:
        forget = inputs(layer.clipped(_peeped(forget, peep[2], cell)))
    fresh = mb.mul(x=entry, y=outputs(layer.clipped(new)))
    cell = mb.add(x=mb.mul(x=forget, y=cell), y=fresh)
    exit_ = inputs(layer.clipped(_peeped(exit_, peep[1], cell)))
    return mb.mul(x=exit_, y=forgets(cell)), cell


def _peeped(gate: Var, weight: np.ndarray | None, cell: Var) -> Var:
    return gate if weight is None else mb.add(x=gate, y=mb.mul(x=cell, y=weight))


def _gru_cell(layer: Layer, one: Direction, row: Var, states: tuple[Var, ...]) -> tuple[Var, ...]:
    (hidden,) = states
    gate, candidate = one.activations
    size = one.recurrence.shape[1]
    inner = bool(layer.node.attribute("linear_before_reset", 0))
    parts = mb.split(x=row, num_splits=3, axis=1)
    bias = one.recurrent_bias if inner else np.zeros_like(one.recurrent_bias)
    product = _recurrent(one, hidden, slice(0, 2 * size), bias[: 2 * size])
    update, reset = (
        gate(layer.clipped(mb.add(x=part, y=other)))
        for part, other in zip(parts[:2], mb.split(x=product, num_splits=2, axis=1), strict=True)
    )
    last = slice(2 * size, None)
    if inner:
        other = mb.mul(x=reset, y=_recurrent(one, hidden, last, bias[2 * size :]))
    else:
        other = _recurrent(one, mb.mul(x=reset, y=hidden), last)
    new = candidate(layer.clipped(mb.add(x=parts[2], y=other)))
    rest = mb.sub(x=types.nptype_from_builtin(row.dtype)(1), y=update)
    return (mb.add(x=mb.mul(x=rest, y=new), y=mb.mul(x=update, y=hidden)),)


def _rnn_cell(layer: Layer, one: Direction, row: Var, states: tuple[Var, ...]) -> tuple[Var, ...]:
    (hidden,) = states
    whole = mb.add(x=row, y=_recurrent(one, hidden, slice(None)))
    return (one.activations[0](layer.clipped(whole)),)


_CELLS = {"LSTM": _lstm_cell, "GRU": _gru_cell, "RNN": _rnn_cell}
