"""Recurrent layers.

Source: ``rnn``, ``gru`` and ``lstm`` of the MIL operations, iOS 15 to 18. With ``direction`` of
``reverse`` the input is read from its end, and the outputs lie in the order in which they are
computed: the first belongs to the last input. With ``bidirectional`` every output lies at the
place of its input. (So do Apple's own tests expect it.)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgedeploy.mil.registry import Array, op

Activation = Callable[[Array], Array]


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _hard_sigmoid(x: Array) -> Array:
    return np.clip(0.2 * x + 0.5, 0, 1)


def _linear(x: Array) -> Array:
    return x


_ACTIVATIONS: dict[str, Activation] = {
    "tanh": np.tanh,
    "scaled_tanh": np.tanh,  # its factors are 1 in recurrent layers (Apple's own test of lstm)
    "sigmoid": _sigmoid,
    "hard_sigmoid": _hard_sigmoid,
    "sigmoid_hard": _hard_sigmoid,
    "relu": lambda x: np.maximum(x, 0),
    "linear": _linear,
}


def _activation(name: str) -> Activation:
    """Return an activation.

    Raises:
        ValueError: It is unknown.
    """
    found = _ACTIVATIONS.get(name.lower())
    if found is None:
        raise ValueError(f"activation {name!r} of a recurrent layer is unknown")
    return found


def _projected(x: Array, weight: Array, bias: Array | None, direction: str) -> Array:
    """Return the inputs of all steps times their weights, in order of computation.

    Raises:
        ValueError: The direction is unknown.
    """
    if direction not in ("forward", "reverse"):
        raise ValueError(f"direction {direction!r} is unknown")
    ordered = x if direction == "forward" else x[::-1]
    product = np.matmul(ordered, weight.T)
    return product if bias is None else product + bias


def _outputs(steps: list[Array], output_sequence: Array | bool) -> Array:
    return np.stack(steps if output_sequence else steps[-1:])


@op("rnn")
def rnn(
    x: Array,
    initial_h: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    direction: str = "forward",
    output_sequence: Array | bool = False,
    activation: str = "tanh",
) -> tuple[Array, Array]:
    """Return ``h = activation(W_ih x + W_hh h + b)`` step by step.

    Args:
        x: ``[S, B, I]``.
        initial_h: ``[B, H]``.
        weight_ih: ``[H, I]``.
        weight_hh: ``[H, H]``.
        bias: ``[H]``.
        direction: ``forward`` or ``reverse``; see the module.
        output_sequence: Whether the first output has all steps or the last one.
        activation: Name.

    Returns:
        ``[S or 1, B, H]`` and the last state ``[B, H]``.
    """
    act, h, steps = _activation(activation), initial_h, []
    for inputs in _projected(x, weight_ih, bias, direction):
        h = act(inputs + np.matmul(h, weight_hh.T))
        steps.append(h)
    return _outputs(steps, output_sequence), h


@op("gru")
def gru(
    x: Array,
    initial_h: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    direction: str = "forward",
    output_sequence: Array | bool = False,
    recurrent_activation: str = "sigmoid",
    activation: str = "tanh",
    reset_after: Array | bool = False,
    input_bias: Array | None = None,
) -> tuple[Array, Array]:
    """Return the states of a gated recurrent unit; gates lie in the order reset, new, update.

    Args:
        x: ``[S, B, I]``.
        initial_h: ``[B, H]``.
        weight_ih: ``[3 H, I]``.
        weight_hh: ``[3 H, H]``.
        bias: ``[3 H]``; with ``reset_after`` it belongs to the recurrent product.
        direction: ``forward`` or ``reverse``; see the module.
        output_sequence: Whether the first output has all steps or the last one.
        recurrent_activation: Of reset and update.
        activation: Of the new state.
        reset_after: Whether the reset gate multiplies the product with the state (as in PyTorch)
            or the state before the product.
        input_bias: ``[3 H]``, added to the product with the input.

    Returns:
        ``[S or 1, B, H]`` and the last state ``[B, H]``.
    """
    gate, act = _activation(recurrent_activation), _activation(activation)
    w_reset, w_new, w_update = np.split(weight_hh, 3)
    biases = np.zeros(len(weight_hh), x.dtype) if bias is None else bias
    b_reset, b_new, b_update = np.split(biases, 3)
    h, steps = initial_h, []
    for inputs in _projected(x, weight_ih, input_bias, direction):
        i_reset, i_new, i_update = np.split(inputs, 3, axis=-1)
        reset = gate(i_reset + np.matmul(h, w_reset.T) + b_reset)
        update = gate(i_update + np.matmul(h, w_update.T) + b_update)
        if reset_after:
            new = act(i_new + reset * (np.matmul(h, w_new.T) + b_new))
        else:
            new = act(i_new + np.matmul(reset * h, w_new.T) + b_new)
        h = (1 - update) * new + update * h
        steps.append(h)
    return _outputs(steps, output_sequence), h


@op("lstm")
def lstm(
    x: Array,
    initial_h: Array,
    initial_c: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    peephole: Array | None = None,
    weight_ih_back: Array | None = None,
    weight_hh_back: Array | None = None,
    bias_back: Array | None = None,
    peephole_back: Array | None = None,
    direction: str = "forward",
    output_sequence: Array | bool = False,
    recurrent_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    activation: str = "tanh",
    clip: Array | float | None = None,
) -> tuple[Array, Array, Array]:
    """Return the states of long short-term memory; gates lie in the order i, f, o, z.

    Args:
        x: ``[S, B, I]``.
        initial_h: ``[B, D H]`` for ``D`` directions.
        initial_c: ``[B, D H]``.
        weight_ih: ``[4 H, I]``.
        weight_hh: ``[4 H, H]``.
        bias: ``[4 H]``.
        peephole: ``[3 H]`` in the order i, f, o.
        weight_ih_back: As ``weight_ih``, backwards; this and the next three for ``bidirectional``.
        weight_hh_back: As ``weight_hh``, backwards.
        bias_back: As ``bias``, backwards.
        peephole_back: As ``peephole``, backwards.
        direction: ``forward``, ``reverse`` or ``bidirectional``; see the module.
        output_sequence: Whether the first output has all steps or the last one of each direction.
        recurrent_activation: Of the gates i, f and o.
        cell_activation: Of z.
        activation: Of the cell where the output is taken from it.
        clip: The cell is kept from ``-clip`` to ``clip``.

    Returns:
        ``[S or 1, B, D H]``, and the last state and cell ``[B, D H]``.
    """
    acts = tuple(map(_activation, (recurrent_activation, cell_activation, activation)))
    own = (weight_ih, weight_hh, bias, peephole)
    if direction != "bidirectional":
        steps, h, c = _lstm_steps(x, initial_h, initial_c, own, direction, acts, clip)
        return _outputs(steps, output_sequence), h, c
    back = (weight_ih_back, weight_hh_back, bias_back, peephole_back)
    parts = zip(np.split(initial_h, 2, -1), np.split(initial_c, 2, -1), strict=True)
    states, sides = list(parts), zip((own, back), ("forward", "reverse"), strict=True)
    made = [
        _lstm_steps(x, *state, weights, way, acts, clip)
        for state, (weights, way) in zip(states, sides, strict=True)
    ]
    sequences = [_outputs(steps, output_sequence) for steps, _, _ in made]
    sequences[1] = sequences[1][::-1]
    joined = (sequences, [h for _, h, _ in made], [c for _, _, c in made])
    first, last, cell = (np.concatenate(pair, axis=-1) for pair in joined)
    return first, last, cell


def _lstm_steps(
    x: Array,
    h: Array,
    c: Array,
    weights: tuple[Array | None, ...],
    direction: str,
    activations: tuple[Activation, ...],
    clip: Array | float | None,
) -> tuple[list[Array], Array, Array]:
    """Return the outputs of one direction in order of computation, the last state and cell."""
    weight_ih, weight_hh, bias, peephole = weights
    if weight_ih is None or weight_hh is None:
        raise ValueError("a bidirectional layer has no weights for the way back")
    gate, cell_act, out_act = activations
    zeros = np.zeros(3 * h.shape[-1], x.dtype)
    p_in, p_forget, p_out = np.split(zeros if peephole is None else peephole, 3)
    steps = []
    for inputs in _projected(x, weight_ih, bias, direction):
        i, f, o, z = np.split(inputs + np.matmul(h, weight_hh.T), 4, axis=-1)
        c = gate(f + p_forget * c) * c + gate(i + p_in * c) * cell_act(z)
        if clip is not None:
            c = np.clip(c, -clip, clip)
        h = gate(o + p_out * c) * out_act(c)
        steps.append(h)
    return steps, h, c
