"""From a build's result to its document: the one place that knows both."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgedeploy import __version__
from edgedeploy.bench.host import host_facts
from edgedeploy.building import BuildResult
from edgedeploy.choosing import NO_CANDIDATE, Outcome, State, Trial
from edgedeploy.combining import Combination
from edgedeploy.errors import Diagnostic
from edgedeploy.measuring import FLOAT
from edgedeploy.parity.evaluation import Drift, Evaluation, MetricResult
from edgedeploy.parity.gates import GateVerdict
from edgedeploy.quant.survey import Survey, decibels
from edgedeploy.report import figures
from edgedeploy.report.document import (
    ArithmeticReport,
    BenchSummary,
    BuildDocument,
    CandidateReport,
    DriftReport,
    EngineReport,
    EvaluationReport,
    FileReport,
    FloatLayer,
    FloatReport,
    GateReport,
    GateState,
    HalfReport,
    Interval,
    KeptNode,
    LayerReport,
    LossReport,
    MetricReport,
    ModelReport,
    ParityReport,
    PipelineReport,
    PlacementReport,
    SensitiveLayer,
    SensitivityReport,
    StageReport,
    StepsReport,
    TargetReport,
)
from edgedeploy.report.summary import bench_summary, unit_report

SHOWN_FLIPPED = 20
SHOWN_LEFT = 20

_CANDIDATE_STATES: Mapping[State, Any] = {
    "accepted": "chosen",
    "outdone": "outdone",
    "refused": "refused",
    "failed": "failed",
    "left out": "skipped",
}
_GATE_STATES: Mapping[str, GateState] = {
    "passed": "passed",
    "refused": "refused",
    "not_judged": "not judged",
}


def collect(result: BuildResult) -> BuildDocument:
    """Return the document of a build."""
    return BuildDocument(
        profile=result.plan.profile.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
        tools=dict(result.lock.tools),
        host=host_facts(),
        models=tuple(_models(result)),
        stages=tuple(
            StageReport(
                id=node.id,
                kind=node.kind,
                state=result.states[node.id].state,
                why=result.states[node.id].detail,
                seconds=round(result.states[node.id].seconds, 3),
            )
            for node in result.nodes()
            if node.id in result.states
        ),
        pipeline=_pipeline(result),
    )


def _pipeline(result: BuildResult) -> PipelineReport | None:
    spec = result.plan.profile.pipeline
    if spec is None:
        return None
    reference = result.float_pipeline
    sizes = {}
    for outcome in result.outcomes:
        if outcome.item.use.target == result.outcomes[0].item.use.target and outcome.baseline:
            sizes[outcome.item.name] = outcome.baseline.size_bytes
    return PipelineReport(
        function=spec.function,
        float=FloatReport(
            metric=_metric(reference.metric if reference else None),
            size_bytes=sum(sizes.values()) or None,
        ),
        targets=tuple(map(_combination, result.combinations)),
        losses={
            found.use.target: tuple(_loss(name, worth) for name, worth in found.alone.items())
            for found in result.combinations
            if found.alone
        },
    )


def _combination(found: Combination) -> TargetReport:
    chosen = ", ".join(f"{name} {candidate}" for name, candidate in found.chosen.items())
    states: Mapping[State, Any] = {"accepted": "accepted", "refused": "refused"}
    notes = [f"not run: {found.reason}"] if found.evaluation is None and found.reason else []
    losses = [_loss(name, worth) for name, worth in found.alone.items()]
    fraction = found.evaluation is not None and _is_fraction(found.evaluation)
    notes += [figures.loss(loss, fraction=fraction) for loss in losses]
    return TargetReport(
        target=found.use.target,
        verdict=states.get(found.state, "failed"),
        chosen=chosen or None,
        size_bytes=found.size_bytes,
        evaluation=_evaluation(found.evaluation) if found.evaluation else None,
        gates=_gates(found.gates),
        diagnostics=found.diagnostics,
        notes=tuple(notes),
    )


def _is_fraction(evaluation: Evaluation) -> bool:
    return evaluation.metric is not None and evaluation.metric.unit == "fraction"


def _loss(name: str, worth: Evaluation) -> LossReport:
    return LossReport(
        model=name, value=worth.metric.value if worth.metric else None, delta=_delta(worth)
    )


def _gates(gates: Iterable[GateVerdict]) -> tuple[GateReport, ...]:
    return tuple(
        GateReport(
            gate=gate.gate,
            state=_GATE_STATES[gate.state],
            limit=gate.limit,
            value=gate.value or None,
            evidence=gate.evidence,
            reason=gate.reason,
        )
        for gate in gates
    )


def _models(result: BuildResult) -> list[ModelReport]:
    by_name: dict[str, list[Outcome]] = {}
    for outcome in result.outcomes:
        by_name.setdefault(outcome.item.shared.name, []).append(outcome)
    found = []
    for name, outcomes in by_name.items():
        shared = outcomes[0].item.shared
        reference: Evaluation | None = result.references.get(name)
        found.append(
            ModelReport(
                name=name,
                source_sha256=result.lock.models.get(shared.model.name, ""),
                signature=result.signatures.get(name, {}),
                float=_float(reference, outcomes),
                targets=tuple(_target(outcome) for outcome in outcomes),
            )
        )
    return found


def _float(reference: Evaluation | None, outcomes: list[Outcome]) -> FloatReport:
    """Return the float model's figures; size and time are those of its first artifact."""
    size = bench = None
    for outcome in outcomes:
        if outcome.baseline is not None and outcome.baseline.artifact is not None:
            size = outcome.baseline.size_bytes or None  # a device may have yet to build it
            bench = _bench(outcome, FLOAT)
            break
    metric = reference.metric if reference else None
    return FloatReport(metric=_metric(metric), size_bytes=size, bench=bench)


def _target(outcome: Outcome) -> TargetReport:
    chosen = outcome.chosen
    state = outcome.state
    trials = tuple(_candidate(trial) for trial in outcome.trials if trial.name != NO_CANDIDATE)
    if chosen is None or chosen.artifact is None or chosen.compiled is None:
        return TargetReport(
            target=outcome.item.use.target,
            verdict="failed",
            candidates=trials,
            diagnostics=_diagnostics(outcome),
        )
    name = FLOAT if chosen.kind == FLOAT else chosen.name
    record = outcome.records.get(name)
    return TargetReport(
        target=outcome.item.use.target,
        verdict="accepted" if state == "accepted" else "refused",
        chosen=chosen.name,
        candidates=trials,
        artifact=chosen.artifact.digest,
        files=tuple(
            FileReport(path=file.path, size_bytes=file.size, sha256=file.sha256)
            for file in chosen.artifact.files
        ),
        size_bytes=chosen.size_bytes,
        evaluation=_evaluation(chosen.evaluation) if chosen.evaluation else None,
        bench=_bench(outcome, name),
        layers=tuple(LayerReport(**layer) for layer in (record or {}).get("layers") or ()),
        placement=_placement(outcome.placement),
        units=unit_report((record or {}).get("placement")),
        sensitivity=_sensitivity(outcome.survey),
        arithmetic=_arithmetic(outcome.arithmetic, chosen.kind),
        half=_half(outcome.half),
        gates=_gates(chosen.gates),
        diagnostics=_diagnostics(outcome),
        wider=wider(outcome.wider),
        notes=outcome.notes,
        engines=_engines(chosen),
    )


def _engines(trial: Trial) -> tuple[EngineReport, ...]:
    """Return the engines of an artifact that devices made."""
    if trial.compiled is None:
        return ()
    tree = trial.compiled.outputs["artifact"]
    found = []
    for made in trial.compiled.summary.get("engines", {}).values():
        file = tree.file(made["entry"])
        build_s = made["build_s"]
        found.append(
            EngineReport(
                platform=made["platform"],
                entry=made["entry"],
                size_bytes=file.size,
                sha256=file.sha256,
                way=made["way"],
                build_s=None if build_s is None else float(build_s),
                power_mode=made["power_mode"],
                clocks=made["clocks"],
            )
        )
    return tuple(found)


def _diagnostics(outcome: Outcome) -> tuple[Diagnostic, ...]:
    """Return why candidates failed, and devices did; what several fail of stands once."""
    found = [item for trial in outcome.trials for item in trial.diagnostics]
    return tuple(dict.fromkeys([*found, *outcome.unmeasured]))


def wider(nodes: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    """Return one line per reason, the most frequent first."""
    reasons = Counter(node["reason"] for node in nodes)
    return tuple(
        f"{count} layer{'s' * (count > 1)} with 8-bit weights: {reason}"
        for reason, count in reasons.most_common()
    )


def _candidate(trial: Trial) -> CandidateReport:
    return CandidateReport(
        name=trial.name,
        state=_CANDIDATE_STATES[trial.state],
        reason=trial.reason,
        about=trial.about,
    )


def _sensitivity(survey: Survey | None) -> SensitivityReport | None:
    if survey is None:
        return None
    work = max(survey.multiply_adds(survey.layers), 1)
    weights = max(sum(layer.weights for layer in survey.layers), 1)
    ranked = sorted(survey.layers, key=lambda layer: (layer.sqnr_db, layer.node))
    return SensitivityReport(
        samples=survey.samples,
        ranges=survey.ranges,
        methods={name: _finite(decibels(noise)) for name, noise in survey.methods.items()},
        layers=tuple(
            SensitiveLayer(
                node=layer.node,
                op=layer.op,
                sqnr_db=_finite(layer.sqnr_db),
                kl=layer.kl,
                inside_db=layer.inside_db,
                metric=layer.metric,
                multiply_adds=layer.multiply_adds / work,
                weights=layer.weights / weights,
            )
            for layer in ranked
        ),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _bench(outcome: Outcome, name: str) -> BenchSummary | None:
    record = outcome.records.get(name)
    return bench_summary(record, Path(record["folder"])) if record else None


def _metric(metric: MetricResult | None) -> MetricReport | None:
    if metric is None:
        return None
    return MetricReport(
        name=metric.name,
        value=metric.value,
        low=metric.interval.low if metric.interval else None,
        high=metric.interval.high if metric.interval else None,
        n=metric.n,
        higher_is_better=metric.higher_is_better,
        fraction=metric.unit == "fraction",
    )


def _evaluation(evaluation: Evaluation) -> EvaluationReport:
    paired = evaluation.paired
    flipped = (*paired.lost, *paired.gained) if paired else ()
    return EvaluationReport(
        metric=_metric(evaluation.metric),
        float_value=paired.float_value if paired else None,
        delta=_delta(evaluation),
        n=evaluation.samples,
        flipped_count=len(flipped) if paired else None,
        flipped_ids=flipped[:SHOWN_FLIPPED],
        parity=tuple(
            ParityReport(output=name, stats=stats) for name, stats in _outputs(evaluation).items()
        ),
        evidence=evaluation.evidence,
        drift=tuple(map(_drift, evaluation.drift)),
    )


def _drift(drift: Drift) -> DriftReport:
    growth = None
    if drift.growth is not None:
        growth = Interval(value=drift.growth, low=drift.growth_low, high=drift.growth_high)
    return DriftReport(
        output=drift.output,
        sequences=drift.sequences,
        steps=drift.steps,
        growth=growth,
        worst_step=drift.worst_step,
        worst_rmse=drift.worst_rmse,
        parts=tuple(
            StepsReport(
                first=part.first,
                last=part.last,
                rmse=part.rmse,
                reference_rms=part.reference_rms,
            )
            for part in drift.parts
        ),
    )


def _delta(evaluation: Evaluation) -> Interval | None:
    """Return the change of the metric against the float model's."""
    paired = evaluation.paired
    if paired is None or paired.delta is None:
        return None
    return Interval(
        value=paired.delta,
        low=paired.interval.low if paired.interval else None,
        high=paired.interval.high if paired.interval else None,
    )


def _outputs(evaluation: Evaluation) -> dict[str, dict[str, float | None]]:
    """Return the numeric statistics of every output."""
    found: dict[str, dict[str, float | None]] = {}
    for output in evaluation.to_json()["outputs"]:
        found[output["name"]] = {
            key: value
            for key, value in output.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        }
    return found


def _placement(placement: Mapping[str, Any]) -> tuple[PlacementReport, ...]:
    found = []
    for provider in placement.get("providers", ()):
        if not provider["judged"]:
            continue
        left = [
            f"{item['op']} {item['node']}: {item['reason']}" for item in provider["unsupported"]
        ]
        found.append(
            PlacementReport(
                provider=provider["provider"],
                nodes=provider["supported"],
                total=provider["total"],
                left=tuple(left[:SHOWN_LEFT]),
            )
        )
    return tuple(found)


def _arithmetic(counts: Mapping[str, Any], kind: str) -> ArithmeticReport | None:
    """Return what runs on integers, None for an artifact of floats with no integers in it."""
    if kind in (FLOAT, "fp16", "fp8") and not (counts["integer_layers"] or counts["conversions"]):
        return None
    left = tuple(FloatLayer(**layer) for layer in counts["float_layers"])
    return ArithmeticReport(**{**counts, "float_layers": left})


def _half(found: Mapping[str, Any]) -> HalfReport | None:
    """Return what stayed in float32, None where no model was made half."""
    if not found:
        return None
    return HalfReport(
        calibrated=found["calibrated"],
        unknown=len(found["unknown"]),
        values=found["values"],
        nodes=tuple(KeptNode(node=node, reason=why) for node, why in found["kept"].items()),
    )


def read_json(path: Path) -> Any:
    """Return the JSON data of a stage's report file."""
    return json.loads(path.read_text(encoding="utf-8"))
