"""The search of ``auto``, driven by made-up verdicts."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.profile.types import QuantizeSpec
from edgedeploy.quant.candidates import Candidate, candidates
from edgedeploy.quant.search import MOST_FLOAT, LeftOut, Settled, Verdict, search
from edgedeploy.quant.survey import LayerSensitivity, Survey

PASSED = Verdict(passed=True)
INACCURATE = Verdict(passed=False, refused=frozenset({"metric"}))
LARGE = Verdict(passed=False, refused=frozenset({"metric", "size"}))
OPTIONS = candidates(
    {}, QuantizeSpec(), ["none", "fp16", "w8a8", "dynamic", "w4"], ["w8a8", "dynamic", "w4"]
)


def surveyed(noises, *, op="Conv", work=None, ranges="average") -> Survey:
    layers = tuple(
        LayerSensitivity(
            node=f"layer{n}", op=op, noise=noise, kl=0.0, multiply_adds=(work or [1] * 99)[n],
            weights=10,
        )
        for n, noise in enumerate(noises)
    )  # fmt: skip
    return Survey(samples=4, methods={"average": 0.5, ranges: 0.1}, ranges=ranges, layers=layers)


def drive(judge, survey=None, *, trials=12, options=OPTIONS):
    """Run a search; return what it proposed in order and the choice (None where all failed)."""
    steps, found, verdict, asked = search(options, lambda: survey, trials), [], None, 0
    last = None
    while asked < 1000:
        asked += 1
        try:
            step = steps.send(verdict)
        except StopIteration:
            return found, None
        if isinstance(step, Settled):
            return found, last
        found.append(step)
        verdict = PASSED if isinstance(step, LeftOut) else judge(step)
        if isinstance(step, Candidate) and verdict.passed:
            last = step
    raise AssertionError("the search does not end")


def names(found):
    return [step.name for step in found]


def kept(candidate: Candidate) -> int:
    return len(candidate.scheme.keep_float) if candidate.scheme else 0


def test_search_takes_the_first_that_passes_and_looks_no_further():
    found, choice = drive(lambda _: PASSED)
    assert names(found) == ["w8a8"]
    assert choice is OPTIONS[0]


def test_search_without_a_survey_goes_down_the_options():
    found, choice = drive(lambda step: PASSED if step.kind == "fp16" else INACCURATE)
    assert names(found) == ["w8a8", "dynamic", "w4", "fp16"]
    assert choice.kind == "fp16"


def test_search_keeps_the_noisiest_layers_in_float_and_as_few_as_the_gate_bears():
    survey = surveyed([0.1, 5.0, 0.2, 3.0, 0.1, 1.0, 0.05, 0.01])

    def judge(step):
        return (
            PASSED
            if {"layer1", "layer3", "layer5"} <= set(step.scheme.keep_float)
            else (INACCURATE)
        )

    found, choice = drive(judge, survey)
    assert choice.scheme.keep_float == ("layer1", "layer3", "layer5")
    assert names(found)[0] == "w8a8"
    assert all(step.name.startswith("w8a8-keep-") for step in found[1:])


@given(
    noises=st.lists(st.floats(1e-6, 1.0), min_size=3, max_size=40),
    wanted=st.integers(1, 40),
)
def test_search_finds_the_least_number_that_passes_where_more_is_better(noises, wanted):
    survey = surveyed(noises)
    found, choice = drive(
        lambda step: PASSED if kept(step) >= wanted else INACCURATE,
        survey,
        trials=100,
        options=OPTIONS[:1],
    )
    most = max((kept(step) for step in found), default=0)
    assert (choice is None) == (wanted > most)
    assert choice is None or kept(choice) == wanted
    assert len(set(names(found))) == len(found)


@given(
    noises=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30),
    answers=st.lists(st.sampled_from([PASSED, INACCURATE, LARGE]), min_size=1, max_size=80),
    trials=st.integers(0, 20),
)
def test_search_ends_and_chooses_only_what_passed(noises, answers, trials):
    """Whatever the gates say: no candidate twice, no more trials than allowed."""
    given_ = {}

    def judge(step):
        assert step.name not in given_
        given_[step.name] = answers[len(given_) % len(answers)]
        return given_[step.name]

    found, choice = drive(judge, surveyed(noises), trials=trials)
    assert sum("-keep-" in step.name for step in found if isinstance(step, Candidate)) <= trials
    if choice is not None:
        assert given_[choice.name].passed
        passed = [
            step
            for step in found
            if isinstance(step, Candidate) and given_[step.name].passed and step.kind == choice.kind
        ]
        assert all(kept(step) >= kept(choice) for step in passed)
    else:
        assert not any(verdict.passed for verdict in given_.values())


def test_search_keeps_no_layer_in_float_where_there_is_one():
    """A mixture without a layer in integers is the float model."""
    found, _ = drive(lambda _: INACCURATE, surveyed([1.0]))
    assert names(found) == [option.name for option in OPTIONS]


def test_search_does_not_add_floats_to_what_is_too_large_already():
    found, _ = drive(lambda _: LARGE, surveyed([1.0, 2.0, 3.0]))
    assert names(found) == ["w8a8", "dynamic", "w4", "fp16", "float"]


def test_search_stops_adding_floats_when_that_gets_too_large():
    def judge(step):
        return INACCURATE if kept(step) < 2 else LARGE

    found, _ = drive(judge, surveyed([8.0, 4.0, 2.0, 1.0, 0.5, 0.25]))
    assert names(found)[:3] == ["w8a8", "w8a8-keep-1", "w8a8-keep-2"]
    assert names(found)[3] == "dynamic"


def test_search_leaves_half_of_the_work_in_integers():
    survey = surveyed([8.0, 4.0, 2.0, 1.0], work=[1, 1, 7, 1])
    found, _ = drive(lambda _: INACCURATE, survey)
    shares = [
        sum(layer.multiply_adds for layer in survey.layers if layer.node in step.scheme.keep_float)
        for step in found
        if step.name.startswith("w8a8-keep")
    ]
    assert shares
    assert max(shares) / 10 <= MOST_FLOAT


def test_search_tries_a_quieter_range_method_before_it_keeps_layers():
    survey = surveyed([1.0, 2.0], ranges="mse")
    found, choice = drive(lambda step: PASSED if step.name == "w8a8-mse" else INACCURATE, survey)
    assert names(found) == ["w8a8", "w8a8-mse"]
    assert choice.scheme.ranges == "mse"


def test_search_mixes_with_the_method_that_is_quieter_on_the_evaluation_data():
    for noise, ranges in ((0.5, "mse"), (2.0, "average")):

        def judge(step, noise=noise):
            return replace(INACCURATE, noise=noise if step.name == "w8a8-mse" else 1.0)

        found, _ = drive(judge, surveyed([4.0, 2.0, 1.0], ranges="mse"))
        mixtures = [step for step in found if "-keep-" in step.name]
        assert mixtures
        assert {step.scheme.ranges for step in mixtures} == {ranges}


def test_search_says_that_trials_are_used_up():
    found, _ = drive(lambda _: INACCURATE, surveyed([4.0, 2.0, 1.0, 0.5]), trials=1)
    left = [step for step in found if isinstance(step, LeftOut)]
    assert "as many trials" in left[0].reason


def test_search_leaves_weight_only_to_models_of_products():
    few, _ = drive(lambda _: INACCURATE, surveyed([1.0, 1.0]), trials=0)
    assert any(isinstance(step, LeftOut) and step.name == "w4" for step in few)
    many, _ = drive(lambda _: INACCURATE, surveyed([1.0, 1.0], op="MatMul"), trials=0)
    assert "w4" in [step.name for step in many if isinstance(step, Candidate)]


def test_search_goes_on_when_a_measurement_refuses_the_choice():
    steps = search(OPTIONS, lambda: None, 3)
    assert next(steps).name == "w8a8"
    assert isinstance(steps.send(PASSED), Settled)
    slow = Verdict(passed=False, refused=frozenset({"not_slower"}))
    assert steps.send(slow).name == "dynamic"


def test_search_names_layers_literally():
    layer = replace(surveyed([1.0, 0.1]).layers[0], node="block[0]/conv*")
    survey = replace(
        surveyed([1.0, 0.1, 0.1]), layers=(layer, *surveyed([1.0, 0.1, 0.1]).layers[1:])
    )
    found, _ = drive(lambda _: INACCURATE, survey)
    scheme = next(step.scheme for step in found if step.name == "w8a8-keep-1")
    assert scheme.keeps("block[0]/conv*")
    assert not scheme.keeps("block0/convolution")
