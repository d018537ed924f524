"""Decoders: answers that people know by heart, laws, and refusals with their codes."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from edgedeploy.decode import make_decoder, registered
from edgedeploy.decode.ctc import ctc_text
from edgedeploy.decode.speech import spans
from edgedeploy.errors import DataError
from edgedeploy.profile.schema_parts import DECODERS
from edgedeploy.profile.types import DecodeSpec

NUMBERS = st.floats(-1e6, 1e6, width=32)


def decoder(name, *, output=None, classes=(), metadata=None, **parameters):
    spec = DecodeSpec(name=name, output=output, parameters=parameters)
    return make_decoder(spec, outputs=("y", "z"), metadata=metadata or {}, classes=classes)


def say(made, value):
    """Return the answer, which must be JSON data of finite numbers."""
    answer = made.answer({"y": np.asarray(value)}, None)
    assert json.loads(json.dumps(answer.to_json(), allow_nan=False))["kind"] == made.kind
    assert "\n" not in answer.words()
    return answer


def refused(code, call):
    with pytest.raises(DataError) as caught:
        call()
    (found,) = caught.value.diagnostics
    assert found.code == code, found
    assert found.hint
    return found


def test_the_profile_names_the_decoders_that_there_are():
    assert set(registered()) <= set(DECODERS)


# --- what is refused ----------------------------------------------------------------------------


def test_a_decoder_that_is_not_there_is_named():
    assert "did you mean `classes`" in refused("E873", lambda: decoder("clases")).hint


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("classes", {"tops": 3}),
        ("classes", {"top": 0}),
        ("classes", {"top": 2.5}),
        ("classes", {"top": True}),
        ("classes", {"softmax": 1}),
        ("classes", {"threshold": "high"}),
        ("ctc", {}),
        ("ctc", {"characters": "metadata:none"}),
        ("ctc", {"characters": "classes"}),
        ("ctc", {"characters": 3}),
        ("speech", {"step": 0}),
        ("speech", {"step": -0.1}),
        ("speech", {"threshold": [0.5]}),
        ("vector", {"normalise": "yes"}),
    ],
)
def test_a_wrong_parameter_is_named(name, parameters):
    refused("E875", lambda: decoder(name, **parameters))


def test_an_output_that_is_not_there_is_named():
    assert "there are y, z" in refused("E874", lambda: decoder("vector", output="w")).message
    made = decoder("vector", output="z")
    assert "there are y" in refused("E874", lambda: made.arrays({"y": np.ones(3)}, None)).message


@pytest.mark.parametrize(
    ("name", "parameters", "value"),
    [
        ("classes", {}, np.zeros((2, 3))),
        ("classes", {}, np.zeros((1, 3, 1))),
        ("classes", {}, np.float32(1)),
        ("classes", {}, np.array(["a", "b"])),
        ("classes", {"classes": ["a", "b"]}, np.zeros((1, 3))),
        ("ctc", {"characters": ["a"]}, np.zeros((5, 4))),
        ("ctc", {"characters": ["a"]}, np.zeros((2, 5, 2))),
        ("ctc", {"characters": ["a"]}, np.zeros(5)),
        ("speech", {}, np.zeros((1, 0))),
        ("speech", {}, np.array(["a"])),
        ("vector", {}, np.zeros((2, 3))),
        ("vector", {}, np.array(["a"])),
    ],
)
def test_an_output_of_another_shape_or_type_is_refused(name, parameters, value):
    made = decoder(name, **parameters)
    refused("E874", lambda: made.arrays({"y": value}, None))


# --- classes ------------------------------------------------------------------------------------


def test_the_best_classes_by_name():
    answer = say(decoder("classes", classes=["cat", "dog", "emu"], top=2), [[0.2, 0.5, 0.3]])
    assert answer.value == [
        {"class": 1, "label": "dog", "score": 0.5},
        {"class": 2, "label": "emu", "score": 0.3},
    ]
    assert answer.words() == "dog 0.500, emu 0.300"


def test_nothing_is_answered_below_the_threshold():
    made = decoder("classes", threshold=0.6)
    assert say(made, [0.2, 0.5, 0.3]).value == []
    assert say(made, [0.2, 0.5, 0.3]).words() == "none: the highest score is 0.500"
    assert say(made, [0.2, 0.6, 0.2]).words() == "1 0.600"


@given(arrays(np.float32, st.integers(1, 6), elements=st.floats(-80, 80, width=32)))
def test_softmax_is_the_formula(logits):
    found = decoder("classes", softmax=True).arrays({"y": logits[None]}, None)["scores"]
    expected = np.exp(np.longdouble(logits)) / np.exp(np.longdouble(logits)).sum()
    np.testing.assert_allclose(found, expected.astype(np.float64), rtol=1e-12)


def test_a_model_that_names_the_class_itself():
    names = ["cat", "dog"]
    number = say(decoder("classes", classes=names), np.array([1]))
    text = say(decoder("classes", classes=names), np.array([["dog"]]))
    assert number.value == text.value == [{"class": 1, "label": "dog", "score": None}]
    assert say(decoder("classes"), np.array(["emu"])).value[0]["class"] is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_come_last(bad):
    answer = say(decoder("classes"), [0.1, bad])
    assert [item["class"] for item in answer.value][:1] == ([1] if bad == np.inf else [0])
    assert say(decoder("classes", threshold=0.5), [np.nan, np.nan]).value == []


# --- text ---------------------------------------------------------------------------------------


def steps(*labels, classes=4, sure=0.9):
    """Return probabilities ``[1, steps, classes]`` whose best classes are the labels."""
    scores = np.full((1, len(labels), classes), (1 - sure) / (classes - 1), np.float32)
    scores[0, np.arange(len(labels)), labels] = sure
    return scores


def test_repeats_merge_and_blanks_part_them():
    made = decoder("ctc", characters="metadata:chars", metadata={"chars": "a\nb\nc"})
    assert say(made, steps(1, 1, 0, 1, 2, 2, 3)).value["text"] == "aabc"
    assert say(made, steps(0, 0)).value == {"text": "", "confidence": None}


def test_one_class_more_than_characters_is_the_space():
    assert say(decoder("ctc", characters=["a", "b"]), steps(1, 3, 2)).words() == "a b"


def test_characters_are_the_classes_of_the_model():
    for parameters in ({}, {"characters": "classes"}):
        made = decoder("ctc", classes=["x", "y", "z"], **parameters)
        assert say(made, steps(3, 1)).words() == "zx"


def test_confidence_is_the_mean_of_the_characters():
    scores = np.concatenate([steps(1, sure=0.9), steps(1, sure=0.4), steps(2, sure=0.7)], axis=1)
    made = decoder("ctc", characters=["a", "b", "c"])
    assert say(made, scores).value["confidence"] == pytest.approx((0.9 + 0.7) / 2)
    assert say(made, np.log(scores)).value["confidence"] == pytest.approx((0.9 + 0.7) / 2)


def test_a_text_is_taken_as_it_is():
    assert say(decoder("ctc", characters=["a"]), np.array(["hello"])).value == {
        "text": "hello",
        "confidence": None,
    }


@given(st.lists(st.integers(0, 3), max_size=12))
def test_ctc_equals_a_reading_letter_by_letter(labels):
    """The definition: merge repeats first, then drop blanks."""
    text, before = "", None
    for label in labels:
        if label != before and label:
            text += "abc"[label - 1]
        before = label
    scores = steps(*labels)[0] if labels else np.zeros((0, 4))
    assert ctc_text(scores, "abc") == text


# --- speech -------------------------------------------------------------------------------------


def test_spans_of_speech_in_seconds():
    answer = say(decoder("speech", step=0.25), [[0.1, 0.5, 0.9, 0.2, 0.7]])
    assert answer.value["spans"] == [[0.25, 0.75], [1.0, 1.25]]
    assert answer.words() == "speech 0.25-0.75, 1-1.25 s, 60 % of 5 frames"
    assert say(decoder("speech"), [0.1, 0.4]).words() == "no speech, 0 % of 2 frames"


@given(st.lists(st.integers(0, 1), min_size=1, max_size=30))
def test_spans_cover_what_is_speech_and_nothing_else(flags):
    found = spans(np.array(flags))
    covered = [0] * len(flags)
    for start, end in found:
        assert start < end
        covered[start:end] = [1] * (end - start)
    assert covered == flags
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(found))


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=4), min_size=1, max_size=6),
)
def test_frames_of_many_calls_are_one_recording(parts):
    """The joined answer is that of all frames in one call: spans go on from call to call."""
    made = decoder("speech", step=0.032)
    one_by_one = made.join([made.answer({"y": np.array(part)}, None) for part in parts])
    assert one_by_one == made.answer({"y": np.concatenate(parts)}, None)


# --- vectors, numbers ---------------------------------------------------------------------------


@given(arrays(np.float32, st.integers(1, 6), elements=NUMBERS))
def test_a_vector_has_length_one(value):
    found = decoder("vector").arrays({"y": value[None]}, None)["vector"]
    if np.linalg.norm(value.astype(np.float64)) > 0:
        assert np.linalg.norm(found) == pytest.approx(1)
        exact = value.astype(np.float64)
        np.testing.assert_allclose(found * np.linalg.norm(exact), exact, 1e-9)
    kept = decoder("vector", normalise=False).arrays({"y": value[None]}, None)["vector"]
    np.testing.assert_array_equal(kept, value.astype(np.float64))


def test_a_vector_in_words():
    assert say(decoder("vector"), [[3.0, 4.0]]).words() == "2 numbers of length 1: 0.6000 0.8000"
    assert say(decoder("vector"), [0.0, 0.0]).value == {"vector": [0.0, 0.0]}


@given(arrays(st.sampled_from([np.float32, np.int64, bool]), array_shapes(max_dims=3)))
def test_outputs_without_a_decoder_are_described(value):
    made = make_decoder(None, outputs=("y",), metadata={}, classes=())
    about = say(made, value).value["y"]
    assert about["shape"] == list(value.shape)
    numbers = value.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    assert about.get("min") == (finite.min() if finite.size else None)
    assert about.get("nonfinite", 0) == numbers.size - finite.size


def test_answers_of_a_sequence_stand_in_a_row():
    made = decoder("vector")
    answers = [say(made, [1.0, float(n)]) for n in range(4)]
    joined = made.join(answers)
    assert joined.value == {"sequence": [answer.value for answer in answers]}
    assert joined.words().endswith("; ... 4 in all")
    assert made.join(answers[:1]) == answers[0]


def test_texts_among_values_are_told():
    made = make_decoder(None, outputs=(), metadata={}, classes=())
    answer = made.answer({"text": np.array("one\ntwo", object), "n": np.array([3])}, None)
    assert answer.value["text"] == {"dtype": "object", "shape": [], "texts": ["one\ntwo"]}
    assert answer.words() == r"text 'one\ntwo'; n int64[1] 3..3, mean 3"
    many = made.answer({"text": np.array(list("abcdef"), object)}, None)
    assert many.words() == "text 'a', 'b', 'c', 'd', ..." and len(many.value["text"]["texts"]) == 6
