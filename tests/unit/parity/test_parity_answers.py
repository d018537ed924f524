"""Metrics that read the model's answer: as without a decoder where both can, and by it alone."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.decode import Decoder, make_decoder
from edgedeploy.errors import DataError
from edgedeploy.parity.metrics import Case, Options, make_metric
from edgedeploy.profile.semantics import DECODERS_OF, READING
from edgedeploy.profile.types import DecodeSpec, MetricSpec


def decoder(name: str, **parameters: Any) -> Decoder:
    if name == "boxes":
        parameters["space"] = "original"
    spec = DecodeSpec(name=name, parameters=parameters)
    return make_decoder(spec, outputs=("y",), metadata={}, classes=())


def metric(name: str, how: Decoder | None = None, **parameters: Any):
    spec = MetricSpec(name=name, parameters=parameters)
    return make_metric(Options(spec=spec, default_output="y", decoder=how))


def record(the_metric, output, truth):
    return the_metric.score(Case(id="s", outputs={"y": np.asarray(output)}, truth=truth))


# --- the same where both can ---------------------------------------------------------------------


@given(st.lists(st.integers(-9, 9), min_size=4, max_size=4), st.integers(0, 3))
def test_classes_score_as_without_a_decoder(scores, truth):
    """Softmax keeps the order, and equal scores equal."""
    for name, parameters in (("top1", {}), ("topk", {"k": 2})):
        expected = record(metric(name, **parameters), [scores], truth)
        for softmax in (False, True):
            ours = metric(name, decoder("classes", softmax=softmax), **parameters)
            assert record(ours, [scores], truth) == expected


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=9))
def test_speech_scores_as_a_threshold_does(frames):
    output, truth = [x for x, _ in frames], [y for _, y in frames]
    ours = metric("f1", decoder("speech", threshold=0.3))
    assert record(ours, output, truth) == record(metric("f1", threshold=0.3), output, truth)


def test_a_text_scores_as_by_the_metrics_own_parameters():
    output = np.eye(3, dtype=np.float32)[None, [1, 2, 0]]
    for name in ("cer", "wer"):
        by_itself = metric(name, decode="ctc", characters=["a", "b"])
        ours = metric(name, decoder("ctc", characters=["a", "b"]))
        assert record(ours, output, "ab") == record(by_itself, output, "ab")
        assert ours.correct(record(ours, output, "ab"))


def test_boxes_score_as_columns_do():
    output = np.float64([[0, 0, 10, 10, 0.9, 0], [50, 50, 60, 60, 0.8, 1]])
    truth = [{"box": [0, 0, 10, 10], "class": 7}, {"box": [50, 50, 10, 12], "class": 9}]
    ours = metric("map", decoder("boxes"), class_ids=[7, 9])
    columns = metric("map", space="original", class_ids=[7, 9])
    assert record(ours, output, truth) == record(columns, output[None], truth)
    assert 0.5 < ours.value([record(ours, output, truth)]) < 1
    with pytest.raises(DataError, match="beyond `class_ids`"):
        record(metric("map", decoder("boxes"), class_ids=[7]), output, truth)


# --- by the decoder alone ------------------------------------------------------------------------


def test_the_class_that_the_model_names():
    how = decoder("classes")
    assert record(metric("top1", how), np.array(["dog"]), "dog")[0] == 1
    assert record(metric("top1", how), np.array([2]), 1)[0] == 0


@pytest.mark.parametrize(
    ("how", "output", "truth", "binary"),
    [
        ("classes", [[0.2, 0.8]], 1, [1, 0, 0, 0]),
        ("classes", [[0.9, 0.1]], 1, [0, 0, 1, 0]),
        ("classes", np.array([1]), 0, [0, 1, 0, 0]),
        ("speech", [0.6, 0.4], [1, 1], [1, 0, 1, 0]),
    ],
)
def test_f1_of_answers(how, output, truth, binary):
    assert record(metric("f1", decoder(how)), output, truth) == binary
    pairs = record(metric("f1", decoder(how), average="macro"), output, truth)
    assert [pair[0] for pair in pairs] == np.atleast_1d(truth).tolist()
    tp = sum(true == found == 1 for true, found in pairs)
    assert tp == binary[0]


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(DECODERS_OF))
@pytest.mark.parametrize("how", ["classes", "ctc", "speech", "vector", "boxes"])
def test_a_metric_takes_the_decoders_that_profiles_may_name(name, how):
    """The table that profiles are checked by says what the metrics do."""
    parameters = {"characters": ["a"]} if how == "ctc" else {}
    made = decoder(how, **parameters)
    if how in DECODERS_OF[name]:
        assert metric(name, made)
    else:
        with pytest.raises(DataError) as caught:
            metric(name, made)
        assert caught.value.diagnostics[0].code == "E876"


@pytest.mark.parametrize(("name", "key"), [(n, k) for n, keys in READING.items() for k in keys])
def test_no_parameter_says_a_second_time_how_an_output_is_read(name, key):
    how = next(item for item in DECODERS_OF[name] if item != "yolo")
    made = decoder(how, **({"characters": ["a"]} if how == "ctc" else {}))
    with pytest.raises(DataError, match=f"does not take the parameter '{key}'"):
        metric(name, made, **{key: "y"})


@pytest.mark.parametrize(
    ("how", "name", "output", "truth"),
    [
        ("speech", "f1", [0.6], [1, 1]),
        ("classes", "f1", np.array(["dog"]), 1),
    ],
)
def test_an_answer_that_does_not_fit_the_truth_is_refused(how, name, output, truth):
    for average in ("binary", "macro"):
        with pytest.raises(DataError) as caught:
            record(metric(name, decoder(how), average=average), output, truth)
        assert caught.value.diagnostics[0].code == "E287"
