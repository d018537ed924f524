"""The comparison itself: false alarms, what is looked at, pairs, sequences, what does not run."""

from types import SimpleNamespace

import numpy as np
import pytest

from edgedeploy.data.alternatives import Alternative
from edgedeploy.data.pack import PackReader, PackWriter
from edgedeploy.errors import BuildError
from edgedeploy.parity.evaluation import SampleScore
from edgedeploy.parity.metrics import Case, Options, make_metric
from edgedeploy.parity.preprocessing import chosen_samples, try_alternatives
from edgedeploy.profile.types import MetricSpec


def metric_of(name, **parameters):
    spec = MetricSpec(name=name, parameters=parameters)
    return lambda: make_metric(Options(spec=spec, default_output="y"))


class Function:
    """A runner of a Python function of the input ``x``."""

    def __init__(self, answer):
        self._answer = answer
        self.runs = 0

    def run(self, inputs):
        self.runs += 1
        return {"y": self._answer(inputs["x"])}


def packed(folder, samples):
    """Write (id, x, truth, sequence) and return the pack."""
    folder.mkdir()
    with PackWriter(folder) as writer:
        for name, x, truth, sequence in samples:
            writer.add(name, {"x": np.asarray(x)}, truth=truth, sequence=sequence)
    return PackReader(folder)


def scored(runner, pack, make):
    """Return the scores of all samples as declared, as the reference stage keeps them."""
    metric, found = make(), []
    for sample in pack:
        outputs = runner.run(sample.tensors())
        record = metric.score(Case(id=sample.id, outputs=outputs, truth=sample.truth))
        if record is not None:
            found.append(
                SampleScore(id=sample.id, sequence=sample.sequence, value=None, record=record)
            )
    return found


def other(change, what="so"):
    return Alternative(inputs=("x",), what=what, write="", change=change)


def in_memory(name, x):
    """Return a sample of class 1 as a pack gives it: 100 packs of files take too long."""
    return SimpleNamespace(id=name, truth=1, sequence=None, geometry=None, tensors=lambda: {"x": x})


def test_alternatives_of_the_same_worth_raise_no_alarm():
    """Eight alternatives, each right where the declared one is right or elsewhere, by chance."""
    alarms = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        # Column 0: the answer as declared; the others: those of the alternatives.
        answers = (rng.random((160, 9)) < 0.8).astype(np.float32)
        pack = [in_memory(str(k), row[None]) for k, row in enumerate(answers)]
        runner = Function(lambda x: np.array([[1 - x[0, 0], x[0, 0]]]))
        make = metric_of("top1")
        found = try_alternatives(
            runner,
            chosen_samples(pack),
            scored(runner, pack, make),
            [other(lambda x, k=k: x[:, k:], str(k)) for k in range(1, 9)],
            make,
        )
        alarms += any(item.is_better for item in found)
    assert alarms <= 4  # 1 is expected at most; more than 4 of 100 have a chance below 0.4 %


def test_a_planted_difference_is_found_and_the_hopeless_are_soon_given_up(tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 200)
    # Column 0 is right in 60 %, column 1 in 95 %, column 2 in 20 %.
    right = rng.random((200, 3)) < (0.6, 0.95, 0.2)
    values = np.where(right, truth[:, None], 1 - truth[:, None]).astype(np.float32)
    pack = packed(
        tmp_path / "pack",
        [(str(k), values[k : k + 1], int(truth[k]), None) for k in range(200)],
    )
    runner = Function(lambda x: np.array([[1 - x[0, 0], x[0, 0]]]))
    make = metric_of("top1")
    declared = scored(runner, pack, make)
    runner.runs = 0
    better, worse = try_alternatives(
        runner,
        chosen_samples(pack),
        declared,
        [other(lambda x: x[:, 1:]), other(lambda x: x[:, 2:])],
        make,
    )
    assert better.is_better and better.samples == 128 and better.value > better.declared + 0.2
    assert not worse.is_better and worse.samples == 8
    assert runner.runs == 128 + 8


def test_the_two_samples_of_a_pair_stay_together(tmp_path):
    """Similarity of embeddings that only the alternative shows; pairs stand far apart."""
    rng = np.random.default_rng(0)
    scores = rng.random(60)
    angle = np.arccos(scores)
    first = np.stack([np.ones(60), np.zeros(60)], axis=1)
    second = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    samples = [
        (f"{side}{k}", x[k : k + 1].astype(np.float32), {"pair": str(k), "score": scores[k]}, None)
        for side, x in (("a", first), ("b", second))
        for k in range(60)
    ]
    pack = packed(tmp_path / "pack", samples)
    assert [len(unit) for unit in chosen_samples(pack)] == [2] * 60
    spoilt = {"b": rng.normal(size=(60, 2))}

    def answer(x):  # without the mark that the alternative leaves, the answer is noise
        return x[:, :2] if x.shape[1] == 3 else spoilt["b"][int(1000 * abs(x[0, 0])) % 60][None]

    runner, make = Function(answer), metric_of("pearson")
    (found,) = try_alternatives(
        runner,
        chosen_samples(pack),
        scored(runner, pack, make),
        [other(lambda x: np.pad(x, ((0, 0), (0, 1))))],
        make,
    )
    assert found.samples == 60 and found.value == pytest.approx(1.0) and found.is_better


def test_sequences_count_as_a_whole_and_carry_their_state(tmp_path):
    """Eight recordings of 40 frames are eight observations, however many frames there are."""
    rng = np.random.default_rng(0)
    samples = [
        (f"{name}-{k}", np.full((1, 1), bit, np.float32), int(bit), str(name))
        for name in range(8)
        for k, bit in enumerate(rng.integers(0, 2, 40))
    ]
    pack = packed(tmp_path / "pack", samples)
    units = chosen_samples(pack)
    assert [len(unit) for unit in units] == [40] * 8
    seen = []

    def run(inputs):
        seen.append((float(inputs["h"][0]), inputs["x"].shape))
        wrong = inputs["x"].shape[1] == 1  # as declared, every answer is wrong
        return {"y": np.abs(inputs["x"][:, :1] - wrong), "hn": inputs["h"] + 1}

    runner, make = SimpleNamespace(run=run), metric_of("f1", threshold=0.5)
    declared = [
        SampleScore(id=item.id, sequence=item.sequence, value=None, record=record)
        for item, record in (
            (
                sample,
                make().score(
                    Case(id=sample.id, outputs={"y": 1 - sample.tensors()["x"]}, truth=sample.truth)
                ),
            )
            for sample in pack
        )
    ]
    (found,) = try_alternatives(
        runner,
        units,
        declared,
        [other(lambda x: np.pad(x, ((0, 0), (0, 1))))],
        make,
        state=[("h", "hn")],
        zeros={"h": np.zeros(1, np.float32)},
    )
    assert [state for state, _ in seen[:41]] == [*range(40), 0]
    # All 320 frames are right instead of wrong, but eight exchanges cannot show less than 2 / 2^8.
    assert found.value == 1.0 and 0.004 < found.p < 0.02


def test_what_the_model_does_not_take_is_no_alternative(tmp_path):
    pack = packed(tmp_path / "pack", [(str(k), [[1.0]], 0, None) for k in range(20)])

    def answer(x):
        if x.shape != (1, 1):
            raise BuildError("wrong shape", code="E330", hint="-")
        return np.array([[0.0, 1.0]])

    runner, make = Function(answer), metric_of("top1")
    (found,) = try_alternatives(
        runner,
        chosen_samples(pack),
        scored(runner, pack, make),
        [other(lambda x: x.reshape(1, 1, 1))],
        make,
    )
    assert (found.samples, found.value, found.is_better) == (0, None, False)
