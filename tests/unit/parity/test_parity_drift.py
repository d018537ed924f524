"""The error along sequences: known growth, laws, and what says nothing."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedeploy.data.pack import PackReader, PackWriter
from edgedeploy.parity.drift import PARTS, DriftStatistics, DriftWatch
from edgedeploy.parity.evaluate import evaluate, record_reference
from edgedeploy.parity.evaluation import Drift, Evaluation
from edgedeploy.runner import Closing
from edgedeploy.signature import Signature, TensorSpec


class Accumulator(Closing):
    """``total' = total + x + leak``: an error of each step stays in the state for good.

    Args:
        leak: Added at each step; at step t it is t + 1 times that where it comes ``faster``.
        noise: Added to the answer alone.
        faster: See there.
    """

    evidence = "interpreted"
    signature = Signature(inputs=(), outputs=(TensorSpec(name="y", dtype="float32", dims=(1,)),))

    def __init__(self, leak=0.0, noise=0.0, faster=False):
        self._leak, self._noise, self._faster = leak, noise, faster
        self._step = 0

    def run(self, inputs):
        self._step = self._step % 30 + 1  # sequences have 30 samples
        total = inputs["s"] + inputs["x"] + self._leak * (self._step if self._faster else 1)
        return {"y": total + self._noise, "s_out": total}

    def close(self):
        pass


STATE = [("s", "s_out")]
ZEROS = {"s": np.zeros(1, np.float64)}


@pytest.fixture
def recordings(tmp_path):
    """Twelve sequences of 30 samples."""
    (tmp_path / "pack").mkdir()
    random = np.random.default_rng(0)
    with PackWriter(tmp_path / "pack") as writer:
        for name in range(12):
            for step in range(30):
                writer.add(f"{name}#{step}", {"x": random.random(1)}, sequence=str(name))
    return tmp_path


def drift_of(folder, runner, state=STATE):
    (folder / "wanted").mkdir()
    record_reference(Accumulator(), folder / "pack", folder / "wanted", state=STATE, zeros=ZEROS)
    return evaluate(runner, folder / "pack", folder / "wanted", None, state=state, zeros=ZEROS)


def totals(folder):
    """Return the float model's answers ``[sequences, steps]``, summed up here."""
    heard = np.array([sample.tensors()["x"][0] for sample in PackReader(folder / "pack")])
    return heard.reshape(12, 30).cumsum(axis=1)


def growth(errors, outputs):
    """Return the relative error of the last third over that of the middle third."""
    relative = [
        math.sqrt((errors[:, part] ** 2).sum() / (outputs[:, part] ** 2).sum())
        for part in (slice(10, 20), slice(20, 30))
    ]
    return relative[1] / relative[0]


def test_an_error_that_the_state_keeps_grows(recordings):
    """The error at step t is 0.01 (t + 1)^2 in every sequence, and the output grows with t."""
    found = drift_of(recordings, Accumulator(leak=0.01, faster=True))
    state, output = found.drift
    assert (output.output, state.output) == ("y", "s_out")
    errors = np.tile(0.01 * np.cumsum(np.arange(1, 31)), (12, 1))
    for item in found.drift:
        assert (item.sequences, item.steps, item.worst_step) == (12, 30, 29)
        assert item.worst_sequences == 12
        assert item.worst_rmse == pytest.approx(errors[0, -1])
        assert item.growth == pytest.approx(growth(errors, totals(recordings)))
        assert 1 < item.growth_low < item.growth < item.growth_high
    first = output.parts[0]
    inside = slice(first.first, first.last + 1)
    assert first.rmse == pytest.approx(math.sqrt((errors[:, inside] ** 2).mean()))
    expected = math.sqrt((totals(recordings)[:, inside] ** 2).mean())
    assert first.reference_rms == pytest.approx(expected)


def test_an_error_beside_the_state_does_not_grow(recordings):
    """It stays the same while the output grows: relative to that it shrinks."""
    found = drift_of(recordings, Accumulator(noise=0.25))
    state, output = found.drift
    wanted = growth(np.full((12, 30), 0.25), totals(recordings))
    assert output.growth == pytest.approx(wanted) and wanted < 1
    assert output.worst_rmse == pytest.approx(0.25) and output.growth_high < 1
    assert all(part.rmse == pytest.approx(0.25) for part in output.parts)
    assert (state.growth, state.worst_rmse, state.worst_step) == (None, 0, 0)


def test_a_state_that_is_not_carried_shows(recordings):
    """What runs each sample from zeros loses what it should have summed up: that grows."""

    class Forgetful(Accumulator):
        def run(self, inputs):
            return super().run({**inputs, "s": np.zeros(1)})

    _, output = drift_of(recordings, Forgetful()).drift
    rows = [part.rmse for part in output.parts]
    assert rows == sorted(rows) and output.worst_step == 29


def test_records_survive_json(recordings):
    found = drift_of(recordings, Accumulator(leak=0.01))
    data = json.loads(json.dumps(found.to_json()))
    assert Evaluation.from_json(data) == found
    del data["drift"]  # as a record of a device may lack it
    assert Evaluation.from_json(data).drift == ()


def test_a_model_without_state_has_no_drift(recordings):
    class Plain(Accumulator):
        def run(self, inputs):
            return super().run({**inputs, **ZEROS})

    (recordings / "wanted").mkdir()
    record_reference(Plain(), recordings / "pack", recordings / "wanted")
    assert evaluate(Plain(), recordings / "pack", recordings / "wanted", None).drift == ()
    assert len(PackReader(recordings / "wanted")) == 360


def watched(errors):
    """Return the drift of sequences with these errors, step by step."""
    statistics = DriftStatistics("y")
    for number, sequence in enumerate(errors):
        for error in sequence:
            statistics.add(str(number), np.full((1, 2), 3 + error), np.full((1, 2), 3.0))
    return statistics.result()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.floats(0, 9, width=16), min_size=1, max_size=40), min_size=1))
def test_parts_and_worst_follow_from_the_errors(errors):
    """Against sums that are written out: each sample counts alike, at its own position."""
    found = watched(errors)
    steps = max(map(len, errors))
    if steps < 2:
        assert found is None
        return
    at = [[row[t] for row in errors if t < len(row)] for t in range(steps)]
    places = [math.sqrt(sum(error**2 for error in here) / len(here)) for here in at]
    assert found.worst_rmse == pytest.approx(max(places))
    assert found.worst_sequences == len(at[found.worst_step])
    assert (found.sequences, found.steps) == (len(errors), steps)
    assert [part.first for part in found.parts][1:] == [p.last + 1 for p in found.parts[:-1]]
    assert found.parts[-1].last == steps - 1 and len(found.parts) == min(PARTS, steps)
    for part in found.parts:
        inside = [error for here in at[part.first : part.last + 1] for error in here]
        assert part.samples == len(inside) and part.reference_rms == pytest.approx(3)
        assert part.rmse == pytest.approx(math.sqrt(sum(e**2 for e in inside) / len(inside)))


def test_few_sequences_give_no_interval():
    found = watched([[1, 1, 1, 1, 2, 2]] * 9)
    assert found.growth == pytest.approx(2)
    assert found.growth_low is None and found.growth_high is None
    assert watched([[1, 1, 1, 1, 2, 2]] * 10).growth_low == pytest.approx(2)


def test_the_interval_holds_one_where_nothing_drifts():
    """Independent errors of one size: in about 38 of 40 draws the interval holds 1."""
    held = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        found = watched(np.abs(random.standard_normal((24, 30))))
        held += found.growth_low <= 1 <= found.growth_high
    assert held >= 33  # a bootstrap of few sequences is a little narrow


def test_what_cannot_be_compared_is_left_out():
    """Texts, other shapes and outputs that are missing have no error, nor have NaN elements."""
    watch = DriftWatch()
    wanted = {"text": np.array(["a"]), "other": np.zeros(2), "missing": np.zeros(2)}
    for _ in range(6):
        watch.add("s", {"text": np.array(["b"]), "other": np.zeros(3)}, wanted)
    assert watch.results() == ()
    statistics = DriftStatistics("y")
    for number in range(6):
        made = np.array([np.nan if number == 2 else 3.0, np.inf])
        statistics.add("s", made, np.array([1.0, np.inf]))
    found = statistics.result()
    assert [part.rmse for part in found.parts] == [2, 2, None, 2, 2, 2]
    assert isinstance(found, Drift) and found.growth == 1


def test_lone_samples_do_not_drift():
    statistics = DriftStatistics("y")
    for _ in range(5):
        statistics.add(None, np.ones(1), np.zeros(1))
    assert statistics.result() is None
