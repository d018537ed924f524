"""Metrics against scikit-learn, SciPy, pycocotools and hand-computed values."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedeploy.decode.ctc import ctc_text
from edgedeploy.errors import DataError
from edgedeploy.parity.metrics import Case, Options, make_metric, registered
from edgedeploy.parity.metrics.edit_rate import edits
from edgedeploy.parity.metrics.f1 import BinaryF1
from edgedeploy.profile.types import MetricSpec

COCO_CASES = json.loads(Path(__file__).with_name("coco_cases.json").read_text())


def metric(name, folder=Path(), metadata=None, output=None, **parameters):
    spec = MetricSpec(name=name, output=output, parameters=parameters)
    return make_metric(
        Options(spec=spec, default_output="y", metadata=metadata or {}, folder=folder)
    )


def case(output, truth=None, **more):
    return Case(id="s", outputs={"y": np.asarray(output)}, truth=truth, **more)


def value(the_metric, cases):
    records = [the_metric.score(item) for item in cases]
    return the_metric.value([record for record in records if record is not None])


def refused(code, call):
    with pytest.raises(DataError) as caught:
        call()
    (found,) = caught.value.diagnostics
    assert found.code == code, found
    assert found.hint
    return found


def test_every_named_metric_is_registered():
    assert set(registered()) == {
        *("top1", "topk", "f1", "map", "pearson", "cer", "wer", "mse", "cosine", "agreement")
    }


def test_unknown_metric_and_parameters():
    assert "Did you mean 'top1'" in refused("E285", lambda: metric("top-1")).hint
    refused("E285", lambda: metric("top1", k=3))
    refused("E285", lambda: metric("topk", k="3"))
    refused("E285", lambda: metric("topk", k=True))
    refused("E285", lambda: metric("topk", k=0))
    refused("E285", lambda: metric("f1", average="weighted"))
    refused("E285", lambda: metric("map", iou=0.3))
    refused("E875", lambda: metric("map", classes="c"))
    refused("E875", lambda: metric("cer", decode="ctc"))
    refused("E875", lambda: metric("cer", decode="ctc", characters="metadata:none"))


def test_a_missing_output_is_named():
    assert (
        "there are y"
        in refused("E287", lambda: metric("top1", output="z").score(case([1.0]))).message
    )


# --- classification ----------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3])
def test_topk_equals_sklearn(k):
    from sklearn.metrics import top_k_accuracy_score

    random = np.random.default_rng(0)
    scores, truth = random.random((200, 7)).astype(np.float32), random.integers(0, 7, 200)
    ours = metric("topk", k=k) if k > 1 else metric("top1")
    found = value(ours, [case(s[None], int(t)) for s, t in zip(scores, truth, strict=True)])
    assert found == pytest.approx(top_k_accuracy_score(truth, scores, k=k))


def test_top1_by_class_is_recall():
    from sklearn.metrics import recall_score

    random = np.random.default_rng(1)
    scores, truth = random.random((90, 4)), random.integers(0, 4, 90)
    ours = metric("top1")
    records = [ours.score(case(s[None], int(t))) for s, t in zip(scores, truth, strict=True)]
    expected = recall_score(truth, scores.argmax(1), average=None)
    found = ours.by_class(records)
    assert [found[str(label)][1] for label in range(4)] == pytest.approx(expected)
    assert sum(n for n, _ in found.values()) == 90


def test_top1_takes_labels_as_they_are():
    assert value(
        metric("top1"), [case(np.array(["cat"], object), "cat"), case([7], 7), case([8], 7)]
    ) == pytest.approx(2 / 3)


def test_top1_refuses_what_it_cannot_read():
    refused("E286", lambda: metric("top1").score(case([[0.1, 0.9]])))
    refused("E286", lambda: metric("top1").score(case([[0.1, 0.9]], "cat")))
    refused("E287", lambda: metric("top1").score(case([[0.1, 0.9]], 2)))
    refused("E287", lambda: metric("top1").score(case([[0.1, 0.9]] * 2, 1)))


@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_binary_f1_over_frames_equals_sklearn(threshold):
    from sklearn.metrics import f1_score

    random = np.random.default_rng(2)
    frames = [(random.random((1, n)), random.integers(0, 2, n)) for n in (1, 30, 7, 100)]
    found = value(metric("f1", threshold=threshold), [case(p, t.tolist()) for p, t in frames])
    truth = np.concatenate([t for _, t in frames])
    predicted = np.concatenate([p[0] for p, _ in frames]) >= threshold
    assert found == pytest.approx(f1_score(truth, predicted))


def test_binary_f1_without_positives_is_zero_as_in_sklearn():
    assert value(metric("f1"), [case([[0.1]], 0)]) == 0


def test_macro_f1_equals_sklearn_and_so_do_its_classes():
    from sklearn.metrics import f1_score

    random = np.random.default_rng(3)
    scores, truth = random.random((150, 6)), random.integers(0, 5, 150)
    ours = metric("f1", average="macro")
    records = [ours.score(case(s[None], int(t))) for s, t in zip(scores, truth, strict=True)]
    predicted = scores.argmax(1)
    assert ours.value(records) == pytest.approx(f1_score(truth, predicted, average="macro"))
    each = f1_score(truth, predicted, average=None)
    assert [v for _, v in ours.by_class(records).values()] == pytest.approx(each[:5])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=5, max_size=5).filter(any), st.integers(0, 100))
def test_a_weighting_equals_repeating_the_samples(weights, seed):
    random = np.random.default_rng(seed)
    for ours in (metric("f1", average="macro"), metric("f1"), metric("top1")):
        classes = 1 if isinstance(ours, BinaryF1) else 4
        records = [
            ours.score(
                case(random.random((1, classes)), int(random.integers(0, min(classes + 1, 4))))
            )
            for _ in weights
        ]
        repeated = [r for r, times in zip(records, weights, strict=True) for _ in range(times)]
        (found,) = ours.values(records, np.array([weights], float))
        assert found == pytest.approx(ours.value(repeated))


def test_f1_refuses_what_it_cannot_read():
    refused("E286", lambda: metric("f1").score(case([[0.5]])))
    refused("E286", lambda: metric("f1").score(case([[0.5]], 2)))
    refused("E286", lambda: metric("f1").score(case([[0.5]], 0.5)))
    refused("E287", lambda: metric("f1").score(case([[0.5, 0.5]], 1)))
    refused("E287", lambda: metric("f1", average="macro").score(case([[0.5]], 1)))


# --- text --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("flaw", "lawn", 2), ("same", "same", 0)],
)
def test_known_edit_distances(first, second, expected):
    assert edits(first, second) == expected


TEXT = st.text(alphabet="abc", max_size=8)


@given(TEXT, TEXT, TEXT)
def test_edit_distance_is_a_metric(a, b, c):
    assert edits(a, b) == edits(b, a)
    assert (edits(a, b) == 0) == (a == b)
    assert edits(a, c) <= edits(a, b) + edits(b, c)
    assert abs(len(a) - len(b)) <= edits(a, b) <= max(len(a), len(b))


def one_hot(classes, *labels):
    return np.eye(classes, dtype=np.float32)[list(labels)]


def test_ctc_merges_repeats_and_drops_blanks():
    scores = one_hot(4, 1, 1, 0, 1, 2, 2, 0, 0, 3)
    assert ctc_text(scores, ["a", "b", "c"]) == "aabc"
    assert ctc_text(scores, ["a", "b"]) == "aab "  # one class more: the space
    assert ctc_text(one_hot(4, 0, 0), ["a", "b", "c"]) == ""


def test_cer_is_micro_averaged():
    cases = [
        case(one_hot(4, 1, 2)[None], "ab"),
        case(one_hot(4, 1, 0, 1)[None], "abcabc"),
        case(np.array(["cc"], object), "cc"),
    ]
    ours = metric("cer", decode="ctc", characters="metadata:chars", metadata={"chars": "a\nb\nc"})
    assert value(ours, cases) == pytest.approx(4 / 10)
    assert [ours.correct(ours.score(item)) for item in cases] == [True, False, True]
    assert not ours.higher_is_better


def test_wer_counts_words():
    ours = metric("wer")
    assert value(ours, [case(np.array(["the cat sat"]), "the cat  sits on")]) == pytest.approx(
        2 / 4
    )


def test_text_metrics_refuse_what_they_cannot_read():
    ours = metric("cer", decode="ctc", characters=["a"])
    refused("E286", lambda: ours.score(case(one_hot(2, 0)[None])))
    refused("E286", lambda: ours.score(case(one_hot(2, 0)[None], ["a"])))
    refused("E874", lambda: ours.score(case(one_hot(5, 0)[None], "a")))
    refused("E874", lambda: ours.score(case(np.zeros((2, 3, 2)), "a")))
    refused("E287", lambda: metric("cer").score(case(one_hot(2, 0)[None], "a")))


# --- closeness, pairs, user functions ----------------------------------------------------------


def test_closeness_by_formula():
    random = np.random.default_rng(4)
    a, b = random.standard_normal((5, 1, 8)), random.standard_normal((5, 1, 8))
    cases = [case(x, reference={"y": y}) for x, y in zip(a, b, strict=True)]
    from scipy.spatial.distance import cosine as distance

    assert value(metric("mse"), cases) == pytest.approx(((a - b) ** 2).mean())
    expected = np.mean([1 - distance(x[0], y[0]) for x, y in zip(a, b, strict=True)])
    assert value(metric("cosine"), cases) == pytest.approx(expected)
    same = np.mean(a.argmax(-1) == b.argmax(-1))
    assert value(metric("agreement"), cases) == pytest.approx(same)
    refused("E286", lambda: metric("mse").score(case([1.0])))
    refused("E287", lambda: metric("mse").score(case([1.0], reference={"y": np.zeros(2)})))


def test_nan_never_looks_close():
    broken = case([[np.nan, 1.0]], reference={"y": np.array([[0.0, 1.0]])})
    assert value(metric("cosine"), [broken]) == 0
    assert value(metric("mse"), [broken]) > 1e300
    assert value(metric("agreement"), [broken]) == 0


def test_pearson_equals_scipy_for_both_forms_of_pairs():
    from scipy.stats import pearsonr

    random = np.random.default_rng(5)
    left, right = random.standard_normal((2, 40, 6))
    human = random.random(40)
    cosines = (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    expected = pearsonr(cosines, human).statistic
    joined = [case(np.stack(pair), float(h)) for *pair, h in zip(left, right, human, strict=True)]
    assert value(metric("pearson"), joined) == pytest.approx(expected)
    single = [
        case(side[i][None], {"pair": str(i), "score": float(human[i])})
        for side in (left, right)
        for i in range(40)
    ]
    assert value(metric("pearson"), single) == pytest.approx(expected)


def test_half_a_pair_is_refused_at_the_end():
    halves = metric("pearson")
    for name in ("a", "a", "b"):
        halves.score(case(np.ones((1, 3)), {"pair": name, "score": 1.0}))
    refused("E286", halves.finish)


def test_pearson_without_spread_is_not_defined():
    assert np.isnan(value(metric("pearson"), [case(np.ones((2, 3)), 1.0)] * 4))
    refused("E287", lambda: metric("pearson").score(case(np.ones((1, 3)), 1.0)))
    refused("E286", lambda: metric("pearson").score(case(np.ones((2, 3)), "much")))


def test_user_metric(tmp_path):
    (tmp_path / "mine.py").write_text(
        "def score(outputs, truth, bias=0.0):\n"
        "    return float(abs(outputs['y'] - truth).sum()) + bias\n"
        "def fails(outputs, truth):\n"
        "    return 1 / 0\n"
        "def nan(outputs, truth):\n"
        "    return float('nan')\n"
        "def narrow(outputs):\n"
        "    return 0.0\n"
    )
    ours = metric("mine.py:score", tmp_path, bias=0.5, higher_is_better=False)
    assert value(ours, [case([1.0], 0), case([3.0], 0)]) == 2.5
    assert not ours.higher_is_better
    found = refused("E283", lambda: metric("mine.py:fails", tmp_path).score(case([1.0], 0)))
    assert (found.place.file, found.place.line) == ("mine.py", 4)
    refused("E283", lambda: metric("mine.py:nan", tmp_path).score(case([1.0], 0)))
    refused("E282", lambda: metric("mine.py:narrow", tmp_path))
    refused("E282", lambda: metric("mine.py:gone", tmp_path))


# --- boxes -------------------------------------------------------------------------------------


def detection_cases(images):
    for number, image in enumerate(images):
        found = np.array(image["detections"], float).reshape(-1, 6)
        found[:, 2:4] += found[:, :2]
        yield Case(id=str(number), outputs={"y": found[None]}, truth=image["truth"])


@pytest.mark.parametrize("expected", COCO_CASES, ids=range(len(COCO_CASES)))
def test_map_equals_pycocotools(expected):
    ours = metric("map", space="original")
    records = [ours.score(item) for item in detection_cases(expected["images"])]
    records = json.loads(json.dumps(records))
    assert ours.value(records) == pytest.approx(expected["map"], abs=1e-9)
    assert ours.details(records)["map_50"] == pytest.approx(expected["map50"], abs=1e-9)
    by_class = {label: found for label, (_, found) in ours.by_class(records).items()}
    assert by_class == pytest.approx(expected["by_class"], abs=1e-9)
    at_half = metric("map", space="original", iou=0.5)
    assert at_half.value(records) == pytest.approx(expected["map50"], abs=1e-9)


def test_map_of_one_class_follows_its_precision_recall_curve():
    # Ranked hit, miss, hit of 2 true boxes: precision 1 up to recall 1/2, then 2/3.
    truth = [{"box": [0, 0, 10, 10], "class": 0}, {"box": [50, 50, 10, 10], "class": 0}]
    found = [[0, 0, 10, 10, 0.9, 0], [20, 20, 30, 30, 0.8, 0], [50, 50, 60, 60, 0.7, 0]]
    ours = metric("map", space="original")
    assert value(ours, [case([found], truth)]) == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)


def test_boxes_return_to_the_original_image():
    geometry = {
        "width": 200, "height": 100, "input_width": 64, "input_height": 64,
        "scale_x": 0.32, "scale_y": 0.32, "left": 0, "top": 16,
    }  # fmt: skip
    truth = [{"box": [50, 25, 100, 50], "class": 7}]
    pixels = np.array([50 * 0.32, 25 * 0.32 + 16, 150 * 0.32, 75 * 0.32 + 16])
    centred = np.array([*(pixels[:2] + pixels[2:]) / 2, *(pixels[2:] - pixels[:2])])
    forms = {"xyxy": pixels, "xywh": np.array([*pixels[:2], *centred[2:]]), "cxcywh": centred}
    for form, box in forms.items():
        for space, factor in (("input", 1), ("unit", 64)):
            ours = metric(
                "map", format=form, space=space, class_ids=[5, 7], scores="s", classes="c"
            )
            found = Case(
                id="s",
                outputs={
                    "y": box[None, None] / factor,
                    "s": np.array([[0.9]]),
                    "c": np.array([[1.0]]),
                },
                truth=truth,
                geometry=geometry,
            )
            assert value(ours, [found]) == pytest.approx(1)
    per_class = metric("map", scores="s", format="xyxy")
    outputs = {"y": pixels[None, None], "s": np.eye(8)[7][None, None]}
    assert value(per_class, [Case(id="s", outputs=outputs, truth=truth, geometry=geometry)]) == 1


def test_padding_and_images_without_objects():
    ours = metric("map", space="original")
    empty = case(np.full((1, 5, 6), -1.0), [])
    assert np.isnan(value(ours, [empty]))
    hit = case([[[0, 0, 9, 9, 0.5, 1]]], [{"box": [0, 0, 9, 9], "class": 1}])
    assert value(ours, [empty, hit]) == 1


def test_map_refuses_what_it_cannot_read():
    ours = metric("map", space="original")
    refused("E874", lambda: ours.score(case(np.zeros((1, 3, 5)), [])))
    refused("E874", lambda: metric("map").score(case(np.zeros((1, 3, 6)), [])))
    refused("E286", lambda: ours.score(case(np.zeros((1, 3, 6)))))
    refused("E286", lambda: ours.score(case(np.zeros((1, 3, 6)), [{"box": [1, 2]}])))
