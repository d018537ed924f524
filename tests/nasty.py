"""Small models that are legal, or nearly so, and nasty; shared by unit and flow tests.

``NASTY[name](folder)`` writes one model and returns its path; ``ABOUT[name]`` says how to feed it
and what must become of it.
"""

from __future__ import annotations

from pathlib import Path

import nasty_refused  # noqa: F401 - registers the models that must be refused
import numpy as np
import onnx
from nasty_base import ABOUT, NASTY, About, feed, io, nasty, rng, weight, write
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

__all__ = ["ABOUT", "NASTY", "About", "feed", "huge_expand", "sparse_weights", "write"]

_IMAGE = {"x": ((1, 3, 8, 8), "float32")}
_IMAGES = ({"x": ((1, 3, 8, 8), "float32")}, {"x": ((2, 3, 12, 8), "float32")})
_ROW = ({"x": ((1, 4), "float32")}, {"x": ((5, 4), "float32")})


@nasty(feeds=_IMAGES)
def no_node_names_opset_9(folder: Path) -> Path:
    """Old opset: attributes where inputs are today, weights among the inputs."""
    weights = [weight((6, 3, 3, 3), "w"), weight((6,), "b"), nh.from_array(np.ones(6, "f4"), "s")]
    weights += [nh.from_array(np.zeros(6, "f4"), "m"), nh.from_array(np.ones(6, "f4"), "v")]
    nodes = [
        h.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        h.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]),
        h.make_node("Clip", ["n"], ["r"], min=0.0, max=6.0),
        h.make_node("Pad", ["r"], ["p"], pads=[0, 0, 0, 1, 0, 0, 1, 0], value=0.5),
        h.make_node("Slice", ["p"], ["q"], starts=[0], ends=[4], axes=[1]),
        h.make_node("Upsample", ["q", "scales"], ["u"], mode="nearest"),
        h.make_node("Dropout", ["u"], ["d"], ratio=0.3),
        h.make_node("ReduceMean", ["d"], ["g"], axes=[2, 3], keepdims=0),
        h.make_node("Unsqueeze", ["g"], ["e"], axes=[2]),
        h.make_node("Squeeze", ["e"], ["f"], axes=[2]),
        h.make_node("Softmax", ["f"], ["y"]),
    ]
    weights.append(nh.from_array(np.array([1, 1, 2, 2], "f4"), "scales"))
    return write(
        folder, nodes, [io("x", ["N", 3, "H", "W"])], [io("y", ["N", 4])], weights, opset=9, ir=4
    )


@nasty(feeds=({"x": ((2, 3, 4, 5), "float32")},))
def softmax_opset_11_matrix(folder: Path) -> Path:
    """Softmax over all axes from the second on, as it was before opset 13."""
    nodes = [
        h.make_node("Softmax", ["x"], ["y"], axis=1),
        h.make_node("LogSoftmax", ["x"], ["z"], axis=2),
        h.make_node("ReduceSum", ["y"], ["s"], axes=[1]),
        h.make_node("Split", ["x"], ["a", "b"], axis=3, split=[2, 3]),
        h.make_node("TopK", ["x", "k"], ["t", "i"]),
    ]
    outs = [io(n, None) for n in ("y", "z", "s", "a", "b", "t")] + [io("i", None, T.INT64)]
    return write(
        folder,
        nodes,
        [io("x", ["N", 3, 4, 5])],
        outs,
        [nh.from_array(np.array([2], "i8"), "k")],
        opset=11,
        ir=6,
    )


@nasty(feeds=({"x": ((1, 2, 6, 4), "float32")},))
def resize_opset_10(folder: Path) -> Path:
    """Resize with scales only, both ways, as in opset 10."""
    nodes = [
        h.make_node("Resize", ["x", "up"], ["a"], mode="nearest"),
        h.make_node("Resize", ["x", "up"], ["b"], mode="linear"),
        h.make_node("Resize", ["x", "down"], ["c"], mode="nearest"),
        h.make_node("Dropout", ["x"], ["d"]),
    ]
    weights = [
        nh.from_array(np.array([1, 1, 2, 2.5], "f4"), "up"),
        nh.from_array(np.array([1, 1, 0.5, 0.5], "f4"), "down"),
    ]
    outs = [io(n, None) for n in "abcd"]
    return write(folder, nodes, [io("x", ["N", 2, "H", 4])], outs, weights, opset=10, ir=5)


@nasty(feeds=_ROW, raw=False)
def duplicate_node_names(folder: Path) -> Path:
    """The checker accepts equal node names, the runtime does not."""
    nodes = [
        h.make_node("MatMul", ["x", "w"], ["a"], name="layer"),
        h.make_node("Relu", ["a"], ["b"], name="layer"),
        h.make_node("MatMul", ["b", "w"], ["y"], name="layer"),
    ]
    return write(folder, nodes, [io("x", ["N", 4])], [io("y", ["N", 4])], [weight((4, 4), "w")])


@nasty(feeds=_ROW)
def initializers_as_inputs_ir_3(folder: Path) -> Path:
    """IR 3 lists weights among the inputs."""
    return write(
        folder,
        [h.make_node("Gemm", ["x", "w", "b"], ["y"])],
        [io("x", ["N", 4]), io("w", [4, 4]), io("b", [4])],
        [io("y", ["N", 4])],
        [weight((4, 4), "w"), weight((4,), "b")],
        opset=8,
        ir=3,
    )


@nasty(feeds=({"x": ((1, 3, 8, 8), "float16")},))
def float16_weights(folder: Path) -> Path:
    """Half precision throughout."""
    nodes = [
        h.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        h.make_node("Relu", ["c"], ["y"], name="relu"),
    ]
    return write(
        folder,
        nodes,
        [io("x", [1, 3, 8, 8], T.FLOAT16)],
        [io("y", [1, 4, 6, 6], T.FLOAT16)],
        [weight((4, 3, 3, 3), "w", np.float16)],
    )


@nasty(feeds=({"x": ((3, 1, 4), "float32")},))
def empty_optional_inputs(folder: Path) -> Path:
    """LSTM without bias and lengths but with an initial state; Clip without minimum."""
    nodes = [
        h.make_node("LSTM", ["x", "w", "r", "", "", "h"], ["", "hn", ""], hidden_size=2),
        h.make_node("Clip", ["hn", "", "top"], ["y"]),
    ]
    weights = [weight((1, 8, 4), "w"), weight((1, 8, 2), "r"), weight((1, 1, 2), "h")]
    weights.append(nh.from_array(np.array(0.2, "f4"), "top"))
    return write(folder, nodes, [io("x", ["T", 1, 4])], [io("y", [1, 1, 2])], weights)


@nasty(feeds=({"x": ((2, 4), "float32"), "flag": ((), "bool")},), raw=False)
def if_with_outer_weight(folder: Path) -> Path:
    """Branches use a weight of the outer graph, one of their own, and equal inner names."""

    def branch(op: str) -> onnx.GraphProto:
        constant = h.make_node("Constant", [], ["k"], value=weight((4,), "k"))
        return h.make_graph(
            [
                constant,
                h.make_node("MatMul", ["x", "w"], ["inner"], name="inside"),
                h.make_node(op, ["inner", "k"], [f"out_{op}"], name="inside"),
            ],
            f"branch_{op}",
            [],
            [io(f"out_{op}", ["N", 4])],
        )

    node = h.make_node("If", ["flag"], ["y"], then_branch=branch("Add"), else_branch=branch("Mul"))
    return write(
        folder,
        [node],
        [io("x", ["N", 4]), io("flag", [], T.BOOL)],
        [io("y", ["N", 4])],
        [weight((4, 4), "w")],
    )


@nasty(feeds=_ROW)
def if_on_constant_nested(folder: Path) -> Path:
    """If on a constant, three deep, whose branches return constants and outer values."""

    def nest(depth: int) -> onnx.GraphProto:
        name = f"d{depth}"
        if depth == 3:
            made = h.make_node("Constant", [], [f"{name}_y"], value=weight((4,), "c"))
            return h.make_graph([made], name, [], [io(f"{name}_y", None)])
        inner = h.make_node(
            "If",
            ["cond"],
            [f"{name}_i"],
            then_branch=nest(depth + 1),
            else_branch=h.make_graph(
                [h.make_node("Identity", ["x"], [f"{name}_e"])], "e", [], [io(f"{name}_e", None)]
            ),
        )
        add = h.make_node("Add", ["x", f"{name}_i"], [f"{name}_y"])
        return h.make_graph([inner, add], name, [], [io(f"{name}_y", None)])

    dead = h.make_graph([h.make_node("Identity", ["x"], ["e"])], "else", [], [io("e", None)])
    nodes = [
        h.make_node("Equal", ["rate", "wanted"], ["cond"]),
        h.make_node("If", ["cond"], ["y"], then_branch=nest(1), else_branch=dead),
    ]
    weights = [nh.from_array(np.array(v, "i8"), n) for n, v in (("rate", 16), ("wanted", 16))]
    return write(folder, nodes, [io("x", ["N", 4])], [io("y", ["N", 4])], weights)


@nasty(feeds=({"x": ((3, 1), "str")},), texts=("cat", "dog", "emu", "none"), openvino=False)
def string_input(folder: Path) -> Path:
    """A label encoder from text to numbers."""
    node = h.make_node(
        "LabelEncoder",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        keys_strings=["cat", "dog", "emu"],
        values_floats=[0.0, 1.0, 2.0],
        default_float=-1.0,
    )
    return write(
        folder,
        [node],
        [io("x", ["N", 1], T.STRING)],
        [io("y", ["N", 1])],
        domains={"ai.onnx.ml": 3},
    )


@nasty(feeds=_ROW)
def com_microsoft_op(folder: Path) -> Path:
    """A contrib operator, with the type of its result stated by the file alone."""
    nodes = [
        h.make_node("MatMul", ["x", "w"], ["a"]),
        h.make_node("Gelu", ["a"], ["b"], domain="com.microsoft", name="gelu"),
        h.make_node("Relu", ["b"], ["y"]),
    ]
    return write(
        folder,
        nodes,
        [io("x", ["N", 4])],
        [io("y", ["N", 4])],
        [weight((4, 4), "w")],
        domains={"com.microsoft": 1},
    )


@nasty(feeds=_IMAGES)
def depthwise_wide_spread(folder: Path) -> Path:
    """Depthwise weights whose channels differ by four orders of magnitude."""
    scale = np.array([1e-2, 1.0, 1e2], np.float32).reshape(3, 1, 1, 1)
    weight = rng().normal(0, 1, (3, 1, 3, 3)).astype(np.float32) * scale
    nodes = [
        h.make_node("Conv", ["x", "w"], ["c"], group=3, pads=[1, 1, 1, 1], name="depthwise"),
        h.make_node("Conv", ["c", "p"], ["y"], name="pointwise"),
    ]
    point = (rng().normal(0, 1, (4, 3, 1, 1)) / scale.reshape(1, 3, 1, 1)).astype(np.float32)
    return write(
        folder,
        nodes,
        [io("x", ["N", 3, "H", "W"])],
        [io("y", ["N", 4, "H", "W"])],
        [nh.from_array(weight, "w"), nh.from_array(point, "p")],
    )


@nasty(feeds=_ROW)
def external_data(folder: Path) -> Path:
    """Weights, one of them in a Constant, in a file beside the model; with offset and length."""
    values = {"w": (4, 4), "k": (4,)}
    data = folder / "weights.bin"
    offset = 0
    tensors = {}
    with data.open("wb") as out:
        for name, shape in values.items():
            tensor = weight(shape, name)
            raw = tensor.raw_data
            tensor.ClearField("raw_data")
            tensor.data_location = T.EXTERNAL
            for key, value in (
                ("location", "weights.bin"),
                ("offset", str(offset)),
                ("length", str(len(raw))),
            ):
                tensor.external_data.add(key=key, value=value)
            out.write(raw + bytes(16))
            offset += len(raw) + 16
            tensors[name] = tensor
    nodes = [
        h.make_node("MatMul", ["x", "w"], ["a"]),
        h.make_node("Constant", [], ["k"], value=tensors["k"]),
        h.make_node("Add", ["a", "k"], ["y"]),
    ]
    return write(folder, nodes, [io("x", ["N", 4])], [io("y", ["N", 4])], [tensors["w"]])


@nasty(feeds=_ROW, openvino=False)
def tree_ensemble_zipmap(folder: Path) -> Path:
    """A decision stump classifier with the dictionaries that scikit-learn converters append."""
    tree = h.make_node(
        "TreeEnsembleClassifier",
        ["x"],
        ["label", "scores"],
        domain="ai.onnx.ml",
        nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[1, 0, 0],
        nodes_values=[0.1, 0.0, 0.0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        nodes_hitrates=[1.0, 1.0, 1.0],
        nodes_missing_value_tracks_true=[0, 0, 0],
        class_treeids=[0, 0, 0, 0],
        class_nodeids=[1, 1, 2, 2],
        class_ids=[0, 1, 0, 1],
        class_weights=[0.9, 0.1, 0.3, 0.7],
        classlabels_int64s=[0, 1],
        post_transform="NONE",
    )
    zipmap = h.make_node(
        "ZipMap", ["scores"], ["table"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]
    )
    table = h.make_value_info(
        "table", h.make_sequence_type_proto(h.make_map_type_proto(T.INT64, io("", []).type))
    )
    return write(
        folder,
        [tree, zipmap],
        [io("x", ["N", 4])],
        [io("label", ["N"], T.INT64), table],
        domains={"ai.onnx.ml": 1},
    )


@nasty(feeds=_ROW, openvino=False)
def sklearn_mlp(folder: Path) -> Path:
    """A scaler and two layers as scikit-learn converters write them; labels by ArgMax."""
    nodes = [
        h.make_node("Scaler", ["x"], ["s"], domain="ai.onnx.ml", offset=[0.1] * 4, scale=[2.0] * 4),
        h.make_node("MatMul", ["s", "w1"], ["h1"]),
        h.make_node("Add", ["h1", "b1"], ["a1"]),
        h.make_node("Relu", ["a1"], ["r1"]),
        h.make_node("MatMul", ["r1", "w2"], ["h2"]),
        h.make_node("Softmax", ["h2"], ["probabilities"]),
        h.make_node("ArgMax", ["probabilities"], ["best"], axis=1, keepdims=0),
        h.make_node("ArrayFeatureExtractor", ["classes", "best"], ["t"], domain="ai.onnx.ml"),
        h.make_node("Reshape", ["t", "flat"], ["label"]),
    ]
    weights = [weight((4, 6), "w1"), weight((6,), "b1"), weight((6, 3), "w2")]
    weights.append(nh.from_array(np.array([[10, 20, 30]], "i8"), "classes"))
    weights.append(nh.from_array(np.array([-1], "i8"), "flat"))
    return write(
        folder,
        nodes,
        [io("x", [None, 4])],
        [io("label", [None], T.INT64), io("probabilities", [None, 3])],
        weights,
        domains={"ai.onnx.ml": 1},
    )


@nasty(feeds=_ROW)
def unsorted_graph(folder: Path) -> Path:
    """Nodes before the nodes that feed them; the checker refuses it, the runtime does not."""
    nodes = [
        h.make_node("Relu", ["b"], ["y"]),
        h.make_node("Add", ["a", "x"], ["b"]),
        h.make_node("MatMul", ["x", "w"], ["a"]),
    ]
    return write(folder, nodes, [io("x", ["N", 4])], [io("y", ["N", 4])], [weight((4, 4), "w")])


@nasty(feeds=({"x": ((1, 4), "float32"), "n": ((), "int64")},))
def loop(folder: Path) -> Path:
    """A Loop whose body uses an outer weight."""
    body = h.make_graph(
        [
            h.make_node("MatMul", ["v", "w"], ["m"]),
            h.make_node("Tanh", ["m"], ["v_out"]),
            h.make_node("Identity", ["cond"], ["cond_out"]),
        ],
        "body",
        [io("i", [], T.INT64), io("cond", [], T.BOOL), io("v", [1, 4])],
        [io("cond_out", [], T.BOOL), io("v_out", [1, 4])],
    )
    return write(
        folder,
        [h.make_node("Loop", ["n", "", "x"], ["y"], body=body)],
        [io("x", [1, 4]), io("n", [], T.INT64)],
        [io("y", [1, 4])],
        [weight((4, 4), "w")],
    )


@nasty(feeds=_ROW)
def local_functions(folder: Path) -> Path:
    """A function that calls another, called twice, with an attribute and its default."""
    inner = h.make_function(
        "mine",
        "Half",
        ["p"],
        ["q"],
        [
            h.make_node("Constant", [], ["c"], value_float=0.5),
            h.make_node("Mul", ["p", "c"], ["q"]),
        ],
        [h.make_opsetid("", 17)],
    )
    leaky = h.make_node("LeakyRelu", ["t"], ["q"])
    leaky.attribute.add(name="alpha", ref_attr_name="alpha", type=onnx.AttributeProto.FLOAT)
    outer = h.make_function(
        "mine",
        "Act",
        ["p"],
        ["q"],
        [h.make_node("Half", ["p"], ["t"], domain="mine"), leaky],
        [h.make_opsetid("", 17), h.make_opsetid("mine", 1)],
        attributes=["alpha"],
    )
    nodes = [
        h.make_node("Act", ["x"], ["a"], domain="mine", alpha=0.3),
        h.make_node("MatMul", ["a", "w"], ["b"]),
        h.make_node("Act", ["b"], ["y"], domain="mine", alpha=0.1),
    ]
    return write(
        folder,
        nodes,
        [io("x", ["N", 4])],
        [io("y", ["N", 4])],
        [weight((4, 4), "w")],
        domains={"mine": 1},
        functions=[inner, outer],
    )


@nasty(feeds=({"ids": ((2, 3), "int64")},))
def tied_weights(folder: Path) -> Path:
    """One table looks tokens up and, transposed, scores them."""
    nodes = [
        h.make_node("Gather", ["table", "ids"], ["e"]),
        h.make_node("Transpose", ["table"], ["t"], perm=[1, 0]),
        h.make_node("MatMul", ["e", "t"], ["y"]),
    ]
    return write(
        folder,
        nodes,
        [io("ids", ["N", "T"], T.INT64)],
        [io("y", ["N", "T", 8])],
        [weight((8, 5), "table")],
    )


@nasty(feeds=_ROW)
def weight_is_output(folder: Path) -> Path:
    """A weight that is used and is an output too."""
    return write(
        folder,
        [h.make_node("MatMul", ["x", "w"], ["y"])],
        [io("x", ["N", 4])],
        [io("y", ["N", 4]), io("w", [4, 4])],
        [weight((4, 4), "w")],
    )


@nasty(feeds=_ROW)
def identity_between_input_and_output(folder: Path) -> Path:
    """An output that is an input, and one value under two output names."""
    nodes = [
        h.make_node("Identity", ["x"], ["same"]),
        h.make_node("Relu", ["x"], ["y"]),
        h.make_node("Identity", ["y"], ["again"]),
    ]
    outs = [io(n, ["N", 4]) for n in ("same", "y", "again")]
    return write(folder, nodes, [io("x", ["N", 4])], outs)


@nasty(feeds=({"x": ((1, 3, 4, 4), "float32")}, {"x": ((2, 3, 6, 5), "float32")}), raw=False)
def negative_dims(folder: Path) -> Path:
    """-1, 0 and nameless dims where an exporter did not know the size."""
    node = h.make_node("GlobalAveragePool", ["x"], ["y"])
    return write(folder, [node], [io("x", [-1, 3, 0, None])], [io("y", [-1, 3, 1, 1])])


@nasty(feeds=({"x": ((1, 4), "float32")},), raw=False)
def huge_constant_of_shape(folder: Path) -> Path:
    """Four terabytes of zeros, of which one element is used: must neither fold nor allocate."""
    shape = nh.from_array(np.array([1 << 20, 1 << 20], "i8"), "shape")
    nodes = [
        h.make_node("ConstantOfShape", ["shape"], ["big"]),
        h.make_node("Shape", ["big"], ["s"]),
        h.make_node("Gather", ["s", "zero"], ["n"]),
        h.make_node("Cast", ["n"], ["f"], to=T.FLOAT),
        h.make_node("Add", ["x", "f"], ["y"]),
    ]
    zero = nh.from_array(np.array(0, "i8"), "zero")
    return write(folder, nodes, [io("x", [1, 4])], [io("y", [1, 4])], [shape, zero])


@nasty(feeds=({"x": ((1, 4), "float32")},))
def long_chain(folder: Path) -> Path:
    """Twenty thousand nodes in a row."""
    nodes = [
        h.make_node("Neg" if i % 2 else "Abs", [f"v{i}"], [f"v{i + 1}"], name=f"n{i}")
        for i in range(20_000)
    ]
    return write(folder, nodes, [io("v0", [1, 4])], [io("v20000", [1, 4])])


ABOUT["long_chain"] = About(feeds=({"v0": ((1, 4), "float32")},))


def huge_expand(folder: Path) -> Path:
    """Four terabytes that are really needed: the normal form must come soon; no host can run it.

    Not in :data:`NASTY`: it must end as a run that is out of memory.
    """
    shape = nh.from_array(np.array([1 << 20, 1 << 20], "i8"), "shape")
    nodes = [
        h.make_node("Expand", ["one", "shape"], ["big"]),
        h.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        h.make_node("Tile", ["one", "shape"], ["tiled"]),
        h.make_node("Sum", ["big", "zeros", "tiled"], ["all"]),
        h.make_node("ReduceSum", ["all"], ["total"], keepdims=0),
        h.make_node("Add", ["x", "total"], ["y"]),
    ]
    one = nh.from_array(np.ones((1, 1), "f4"), "one")
    return write(folder, nodes, [io("x", [1, 4])], [io("y", [1, 4])], [shape, one])


def sparse_weights(folder: Path, gibibytes: float = 2.5) -> Path:
    """More than 2 GB of weights (zeros in a sparse file) in external data; looked up by rows.

    Not in :data:`NASTY`: copying it takes seconds and disk.
    """
    side = int((gibibytes * (1 << 30) / 3 / 4) ** 0.5) // 1024 * 1024
    nbytes = side * side * 4
    weights, nodes = [], []
    for index in range(3):
        tensor = T(name=f"w{index}", data_type=T.FLOAT, dims=[side, side])
        tensor.data_location = T.EXTERNAL
        for key, value in (
            ("location", "weights.bin"),
            ("offset", str(index * nbytes)),
            ("length", str(nbytes)),
        ):
            tensor.external_data.add(key=key, value=value)
        weights.append(tensor)
        nodes.append(h.make_node("Gather", [f"w{index}", "i"], [f"g{index}"], name=f"g{index}"))
    nodes.append(h.make_node("Sum", ["g0", "g1", "g2"], ["y"], name="sum"))
    with (folder / "weights.bin").open("wb") as out:
        out.truncate(3 * nbytes)
    return write(folder, nodes, [io("i", ["N"], T.INT64)], [io("y", ["N", side])], weights)
