"""Baked preprocessing against the declared formula, computed here in float64, in the runtime."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from edgedeploy.backends.ortmobile.reference import reference_runner
from edgedeploy.data.preprocess import normalise as preprocess
from edgedeploy.data.preprocess import unbaked
from edgedeploy.data.unbaked import Unbaked
from edgedeploy.errors import ModelError
from edgedeploy.passes.normalise import NormaliseOptions, normalise
from edgedeploy.passes.optimise import optimise
from edgedeploy.profile.types import ImagePreprocess

H, W = 6, 7
STEPS = ("scale", "mean", "colour", "layout", "uint8")
ALL = ImagePreprocess(
    height=H,
    width=W,
    colour="bgr",
    scale=1 / 255,
    mean=(0.406, 0.456, 0.485),
    std=(0.225, 0.224, 0.229),
    bake=STEPS,
)


def classifier(path: Path, image: ImagePreprocess, kind: int = T.FLOAT) -> Path:
    """Write a convolution with zero padding, so that shifts and zeros must not be confused."""
    channels = 1 if image.colour == "gray" else 3
    rng = np.random.default_rng(5)
    dtype = h.tensor_dtype_to_np_dtype(kind)
    weight = rng.normal(size=(4, channels, 3, 3)).astype(dtype)
    bias = rng.normal(size=4).astype(dtype)
    nchw = image.layout == "nchw"
    nodes = [] if nchw else [h.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2])]
    nodes.append(
        h.make_node("Conv", ["x" if nchw else "t", "w", "b"], ["y"], name="c", pads=[1, 1, 1, 1])
    )
    dims = ["N", channels, H, W] if nchw else ["N", H, W, channels]
    graph = h.make_graph(
        nodes,
        "g",
        [h.make_tensor_value_info("x", kind, dims)],
        [h.make_tensor_value_info("y", kind, None)],
        [nh.from_array(weight, "w"), nh.from_array(bias, "b")],
    )
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8), path)
    return path


def run(path: Path, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    found: np.ndarray = ort.InferenceSession(str(path), options).run(None, {"x": x})[0]
    return found


def baked(folder: Path, source: Path, image: ImagePreprocess) -> tuple[Path, Path]:
    """Return the normal form with its baked steps, and what optimisation makes of it."""
    for part in ("normal", "fast"):
        (folder / part).mkdir()
    normalise(source, folder / "normal", NormaliseOptions(images={"x": image}))
    optimise(folder / "normal/model.onnx", folder / "fast")
    return folder / "normal/model.onnx", folder / "fast/model.onnx"


def formula(pixels: np.ndarray, image: ImagePreprocess) -> np.ndarray:
    """Return what the author's model takes of RGB or gray pixels ``[h, w, channels]``."""
    value = pixels.astype(np.float64)
    if image.colour == "bgr":
        value = value[:, :, [2, 1, 0]]
    value = (value * image.scale - (image.mean or 0.0)) / (image.std or 1.0)
    return (np.moveaxis(value, 2, 0) if image.layout == "nchw" else value)[None]


def pixels_for(image: ImagePreprocess, seed: int = 3) -> np.ndarray:
    channels = 1 if image.colour == "gray" else 3
    return np.random.default_rng(seed).integers(0, 256, (H, W, channels), np.uint8)


def ops(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@st.composite
def declared(draw: st.DrawFn) -> ImagePreprocess:
    """A preprocessing with any steps baked that the profile lets pass."""
    colour = draw(st.sampled_from(["rgb", "bgr", "gray"]))
    count = 1 if colour == "gray" else draw(st.sampled_from([1, 3]))
    number = st.floats(0.05, 0.9)
    values = st.one_of(st.just(()), st.lists(number, min_size=count, max_size=count).map(tuple))
    mean, std = draw(values), draw(values)
    bake = draw(st.sets(st.sampled_from(STEPS), min_size=1))
    if mean or std:
        bake |= {"mean"}
    return ImagePreprocess(
        height=H,
        width=W,
        colour=colour,
        layout=draw(st.sampled_from(["nchw", "nhwc"])),
        scale=draw(st.sampled_from([1.0, 1 / 255, 2 / 255])),
        mean=mean,
        std=std,
        bake=tuple(sorted(bake)),
    )


@settings(max_examples=40, deadline=None)
@given(image=declared())
def test_a_baked_model_gives_what_the_formula_and_the_bare_model_give(
    image: ImagePreprocess,
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = classifier(folder / "m.onnx", image)
        normal, fast = baked(folder, source, image)
        pixels = pixels_for(image)
        fed = preprocess(pixels, image)
        if "uint8" not in image.baked:
            fed = fed.astype(np.float32)
        wanted = run(source, formula(pixels, image).astype(np.float32))
        size = float(np.abs(wanted).max())
        for made in (normal, fast):
            np.testing.assert_allclose(run(made, fed), wanted, rtol=0, atol=2e-5 * size)
        whole = unbaked(fed, image)
        np.testing.assert_allclose(whole, formula(pixels, image), rtol=1e-5, atol=1e-5 * 255)


def test_factor_and_order_move_into_the_convolution_and_the_shift_stays(tmp_path: Path) -> None:
    normal, fast = baked(tmp_path, classifier(tmp_path / "m.onnx", ALL), ALL)
    assert ops(normal) == ["Cast", "Transpose", "Sub", "Mul", "Gather", "Conv"]
    assert ops(fast) == ["Cast", "Transpose", "Sub", "Conv"]
    (given_,) = onnx.load(fast).graph.input
    assert given_.type.tensor_type.elem_type == T.UINT8
    assert [dim.dim_value for dim in given_.type.tensor_type.shape.dim][1:] == [H, W, 3]


def test_factors_far_apart_are_not_folded(tmp_path: Path) -> None:
    image = ImagePreprocess(height=H, width=W, std=(1.0, 1.0, 8.0), bake=("mean", "uint8"))
    _, fast = baked(tmp_path, classifier(tmp_path / "m.onnx", image), image)
    assert ops(fast) == ["Cast", "Mul", "Conv"]


def test_half_precision_inputs_are_computed_in_float32(tmp_path: Path) -> None:
    source = classifier(tmp_path / "m.onnx", ALL, T.FLOAT16)
    normal, _ = baked(tmp_path, source, ALL)
    pixels = pixels_for(ALL)
    wanted = run(source, formula(pixels, ALL).astype(np.float16))
    np.testing.assert_allclose(run(normal, preprocess(pixels, ALL)), wanted, rtol=0, atol=0.02)
    assert ops(normal) == ["Cast", "Transpose", "Sub", "Mul", "Gather", "Cast", "Conv"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kind": T.INT32}, "it is int32"),
        ({"layout": "nhwc"}, "axis 3 has 7 channels"),
        ({"colour": "gray", "mean": (), "std": ()}, "axis 1 has 3 channels"),
    ],
)
def test_inputs_that_are_no_such_images_are_refused(
    tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    graph = h.make_graph(
        [h.make_node("Identity", ["x"], ["y"])],
        "g",
        [h.make_tensor_value_info("x", change.pop("kind", T.FLOAT), [1, 3, H, W])],
        [h.make_tensor_value_info("y", T.UNDEFINED, None)],
    )
    graph.output[0].type.CopyFrom(graph.input[0].type)
    onnx.save(
        h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8),
        tmp_path / "m.onnx",
    )
    words = {name: getattr(ALL, name) for name in ALL.__dataclass_fields__} | change
    with pytest.raises(ModelError, match=why) as caught:
        baked(tmp_path, tmp_path / "m.onnx", ImagePreprocess(**words))
    assert caught.value.diagnostics[0].code == "E897"


def test_the_reference_shows_what_was_baked_wrongly(tmp_path: Path) -> None:
    """What artifacts are compared with is the bare model, preprocessed as declared."""
    source = classifier(tmp_path / "m.onnx", ALL)
    fed = preprocess(pixels_for(ALL), ALL)
    with Unbaked(reference_runner(source), {"x": ALL}) as runner:
        (wanted,) = runner.run({"x": fed}).values()
    found = {}
    for colour in ("bgr", "rgb"):
        (tmp_path / colour).mkdir()
        normal, _ = baked(tmp_path / colour, source, replace(ALL, colour=colour))
        found[colour] = float(np.abs(run(normal, fed) - wanted).max())
    assert found["bgr"] < 1e-4
    assert found["rgb"] > 0.1
