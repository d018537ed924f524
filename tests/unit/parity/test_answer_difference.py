"""How answers differ from the float model's: what a user would see, and figures of the outputs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.decode import make_decoder
from edgedeploy.parity.answers import Call, difference, matched_boxes
from edgedeploy.profile.types import DecodeSpec


def calls(name, values, **parameters):
    """Return calls of a model with one output, read by a decoder."""
    spec = DecodeSpec(name=name, parameters=parameters) if name else None
    decoder = make_decoder(spec, outputs=("y",), metadata={}, classes=())
    outputs = [{"y": np.asarray(value)} for value in values]
    return [
        Call(outputs=made, arrays=decoder.arrays(made, None), answer=decoder.answer(made, None))
        for made in outputs
    ]


def told(name, found, wanted, **parameters):
    return difference(calls(name, found, **parameters), calls(name, wanted, **parameters))


def test_the_best_class_counts_and_the_threshold_too():
    assert told("classes", [[[0.1, 0.9]]], [[[0.4, 0.6]]])["same"] is True
    found = told("classes", [[[0.9, 0.1]]], [[[0.4, 0.6]]])
    assert found["same"] is False and found["words"].startswith("another class, cosine 0.")
    # Below the threshold nothing is answered: what a user sees is another thing.
    assert told("classes", [[[0.1, 0.9]]], [[[0.4, 0.6]]], threshold=0.7)["same"] is False
    several = told("classes", [[[0.9, 0.1]], [[0.1, 0.9]]], [[[0.9, 0.1]], [[0.9, 0.1]]])
    assert "another class in 1 of 2 calls" in several["words"]


def test_texts_differ_by_edits():
    letters = ["a", "b"]
    ab = [[[0, 1, 0], [0, 0, 1]]]
    aa = [[[0, 1, 0], [0, 1, 0]]]  # repeats merge: "a"
    found = told("ctc", [aa], [ab], characters=letters)
    assert found["same"] is False and found["words"].startswith("1 edits to 2 characters")
    assert told("ctc", [ab], [ab], characters=letters)["words"] == "same text, equal outputs"


def test_speech_differs_by_frames_whatever_the_calls():
    found = told("speech", [[0.9], [0.4], [0.2]], [[0.9], [0.6], [0.3]])
    assert found["same"] is False
    assert found["words"] == "1 of 3 frames differ, off by 0.2"
    assert found["outputs"]["y"]["max_abs"] == pytest.approx(0.2)


def test_numbers_alone_are_neither_the_same_nor_others():
    found = told(None, [[1.0, 2.0]], [[1.0, 2.5]])
    assert found["same"] is None and found["words"].startswith("cosine 0.9")
    assert told("vector", [[[3.0, 4.0]]], [[[3.0, 4.0]]])["words"] == "equal outputs"


def test_texts_among_values_count_and_shapes_are_told():
    texts = np.array(["a b"], object)
    assert told(None, [texts], [texts])["same"] is True
    assert told(None, [np.array(["a c"], object)], [texts])["words"] == "other texts"
    found = told(None, [np.zeros((3, 4))], [np.zeros((2, 4))])
    assert (
        found["same"] is None and "has shape [3, 4] and the float model's [2, 4]" in found["words"]
    )


def box(x1, y1, x2, y2, label=0, score=1.0):
    return {"box": [x1, y1, x2, y2], "class": label, "label": str(label), "score": score}


BOXES = st.lists(
    st.builds(
        lambda x, y, w, h, label: box(x, y, x + w, y + h, label),
        *[st.integers(0, 12)] * 2,
        *[st.integers(1, 12)] * 2,
        st.integers(0, 1),
    ),
    max_size=5,
)


def overlap(one, other):
    """Return intersection over union by counting the cells of a grid."""
    first, second = (
        {
            (x, y)
            for x in range(item["box"][0], item["box"][2])
            for y in range(item["box"][1], item["box"][3])
        }
        for item in (one, other)
    )
    return len(first & second) / len(first | second)


@given(BOXES, BOXES)
def test_boxes_are_matched_one_for_one_in_order(found, wanted):
    free = list(range(len(wanted)))
    expected = 0
    for mine in found:
        fitting = [
            (overlap(mine, wanted[at]), at)
            for at in free
            if wanted[at]["class"] == mine["class"] and overlap(mine, wanted[at]) >= 0.5
        ]
        if fitting:
            free.remove(max(fitting)[1])
            expected += 1
    assert matched_boxes(found, wanted) == expected


def test_boxes_below_the_score_that_is_answered_are_none_of_it():
    rows = [[0, 0, 10, 10, 0.9, 1], [20, 20, 30, 30, 0.6, 0]]
    low = [[0, 0, 10, 10, 0.9, 1], [20, 20, 30, 30, 0.1, 0]]
    moved = [[6, 0, 16, 10, 0.9, 1], [20, 20, 30, 30, 0.6, 0]]
    sizes = {"width": 99, "height": 99, "input_width": 99, "input_height": 99}
    geometry = {**sizes, "left": 0, "top": 0, "scale_x": 1, "scale_y": 1}
    decoder = make_decoder(DecodeSpec(name="boxes"), outputs=("y",), metadata={}, classes=())

    def of(values):
        made = {"y": np.array([values], np.float64)}
        return [
            Call(
                outputs=made,
                arrays=decoder.arrays(made, geometry),
                answer=decoder.answer(made, geometry),
            )
        ]

    assert difference(of(rows), of(rows))["words"] == "same boxes, equal outputs"
    assert difference(of(low), of(rows))["words"].startswith("1 of 2 boxes found, 0 others")
    found = difference(of(moved), of(rows))
    assert found["same"] is False and found["words"].startswith("1 of 2 boxes found, 1 others")
