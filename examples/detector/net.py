"""The detector: a small anchor-free convolutional net, trained with numpy alone, written as ONNX.

Five 3 x 3 convolutions with ReLU look at the picture in cells of 8 x 8 pixels; two 1 x 1
convolutions say for each cell how far the digit's edges are from its middle and which digit it is.
The written model ends as those of the YOLO family do: centre, width and height of each cell's box
in pixels, and a score for each class, in one output `[1, 4 + classes, cells]`.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STRIDE = 8
CLASSES = 10
LAYERS = ((3, 12, 2), (12, 24, 2), (24, 40, 2), (40, 40, 1), (40, 40, 1))
"""Channels in and out, and the stride, of each 3 x 3 convolution."""

Weights = dict[str, np.ndarray]
"""`w0` `[9 * in, out]` (rows: row, column, channel), `b0` ..., then `wbox`, `bbox`, `wclass`..."""


def start(rng: np.random.Generator) -> Weights:
    """Return random weights (He et al., 2015); at first hardly any cell claims a digit."""
    weights: Weights = {}
    for number, (given, made, _) in enumerate(LAYERS):
        weights[f"w{number}"] = rng.normal(0, np.sqrt(2 / (9 * given)), (9 * given, made))
        weights[f"b{number}"] = np.zeros(made)
    last = LAYERS[-1][1]
    for name, count, bias in (("box", 4, 0.7), ("class", CLASSES, -4.0)):
        weights[f"w{name}"] = rng.normal(0, 0.01, (last, count))
        weights[f"b{name}"] = np.full(count, bias)
    return {name: value.astype(np.float32) for name, value in weights.items()}


def _patches(x: np.ndarray, stride: int) -> np.ndarray:
    """Return the 3 x 3 surroundings of `[n, h, w, c]` as `[n, h', w', 9 * c]`."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    high, wide = x.shape[1], x.shape[2]
    parts = [
        padded[:, i : i + high : stride, j : j + wide : stride] for i in range(3) for j in range(3)
    ]
    return np.concatenate(parts, axis=3)


def forward(weights: Weights, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, list]:
    """Return raw edges `[n, h, w, 4]`, logits `[n, h, w, classes]` and what `backward` needs.

    Args:
        weights: Of the net.
        images: float32 `[n, h, w, 3]` in 0..1, sides divisible by 8.
    """
    kept = []
    x = images
    for number, (_, _, stride) in enumerate(LAYERS):
        patches = _patches(x, stride)
        y = np.maximum(patches @ weights[f"w{number}"] + weights[f"b{number}"], 0)
        kept.append((x.shape, patches, y))
        x = y
    return x @ weights["wbox"] + weights["bbox"], x @ weights["wclass"] + weights["bclass"], kept


def backward(weights: Weights, kept: list, edges: np.ndarray, logits: np.ndarray) -> Weights:
    """Return the gradients of the weights, from those of the two results of `forward`."""
    found: Weights = {}
    last = kept[-1][2].reshape(-1, kept[-1][2].shape[-1])
    back = 0.0
    for name, given in (("box", edges), ("class", logits)):
        flat = given.reshape(-1, given.shape[-1])
        found[f"w{name}"], found[f"b{name}"] = last.T @ flat, flat.sum(axis=0)
        back = back + given @ weights[f"w{name}"].T
    for number in reversed(range(len(LAYERS))):
        shape, patches, y = kept[number]
        back = np.where(y > 0, back, 0)
        flat = back.reshape(-1, back.shape[-1])
        found[f"w{number}"] = patches.reshape(-1, patches.shape[-1]).T @ flat
        found[f"b{number}"] = flat.sum(axis=0)
        if number:
            back = _spread(back @ weights[f"w{number}"].T, shape, LAYERS[number][2])
    return found


def _spread(patches: np.ndarray, shape: tuple[int, ...], stride: int) -> np.ndarray:
    """Return the sums of what `_patches` copied: its gradient."""
    count, high, wide, channels = shape
    padded = np.zeros((count, high + 2, wide + 2, channels), np.float32)
    for place in range(9):
        i, j = divmod(place, 3)
        part = patches[..., place * channels : (place + 1) * channels]
        padded[:, i : i + high : stride, j : j + wide : stride] += part
    return padded[:, 1:-1, 1:-1]


def cells(height: int, width: int) -> np.ndarray:
    """Return the middle of each cell of a picture in cells: float32 `[h, w, 2]`, x before y."""
    y, x = np.mgrid[: height // STRIDE, : width // STRIDE]
    return np.stack([x, y], axis=-1).astype(np.float32) + 0.5


def onnx_model(weights: Weights, height: int, width: int) -> onnx.ModelProto:
    """Return the detector for pictures of one size.

    Input `images` float32 `[1, 3, height, width]` in 0..1; output `output0` float32
    `[1, 4 + classes, cells]`: x and y of the centre, width and height, in pixels; then the scores.
    """
    count = (height // STRIDE) * (width // STRIDE)
    constants: dict[str, np.ndarray] = {
        "edges_shape": np.array([1, 4, count]),
        "scores_shape": np.array([1, CLASSES, count]),
        "halves": np.array([2, 2]),
        "middles": cells(height, width).reshape(1, count, 2).transpose(0, 2, 1),
        "half": np.float32(0.5),
        "stride": np.float32(STRIDE),
    }
    nodes, x = [], "images"
    for number, (given, made, stride) in enumerate(LAYERS):
        kernel = weights[f"w{number}"].reshape(3, 3, given, made).transpose(3, 2, 0, 1)
        constants |= {f"w{number}": kernel, f"b{number}": weights[f"b{number}"]}
        nodes += [
            helper.make_node(
                "Conv",
                [x, f"w{number}", f"b{number}"],
                [f"conv{number}"],
                name=f"conv{number}",
                pads=[1, 1, 1, 1],
                strides=[stride, stride],
            ),
            helper.make_node("Relu", [f"conv{number}"], [f"relu{number}"], name=f"relu{number}"),
        ]
        x = f"relu{number}"
    for name in ("box", "class"):
        constants |= {
            f"w{name}": weights[f"w{name}"].T[..., None, None],
            f"b{name}": weights[f"b{name}"],
        }
        inputs = [x, f"w{name}", f"b{name}"]
        nodes.append(helper.make_node("Conv", inputs, [f"raw_{name}"], name=f"head_{name}"))
    nodes += _tail()
    graph = helper.make_graph(
        nodes,
        "digit-detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, height, width])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 4 + CLASSES, count])],
        [numpy_helper.from_array(np.ascontiguousarray(v), n) for n, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _tail() -> list[onnx.NodeProto]:
    """Return the nodes that make boxes in pixels and scores of the two heads' results."""
    steps = [
        ("Exp", ["raw_box"], ["grown"]),
        ("Reshape", ["grown", "edges_shape"], ["edges"]),
        ("Split", ["edges", "halves"], ["before", "behind"]),
        ("Sub", ["middles", "before"], ["low"]),
        ("Add", ["middles", "behind"], ["high"]),
        ("Add", ["low", "high"], ["twice"]),
        ("Mul", ["twice", "half"], ["centre"]),
        ("Sub", ["high", "low"], ["size"]),
        ("Concat", ["centre", "size"], ["boxes_in_cells"]),
        ("Mul", ["boxes_in_cells", "stride"], ["boxes"]),
        ("Sigmoid", ["raw_class"], ["sure"]),
        ("Reshape", ["sure", "scores_shape"], ["scores"]),
        ("Concat", ["boxes", "scores"], ["output0"]),
    ]
    axes = {"Split": {"axis": 1}, "Concat": {"axis": 1}}
    return [
        helper.make_node(op, given, made, name=f"tail_{made[0]}", **axes.get(op, {}))
        for op, given, made in steps
    ]
