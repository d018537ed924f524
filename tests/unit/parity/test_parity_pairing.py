"""Two artifacts on the same samples: known tests, laws, what a mean hides, and false alarms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from edgedeploy.errors import DataError
from edgedeploy.parity.evaluation import Evaluation, SampleScore
from edgedeploy.parity.metrics import Metric, Options, make_metric
from edgedeploy.parity.paired import ALPHA, LEAST_SAMPLES, Group, Paired, holm
from edgedeploy.parity.pairing import Slicing, mcnemar, pair_artifacts, randomization
from edgedeploy.parity.scoring import defined
from edgedeploy.profile.types import MetricSpec


def metric(name: str, **parameters: Any) -> Metric:
    """Return a metric by name."""
    spec = MetricSpec(name=name, parameters=parameters)
    return make_metric(Options(spec=spec, default_output="y"))


def scored(
    of: Metric, records: Sequence[Any], sequences: Sequence[str] | None = None
) -> Evaluation:
    """Return the evaluation of an artifact that gave these records."""
    scores = tuple(
        SampleScore(
            id=f"s{place:04}",
            sequence=None if sequences is None else sequences[place],
            value=defined(of.value([record])),
            record=record,
        )
        for place, record in enumerate(records)
    )
    return Evaluation(samples=len(scores), evidence="host-runtime", scores=scores)


def top1(
    before: Sequence[bool], after: Sequence[bool], labels: Sequence[int], **more: Any
) -> Paired:
    """Return the comparison of two classifiers by what they have right."""
    of = metric("top1")
    old, new = (
        scored(of, [[int(hit), 1, int(label)] for hit, label in zip(hits, labels, strict=True)])
        for hits in (before, after)
    )
    return pair_artifacts("top1", of, old, new, **more)


def group(found: Paired, shown: str) -> Group:
    """Return a group by its name for people."""
    (one,) = [item for item in found.groups if item.shown == shown]
    return one


def alarms(found: Paired) -> list[str]:
    """Return the groups in which Holm's procedure claims a difference."""
    tested = [item for item in found.groups if item.p is not None]
    adjusted = holm([item.p for item in tested if item.p is not None])
    return [item.shown for item, p in zip(tested, adjusted, strict=True) if p <= ALPHA]


@pytest.mark.parametrize("lost", [0, 1, 5, 30])
@pytest.mark.parametrize("gained", [0, 2, 9, 200])
def test_mcnemar_is_the_binomial_test_of_the_flips(lost: int, gained: int) -> None:
    flips = lost + gained
    wanted = stats.binomtest(lost, flips).pvalue if flips else 1.0
    assert mcnemar(lost, gained) == pytest.approx(wanted, rel=1e-12)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_rejects_what_stepping_down_rejects(values: list[float]) -> None:
    """Holm 1979: the smallest against alpha/m, the next against alpha/(m-1), until one stands."""
    rejected, left = set(), len(values)
    for place in sorted(range(len(values)), key=values.__getitem__):
        if values[place] * left > ALPHA:
            break
        rejected.add(place)
        left -= 1
    found = {place for place, p in enumerate(holm(values)) if p <= ALPHA}
    assert found == rejected


def test_randomization_is_the_permutation_test_of_paired_samples() -> None:
    random = np.random.default_rng(3)
    old = random.integers(0, 5, 40)
    new = old + (random.random(40) < 0.4) * random.integers(-1, 4, 40)
    of = metric("cer")
    records = [[int(edits), 10] for edits in (*new, *old)]
    found = randomization(lambda weights: of.values(records, weights), np.arange(40), 20_000)
    wanted = stats.permutation_test(
        (new, old),
        lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        permutation_type="samples",
        n_resamples=20_000,
        rng=1,
    ).pvalue
    assert found == pytest.approx(wanted, rel=0.35)
    assert 0.001 < wanted < 0.1


def test_a_sequence_is_exchanged_as_a_whole() -> None:
    """Twelve frames that changed together in two files prove what two files prove: nothing."""
    frames, labels = [True] * 24, [0] * 24
    lost = [False] * 24
    of = metric("top1")
    records = [[int(hit), 1, label] for hit, label in zip(frames, labels, strict=True)]
    worse = [[int(hit), 1, label] for hit, label in zip(lost, labels, strict=True)]
    files = ["a"] * 12 + ["b"] * 12
    together = pair_artifacts("top1", of, scored(of, records, files), scored(of, worse, files))
    apart = pair_artifacts("top1", of, scored(of, records), scored(of, worse))
    assert group(together, "all samples").test == "randomization"
    assert group(together, "all samples").p == pytest.approx(0.5, abs=0.2)
    assert group(apart, "all samples").p == pytest.approx(2 / 2**24)


def test_a_regression_that_the_mean_hides_is_found_in_its_class() -> None:
    """Class 3 loses 15 of 100, the nine others gain what makes up for it."""
    labels = np.repeat(np.arange(10), 100)
    before = np.arange(1000) % 100 < 90
    after = before.copy()
    after[300:315] = False
    after[[label * 100 + 90 + extra for label in range(10) if label != 3 for extra in (0, 1)]] = (
        True
    )
    found = top1(before.tolist(), after.tolist(), labels.tolist())
    everything, worst = group(found, "all samples"), group(found, "class 3")
    assert everything.delta == pytest.approx(0.003)
    assert everything.p is not None
    assert everything.p > 0.5
    assert alarms(found) == ["class 3"]
    assert (worst.before, worst.after, worst.lost, worst.gained) == (0.9, 0.75, 15, 0)
    assert found.loss(worst) == pytest.approx(0.15)
    assert [flip.what for flip in found.flips] == ["lost"] * 15 + ["gained"] * 18
    assert Paired.from_json(found.to_json()) == found


def false_alarms(seeds: range, samples: int = 400) -> int:
    """Return in how many of so many A/A pairs any difference is claimed.

    The two artifacts are right with one probability per sample, each by a draw of its own.
    """
    count = 0
    for seed in seeds:
        random = np.random.default_rng(seed)
        labels = random.integers(0, 8, samples)
        share = np.clip(random.normal(0.85, 0.15, samples), 0.05, 0.99)
        before, after = (random.random(samples) < share for _ in range(2))
        places = {f"s{at:04}": str(at % 5) for at in range(samples)}
        found = top1(
            before.tolist(),
            after.tolist(),
            labels.tolist(),
            slicings=[Slicing(name="place", value=places)],
        )
        count += bool(alarms(found))
    return count


def test_pairs_that_are_the_same_are_silent_in_96_of_100_seeds() -> None:
    assert false_alarms(range(100)) <= 4


def test_error_rates_that_are_the_same_are_silent_too() -> None:
    of, count = metric("cer"), 0
    for seed in range(25):
        random = np.random.default_rng(seed)
        old, new = (
            scored(of, [[int(edits), 12] for edits in random.poisson(0.8, 60)]) for _ in range(2)
        )
        places = {f"s{at:04}": str(at % 3) for at in range(60)}
        found = pair_artifacts("cer", of, old, new, [Slicing(name="place", value=places)])
        count += bool(alarms(found))
    assert count <= 1


def test_an_error_rate_that_rose_is_a_loss() -> None:
    of = metric("cer")
    old = scored(of, [[0, 10]] * 40)
    new = scored(of, [[1, 10]] * 30 + [[0, 10]] * 10)
    found = pair_artifacts("cer", of, old, new)
    (everything,) = found.groups
    assert found.loss(everything) == pytest.approx(0.075)
    assert everything.interval is not None
    assert everything.interval.low > 0
    assert alarms(found) == ["all samples"]
    assert (everything.lost, everything.gained) == (30, 0)


def boxes(random: np.random.Generator, right: float) -> dict[str, Any]:
    """Return the record of an image with two boxes of two classes."""
    found = [
        [label, round(float(random.random()), 3), 1023 if random.random() < right else 0, 0]
        for label in (0, 1)
        for _ in range(2)
    ]
    return {"true": {"0": 2, "1": 2}, "found": found}


def records(name: str, random: np.random.Generator, count: int) -> list[Any]:
    """Return random records of a metric."""
    if name == "top1":
        return [[int(random.integers(0, 2)), 1, int(random.integers(0, 3))] for _ in range(count)]
    if name == "map":
        return [boxes(random, 0.7) for _ in range(count)]
    return [[random.integers(0, 3, 2).tolist() for _ in range(4)] for _ in range(count)]


@pytest.mark.parametrize(
    ("name", "parameters"), [("top1", {}), ("f1", {"average": "macro"}), ("map", {})]
)
def test_the_value_of_a_class_is_one_value_however_it_is_asked_for(
    name: str, parameters: dict[str, Any]
) -> None:
    of = metric(name, **parameters)
    some = records(name, np.random.default_rng(1), 20)
    by_class = of.by_class(some)
    assert len(by_class) >= 2
    doubled = np.ones((2, 40))
    for label, (_, value) in by_class.items():
        assert of.class_values([*some, *some], doubled, label) == pytest.approx([value, value])


def test_classes_of_boxes_are_judged_by_their_own_precision() -> None:
    """All boxes of class 1 are lost: its precision falls to nothing, and class 0 keeps its own."""
    of = metric("map")
    good = [boxes(np.random.default_rng(seed), 1.0) for seed in range(30)]
    bad = [
        {
            **item,
            "found": [
                [label, score, 0 if label else hits, skip]
                for label, score, hits, skip in item["found"]
            ],
        }
        for item in good
    ]
    found = pair_artifacts("map", of, scored(of, good), scored(of, bad))
    assert alarms(found) == ["all samples", "class 1"]
    assert group(found, "class 1").after == pytest.approx(0.0)
    assert group(found, "class 0").delta == pytest.approx(0.0)
    assert group(found, "class 1").lost is None
    assert {flip.what for flip in found.flips} == {"worse"}


def test_groups_of_few_samples_are_shown_and_not_tested() -> None:
    labels = [0] * 40 + [1] * (LEAST_SAMPLES - 1)
    found = top1([True] * len(labels), [False] * len(labels), labels)
    small = group(found, "class 1")
    assert (small.test, small.p, small.lost) == ("too few samples", None, LEAST_SAMPLES - 1)
    assert group(found, "class 0").p is not None
    assert mcnemar(LEAST_SAMPLES - 1, 0) > ALPHA >= mcnemar(LEAST_SAMPLES, 0)


def test_samples_without_a_value_are_in_no_slice() -> None:
    places = {f"s{at:04}": "hall" for at in range(10)}
    found = top1([True] * 30, [True] * 30, [0] * 30, slicings=[Slicing(name="place", value=places)])
    assert group(found, "place=hall").n == 10
    assert len(found.groups) == 3


def test_scores_of_other_samples_are_refused() -> None:
    of = metric("top1")
    some = scored(of, [[1, 1, 0]] * 4)
    fewer = scored(of, [[1, 1, 0]] * 3)
    with pytest.raises(DataError, match="other samples"):
        pair_artifacts("top1", of, some, fewer)
