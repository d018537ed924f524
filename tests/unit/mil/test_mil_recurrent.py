"""Recurrent layers of the MIL interpreter against ONNX Runtime."""

import numpy as np
import pytest

from edgedeploy.mil.ops.recurrent import gru, lstm, rnn
from tests.unit.mil.reference import by_runtime, floats

STEPS, BATCH, WIDTH, H = 5, 2, 3, 4
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
SEQUENCE = np.bool_(True)


def reordered(weights, order):
    """Return the blocks of one direction's weights in another order."""
    blocks = np.split(weights, len(order))
    return np.concatenate([blocks[place] for place in order])


@pytest.mark.parametrize("name", ["tanh", "relu", "sigmoid"])
@pytest.mark.parametrize("reverse", [False, True])
def test_rnn_is_the_runtimes(name, reverse):
    x, h0 = floats(STEPS, BATCH, WIDTH), floats(BATCH, H, seed=1)
    w, r, b = floats(H, WIDTH, seed=2), floats(H, H, seed=3), floats(H, seed=4)
    wanted, last = by_runtime(
        "RNN",
        [x, w[None], r[None], np.concatenate([b, 0 * b])[None], None, h0[None]],
        outputs=2,
        hidden_size=H,
        direction="reverse" if reverse else "forward",
        activations=[name.capitalize()],
    )
    way = "reverse" if reverse else "forward"
    found, state = rnn(x, h0, w, r, b, way, SEQUENCE, name)
    # ONNX puts an output at the place of its input, MIL in the order of computation.
    np.testing.assert_allclose(found, wanted[::-1, 0] if reverse else wanted[:, 0], **CLOSE)
    np.testing.assert_allclose(state, last[0], **CLOSE)
    final, state = rnn(x, h0, w, r, b, way, activation=name)
    assert final.shape == (1, BATCH, H)
    np.testing.assert_array_equal(final[0], state)


@pytest.mark.parametrize("reset_after", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_gru_is_the_runtimes(reset_after, reverse):
    x, h0 = floats(STEPS, BATCH, WIDTH), floats(BATCH, H, seed=1)
    w, r = floats(3 * H, WIDTH, seed=2), floats(3 * H, H, seed=3)
    wb, rb = floats(3 * H, seed=4), floats(3 * H, seed=5)
    # ONNX has update, reset, new; MIL reset, new, update.
    w_mil, r_mil, wb_mil, rb_mil = (reordered(item, (1, 2, 0)) for item in (w, r, wb, rb))
    wanted, last = by_runtime(
        "GRU",
        [x, w[None], r[None], np.concatenate([wb, rb])[None], None, h0[None]],
        outputs=2,
        hidden_size=H,
        direction="reverse" if reverse else "forward",
        linear_before_reset=int(reset_after),
    )
    way = "reverse" if reverse else "forward"
    found, state = gru(
        x,
        h0,
        w_mil,
        r_mil,
        rb_mil,
        way,
        SEQUENCE,
        reset_after=np.bool_(reset_after),
        input_bias=wb_mil,
    )
    np.testing.assert_allclose(found, wanted[::-1, 0] if reverse else wanted[:, 0], **CLOSE)
    np.testing.assert_allclose(state, last[0], **CLOSE)
    if not reset_after:
        both, _ = gru(x, h0, w_mil, r_mil, wb_mil + rb_mil, way, SEQUENCE)
        np.testing.assert_allclose(both, found, **CLOSE)


def lstm_case(directions):
    x = floats(STEPS, BATCH, WIDTH)
    h0, c0 = floats(directions, BATCH, H, seed=1), floats(directions, BATCH, H, seed=2)
    w, r = floats(directions, 4 * H, WIDTH, seed=3), floats(directions, 4 * H, H, seed=4)
    b, p = floats(directions, 4 * H, seed=5), floats(directions, 3 * H, seed=6)
    return x, h0, c0, w, r, b, p


def to_mil(weights):
    """Return gates of ONNX (i, o, f, c) in the order i, f, o, z, per direction."""
    return [reordered(item, (0, 2, 1, 3)) for item in weights]


@pytest.mark.parametrize("clip", [None, 0.3])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_lstm_is_the_runtimes(direction, clip):
    count = 2 if direction == "bidirectional" else 1
    x, h0, c0, w, r, b, p = lstm_case(count)
    biases = np.concatenate([b, np.zeros_like(b)], axis=1)
    # Peepholes of ONNX are i, o, f. Its clip is of the gates, so it is not compared.
    wanted, last, cell = by_runtime(
        "LSTM",
        [x, w, r, biases, None, h0, c0, p],
        outputs=3,
        hidden_size=H,
        direction=direction,
    )
    peepholes = [reordered(item, (0, 2, 1)) for item in p]
    back = {}
    if count == 2:
        back = {
            "weight_ih_back": to_mil(w)[1],
            "weight_hh_back": to_mil(r)[1],
            "bias_back": to_mil(b)[1],
            "peephole_back": peepholes[1],
        }
    given = (
        x,
        np.concatenate(h0, axis=-1),
        np.concatenate(c0, axis=-1),
        to_mil(w)[0],
        to_mil(r)[0],
        to_mil(b)[0],
        peepholes[0],
    )
    if clip is not None:
        _, _, clipped = lstm(*given, direction=direction, clip=np.float32(clip), **back)
        assert np.abs(clipped).max() <= np.float32(clip) < np.abs(cell).max()
        return
    found, h, c = lstm(*given, direction=direction, output_sequence=SEQUENCE, **back)
    joined = np.concatenate(list(np.moveaxis(wanted, 1, 0)), axis=-1)
    np.testing.assert_allclose(found, joined[::-1] if direction == "reverse" else joined, **CLOSE)
    np.testing.assert_allclose(h, np.concatenate(last, axis=-1), **CLOSE)
    np.testing.assert_allclose(c, np.concatenate(cell, axis=-1), **CLOSE)
    final, _, _ = lstm(*given, direction=direction, **back)
    np.testing.assert_array_equal(final, h[None])


def test_lstm_applies_each_activation_where_it_belongs():
    # One step from zero: c = gate(i) * cell(z), h = gate(o) * out(c).
    x, zero = np.ones((1, 1, 1), np.float32), np.zeros((1, 1), np.float32)
    weights = np.float32([[1], [9], [2], [3]])
    _, h, c = lstm(
        x,
        zero,
        zero,
        weights,
        np.zeros((4, 1), np.float32),
        recurrent_activation="hard_sigmoid",
        cell_activation="linear",
        activation="relu",
    )
    np.testing.assert_allclose(c, [[0.7 * 3]], rtol=1e-6)
    np.testing.assert_allclose(h, [[0.9 * 0.7 * 3]], rtol=1e-6)


def test_what_is_unknown_raises():
    x, h, w, r = floats(1, 1, 1), floats(1, 1), floats(1, 1), floats(1, 1)
    with pytest.raises(ValueError, match="softmax"):
        rnn(x, h, w, r, activation="softmax")
    with pytest.raises(ValueError, match="sideways"):
        rnn(x, h, w, r, direction="sideways")
    with pytest.raises(ValueError, match="no weights for the way back"):
        two, four = floats(1, 2), floats(4, 1)
        lstm(x, two, two, four, four, direction="bidirectional")
