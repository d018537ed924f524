"""What reports say of comparisons with the float model, and of streams."""

import dataclasses

from edgedeploy.report.details import target_card
from edgedeploy.report.document import (
    DriftReport,
    EvaluationReport,
    Interval,
    ParityReport,
    StepsReport,
    TargetReport,
)
from edgedeploy.report.figures import notes
from edgedeploy.report.table import delta_lines


def test_the_worst_output_is_told():
    found = EvaluationReport(
        n=8,
        parity=(
            ParityReport(output="a", stats={"cosine_min": 0.5, "max_abs": 1.0}),
            ParityReport(output="b", stats={"cosine_min": 0.9, "max_abs": 2.0}),
            ParityReport(output="c", stats={"cosine_min": None, "max_abs": None}),
        ),
    )
    assert delta_lines(found) == ("cosine 0.500000", "off by 2.0e+00", "n=8")


def test_nothing_compared_is_nothing_said():
    assert delta_lines(EvaluationReport(n=0)) == delta_lines(None)


def drift(output, growth, worst_rmse=0.08):
    return DriftReport(
        output=output,
        sequences=12,
        steps=375,
        growth=growth,
        worst_step=131,
        worst_rmse=worst_rmse,
        parts=(
            StepsReport(first=0, last=187, rmse=0.02, reference_rms=0.7),
            StepsReport(first=188, last=374, rmse=None, reference_rms=None),
        ),
    )


def test_the_error_along_sequences_is_told_and_shown():
    """A growth whose interval lies above 1 is called drift; an output without error is left out."""
    evaluated = EvaluationReport(
        drift=(
            drift("y", Interval(value=1.02, low=0.91, high=1.15)),
            drift("h", Interval(value=1.4, low=1.2, high=1.6)),
            drift("few", Interval(value=1.4)),
            drift("odd", None),
            drift("same", None, worst_rmse=0),
        )
    )
    target = TargetReport(target="linux-x86-64/ort", verdict="accepted", evaluation=evaluated)
    about, worst = "(12 sequences, 375 steps): error", "; most at step 131 (0.0800)"
    assert notes(target, "2026-01-01T00:00:00+00:00") == [
        f"drift of y {about} x1.02 [0.91, 1.15] in the last third{worst}",
        f"drift of h {about} x1.40 [1.20, 1.60] in the last third, it drifts{worst}",
        f"drift of few {about} x1.40 in the last third{worst}",
        f"drift of odd (12 sequences, 375 steps): no error in the middle third{worst}",
    ]
    card = target_card("t", target, 0)
    assert "Error along sequences" in card and "188-374" in card


def test_a_latency_without_the_state_carried_is_told(document):
    """As trtexec measures, or an app; what was carried needs no word."""
    model = document.models[0]
    target = next(item for item in model.targets if item.bench is not None)
    told = {}
    for state in ("zero", "carried", None):
        bench = dataclasses.replace(target.bench, state=state)
        changed = dataclasses.replace(target, bench=bench)
        told[state] = "\n".join(notes(changed, document.created))
        assert (f"<dt>state</dt><dd>{state}</dd>" in target_card("t", changed, 0)) == bool(state)
    assert "latency with the state at zero" in told["zero"]
    assert told["carried"] == told[None] and "state" not in told["carried"]
