"""The gates: each is passed, refused or not judged, with its evidence. Pure.

A gate on time or memory is judged only by evidence from its own board; a figure from another
machine is never taken for it, and a record that is not valid never passes a gate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from edgedeploy.errors import DataError
from edgedeploy.parity.evaluation import Evaluation, Interval
from edgedeploy.profile.types import Delta, GateSpec
from edgedeploy.runner import Evidence

State = Literal["passed", "refused", "not_judged"]
LEAST_COSINE = 0.95
"""What parity asks of an artifact for which the profile sets no gate on accuracy.

The outputs of 8-bit models that keep their metric lie above 0.96; those of broken ones near 0.
"""
NOT_SLOWER_SLACK = 1.02
"""A ratio within 2 % of the float model's time is no difference (the noise of A/A runs)."""

ON_DEVICE = "_on_device"
"""What the gates on outputs are called, after their name, where a device computed them."""

TOGETHER = "together"
"""The metric gate on a pipeline as a gate of one model's candidate, the others as chosen."""

COSTLY_NODES = 5
"""Nodes that are named where an artifact is slower than float."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateVerdict:
    """The verdict of one gate.

    Attributes:
        gate: ``parity``, ``metric``, ``worst_class``, ``cosine``, ``size``, ``latency_p50`` ..,
            ``memory``, ``energy`` or ``not_slower``; those on outputs end with ``_on_device`` where
            a device computed them.
        state: The verdict.
        limit: What is acceptable, as text.
        value: What was found, as text; empty when not judged.
        evidence: Where the value comes from.
        reason: Why, one sentence.
        uncertain: Judged on the value, but its confidence interval reaches across the limit, or
            there are too few samples for one.
    """

    gate: str
    state: State
    limit: str
    value: str
    evidence: Evidence
    reason: str
    uncertain: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GateVerdict:
        """Return the verdict that :meth:`to_json` wrote."""
        return cls(**data)


def judge(
    gates: GateSpec,
    *,
    evaluation: Evaluation | None,
    float_evaluation: Evaluation | None,
    size_bytes: int | None,
    bench: Mapping[str, Any] | None,
    float_bench: Mapping[str, Any] | None,
    board_is_host: bool,
) -> tuple[GateVerdict, ...]:
    """Return the verdict of every gate that the profile sets, and of parity, which always holds.

    Args:
        gates: What is acceptable.
        evaluation: The artifact's evaluation, None without evaluation data.
        float_evaluation: The float model's.
        size_bytes: Size of all artifact files together, None where a device has yet to make them.
        bench: The artifact's bench record (``evidence``, ``latency``, ``memory``, ``validity``,
            perhaps ``comparison`` with float), None without one.
        float_bench: The float artifact's, None without one.
        board_is_host: Whether the target's board is this machine.

    Raises:
        DataError: A gate that makes no sense for the metric (E285).
    """
    found = [_parity(evaluation, judged=gates.metric is not None or gates.cosine is not None)]
    if gates.metric is not None:
        found.append(judge_metric(gates.metric, evaluation, float_evaluation))
    if gates.worst_class is not None:
        found.append(_worst_class(gates.worst_class, evaluation))
    if gates.cosine is not None:
        found.append(_cosine(gates.cosine, evaluation))
    if gates.size_bytes is not None:
        found.append(_size(gates.size_bytes, size_bytes))
    for name, limit_ms in sorted(gates.latency_ms.items()):
        found.append(_latency(name, limit_ms, bench, board_is_host))
    if gates.memory_bytes is not None:
        found.append(_memory(gates.memory_bytes, bench, board_is_host))
    if gates.energy_j is not None:
        found.append(_energy(gates.energy_j, bench, board_is_host))
    if gates.not_slower_than_float:
        found.append(_not_slower(bench, float_bench, board_is_host))
    return tuple(found)


def judge_answers(gates: GateSpec, evaluation: Evaluation) -> tuple[GateVerdict, ...]:
    """Return the verdict of the gates on outputs for what a device answered, by names of their own.

    Args:
        gates: What is acceptable.
        evaluation: Of the device's answers; its paired comparison holds the float model's figures.

    Raises:
        DataError: A gate that makes no sense for the metric (E285).
    """
    found = [_parity(evaluation, judged=gates.metric is not None or gates.cosine is not None)]
    if gates.metric is not None:
        found.append(judge_metric(gates.metric, evaluation, _float_of(evaluation)))
    if gates.worst_class is not None:
        found.append(_worst_class(gates.worst_class, evaluation))
    if gates.cosine is not None:
        found.append(_cosine(gates.cosine, evaluation))
    return tuple(replace(verdict, gate=f"{verdict.gate}{ON_DEVICE}") for verdict in found)


def judge_metric_on_device(allowed: Delta, evaluation: Evaluation) -> GateVerdict:
    """Return the verdict of the gate on the metric for what a device answered.

    Args:
        allowed: How far the metric may change.
        evaluation: Of the device's answers; its paired comparison holds the float model's figures.

    Raises:
        DataError: The gate makes no sense for the metric (E285).
    """
    verdict = judge_metric(allowed, evaluation, _float_of(evaluation))
    return replace(verdict, gate=f"{verdict.gate}{ON_DEVICE}")


def _float_of(evaluation: Evaluation) -> Evaluation | None:
    """Return the float model's figures over the samples that a device answered to."""
    paired, metric = evaluation.paired, evaluation.metric
    if paired is None or metric is None:
        return None
    return replace(evaluation, metric=replace(metric, value=paired.float_value, interval=None))


def _not_judged(gate: str, limit: str, reason: str, evidence: Evidence = "none") -> GateVerdict:
    return GateVerdict(
        gate=gate, state="not_judged", limit=limit, value="", evidence=evidence, reason=reason
    )


def _state(passed: bool) -> State:
    return "passed" if passed else "refused"


def _parity(evaluation: Evaluation | None, *, judged: bool) -> GateVerdict:
    limit = "the float model's shapes, finite values"
    if not judged:
        limit += f", cosine >= {LEAST_COSINE:g}"
    if evaluation is None or not (evaluation.outputs or evaluation.findings):
        return _not_judged("parity", limit, "no outputs were compared with the float model's")
    errors = [item for item in evaluation.findings if item.severity == "error"]
    cosines = _cosines(evaluation)
    name = min(cosines, key=lambda item: cosines[item]) if cosines else None
    value = f"{len(errors)} findings" if name is None else f"cosine {cosines[name]:.6f}"
    far = not judged and name is not None and cosines[name] < LEAST_COSINE
    reason = f"{evaluation.samples} samples compared"
    if errors:
        reason, value = errors[0].message, f"{len(errors)} findings"
    elif far:
        reason = (
            f"output '{name}' is far from the float model's; set `gates: {{metric: ...}}` or "
            "`{cosine: ...}` to say what is acceptable"
        )
    return GateVerdict(
        gate="parity",
        state=_state(not errors and not far),
        limit=limit,
        value=value,
        evidence=evaluation.evidence,
        reason=reason,
    )


def delta_text(amount: float, unit: str) -> str:
    """Return a change in the unit of a gate (``pt``, ``%``, ``abs``) as people write it."""
    return f"{amount:+.3g}" if unit == "abs" else f"{amount:+.3g} {unit}"


def in_unit(delta: float, float_value: float, unit: str) -> float:
    """Return an absolute change in the gate's unit."""
    if unit == "pt":
        return delta * 100
    if unit == "%":
        # Relative to nothing: any change is without bound.
        return 100 * delta / abs(float_value) if float_value else delta * float("inf")
    return delta


def _check_sense(allowed: Delta, name: str, unit: str, higher_is_better: bool) -> None:
    if allowed.unit == "pt" and unit != "fraction":
        raise DataError(
            f"the gate {delta_text(allowed.amount, 'pt')} makes no sense: {name} is no fraction",
            code="E285",
            subject=name,
            hint="Give the change relatively (`-1 %`) or as a plain number (`-0.01`).",
        )
    if allowed.amount and (allowed.amount < 0) != higher_is_better:
        direction = "higher" if higher_is_better else "lower"
        raise DataError(
            f"the gate {delta_text(allowed.amount, allowed.unit)} on {name} would allow any loss: "
            f"{direction} is better",
            code="E285",
            subject=name,
            hint=f"Write {delta_text(-allowed.amount, allowed.unit)}.",
        )


def judge_metric(
    allowed: Delta, evaluation: Evaluation | None, float_evaluation: Evaluation | None
) -> GateVerdict:
    """Return the verdict of the gate on the metric.

    Args:
        allowed: How far the metric may change.
        evaluation: The artifact's, or that of several together; None without evaluation data.
        float_evaluation: The float model's.

    Raises:
        DataError: The gate makes no sense for the metric (E285).
    """
    limit = delta_text(allowed.amount, allowed.unit)
    metric = None if evaluation is None else evaluation.metric
    base = None if float_evaluation is None else float_evaluation.metric
    if evaluation is None or metric is None or base is None:
        return _not_judged("metric", limit, "there is no metric of the artifact and of float")
    _check_sense(allowed, metric.name, metric.unit, metric.higher_is_better)
    if metric.value is None or base.value is None:
        return _not_judged("metric", limit, f"{metric.name} is not defined on this data")
    paired = evaluation.paired
    delta = metric.value - base.value
    if paired is not None and paired.delta is not None:
        delta = paired.delta
    change = in_unit(delta, base.value, allowed.unit) if delta else 0.0
    better_down = -1 if metric.higher_is_better else 1
    passed = within(allowed, better_down * change)
    uncertain, note = _certainty(
        paired.interval if paired else None, allowed, base.value, better_down
    )
    return GateVerdict(
        gate="metric",
        state=_state(passed),
        limit=limit,
        value=delta_text(change, allowed.unit),
        evidence=evaluation.evidence,
        reason=f"{metric.name} {metric.value:.4g}, float {base.value:.4g}, n = {metric.n}; {note}",
        uncertain=uncertain,
    )


def within(allowed: Delta, loss: float) -> bool:
    """Return whether a loss, in the unit of a gate and above zero, is one that the gate allows."""
    bound = abs(allowed.amount)
    # 1e-9: a change of exactly the limit passes in spite of binary fractions.
    return loss <= bound + 1e-9 * max(1.0, bound)


def _worst_class(allowed: Delta, evaluation: Evaluation | None) -> GateVerdict:
    limit = delta_text(allowed.amount, allowed.unit)
    metric = None if evaluation is None else evaluation.metric
    if evaluation is None or metric is None or evaluation.paired is None:
        return _not_judged("worst_class", limit, "there is no metric of the artifact and of float")
    _check_sense(allowed, metric.name, metric.unit, metric.higher_is_better)
    if not metric.by_class:
        return _not_judged("worst_class", limit, f"{metric.name} has no classes")
    worst = evaluation.paired.worst_class
    change, uncertain, reason = 0.0, False, f"none of {len(metric.by_class)} classes lost"
    better_down = -1 if metric.higher_is_better else 1
    if worst is not None:
        change = in_unit(worst.value - worst.float_value, worst.float_value, allowed.unit)
        uncertain, note = _certainty(worst.interval, allowed, worst.float_value, better_down)
        reason = (
            f"class {worst.label}: {worst.value:.4g}, float {worst.float_value:.4g}, "
            f"n = {worst.n}; {note}"
        )
    return GateVerdict(
        gate="worst_class",
        state=_state(within(allowed, better_down * change)),
        limit=limit,
        value=delta_text(change, allowed.unit),
        evidence=evaluation.evidence,
        reason=reason,
        uncertain=uncertain,
    )


def _certainty(
    interval: Interval | None, allowed: Delta, float_value: float, better_down: int
) -> tuple[bool, str]:
    """Return whether the verdict is uncertain, and the words on it."""
    if interval is None:
        return True, "uncertain: too few samples for a confidence interval"
    ends = [in_unit(end, float_value, allowed.unit) for end in (interval.low, interval.high)]
    text = f"95 % interval {ends[0]:+.3g} to {delta_text(ends[1], allowed.unit)}"
    losses = [better_down * end for end in ends]
    if min(losses) <= abs(allowed.amount) < max(losses):
        return True, f"{text}; uncertain: n too small"
    return False, text


def _cosines(evaluation: Evaluation | None) -> dict[str, float]:
    """Return the cosine with the float model's by float output, the worse of whole and mean.

    An output that is zero throughout in the float model has no direction to compare with.
    """
    return {
        output.name: min(
            value for value in (output.cosine, output.cosine_mean) if value is not None
        )
        for output in (evaluation.outputs if evaluation else ())
        if output.dtype.startswith("float")
        and output.cosine is not None
        and (output.reference_low, output.reference_high) != (0.0, 0.0)
    }


def _cosine(least: float, evaluation: Evaluation | None) -> GateVerdict:
    limit = f">= {least:g}"
    found = _cosines(evaluation)
    if evaluation is None or not found:
        return _not_judged("cosine", limit, "no float output was compared with the float model's")
    name = min(found, key=lambda item: found[item])
    return GateVerdict(
        gate="cosine",
        state=_state(found[name] >= least),
        limit=limit,
        value=f"{found[name]:.6f}",
        evidence=evaluation.evidence,
        reason=f"lowest at output '{name}', {evaluation.samples} samples",
    )


def _size(limit_bytes: int, size_bytes: int | None) -> GateVerdict:
    if size_bytes is None:
        return GateVerdict(
            gate="size",
            state="not_judged",
            limit=f"<= {limit_bytes} B",
            value="",
            evidence="none",
            reason="a device of the board has yet to build it",
        )
    return GateVerdict(
        gate="size",
        state=_state(size_bytes <= limit_bytes),
        limit=f"<= {limit_bytes} B",
        value=f"{size_bytes} B",
        evidence="host-runtime",
        reason="size of the artifact's files, the same on every machine",
    )


def _unusable(bench: Mapping[str, Any] | None, board_is_host: bool) -> str | None:
    """Return why a bench record cannot judge this board, None when it can."""
    if bench is None:
        return "there is no bench record"
    evidence = bench["evidence"]
    if evidence != "device" and not (evidence == "host-runtime" and board_is_host):
        return f"the bench record is {evidence} evidence, not from this board"
    validity = bench["validity"]
    if validity["verdict"] != "valid":
        reasons = ", ".join(validity.get("reasons", ())) or "no reason given"
        return f"the bench record is {validity['verdict']}: {reasons}"
    return None


def _bench_gate(
    gate: str, limit: str, bench: Mapping[str, Any] | None, board_is_host: bool
) -> GateVerdict | None:
    """Return the verdict "not judged" where the record cannot be used, None when it can."""
    why = _unusable(bench, board_is_host)
    if why is None:
        return None
    return _not_judged(gate, limit, why, "none" if bench is None else bench["evidence"])


def _latency(
    name: str, limit_ms: float, bench: Mapping[str, Any] | None, board_is_host: bool
) -> GateVerdict:
    gate, limit = f"latency_{name}", f"<= {limit_ms:g} ms"
    refused = _bench_gate(gate, limit, bench, board_is_host)
    if refused or bench is None:
        return refused or _not_judged(gate, limit, "there is no bench record")
    found = bench["latency"].get(f"{name}_ms")
    n = bench["latency"]["n"]
    if found is None:
        return _not_judged(gate, limit, f"{n} inferences are too few for {name}", bench["evidence"])
    uncertain = found["low"] <= limit_ms < found["high"]
    interval = f"95 % interval {found['low']:.4g} to {found['high']:.4g} ms, n = {n}"
    return GateVerdict(
        gate=gate,
        state=_state(found["value"] <= limit_ms),
        limit=limit,
        value=f"{found['value']:.4g} ms",
        evidence=bench["evidence"],
        reason=interval
        + ("; uncertain: n too small" if uncertain else "")
        + ("; imported from an app's bench" if bench.get("imported") else ""),
        uncertain=uncertain,
    )


def _memory(limit_bytes: int, bench: Mapping[str, Any] | None, board_is_host: bool) -> GateVerdict:
    limit = f"<= {limit_bytes} B"
    refused = _bench_gate("memory", limit, bench, board_is_host)
    if refused or bench is None:
        return refused or _not_judged("memory", limit, "there is no bench record")
    memory = bench["memory"]
    if memory["peak_bytes"] is None:
        reason = "what measured does not tell memory"
        return _not_judged("memory", limit, reason, bench["evidence"])
    of_gpu_bytes = memory.get("device_bytes")
    used_bytes = memory["peak_bytes"] - memory["baseline_bytes"] + (of_gpu_bytes or 0)
    besides = "" if of_gpu_bytes is None else f", and {of_gpu_bytes} B of the GPU's"
    return GateVerdict(
        gate="memory",
        state=_state(used_bytes <= limit_bytes),
        limit=limit,
        value=f"{used_bytes} B",
        evidence=bench["evidence"],
        reason=f"peak resident memory above the process's baseline{besides}",
    )


def _energy(limit_j: float, bench: Mapping[str, Any] | None, board_is_host: bool) -> GateVerdict:
    limit = f"<= {limit_j:g} J"
    refused = _bench_gate("energy", limit, bench, board_is_host)
    if refused or bench is None:
        return refused or _not_judged("energy", limit, "there is no bench record")
    energy = bench["energy"]
    found = energy["per_inference_j"]
    if found is None:
        why = energy["why_not"] or "power was read in too few windows"
        return _not_judged("energy", limit, why, bench["evidence"])
    uncertain = found["low"] <= limit_j < found["high"]
    interval = f"95 % interval {found['low']:.4g} to {found['high']:.4g} J"
    return GateVerdict(
        gate="energy",
        state=_state(found["value"] <= limit_j),
        limit=limit,
        value=f"{found['value']:.4g} J",
        evidence=bench["evidence"],
        reason=f"{interval}, {energy['source']}: {energy['scope']}"
        + ("; uncertain: n too small" if uncertain else ""),
        uncertain=uncertain,
    )


def _not_slower(
    bench: Mapping[str, Any] | None, float_bench: Mapping[str, Any] | None, board_is_host: bool
) -> GateVerdict:
    gate, limit = "not_slower", f"<= {NOT_SLOWER_SLACK:g} x float"
    refused = _bench_gate(gate, limit, bench, board_is_host)
    if refused or bench is None:
        return refused or _not_judged(gate, limit, "there is no bench record")
    if float_bench is not None and (why := _unusable(float_bench, board_is_host)):
        return _not_judged(gate, limit, f"float: {why}", bench["evidence"])
    comparison = bench.get("comparison")
    if comparison is None:
        return _not_judged(gate, limit, "it was not measured against float", bench["evidence"])
    ratio = comparison["ratio"]
    slower = comparison["verdict"] == "slower" and ratio["low"] > NOT_SLOWER_SLACK
    interval = f"95 % interval {ratio['low']:.3f} to {ratio['high']:.3f}"
    cost = _cost(bench, float_bench) if slower and float_bench is not None else ""
    return GateVerdict(
        gate=gate,
        state=_state(not slower),
        limit=limit,
        value=f"{ratio['value']:.3f} x float",
        evidence=bench["evidence"],
        reason=f"{comparison['verdict']}; {interval}{cost}",
    )


def _cost(bench: Mapping[str, Any], float_bench: Mapping[str, Any]) -> str:
    """Return in words which nodes take longer than in the float artifact, the worst first.

    A runtime names a fused node after the one that it was made of, with a suffix.
    """
    before = {layer["name"]: layer["mean_ms"] for layer in float_bench.get("layers") or ()}

    def extra(layer: Mapping[str, Any]) -> float:
        stems = [name for name in before if layer["name"].startswith(name)]
        return float(layer["mean_ms"] - (before[max(stems, key=len)] if stems else 0.0))

    ranked = sorted(bench.get("layers") or (), key=extra, reverse=True)
    worst = [
        f"{layer['name']} ({layer['op']}, +{extra(layer):.3g} ms)"
        for layer in ranked[:COSTLY_NODES]
        if extra(layer) > 0
    ]
    return f"; these nodes cost more than in float: {', '.join(worst)}" if worst else ""
