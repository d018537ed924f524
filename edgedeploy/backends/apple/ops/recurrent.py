"""LSTM, GRU and RNN (ONNX LSTM-22, GRU-22, RNN-22).

MIL has an operation for the plain form of each. What it leaves out (clipping, other activations,
sequences of different lengths, ...) is computed step by step, see :mod:`..recurrence`. A reverse
direction turns the input and the output round: whether MIL's own ``reverse`` gives the output in
the order of the input or of the computation is not documented.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgedeploy.backends.apple.mil_api import Var, mb
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.recurrence import Direction, Layer, Passed, in_steps
from edgedeploy.backends.apple.registry import op
from edgedeploy.backends.apple.weights import Packed, store

Run = Callable[[Layer, Direction, Var], Passed]


@op("LSTM")
def lstm(node: Node) -> list[Var]:
    """Return all hidden states, the last one, and the last cell state."""
    layer = Layer.of(node, gates=4, activations=("Sigmoid", "Tanh", "Tanh"), states=2)
    plain = layer.plain and not node.attribute("input_forget", 0)
    return _both(layer, _lstm_at_once if plain else in_steps)


def _lstm_at_once(layer: Layer, one: Direction, x: Var) -> Passed:
    """Return what MIL's operation makes; its gates are in the order input, forget, output, cell."""
    order = [0, 2, 1, 3]
    extra = {}
    if one.peephole is not None:
        entry, exit_, forget = np.split(one.peephole, 3)
        extra["peephole"] = np.concatenate([entry, forget, exit_])
    made, hidden, cell = mb.lstm(
        x=x,
        initial_h=one.states[0],
        initial_c=one.states[1],
        weight_ih=_weight(layer, one.weight, one.packed[0], order),
        weight_hh=_weight(layer, one.recurrence, one.packed[1], order),
        bias=_ordered(one.bias + one.recurrent_bias, order),
        output_sequence=True,
        **extra,
    )
    return Passed(made, (hidden, cell))


@op("GRU")
def gru(node: Node) -> list[Var]:
    """Return all hidden states and the last one.

    MIL's operation resets before the product (``linear_before_reset`` 0), as the tests of
    coremltools compute it; they also say that it is wrong for more than one sample.
    """
    layer = Layer.of(node, gates=3, activations=("Sigmoid", "Tanh"), states=1)
    single = layer.x.shape[1] == 1
    plain = layer.plain and single and not node.attribute("linear_before_reset", 0)
    return _both(layer, _gru_at_once if plain else in_steps)


def _gru_at_once(layer: Layer, one: Direction, x: Var) -> Passed:
    """Return what MIL's operation makes; its gates are in the order reset, new, update."""
    order = [1, 2, 0]
    made, hidden = mb.gru(
        x=x,
        initial_h=one.states[0],
        weight_ih=_weight(layer, one.weight, one.packed[0], order),
        weight_hh=_weight(layer, one.recurrence, one.packed[1], order),
        bias=_ordered(one.bias + one.recurrent_bias, order),
        output_sequence=True,
    )
    return Passed(made, (hidden,))


@op("RNN")
def rnn(node: Node) -> list[Var]:
    """Return all hidden states and the last one."""
    layer = Layer.of(node, gates=1, activations=("Tanh",), states=1)
    return _both(layer, _rnn_at_once if layer.plain else in_steps)


def _rnn_at_once(layer: Layer, one: Direction, x: Var) -> Passed:
    made, hidden = mb.rnn(
        x=x,
        initial_h=one.states[0],
        weight_ih=_weight(layer, one.weight, one.packed[0], [0]),
        weight_hh=_weight(layer, one.recurrence, one.packed[1], [0]),
        bias=one.bias + one.recurrent_bias,
        output_sequence=True,
    )
    return Passed(made, (hidden,))


def _weight(layer: Layer, gates: np.ndarray, kept: Packed | None, order: list[int]) -> Var:
    """Return a weight with its gates in another order, in as few bits as it has."""
    stored = None if kept is None else store(kept.gates(order), layer.node.ios)
    return mb.const(val=_ordered(gates, order)) if stored is None else stored


def _ordered(gates: np.ndarray, order: list[int]) -> np.ndarray:
    """Return gates, which lie along the first axis, in another order."""
    parts = np.split(gates, len(order))
    return np.concatenate([parts[place] for place in order])


def _both(layer: Layer, run: Run) -> list[Var]:
    """Return the outputs of the node from one pass in each of its directions."""
    passes = [_passed(layer, one, run) for one in layer.directions]
    if layer.batch_first:
        rows = [mb.transpose(x=one.sequence, perm=[1, 0, 2]) for one in passes]
        outputs = [mb.stack(values=rows, axis=2)]
    else:
        outputs = [mb.stack(values=[one.sequence for one in passes], axis=1)]
    axis = 1 if layer.batch_first else 0
    for place in range(len(passes[0].states)):
        outputs.append(mb.stack(values=[one.states[place] for one in passes], axis=axis))
    return outputs


def _passed(layer: Layer, one: Direction, run: Run) -> Passed:
    if not one.backward:
        return run(layer, one, layer.x)
    made = run(layer, one, layer.turned(layer.x))
    return Passed(layer.turned(made.sequence), made.states)
