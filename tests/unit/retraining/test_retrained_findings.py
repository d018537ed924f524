"""What of a comparison is a regression: what is shown, what gates allow, sizes, times, verdicts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgedeploy.parity.evaluation import Interval
from edgedeploy.parity.paired import Flip, Group, Paired
from edgedeploy.profile.types import Delta, GateSpec
from edgedeploy.report import document as doc
from edgedeploy.retraining.findings import Place, Retrained, judge
from edgedeploy.retraining.text import LISTED_FLIPS, retrained_markdown, retrained_text

EVERYTHING = Group(
    kind="all",
    name="",
    n=1000,
    before=0.9,
    after=0.898,
    interval=Interval(low=-0.01, high=0.006, method="bonett-price"),
    lost=20,
    gained=18,
    test="mcnemar",
    p=0.87,
)
WORST = replace(
    EVERYTHING, kind="class", name="7", n=100, after=0.8, lost=10, gained=0, p=2 / 2**10
)
NIGHT = replace(EVERYTHING, kind="slice", name="light=night", n=300, after=0.85, p=1e-9)
PAIRED = Paired(
    metric="top1",
    unit="fraction",
    higher_is_better=True,
    before_evidence="host-runtime",
    after_evidence="host-runtime",
    groups=(EVERYTHING, WORST),
    flips=tuple(Flip(sample=f"a|b{at}", what="lost", before=1.0, after=0.0) for at in range(30)),
)


def place(target: str = "rpi5/ort", **gates: Any) -> Place:
    """Return a model on a target with gates."""
    return Place(model="main", target=target, gates=GateSpec(**gates))


def built(
    *targets: str,
    size_bytes: int = 1000,
    p50_ms: float = 10.0,
    verdict: doc.Verdict = "accepted",
    gates: tuple[doc.GateReport, ...] = (),
) -> doc.BuildDocument:
    """Return a build document of one model."""
    bench = doc.BenchSummary(
        created="2026-11-28T05:00:00+00:00",
        evidence="device",
        mode="full",
        threads=1,
        runtime="ort 1.32.0",
        cpu="Cortex-A76",
        n=4000,
        mean_ms=p50_ms,
        p50_ms=doc.Interval(value=p50_ms, low=p50_ms * 0.99, high=p50_ms * 1.01),
        p90_ms=None,
        p99_ms=None,
        load_cold_ms=None,
        load_warm_ms=1.0,
        first_inference_ms=p50_ms,
        peak_bytes=2,
        baseline_bytes=1,
        validity="valid",
    )
    made = [
        doc.TargetReport(
            target=name,
            verdict=verdict,
            chosen="w8a8",
            artifact="d" * 64,
            size_bytes=size_bytes,
            bench=bench,
            gates=gates,
        )
        for name in targets or ("rpi5/ort",)
    ]
    model = doc.ModelReport(name="main", source_sha256="", targets=tuple(made))
    return doc.BuildDocument(
        profile="door", created="2026-11-28T05:00:00+00:00", version="0.1.0", models=(model,)
    )


def judged(
    paired: Paired = PAIRED, now: doc.BuildDocument | None = None, **gates: Any
) -> Retrained:
    """Return what a comparison of one model comes to."""
    return judge("door 1.0.0", built(), now or built(), [(place(**gates), paired)], {})


def quantities(found: Retrained) -> list[str]:
    """Return what is a regression."""
    return [regression.quantity for regression in found.regressions]


def points(amount: float) -> Delta:
    """Return an allowed change."""
    return Delta(amount=amount, unit="pt")


@pytest.mark.parametrize(
    ("gates", "worse", "unproven"),
    [
        ({}, ["class 7"], []),
        ({"worst_class": points(-5)}, ["class 7"], []),
        ({"worst_class": points(-10)}, [], []),  # exactly what is allowed
        ({"metric": points(-0.1)}, ["class 7"], ["all samples"]),
        ({"metric": points(-1)}, ["class 7"], []),
    ],
)
def test_a_loss_counts_when_it_is_shown_and_past_its_gate(
    gates: dict[str, Any], worse: list[str], unproven: list[str]
) -> None:
    found = judged(**gates)
    assert quantities(found) == worse
    assert [regression.quantity for regression in found.unproven] == unproven


def test_a_slice_has_no_gate_and_every_loss_that_is_shown_counts() -> None:
    paired = replace(PAIRED, groups=(EVERYTHING, NIGHT))
    assert quantities(judged(paired, worst_class=points(-50))) == ["light=night"]


def test_what_became_better_is_said_and_is_no_regression() -> None:
    better = replace(WORST, before=0.8, after=0.9, lost=0, gained=10)
    found = judged(replace(PAIRED, groups=(EVERYTHING, better)))
    assert found.targets[0].groups[1].finding == "better"
    assert found.regressions == ()


def test_an_error_rate_is_worse_where_it_rises() -> None:
    paired = replace(PAIRED, metric="cer", higher_is_better=False, groups=(EVERYTHING, WORST))
    found = judged(paired)
    assert found.targets[0].groups[1].finding == "better"


def test_all_groups_of_all_targets_are_judged_together() -> None:
    """One p of .002 is a finding among two groups (.004), and none among six (.012)."""
    alone = judged()
    assert alone.targets[0].groups[1].adjusted == pytest.approx(2 * 2 / 2**10)
    names = ("rpi5/ort", "intel-cpu/openvino", "linux-x86-64/ort")
    calm = replace(PAIRED, groups=(EVERYTHING, replace(WORST, p=0.9)))
    pairs = [(place(name), PAIRED if name == names[0] else calm) for name in names]
    found = judge("door 1.0.0", built(*names), built(*names), pairs, {})
    assert found.targets[0].groups[1].adjusted == pytest.approx(6 * 2 / 2**10)
    assert found.regressions == ()


def test_sizes_and_times_are_judged_by_their_gates_and_verdicts_by_themselves() -> None:
    calm = replace(PAIRED, groups=(EVERYTHING,))
    size = doc.GateReport(gate="size", state="passed", limit="<= 1500 B")
    slower = doc.GateReport(gate="not_slower", state="passed", limit="<= 1.02 x float")
    assert quantities(judged(calm, built(size_bytes=2000))) == []
    assert quantities(judged(calm, built(size_bytes=1400, gates=(size,)))) == []
    assert quantities(judged(calm, built(size_bytes=2000, gates=(size,)))) == ["size"]
    assert quantities(judged(calm, built(p50_ms=20.0, gates=(slower,)))) == ["latency"]
    assert quantities(judged(calm, built(verdict="refused"))) == ["verdict"]


def test_the_metric_is_told_once_by_its_pairs() -> None:
    assert {change.quantity for change in judged().changes.changes} == {
        "verdict",
        "size",
        "latency",
    }


def test_reports_say_what_was_found_and_count_the_rest() -> None:
    many = tuple(replace(WORST, name=str(at), after=0.95, p=0.5) for at in range(20, 30))
    found = judged(replace(PAIRED, groups=(EVERYTHING, WORST, *many)))
    assert quantities(found) == []  # twelve groups: .0195 x 12
    found = judged(replace(PAIRED, groups=(EVERYTHING, replace(WORST, p=1e-6), *many)))
    text, page = retrained_text(found), retrained_markdown(found)
    assert "regression: main rpi5/ort: class 7: top1 changed by -10 pt" in text
    assert "10 further groups" in text
    assert f"and {30 - LISTED_FLIPS} more" in text
    assert "⛔ worse |" in page
    assert r"a\|b0" in page  # a sample's name ends no cell
    assert all(line.count(" | ") == 6 for line in page.splitlines() if line.startswith("| class"))
    calm = judged(replace(PAIRED, groups=(EVERYTHING,), flips=()))
    assert retrained_text(calm).endswith("no regression\n")
    assert "✅ no regression" in retrained_markdown(calm)
    assert found.to_json()["targets"][0]["groups"][1]["finding"] == "worse"
