"""Gates: every state of every gate, with its reason."""

from dataclasses import replace

import pytest

from edgedeploy.errors import DataError, Diagnostic
from edgedeploy.parity.evaluation import (
    ClassChange,
    Evaluation,
    Interval,
    MetricResult,
    OutputComparison,
    PairedResult,
)
from edgedeploy.parity.gates import LEAST_COSINE, GateVerdict, judge, judge_answers
from edgedeploy.profile.types import Delta, GateSpec


def evaluation(
    value=0.9,
    *,
    base=0.9,
    interval=(-0.001, 0.001),
    up=True,
    unit="fraction",
    cosine=1.0,
    findings=(),
):
    output = OutputComparison(
        name="y", dtype="float32", samples=5, elements=10, max_abs=0.0, mean_abs=0.0, rmse=0.0,
        reference_low=0.0, reference_high=1.0, cosine=cosine, cosine_mean=cosine,
        cosine_min=cosine, worst_sample=None, sqnr_db=None, top1_agreement=None,
        outside_tolerance=0.0, nonfinite=0, nonfinite_reference=0, shape_mismatches=0,
    )  # fmt: skip
    return Evaluation(
        samples=5,
        evidence="host-runtime",
        outputs=(output,),
        findings=findings,
        metric=MetricResult(
            name="m", value=value, n=5, unit=unit, higher_is_better=up, interval=None
        ),
        paired=PairedResult(
            float_value=base,
            delta=value - base,
            interval=interval and Interval(low=interval[0], high=interval[1], method="bootstrap"),
            lost=(),
            gained=(),
            worst_class=None,
        ),
    )


def record(**more):
    return {
        "evidence": "device",
        "latency": {
            "n": 900,
            "p50_ms": {"value": 10.0, "low": 9.5, "high": 10.5},
            "p99_ms": None,
        },
        "memory": {"peak_bytes": 300, "baseline_bytes": 100},
        "validity": {"verdict": "valid", "reasons": []},
        **more,
    }


def verdict(
    gate, spec, *, ours=None, base=0.9, size_bytes=10, bench=None, float_bench=None, host=False
):
    spec = GateSpec(**{"not_slower_than_float": False, **spec})
    ours = ours or evaluation()
    theirs = evaluation(base, up=ours.metric.higher_is_better, unit=ours.metric.unit)
    found = judge(
        spec,
        evaluation=ours,
        float_evaluation=theirs,
        size_bytes=size_bytes,
        bench=bench,
        float_bench=float_bench,
        board_is_host=host,
    )
    assert all(GateVerdict.from_json(item.to_json()) == item for item in found)
    (chosen,) = [item for item in found if item.gate == gate]
    assert chosen.reason
    return chosen


def metric_state(amount, allowed_unit, value, **more):
    base = more.pop("base", 0.9)
    return verdict(
        "metric",
        {"metric": Delta(amount=amount, unit=allowed_unit)},
        ours=evaluation(value, base=base, **more),
        base=base,
    ).state


@pytest.mark.parametrize(
    ("amount", "unit", "value", "more", "expected"),
    [
        (-1, "pt", 0.89, {}, "passed"),  # exactly the limit
        (-1, "pt", 0.889, {}, "refused"),
        (-1, "pt", 0.99, {}, "passed"),
        (0, "pt", 0.8999, {}, "refused"),
        (0, "pt", 0.9, {}, "passed"),
        (-1, "%", 0.891, {}, "passed"),
        (-1, "%", 0.8909, {}, "refused"),
        (-0.02, "abs", 0.88, {}, "passed"),
        (-0.02, "abs", 0.879, {}, "refused"),
        (1, "pt", 0.03, {"up": False, "base": 0.02}, "passed"),
        (1, "pt", 0.031, {"up": False, "base": 0.02}, "refused"),
        (1, "pt", 0.0, {"up": False, "base": 0.02}, "passed"),
        (0, "%", 0.021, {"up": False, "base": 0.02}, "refused"),
        (5, "%", 0.001, {"up": False, "base": 0.0}, "refused"),
        (5, "%", 0.0, {"up": False, "base": 0.0}, "passed"),
        (-1, "%", 0.6, {"unit": "score", "base": 0.605}, "passed"),
    ],
)
def test_signed_metric_changes(amount, unit, value, more, expected):
    assert metric_state(amount, unit, value, **more) == expected


@pytest.mark.parametrize(
    ("amount", "unit", "more"),
    [(1, "pt", {}), (-1, "pt", {"up": False}), (-1, "pt", {"unit": "score"})],
)
def test_gates_without_sense_are_refused(amount, unit, more):
    with pytest.raises(DataError) as caught:
        metric_state(amount, unit, 0.9, **more)
    assert caught.value.diagnostics[0].code == "E285"
    assert caught.value.diagnostics[0].hint


def test_an_interval_across_the_limit_is_uncertain():
    spec = {"metric": Delta(amount=-1, unit="pt")}
    sure = verdict("metric", spec, ours=evaluation(0.9, interval=(-0.009, 0.009)))
    assert not sure.uncertain
    unsure = verdict("metric", spec, ours=evaluation(0.9, interval=(-0.02, 0.02)))
    assert unsure.state == "passed"
    assert unsure.uncertain
    assert "n too small" in unsure.reason
    refused = verdict("metric", spec, ours=evaluation(0.88, interval=(-0.03, -0.015)))
    assert (refused.state, refused.uncertain) == ("refused", False)
    assert verdict("metric", spec, ours=evaluation(0.9, interval=None)).uncertain


def test_parity_fails_on_findings_and_is_not_judged_without_data():
    assert verdict("parity", {}).state == "passed"
    finding = Diagnostic(code="E292", message="NaN in y")
    refused = verdict("parity", {}, ours=evaluation(findings=(finding,)))
    assert (refused.state, refused.reason) == ("refused", "NaN in y")
    found = judge(
        GateSpec(metric=Delta(amount=-1, unit="pt"), cosine=0.9),
        evaluation=None,
        float_evaluation=None,
        size_bytes=1,
        bench=None,
        float_bench=None,
        board_is_host=True,
    )
    assert [(item.gate, item.state) for item in found] == [
        ("parity", "not_judged"),
        ("metric", "not_judged"),
        ("cosine", "not_judged"),
        ("not_slower", "not_judged"),
    ]


def test_cosine_and_size():
    assert verdict("cosine", {"cosine": 0.99}, ours=evaluation(cosine=0.995)).state == "passed"
    assert verdict("cosine", {"cosine": 0.99}, ours=evaluation(cosine=0.985)).state == "refused"
    assert verdict("size", {"size_bytes": 10}, size_bytes=10).state == "passed"
    assert verdict("size", {"size_bytes": 10}, size_bytes=11).state == "refused"


def test_latency_and_memory():
    assert verdict("latency_p50", {"latency_ms": {"p50": 11.0}}, bench=record()).state == "passed"
    slow = verdict("latency_p50", {"latency_ms": {"p50": 9.0}}, bench=record())
    assert (slow.state, slow.uncertain, slow.evidence) == ("refused", False, "device")
    assert verdict("latency_p50", {"latency_ms": {"p50": 10.2}}, bench=record()).uncertain
    few = verdict("latency_p99", {"latency_ms": {"p99": 20.0}}, bench=record())
    assert few.state == "not_judged"
    assert "900" in few.reason
    assert verdict("memory", {"memory_bytes": 200}, bench=record()).state == "passed"
    assert verdict("memory", {"memory_bytes": 199}, bench=record()).state == "refused"


BENCH_GATES = [
    ("latency_p50", {"latency_ms": {"p50": 11.0}}),
    ("memory", {"memory_bytes": 1}),
    ("not_slower", {"not_slower_than_float": True}),
]


@pytest.mark.parametrize(("gate", "spec"), BENCH_GATES)
def test_only_valid_evidence_of_the_board_is_judged(gate, spec):
    ratio = {"with": "float", "ratio": {"value": 0.5, "low": 0.4, "high": 0.6}, "verdict": "faster"}
    foreign = record(evidence="host-runtime", comparison=ratio)
    assert verdict(gate, spec).state == "not_judged"
    assert verdict(gate, spec, bench=foreign, host=False).state == "not_judged"
    assert verdict(gate, spec, bench=foreign, host=True).state != "not_judged"
    assert verdict(gate, spec, bench=record(evidence="simulated"), host=True).state == "not_judged"
    throttled = record(
        comparison=ratio, validity={"verdict": "unreliable", "reasons": ["throttled"]}
    )
    found = verdict(gate, spec, bench=throttled)
    assert found.state == "not_judged"
    assert "throttled" in found.reason


@pytest.mark.parametrize(
    ("said", "low", "high", "expected"),
    [
        ("faster", 0.5, 0.6, "passed"),
        ("no difference shown", 0.9, 1.3, "passed"),
        ("slower", 1.005, 1.04, "passed"),
        ("slower", 1.03, 1.5, "refused"),
    ],
)
def test_not_slower_is_refused_only_when_shown(said, low, high, expected):
    ratio = {
        "with": "float",
        "ratio": {"value": (low + high) / 2, "low": low, "high": high},
        "verdict": said,
    }
    spec = {"not_slower_than_float": True}
    assert verdict("not_slower", spec, bench=record(comparison=ratio)).state == expected
    throttled = record(validity={"verdict": "unreliable", "reasons": []})
    found = verdict("not_slower", spec, bench=record(comparison=ratio), float_bench=throttled)
    assert found.state == "not_judged"
    assert verdict("not_slower", spec, bench=record()).state == "not_judged"


@pytest.mark.parametrize(
    ("gates", "cosine", "state"),
    [
        (GateSpec(), LEAST_COSINE, "passed"),
        (GateSpec(), 0.1, "refused"),
        # What the profile says of accuracy itself holds instead.
        (GateSpec(metric=Delta(amount=-1.0, unit="pt")), 0.1, "passed"),
        (GateSpec(cosine=0.05), 0.1, "passed"),
    ],
)
def test_parity_has_a_floor_where_no_gate_is_on_accuracy(gates, cosine, state):
    verdict = judge(
        gates,
        evaluation=evaluation(cosine=cosine),
        float_evaluation=evaluation(),
        size_bytes=1,
        bench=None,
        float_bench=None,
        board_is_host=True,
    )[0]
    assert verdict.gate == "parity" and verdict.state == state
    assert (f"cosine >= {LEAST_COSINE}" in verdict.limit) == (gates == GateSpec())


def layer(name, op, mean_ms):
    return {"name": name, "op": op, "mean_ms": mean_ms, "provider": "CPU"}


def test_what_is_slower_than_float_names_the_nodes_that_cost_it():
    ratio = {"verdict": "slower", "ratio": {"value": 1.4, "low": 1.3, "high": 1.5}}
    ours = record(
        comparison=ratio,
        layers=[
            layer("conv_1_token_7", "QLinearConv", 0.4),  # as fast as in float
            layer("x_QuantizeLinear", "QuantizeLinear", 0.3),
            layer("conv_2_token_9", "Conv", 1.9),
        ],
    )
    theirs = record(layers=[layer("conv_1", "Conv", 1.0), layer("conv_2", "Conv", 1.5)])
    spec = {"not_slower_than_float": True}
    found = verdict("not_slower", spec, bench=ours, float_bench=theirs)
    assert found.state == "refused"
    wanted = "conv_2_token_9 (Conv, +0.4 ms), x_QuantizeLinear (QuantizeLinear, +0.3 ms)"
    assert found.reason.endswith(f"cost more than in float: {wanted}")
    fast = record(comparison={**ratio, "verdict": "faster"}, layers=ours["layers"])
    assert "cost more" not in verdict("not_slower", spec, bench=fast, float_bench=theirs).reason


ENERGY = {"source": "hwmon", "scope": "rails", "why_not": None}


@pytest.mark.parametrize(
    ("found", "state", "uncertain"),
    [
        ({"value": 0.004, "low": 0.003, "high": 0.0045}, "passed", False),
        ({"value": 0.004, "low": 0.003, "high": 0.0055}, "passed", True),
        ({"value": 0.006, "low": 0.0055, "high": 0.0065}, "refused", False),
        (None, "not_judged", False),
    ],
)
def test_energy(found, state, uncertain):
    why = None if found else "the machine has no power monitor that Linux knows"
    energy = {**ENERGY, "per_inference_j": found, "why_not": why}
    spec = GateSpec(energy_j=0.005, not_slower_than_float=False)
    verdict = {gate.gate: gate for gate in judge(
        spec, evaluation=None, float_evaluation=None, size_bytes=0, bench=record(energy=energy),
        float_bench=None, board_is_host=False,
    )}["energy"]  # fmt: skip
    assert (verdict.state, verdict.uncertain) == (state, uncertain)
    assert verdict.evidence == "device" and (found or verdict.reason == why)


def test_what_a_device_answers_has_gates_of_its_own():
    """They compare with the float model over the samples that the device was asked."""
    spec = GateSpec(metric=Delta(amount=-1.0, unit="pt"), cosine=0.9)
    good = judge_answers(spec, evaluation(0.895, base=0.9))
    assert [gate.gate for gate in good] == [
        "parity_on_device", "metric_on_device", "cosine_on_device",
    ]  # fmt: skip
    assert {gate.state for gate in good} == {"passed"}
    bad = {gate.gate: gate.state for gate in judge_answers(spec, evaluation(0.5, base=0.9))}
    assert bad["metric_on_device"] == "refused"
    far = judge_answers(GateSpec(), evaluation(cosine=0.2))
    assert [(gate.gate, gate.state) for gate in far] == [("parity_on_device", "refused")]


def losing(value, *, before=0.9, interval=(-0.2, -0.01), classes=("7", "8"), up=True):
    """Return an evaluation whose class 7 changed from ``before`` to ``value``."""
    found = evaluation(up=up)
    worst = ClassChange(
        label="7",
        n=40,
        float_value=before,
        value=value,
        interval=interval and Interval(low=interval[0], high=interval[1], method="bonett-price"),
    )
    return replace(
        found,
        metric=replace(found.metric, by_class=dict.fromkeys(classes, (40, value))),
        paired=replace(found.paired, worst_class=worst),
    )


@pytest.mark.parametrize(
    ("value", "interval", "state", "uncertain"),
    [
        (0.85, (-0.06, -0.045), "passed", True),  # exactly what is allowed
        (0.8, (-0.15, -0.06), "refused", False),
        (0.8, (-0.25, 0.02), "refused", True),
        (0.89, None, "passed", True),
        (0.89, (-0.02, 0.0), "passed", False),
    ],
)
def test_the_class_that_loses_most_has_a_gate(value, interval, state, uncertain):
    spec = {"worst_class": Delta(amount=-5, unit="pt")}
    found = verdict("worst_class", spec, ours=losing(value, interval=interval))
    assert (found.state, found.uncertain) == (state, uncertain)
    assert "class 7" in found.reason


def test_a_gate_on_classes_without_any_is_not_judged_and_without_a_loss_passes():
    spec = {"worst_class": Delta(amount=-5, unit="pt")}
    assert verdict("worst_class", spec, ours=losing(0.1, classes=())).state == "not_judged"
    unharmed = losing(0.9)
    unharmed = replace(unharmed, paired=replace(unharmed.paired, worst_class=None))
    assert verdict("worst_class", spec, ours=unharmed).state == "passed"
    with pytest.raises(DataError):
        verdict("worst_class", {"worst_class": Delta(amount=5, unit="pt")}, ours=losing(0.8))
    gates = GateSpec(worst_class=Delta(amount=-5, unit="pt"), not_slower_than_float=False)
    names = [item.gate for item in judge_answers(gates, losing(0.8))]
    assert names == ["parity_on_device", "worst_class_on_device"]
