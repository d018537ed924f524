"""Random forms of operators, by family, for the sweeps."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.coreml.sweeps import Draw, Form, Random, floats, pick, several


def _windows(random: Random, rank: int, kernel: list[int], *, dilate: bool) -> dict[str, Any]:
    """Return strides, dilations and padding."""
    made: dict[str, Any] = {"strides": several(random, rank, 1, 3)}
    if dilate and pick(random, True, False):
        made["dilations"] = several(random, rank, 1, 3)
    auto = pick(random, "NOTSET", "NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
    if auto != "NOTSET":
        return {**made, "auto_pad": auto}
    steps = made.get("dilations", [1] * rank)
    limits = [max(0, min((taps - 1) * step, 3)) for taps, step in zip(kernel, steps, strict=True)]
    return {**made, "pads": [int(random.integers(0, limit + 1)) for limit in limits * 2]}


def conv(random: Random) -> Form:
    """Return a Conv of 1 to 3 axes."""
    rank = pick(random, 1, 2, 2, 3)
    groups, kernel = pick(random, 1, 1, 2, 3), several(random, rank, 1, 4)
    inner, outer = int(random.integers(1, 3)), groups * int(random.integers(1, 3))
    x = floats(random, int(random.integers(1, 3)), inner * groups, *several(random, rank, 6, 11))
    weight = floats(random, outer, inner, *kernel)
    bias = pick(random, None, floats(random, outer))
    return Form(
        op="Conv",
        inputs=[x, weight, bias],
        constants=frozenset({1, 2}),
        attributes={"group": groups, **_windows(random, rank, kernel, dilate=True)},
    )


def conv_transpose(random: Random) -> Form:
    """Return a ConvTranspose of 1 to 3 axes."""
    rank = pick(random, 1, 2, 2, 3)
    groups, kernel = pick(random, 1, 1, 2), several(random, rank, 1, 4)
    inner, outer = groups * int(random.integers(1, 3)), int(random.integers(1, 3))
    sizes = several(random, rank, 2, 6)
    attributes = {"group": groups, **_windows(random, rank, kernel, dilate=True)}
    strides, steps = attributes["strides"], attributes.get("dilations", [1] * rank)
    if pick(random, True, False):
        attributes["output_padding"] = [
            int(random.integers(0, max(stride, step)))
            for stride, step in zip(strides, steps, strict=True)
        ]
    elif pick(random, True, False):
        attributes.pop("pads", None)
        attributes["output_shape"] = [
            (size - 1) * stride + (taps - 1) * step + 1 - int(random.integers(0, taps))
            for size, stride, taps, step in zip(sizes, strides, kernel, steps, strict=True)
        ]
    return Form(
        op="ConvTranspose",
        inputs=[
            floats(random, 2, inner, *sizes),
            floats(random, inner, outer, *kernel),
            pick(random, None, floats(random, outer * groups)),
        ],
        constants=frozenset({1, 2}),
        attributes=attributes,
    )


def pool(random: Random) -> Form:
    """Return a MaxPool, AveragePool or LpPool."""
    rank, op = pick(random, 1, 2, 2, 3), pick(random, "MaxPool", "AveragePool", "LpPool")
    kernel = several(random, rank, 1, 4)
    attributes = {"kernel_shape": kernel, **_windows(random, rank, kernel, dilate=True)}
    attributes["ceil_mode"] = pick(random, 0, 1)
    outputs = 1
    if op == "AveragePool":
        attributes["count_include_pad"] = pick(random, 0, 1)
    if op == "LpPool":
        attributes["p"] = pick(random, 1, 2, 3)
    if op == "MaxPool" and pick(random, True, False):
        outputs = 2
        attributes["storage_order"] = pick(random, 0, 1)
    x = floats(random, 2, 2, *several(random, rank, 7, 12))
    return Form(op=op, inputs=[x], attributes=attributes, outputs=outputs)


def resize(random: Random) -> Form:
    """Return a Resize of some or all axes."""
    mode = pick(random, "nearest", "nearest", "linear", "cubic")
    coordinates = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
    coordinates += ["half_pixel_symmetric", "tf_crop_and_resize"]
    attributes: dict[str, Any] = {
        "mode": mode,
        "coordinate_transformation_mode": pick(random, *coordinates),
        "nearest_mode": pick(random, "round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
    }
    if mode == "cubic":
        attributes["cubic_coeff_a"] = pick(random, -0.75, -0.5)
        attributes["exclude_outside"] = pick(random, 0, 1)
    if mode != "nearest" and pick(random, True, False, False):
        attributes["antialias"] = 1
    x = floats(random, 1, 2, *several(random, 2, 1, 7))
    roi = None
    if attributes["coordinate_transformation_mode"] == "tf_crop_and_resize":
        low, high = random.uniform(0, 0.4, 2), random.uniform(0.5, 1.2, 2)
        roi = np.array([0, 0, *low, 1, 1, *high], np.float32)
        attributes["extrapolation_value"] = 3.0
    scales, sizes = None, None
    if pick(random, True, False):
        factors = [pick(random, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 2.0, 2.6, 3.0) for _ in range(2)]
        scales = np.array([1, 1, *factors], np.float32)
    else:
        sizes = np.array([1, 2, *several(random, 2, 1, 12)], np.int64)
    return Form(
        op="Resize",
        inputs=[x, roi, scales] if sizes is None else [x, roi, None, sizes],
        constants=frozenset({1, 2, 3}),
        attributes=attributes,
    )


def gemm(random: Random) -> Form:
    """Return a Gemm with every kind of bias."""
    rows, inner, columns = several(random, 3, 1, 5)
    across = pick(random, 0, 1), pick(random, 0, 1)
    a = floats(random, *((inner, rows) if across[0] else (rows, inner)))
    b = floats(random, *((columns, inner) if across[1] else (inner, columns)))
    shapes = [(columns,), (1, columns), (rows, columns), (rows, 1), (1,), (1, 1), ()]
    bias = pick(random, None, *(floats(random, *shape) for shape in shapes))
    fixed = pick(random, {1, 2}, {2}, {1}, set())
    return Form(
        op="Gemm",
        inputs=[a, b, None if bias is None else np.asarray(bias, np.float32)],
        constants=frozenset(fixed),
        attributes={
            "transA": across[0],
            "transB": across[1],
            "alpha": pick(random, 1.0, 0.5),
            "beta": pick(random, 1.0, 2.0, 0.0),
        },
    )


def matmul(random: Random) -> Form:
    """Return a MatMul of ranks 1 to 4, with axes that broadcast."""
    inner = int(random.integers(1, 5))
    batch = several(random, 2, 1, 3)
    x = [*batch[: random.integers(0, 3)], int(random.integers(1, 5)), inner]
    y = [*batch[: random.integers(0, 3)], inner, int(random.integers(1, 5))]
    if len(x) == len(y):
        x[0] = pick(random, 1, x[0]) if len(x) > 2 else x[0]
    else:
        x, y = x[-2:], y
    if pick(random, True, False, False):
        x = [inner]
    if pick(random, True, False, False):
        y = [inner]
    constants = frozenset(pick(random, {1}, set()))
    return Form(op="MatMul", inputs=[floats(random, *x), floats(random, *y)], constants=constants)


def einsum(random: Random) -> Form:
    """Return an Einsum of one to three operands with random subscripts."""
    letters = "abcde"[: random.integers(2, 6)]
    extents = dict(zip(letters, several(random, len(letters), 1, 4), strict=True))
    terms = [
        "".join(pick(random, *letters) for _ in range(random.integers(1, 5)))
        for _ in range(random.integers(1, 4))
    ]
    used = sorted(set("".join(terms)))
    kept = [letter for letter in random.permutation(used) if pick(random, True, False)]
    dots = pick(random, "", "", "...")
    shapes = [[*([2] if dots else []), *(extents[letter] for letter in term)] for term in terms]
    equation = ",".join(dots + term for term in terms)
    if pick(random, True, True, False):
        equation += f"->{dots}{''.join(kept)}"
    return Form(
        op="Einsum",
        inputs=[floats(random, *shape) for shape in shapes],
        attributes={"equation": equation},
    )


def normalization(random: Random) -> Form:
    """Return a normalization."""
    rank = pick(random, 2, 3, 4, 5)
    op = pick(random, "BatchNormalization", "LayerNormalization", "LRN", "LpNormalization")
    if rank > 2:
        op = pick(random, op, "InstanceNormalization", "GroupNormalization")
    x = floats(random, 2, 4, *several(random, rank - 2, 2, 4))
    fixed = frozenset(pick(random, {1, 2, 3, 4}, {1, 2, 3, 4}, set()))
    epsilon = {"epsilon": pick(random, 1e-5, 0.1)}
    if op == "LRN":
        sizes = {"size": pick(random, 1, 3, 5), "bias": 2.0, "alpha": 0.3}
        return Form(op=op, inputs=[x], attributes={**sizes, "beta": pick(random, 0.75, 0.5)})
    if op == "LpNormalization":
        x[0] *= pick(random, 0.0, 1.0)
        axis = int(random.integers(-rank, rank))
        return Form(op=op, inputs=[x], attributes={"axis": axis, "p": pick(random, 1, 2)})
    if op == "LayerNormalization":
        axis = int(random.integers(-rank, rank))
        shape = x.shape[axis:]
        bias = pick(random, None, floats(random, *shape))
        return Form(
            op=op,
            inputs=[x, floats(random, *shape), bias],
            constants=fixed,
            attributes={"axis": axis, **epsilon},
            outputs=pick(random, 1, 1, 3),
        )
    given = [x, floats(random, 4), floats(random, 4)]
    if op == "BatchNormalization":
        given += [floats(random, 4), np.abs(floats(random, 4)) + np.float32(0.1)]
    if op == "GroupNormalization":
        epsilon["num_groups"] = pick(random, 1, 2, 4)
    return Form(op=op, inputs=given, constants=fixed, attributes=epsilon)


_PLAIN = ["Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "HardSwish", "Mish", "Gelu"]


def activation(random: Random) -> Form:
    """Return an activation function, at zero and at large values too."""
    rank = pick(random, 1, 2, 3, 4)
    x = floats(random, *several(random, rank, 1, 4)) * pick(random, np.float32(1), np.float32(8))
    x.flat[0] = pick(random, 0.0, 1.0, -1.0, 30.0, -30.0)
    op = pick(random, *_PLAIN, "LeakyRelu", "Elu", "Celu", "Selu", "HardSigmoid", "Clip", "PRelu")
    op = pick(random, op, "ThresholdedRelu", "Shrink", "Softmax", "LogSoftmax", "Hardmax")
    attributes: dict[str, Any] = {}
    if op in ("LeakyRelu", "Elu", "Celu", "ThresholdedRelu"):
        attributes["alpha"] = pick(random, 0.3, 1.0, 2.0)
    if op == "HardSigmoid":
        attributes = {"alpha": 0.3, "beta": pick(random, 0.5, 0.4)}
    if op == "Shrink":
        attributes = {"lambd": pick(random, 1.0, 0.2), "bias": pick(random, 0.5, 0.0)}
    if op == "Gelu":
        attributes["approximate"] = pick(random, "none", "tanh")
    if op in ("Softmax", "LogSoftmax", "Hardmax"):
        x = np.round(x) if op == "Hardmax" else x
        attributes["axis"] = int(random.integers(-rank, rank))
    inputs: list[np.ndarray | None] = [x]
    if op == "Clip":
        low, high = floats(random), floats(random)
        inputs += [np.asarray(pick(random, low, None)), np.asarray(pick(random, high, None))]
        inputs = [None if item is None or item.dtype == object else item for item in inputs]
    if op == "PRelu":
        shape = [pick(random, 1, size) for size in x.shape][random.integers(0, rank) :]
        inputs.append(floats(random, *shape))
    return Form(
        op=op,
        inputs=inputs,
        constants=frozenset(pick(random, {1, 2}, set())),
        attributes=attributes,
    )


FAMILIES: dict[str, list[Draw]] = {
    "conv": [conv],
    "conv_transpose": [conv_transpose],
    "pool": [pool],
    "resize": [resize],
    "linear": [gemm, matmul],
    "einsum": [einsum],
    "normalization": [normalization],
    "activation": [activation],
}
