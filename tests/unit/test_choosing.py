"""Choosing for one item: what the gates say decides, whatever is built."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy import choosing
from edgedeploy.choosing import Chooser, Trial
from edgedeploy.errors import ModelError
from edgedeploy.parity.gates import GateVerdict
from edgedeploy.profile.types import QuantizeSpec
from edgedeploy.quant.candidates import candidates
from edgedeploy.quant.survey import LayerSensitivity, Survey

OPTIONS = candidates({}, QuantizeSpec(), ["none", "fp16", "w8a8", "dynamic"], ["w8a8", "dynamic"])
SURVEY = Survey(
    samples=1,
    methods={"average": 1.0},
    ranges="average",
    layers=tuple(
        LayerSensitivity(node=f"n{n}", op="Conv", noise=2.0**-n, kl=0.0, multiply_adds=1, weights=1)
        for n in range(12)
    ),
)


def gate(name: str, state: str) -> GateVerdict:
    return GateVerdict(gate=name, state=state, limit="", value="", evidence="none", reason="")


def item(mode: str = "auto", trials: int = 12):
    spec = QuantizeSpec(mode=mode, trials=trials)
    return SimpleNamespace(
        use=SimpleNamespace(quantize=spec),
        candidates=[SimpleNamespace(candidate=option) for option in OPTIONS],
        left_out={},
        survey="the survey's node",
        nodes=lambda candidate: SimpleNamespace(candidate=candidate),
    )


class World:
    """Gives every candidate the next of some fates."""

    def __init__(self, patch, fates) -> None:
        self.fates, self.judged = fates, {}
        patch.setattr(choosing, "survey", lambda *_: SURVEY)
        patch.setattr(choosing, "try_candidate", self.try_candidate)

    def try_candidate(self, _builder, item, candidate) -> Trial:
        fate = self.fates[len(self.judged) % len(self.fates)]
        trial = Trial(
            name=candidate.name,
            kind=candidate.kind,
            state={"passed": "accepted", "failed": "failed"}.get(fate, "refused"),
            nodes=item.nodes(candidate),
            evaluation=None if fate == "failed" else SimpleNamespace(outputs=()),
            gates=() if fate == "failed" else (gate("size" if fate == "size" else "metric",
                                                    "passed" if fate == "passed" else "refused"),),
        )  # fmt: skip
        self.judged[candidate.name] = trial
        return trial


FATES = st.lists(st.sampled_from(["passed", "metric", "size", "failed"]), min_size=1, max_size=30)


@given(fates=FATES, slow=st.lists(st.booleans(), min_size=1, max_size=8), data=st.data())
def test_choosing_never_returns_what_fails_a_gate_while_something_passes(fates, slow, data):
    with pytest.MonkeyPatch.context() as patch:
        world = World(patch, fates)
        chooser = Chooser(None, item(trials=data.draw(st.integers(0, 15))))
        outcome = chooser.screen()
        for is_slow in slow:
            if outcome.state != "accepted" or not is_slow:
                break
            measured = replace(
                outcome.chosen, state="refused", gates=(gate("not_slower", "refused"),)
            )
            world.judged[measured.name] = measured
            chooser.measured(measured)
            outcome = chooser.screen()
    accepted = [trial for trial in world.judged.values() if trial.state == "accepted"]
    if outcome.state == "accepted":
        assert not any(verdict.state == "refused" for verdict in outcome.chosen.gates)
        assert world.judged[outcome.chosen.name].state == "accepted"
        assert sum(trial.state == "accepted" for trial in outcome.trials) == 1
    else:
        # Nothing accepted may be left but what a slower measurement of its family undid.
        assert all(trial.kind == "w8a8" for trial in accepted)
        assert all(trial.state != "accepted" for trial in outcome.trials)


def test_choosing_a_mode_by_name_tries_no_mixtures(monkeypatch):
    world = World(monkeypatch, ["metric"])
    one = item(mode="w8a8")
    one.candidates = one.candidates[:1]
    outcome = Chooser(None, one).screen()
    assert list(world.judged) == ["w8a8"]
    assert outcome.survey is None


def test_choosing_marks_what_a_faster_one_outdoes(monkeypatch):
    class ByFloats(World):
        def try_candidate(self, builder, item, candidate):
            kept = len(candidate.scheme.keep_float) if candidate.scheme else 0
            self.fates = ["passed" if kept >= 3 else "metric"]
            return super().try_candidate(builder, item, candidate)

    ByFloats(monkeypatch, ["metric"])
    outcome = Chooser(None, item()).screen()
    assert outcome.chosen.name == "w8a8-keep-3"
    states = {trial.name: trial.state for trial in outcome.trials}
    assert states["w8a8"] == "refused"
    assert states["w8a8-keep-3"] == "accepted"
    assert set(states.values()) == {"refused", "accepted"} | (
        {"outdone"} if "w8a8-keep-4" in states else set()
    )


def test_choosing_under_a_lock_tries_that_alone(monkeypatch):
    world = World(monkeypatch, ["metric"])
    locked = OPTIONS[1]
    outcome = Chooser(None, item(), locked).screen()
    assert list(world.judged) == [locked.name]
    assert outcome.state == "refused"


def test_choosing_goes_on_and_says_why_where_no_survey_can_be_made(monkeypatch):
    world = World(monkeypatch, ["metric"])

    def fails(*_):
        raise ModelError("no float output", code="E262")

    monkeypatch.setattr(choosing, "survey", fails)
    outcome = Chooser(None, item()).screen()
    assert list(world.judged) == [option.name for option in OPTIONS]
    (left,) = [trial for trial in outcome.trials if trial.state == "left out"]
    assert left.reason == "no survey of the layers: no float output"
