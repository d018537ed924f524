"""Decoders of boxes: known answers, a brute force written another way, laws, refusals."""

import json
from fractions import Fraction

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgedeploy.data.preprocess import plan_fit
from edgedeploy.decode import make_decoder
from edgedeploy.decode.boxes import Found, suppress
from edgedeploy.errors import DataError
from edgedeploy.profile.types import DecodeSpec, ImagePreprocess


def decoder(name, names=(), **parameters):
    spec = DecodeSpec(name=name, parameters=parameters)
    return make_decoder(spec, outputs=("y", "s", "c"), metadata={}, classes=names)


def refused(code, call):
    with pytest.raises(DataError) as caught:
        call()
    (found,) = caught.value.diagnostics
    assert found.code == code and found.hint
    return found.message


def geometry(width, height, side=64, fit="letterbox"):
    spec = ImagePreprocess(height=side, width=side, fit=fit)
    return plan_fit(height, width, spec)[0].to_json()


# --- suppression --------------------------------------------------------------------------------


def iou(first, second):
    """Return the exact intersection over union of two boxes of whole numbers."""
    wide = min(first[2], second[2]) - max(first[0], second[0])
    high = min(first[3], second[3]) - max(first[1], second[1])
    both = max(wide, 0) * max(high, 0)
    area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    every = sum(area) - both
    return Fraction(both, every) if every else Fraction(0)


def brute_force(boxes, scores, classes, threshold, most):
    """Return the rows that are kept: a row is, unless a better kept one of its class covers it."""
    kept = []
    for row in sorted(range(len(boxes)), key=lambda i: (-scores[i], classes[i], i)):
        mine = [other for other in kept if classes[other] == classes[row]]
        if len(mine) < most and all(iou(boxes[o], boxes[row]) <= threshold for o in mine):
            kept.append(row)
    return kept


@st.composite
def scattered(draw, most=24):
    count = draw(st.integers(0, most))
    edge, size = st.integers(0, 20), st.integers(1, 12)
    boxes = []
    for _ in range(count):
        x, y = draw(edge), draw(edge)
        boxes.append((x, y, x + draw(size), y + draw(size)))
    numbers = st.lists(st.integers(1, 64), min_size=count, max_size=count)
    labels = st.lists(st.integers(0, 2), min_size=count, max_size=count)
    return boxes, [n / 64 for n in draw(numbers)], draw(labels)


def as_found(boxes, scores, classes):
    return Found(
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        scores=np.array(scores, np.float64),
        classes=np.array(classes, np.int64),
    )


@settings(max_examples=150, deadline=None)
@given(scattered(), st.sampled_from([0, 1 / 4, 1 / 2, 3 / 4, 1]), st.integers(1, 4))
def test_suppression_equals_a_brute_force_in_rational_numbers(scene, threshold, most):
    found = as_found(*scene)
    ours = suppress(found, threshold, most=most, candidates=100)
    wanted = found[np.array(brute_force(*scene, Fraction(threshold), most), np.int64)]
    for name in ("boxes", "scores", "classes"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(wanted, name))


def runtime_suppression(boxes, scores, threshold, least):
    """Return what ONNX Runtime's NonMaxSuppression selects: a set of (class, box)."""
    graph = helper.make_graph(
        [helper.make_node("NonMaxSuppression", ["b", "s", "m", "i", "t"], ["chosen"])],
        "nms",
        [
            helper.make_tensor_value_info("b", TensorProto.FLOAT, [1, None, 4]),
            helper.make_tensor_value_info("s", TensorProto.FLOAT, [1, None, None]),
        ],
        [helper.make_tensor_value_info("chosen", TensorProto.INT64, [None, 3])],
        [
            helper.make_tensor("m", TensorProto.INT64, [1], [100]),
            helper.make_tensor("i", TensorProto.FLOAT, [1], [threshold]),
            helper.make_tensor("t", TensorProto.FLOAT, [1], [least]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (chosen,) = session.run(None, {"b": boxes[None], "s": scores[None]})
    return {(int(label), int(box)) for _, label, box in chosen}


@pytest.mark.parametrize("seed", range(5))
def test_yolo_equals_the_standard_operator(seed):
    """Each class by itself, as ONNX defines NonMaxSuppression."""
    rng = np.random.default_rng(seed)
    centre, size = rng.uniform(5, 59, (300, 2)), rng.uniform(4, 30, (300, 2))
    scores = rng.uniform(0, 1, (300, 4)).astype(np.float32)
    table = np.concatenate([centre, size, scores], axis=1).astype(np.float32)
    half = table[:, 2:4] / 2
    edges = np.concatenate([table[:, :2] - half, table[:, :2] + half], axis=1)
    wanted = runtime_suppression(edges, scores.T, 0.45, 0.3)
    made = decoder("yolo", iou=0.45, score=0.3)
    place = geometry(64, 64)
    value = made.answer({"y": table[None]}, place).value
    ours = {(item["class"], item["score"]): item["box"] for item in value}
    theirs = {(c, float(scores[box, c])): np.clip(edges[box], 0, 64) for c, box in wanted}
    assert len(value) == len(wanted) > 20 and set(ours) == set(theirs)
    for key, box in theirs.items():
        np.testing.assert_allclose(ours[key], box, atol=1e-3)


# --- geometry -----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.integers(8, 900),
    st.integers(8, 900),
    st.sampled_from(["letterbox", "stretch", "pad", "crop"]),
    st.booleans(),
    st.booleans(),
)
def test_a_box_of_the_original_comes_back(width, height, fit, turned, unit):
    """What lies at a place of the original is found there, however it was fitted and laid out."""
    place = geometry(width, height, 320, fit)
    box = np.array([width * 0.45, height * 0.4, width * 0.55, height * 0.6])
    scale = np.array([place["scale_x"], place["scale_y"]] * 2)
    x1, y1, x2, y2 = box * scale + [place["left"], place["top"]] * 2
    row = np.zeros((30, 7))
    row[11] = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, 0.1, 0.8, 0.2]
    if unit:
        row[:, :4] /= 320
    made = decoder("yolo", names=["a", "b", "c"], space="unit" if unit else "input")
    answer = made.answer({"y": (row.T if turned else row)[None]}, place)
    (found,) = answer.value
    assert found["label"] == "b" and found["score"] == 0.8
    np.testing.assert_allclose(found["box"], box, atol=2e-3)
    assert json.loads(json.dumps(answer.to_json(), allow_nan=False))["kind"] == "boxes"
    assert answer.words().startswith("b 0.800 (")


def test_letterbox_by_heart():
    # 1280 x 720 in 640 x 640: half the size, 140 rows of border above.
    row = [[320, 320, 100, 60, 0.9], [20, 150, 60, 40, 0.8], [320, 60, 100, 100, 0.7]]
    found = decoder("yolo").arrays(
        {"y": np.array([row * 1 + [[0] * 5] * 9])}, geometry(1280, 720, 640)
    )
    np.testing.assert_array_equal(found["boxes"], [[540, 300, 740, 420], [0, 0, 100, 60]])
    np.testing.assert_array_equal(found["scores"], [0.9, 0.8])
    assert found["boxes"].dtype == found["scores"].dtype == np.float64
    assert found["classes"].dtype == np.int64


def test_boxes_are_cut_at_the_edges_only_in_the_end():
    """Two that overlap beyond the image alone are still rivals."""
    rows = [[0, 32, 40, 20, 0.9], [-4, 32, 40, 20, 0.8]] + [[0] * 5] * 8
    found = decoder("yolo", iou=0.5).arrays({"y": np.array([rows])}, geometry(64, 64))
    np.testing.assert_array_equal(found["boxes"], [[0, 22, 20, 42]])


# --- yolo ---------------------------------------------------------------------------------------


def test_objectness_multiplies_the_classes():
    rows = np.zeros((20, 7))
    rows[3] = [30, 30, 10, 10, 0.5, 0.9, 0.2]
    found = decoder("yolo", objectness=True).arrays({"y": rows[None]}, geometry(64, 64))
    np.testing.assert_allclose(found["scores"], [0.45, 0.1])
    np.testing.assert_array_equal(found["classes"], [0, 1])


def test_what_is_shown_is_what_is_scored_above_the_threshold():
    rng = np.random.default_rng(0)
    table = np.concatenate([rng.uniform(10, 50, (200, 4)), rng.uniform(0, 1, (200, 3))], axis=1)
    arrays = decoder("yolo").arrays({"y": table[None]}, geometry(64, 64))
    for score in (0.0, 0.5, 0.9, 1.0):
        shown = decoder("yolo", score=score).answer({"y": table[None]}, geometry(64, 64)).value
        assert [b["score"] for b in shown] == [s for s in arrays["scores"] if s >= score]
    assert (np.diff(arrays["scores"]) <= 0).all() and len(arrays["scores"]) > 100


def test_nothing_found_is_an_answer():
    made = decoder("yolo", names=["a"])
    empty = np.zeros((1, 5, 40))
    answer = made.answer({"y": empty}, geometry(64, 64))
    assert answer.value == [] and answer.words() == "no box"
    assert made.arrays({"y": empty}, geometry(64, 64))["boxes"].shape == (0, 4)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((1, 6, 6), {}),  # which way?
        ((1, 4, 50), {}),  # no class
        ((2, 6, 50), {}),  # two pictures
        ((6,), {}),
        ((1, 6, 50), {"names": ["a"]}),
        ((1, 5, 50), {"objectness": True}),
    ],
)
def test_a_head_that_is_none_is_refused(shape, options):
    made = decoder("yolo", **options)
    assert "has shape" in refused(
        "E874", lambda: made.arrays({"y": np.zeros(shape, np.float32)}, geometry(64, 64))
    )


def test_names_say_which_axis_is_a_box():
    """Fewer boxes than numbers of one: with names they are told apart."""
    row = [30, 30, 10, 10, *[0.0] * 9, 0.7]
    made = decoder("yolo", names=list("abcdefghij"))
    for value in (np.array([[row] * 3]), np.array([[row] * 3]).transpose(0, 2, 1)):
        assert made.answer({"y": value}, geometry(64, 64)).words().startswith("j 0.700")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("yolo", {"iou": 1.5}),
        ("yolo", {"score": "high"}),
        ("yolo", {"objectness": 1}),
        ("yolo", {"space": "original"}),
        ("yolo", {"format": "xyxy"}),
        ("boxes", {"classes": "c"}),
        ("boxes", {"format": "corners"}),
        ("boxes", {"space": "pixels"}),
        ("boxes", {"score": 2}),
        ("boxes", {"iou": 0.5}),
    ],
)
def test_a_wrong_parameter_of_a_decoder_of_boxes_is_named(name, parameters):
    refused("E875", lambda: decoder(name, **parameters))


def test_boxes_without_a_geometry_are_refused():
    value = np.zeros((1, 20, 6))
    value[..., 5] = 0.5
    for name in ("yolo", "boxes"):
        assert "original image" in refused(
            "E874", lambda name=name: decoder(name).arrays({"y": value}, None)
        )


# --- boxes that are chosen already --------------------------------------------------------------


def test_columns_and_padding():
    rows = [
        [1, 2, 3, 4, 0.3, 1],
        [5, 6, 7, 8, 0.9, 0],
        [0, 0, 9, 9, 0.8, -1],
        [np.nan, 0, 1, 1, 1, 0],
    ]
    made = decoder("boxes", names=["a", "b"], space="original", score=0.5)
    found = made.arrays({"y": np.array([rows])}, None)
    np.testing.assert_array_equal(found["boxes"], [[5, 6, 7, 8], [1, 2, 3, 4]])
    np.testing.assert_array_equal(found["classes"], [0, 1])
    assert made.answer({"y": np.array([rows])}, None).words() == "a 0.900 (5 6 7 8)"


def test_outputs_of_their_own():
    outputs = {"y": np.array([[[8, 8, 4, 4]]]), "s": np.array([[0.6]]), "c": np.array([[2.0]])}
    for form, box in (("cxcywh", [6, 6, 10, 10]), ("xywh", [8, 8, 12, 12])):
        made = decoder("boxes", scores="s", classes="c", format=form)
        np.testing.assert_array_equal(made.arrays(outputs, geometry(64, 64))["boxes"], [box])
    outputs["s"] = np.array([[[0.1, 0.6, 0.3]]])
    made = decoder("boxes", scores="s", format="cxcywh", space="original")
    found = made.arrays(outputs, None)
    assert found["scores"] == [0.6] and found["classes"] == [1]


def test_a_class_without_a_name_is_refused():
    made = decoder("boxes", names=["a"], space="original")
    value = np.array([[[0, 0, 1, 1, 0.5, 1]]])
    assert "gives class 1" in refused("E874", lambda: made.arrays({"y": value}, None))


def test_an_output_that_is_not_there_is_refused_when_the_decoder_is_made():
    refused("E874", lambda: decoder("boxes", scores="t"))


def test_an_app_is_told_every_step():
    steps = decoder("yolo", objectness=True, score=0.4, iou=0.6, space="unit").steps()
    text = " ".join(steps)
    for word in ("multiplied", "0.4", "0.6", "shares", "offset", "edges"):
        assert word in text
    assert "padding" in decoder("boxes").steps()[0]
