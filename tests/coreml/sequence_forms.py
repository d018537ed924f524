"""Random forms of gathers, scatters, recurrent layers, attention and detection, for the sweeps."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.coreml.sweeps import Draw, Form, Random, floats, pick, several


def _values(random: Random, *shape: int) -> np.ndarray:
    """Return floats, integers or booleans."""
    kind = pick(random, "float32", "float32", "int64", "bool")
    return (floats(random, *shape) * 3).astype(kind)


def _indices(random: Random, size: int, *shape: int) -> np.ndarray:
    return random.integers(-size, size, shape)


def gather(random: Random) -> Form:
    """Return a Gather, with indices that are constant or not."""
    shape = several(random, int(random.integers(1, 4)), 1, 5)
    axis = int(random.integers(-len(shape), len(shape)))
    indices = _indices(random, shape[axis], *several(random, int(random.integers(0, 3)), 1, 3))
    return Form(
        op="Gather",
        inputs=[_values(random, *shape), np.asarray(indices)],
        constants=pick(random, frozenset(), frozenset({1})),
        attributes={"axis": axis},
    )


def gather_elements(random: Random) -> Form:
    """Return a GatherElements, with indices as large as the data or smaller."""
    shape = several(random, int(random.integers(1, 4)), 1, 5)
    axis = int(random.integers(-len(shape), len(shape)))
    reach = [int(random.integers(1, size + 1)) for size in shape]
    reach[axis] = int(random.integers(1, 6))
    return Form(
        op="GatherElements",
        inputs=[_values(random, *shape), _indices(random, shape[axis], *reach)],
        constants=pick(random, frozenset(), frozenset({1})),
        attributes={"axis": axis},
    )


def _tuples(random: Random, shape: list[int], batch: int, front: list[int]) -> np.ndarray:
    length = int(random.integers(1, len(shape) - batch + 1))
    columns = [_indices(random, size, *front) for size in shape[batch : batch + length]]
    return np.stack(columns, axis=-1)


def gather_nd(random: Random) -> Form:
    """Return a GatherND, with batch axes or without."""
    shape = several(random, int(random.integers(2, 5)), 1, 4)
    batch = int(random.integers(0, 2))
    front = [*shape[:batch], *several(random, 1, 1, 3)]
    return Form(
        op="GatherND",
        inputs=[_values(random, *shape), _tuples(random, shape, batch, front)],
        constants=pick(random, frozenset(), frozenset({1})),
        attributes={"batch_dims": batch},
    )


def _updates(random: Random, data: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return (floats(random, *shape) * 3).astype(data.dtype)


def scatter_nd(random: Random) -> Form:
    """Return a ScatterND; without a reduction no place is written twice."""
    shape = several(random, int(random.integers(1, 4)), 1, 4)
    reduction = pick(random, "none", "add", "mul", "max", "min")
    data = floats(random, *shape) if reduction != "none" else _values(random, *shape)
    indices = _tuples(random, shape, 0, several(random, 1, 1, 3))
    if reduction == "none":
        indices = indices[:1]
    tail = tuple(shape[indices.shape[-1] :])
    return Form(
        op="ScatterND",
        inputs=[data, indices, _updates(random, data, indices.shape[:-1] + tail)],
        constants=pick(random, frozenset(), frozenset({1}), frozenset({0, 1, 2})),
        attributes={"reduction": reduction},
    )


def scatter_elements(random: Random) -> Form:
    """Return a ScatterElements; without a reduction no place is written twice."""
    shape = several(random, int(random.integers(1, 4)), 1, 5)
    axis = int(random.integers(-len(shape), len(shape)))
    reduction = pick(random, "none", "add", "mul", "max", "min")
    reach = [int(random.integers(1, size + 1)) for size in shape]
    reach[axis] = 1 if reduction == "none" else int(random.integers(1, 5))
    data = floats(random, *shape) if reduction != "none" else _values(random, *shape)
    return Form(
        op="ScatterElements",
        inputs=[data, _indices(random, shape[axis], *reach), _updates(random, data, tuple(reach))],
        constants=pick(random, frozenset(), frozenset({1}), frozenset({0, 1, 2})),
        attributes={"axis": axis, "reduction": reduction},
    )


def top_k(random: Random) -> Form:
    """Return a TopK of values that are all different."""
    shape = several(random, int(random.integers(1, 4)), 1, 6)
    axis = int(random.integers(-len(shape), len(shape)))
    count = np.array([random.integers(1, shape[axis] + 1)])
    return Form(
        op="TopK",
        inputs=[floats(random, *shape), count],
        constants=frozenset({1}),
        attributes={"axis": axis, "largest": pick(random, 0, 1)},
        outputs=2,
    )


def reverse_sequence(random: Random) -> Form:
    """Return a ReverseSequence over either pair of the first two axes."""
    shape = several(random, int(random.integers(2, 5)), 1, 5)
    batch = pick(random, 0, 1)
    return Form(
        op="ReverseSequence",
        inputs=[floats(random, *shape), random.integers(1, shape[1 - batch] + 1, shape[batch])],
        attributes={"batch_axis": batch, "time_axis": 1 - batch},
    )


GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FUNCTIONS = {"LSTM": 3, "GRU": 2, "RNN": 1}


def recurrent(random: Random) -> Form:
    """Return an LSTM, GRU or RNN with any of its attributes."""
    op = pick(random, "LSTM", "GRU", "RNN")
    steps, batch = pick(random, 1, 4, 5, 40), pick(random, 1, 3)
    inner, hidden, gates = int(random.integers(1, 4)), int(random.integers(1, 4)), GATES[op]
    direction = pick(random, "forward", "reverse", "bidirectional")
    count = 2 if direction == "bidirectional" else 1
    state = floats(random, count, batch, hidden)
    inputs: list[np.ndarray | None] = [
        floats(random, steps, batch, inner),
        floats(random, count, gates * hidden, inner),
        floats(random, count, gates * hidden, hidden),
        pick(random, None, floats(random, count, 2 * gates * hidden)),
        pick(random, None, random.integers(1, steps + 1, batch).astype(np.int32)),
        pick(random, None, state),
    ]
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
    if op == "LSTM":
        inputs += [None if inputs[5] is None else floats(random, count, batch, hidden)]
        inputs += [pick(random, None, floats(random, count, 3 * hidden))]
        attributes["input_forget"] = pick(random, 0, 0, 1)
    if op == "GRU":
        attributes["linear_before_reset"] = pick(random, 0, 1)
    if pick(random, True, False, False):
        attributes["clip"] = 0.75
    if pick(random, True, False, False):
        names = ["Relu", "Tanh", "Sigmoid", "HardSigmoid", "LeakyRelu", "Elu", "Softsign"]
        attributes["activations"] = [pick(random, *names) for _ in range(FUNCTIONS[op] * count)]
    outputs = 3 if op == "LSTM" else 2
    constants = frozenset({1, 2, 3, 7})
    return Form(op=op, inputs=inputs, constants=constants, attributes=attributes, outputs=outputs)


def grid_sample(random: Random) -> Form:
    """Return a GridSample of images or volumes."""
    rank = pick(random, 2, 2, 3)
    batch, sizes = int(random.integers(1, 3)), several(random, rank, 2, 5)
    points = several(random, rank, 1, 4)
    grid = random.uniform(-1.6, 1.6, (batch, *points, rank)).astype(np.float32)
    modes = ["linear", "nearest", "cubic"] if rank == 2 else ["linear", "nearest"]
    return Form(
        op="GridSample",
        inputs=[floats(random, batch, int(random.integers(1, 3)), *sizes), grid],
        attributes={
            "mode": pick(random, *modes),
            "padding_mode": pick(random, "zeros", "border", "reflection"),
            "align_corners": pick(random, 0, 1),
        },
    )


def roi_align(random: Random) -> Form:
    """Return a RoiAlign with regions that reach out of the image."""
    batch, channels, (height, width) = 2, 3, several(random, 2, 5, 9)
    count = int(random.integers(1, 4))
    begin = random.uniform(-2, 5, (count, 2))
    end = begin + random.uniform(0.1, 9, (count, 2))
    return Form(
        op="RoiAlign",
        inputs=[
            floats(random, batch, channels, height, width),
            np.concatenate([begin, end], axis=1).astype(np.float32),
            random.integers(0, batch, count),
        ],
        attributes={
            "mode": pick(random, "avg", "max"),
            "coordinate_transformation_mode": pick(random, "half_pixel", "output_half_pixel"),
            "output_height": int(random.integers(1, 4)),
            "output_width": int(random.integers(1, 4)),
            "sampling_ratio": pick(random, 1, 2, 3),
            "spatial_scale": pick(random, 1.0, 0.5),
        },
    )


def non_max_suppression(random: Random) -> Form:
    """Return a NonMaxSuppression that chooses at least one box."""
    batch, classes, count = (int(random.integers(1, high)) for high in (3, 4, 12))
    scores = random.uniform(0, 1, (batch, classes, count)).astype(np.float32)
    scores[0, 0, 0] = 1.5
    return Form(
        op="NonMaxSuppression",
        inputs=[
            random.uniform(0, 1, (batch, count, 4)).astype(np.float32),
            scores,
            np.array([random.integers(1, 6)]),
            np.array([pick(random, 0.1, 0.4, 0.7)], np.float32),
            pick(random, None, np.array([pick(random, 0.0, 0.5)], np.float32)),
        ],
        constants=frozenset({2, 3, 4}),
        attributes={"center_point_box": pick(random, 0, 1)},
    )


def attention(random: Random) -> Form:
    """Return an Attention with heads that share keys, masks, caches and caps."""
    batch, heads, groups = int(random.integers(1, 3)), pick(random, 1, 2), pick(random, 1, 2)
    query, key, width, out = several(random, 4, 1, 5)
    past = pick(random, 0, 0, 3)
    total = past + key
    mask = pick(
        random, None, floats(random, query, total), random.uniform(size=(query, total)) > 0.3
    )
    caches = [floats(random, batch, heads, past, size) for size in (width, out)]
    inputs: list[np.ndarray | None] = [
        floats(random, batch, heads * groups, query, width),
        floats(random, batch, heads, key, width),
        floats(random, batch, heads, key, out),
        mask,
        *(caches if past else [None, None]),
    ]
    attributes = {"is_causal": pick(random, 0, 1), "softcap": pick(random, 0.0, 0.0, 2.0)}
    if pick(random, True, False):
        attributes["scale"] = 0.3
    return Form(op="Attention", inputs=inputs, attributes=attributes)


SEQUENCES: dict[str, tuple[int, list[Draw]]] = {
    "gather": (21, [gather, gather_elements, gather_nd]),
    "scatter": (21, [scatter_nd, scatter_elements]),
    "order": (21, [top_k, reverse_sequence]),
    "recurrent": (21, [recurrent]),
    "sampling": (21, [grid_sample, roi_align]),
    "suppression": (21, [non_max_suppression]),
    "attention": (23, [attention]),
}
"""Opset version and forms of each family."""
