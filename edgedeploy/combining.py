"""What the models of a target are worth together: the gate on a profile's pipeline.

Every model is chosen by its own gates first. Where the combination is then refused, each model is
run with the others in float, so that it shows which of them loses what; under ``quantize: auto``
the one that loses most is searched once more, now held by the gate on the combination as well.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from edgedeploy.choosing import Outcome, State, Trial, failed_trial
from edgedeploy.errors import BuildError, DataError, Diagnostic, ExitCode, ModelError
from edgedeploy.executor import Builder
from edgedeploy.measuring import FLOAT
from edgedeploy.node import Node
from edgedeploy.parity.evaluation import Evaluation
from edgedeploy.parity.gates import TOGETHER, GateVerdict, judge_metric, judge_metric_on_device
from edgedeploy.pipelinenodes import PipelineNodes
from edgedeploy.plan import Item, Plan
from edgedeploy.profile.types import TargetUse
from edgedeploy.quant.candidates import Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """One run of the pipeline: a candidate of each model.

    Attributes:
        name: What it is called in its node, such as ``rpi5/ort`` or ``rpi5/ort.detector``.
        candidates: One per item of the target, in the order of the plan.
    """

    name: str
    candidates: tuple[Candidate, ...]

    def node(self, pipeline: PipelineNodes, items: Sequence[Item]) -> Node:
        """Return what runs it.

        Args:
            pipeline: The pipeline's nodes.
            items: Those of the target, in the order of the plan.
        """
        pairs = zip(items, self.candidates, strict=True)
        members = [(item.shared, item.nodes(candidate).evaluated) for item, candidate in pairs]
        return pipeline.together(self.name, members)


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """What became of the models of a target together.

    Attributes:
        use: The target, with the gate on the combination.
        state: ``accepted``, ``refused``, or ``failed`` where a model or the function failed.
        chosen: Candidate by model, with its variant.
        size_bytes: Of the files that the runtime loads, of all models.
        evaluation: What the pipeline's outputs are worth; None where it failed.
        gates: The metric gate, where the profile sets one.
        alone: Where the gate refused: the pipeline with one model as chosen and the others in
            float, by that model's name.
        runs: What was run for it, with the node of each.
        reason: Why it is not accepted, in words.
        diagnostics: Why it failed.
        unmeasured: Why a device that should have run the models did not.
    """

    use: TargetUse
    state: State
    chosen: Mapping[str, str] = field(default_factory=dict)
    size_bytes: int | None = None
    evaluation: Evaluation | None = None
    gates: tuple[GateVerdict, ...] = ()
    alone: Mapping[str, Evaluation] = field(default_factory=dict)
    runs: tuple[tuple[Together, Node], ...] = ()
    reason: str = ""
    diagnostics: tuple[Diagnostic, ...] = ()
    exit_code: ExitCode = ExitCode.DONE
    unmeasured: tuple[Diagnostic, ...] = ()

    def on_device(self, worth: Evaluation) -> Combination:
        """Return the combination with the verdict on what a device answered.

        Raises:
            DataError: The gate makes no sense for the metric (E285).
        """
        allowed = self.use.gates.metric
        if allowed is None:
            return self
        verdict = judge_metric_on_device(allowed, worth)
        gates = (*self.gates, verdict)
        refused = verdict.state == "refused"
        return replace(
            self,
            gates=gates,
            state="refused" if refused else self.state,
            reason=_refusal(gates),
        )


Search = Callable[[Outcome, Callable[[Trial], Trial]], Outcome]
"""Searches an item's candidates once more: what it accepts goes through the given function too."""


def combine(
    builder: Builder,
    plan: Plan,
    pipeline: PipelineNodes,
    outcomes: Sequence[Outcome],
    search: Search | None,
) -> tuple[list[Outcome], tuple[Combination, ...]]:
    """Return what became of the items in the end, and of those of each target together.

    Args:
        builder: Brings the stages up to date.
        plan: What is built.
        pipeline: Its pipeline's nodes.
        outcomes: What became of the items by their own gates, in the order of the plan.
        search: Searches once more; None where the choice is fixed.

    Raises:
        Stopped: The run was interrupted.
    """
    by_target: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_target.setdefault(outcome.item.use.target, []).append(outcome)
    found: dict[str, Outcome] = {}
    combinations = []
    for use in plan.profile.targets:
        if use.target in by_target:
            combiner = Combiner(builder, pipeline, use, by_target[use.target])
            combinations.append(combiner.combine(search))
            found.update({outcome.item.name: outcome for outcome in combiner.outcomes})
    return [found[outcome.item.name] for outcome in outcomes], tuple(combinations)


class Combiner:
    """Runs a profile's pipeline with what the models of one target came to.

    Args:
        builder: Brings the stages up to date.
        pipeline: The pipeline's nodes.
        use: The target, with the gate on the combination.
        outcomes: What became of the target's items, by their own gates.
    """

    def __init__(
        self,
        builder: Builder,
        pipeline: PipelineNodes,
        use: TargetUse,
        outcomes: Sequence[Outcome],
    ) -> None:
        self._builder = builder
        self._pipeline = pipeline
        self._use = use
        self.outcomes = list(outcomes)
        """What became of the items; those that are searched once more come to something else."""
        self._runs: dict[tuple[str, tuple[str, ...]], tuple[Together, Node]] = {}

    def combine(self, search: Search | None) -> Combination:
        """Return what the models are worth together, and search for better ones where they fail.

        Args:
            search: Searches once more; None where the choice is fixed.

        Raises:
            Stopped: The run was interrupted.
        """
        found = self._together()
        searched: set[str] = set()
        while found.state == "refused" and search is not None:
            name = next((item for item in self._worst(found) if item not in searched), None)
            if name is None:
                break
            searched.add(name)
            for place, outcome in enumerate(self.outcomes):
                if outcome.item.shared.model.name == name:
                    self.outcomes[place] = search(outcome, partial(self._gated, place))
            found = self._together()
        return replace(found, runs=tuple(self._runs.values()))

    def _together(self) -> Combination:
        outcomes, use = self.outcomes, self._use
        missing = [out.item.shared.name for out in outcomes if not _is_built(out.chosen)]
        if missing:
            why = f"{', '.join(missing)} could not be built"
            return Combination(use=use, state="failed", reason=why)
        found = Combination(
            use=use,
            state="accepted",
            chosen={out.item.shared.name: out.chosen.name for out in outcomes if out.chosen},
            size_bytes=sum(out.chosen.size_bytes for out in outcomes if out.chosen) or None,
        )
        try:
            evaluation = self._run(use.target, [out.chosen for out in outcomes])
            gates = self._judged(evaluation)
        except (BuildError, DataError, ModelError) as error:
            return replace(
                found,
                state="failed",
                reason=error.diagnostics[0].message,
                diagnostics=error.diagnostics,
                exit_code=error.exit_code,
            )
        found = replace(found, evaluation=evaluation, gates=gates)
        reason = _refusal(gates)
        return self._explained(replace(found, state="refused", reason=reason)) if reason else found

    def _explained(self, found: Combination) -> Combination:
        """Return a refused combination with what each of its models loses alone."""
        alone: dict[str, Evaluation] = {}
        names = self._quantized()
        for name in names:
            if len(names) == 1 and found.evaluation is not None:
                alone[name] = found.evaluation
                continue
            trials = [
                out.chosen if out.item.shared.model.name == name else None for out in self.outcomes
            ]
            try:
                alone[name] = self._run(f"{self._use.target}.{name}", trials)
            except (BuildError, DataError, ModelError) as error:
                found = replace(found, diagnostics=(*found.diagnostics, *error.diagnostics))
        return replace(found, alone=alone)

    def _gated(self, place: int, trial: Trial) -> Trial:
        """Return a model's trial as the gate on the combination leaves it.

        The float model passes: what is lost with it, others lose. Shape variants of the same model
        that have yet to be searched are in float meanwhile, so that none pays for another.
        """
        if trial.kind == FLOAT or not _is_built(trial):
            return trial
        model = self.outcomes[place].item.shared.model.name
        trials = [
            None if at > place and out.item.shared.model.name == model else out.chosen
            for at, out in enumerate(self.outcomes)
        ]
        trials[place] = trial
        name = f"{self._use.target}.{self.outcomes[place].item.shared.name}.{trial.name}"
        try:
            gates = self._judged(self._run(name, trials))
        except (BuildError, DataError, ModelError) as error:
            return failed_trial(trial, error)
        gates = tuple(replace(gate, gate=TOGETHER) for gate in gates)
        reason = _refusal(gates)
        return replace(
            trial,
            state="refused" if reason else trial.state,
            reason=reason,
            gates=(*trial.gates, *gates),
        )

    def _run(self, name: str, trials: Sequence[Trial | None]) -> Evaluation:
        """Return what the pipeline is worth with these trials; float where there is none."""
        items = [out.item for out in self.outcomes]
        nodes = [
            trial.nodes if trial is not None and trial.nodes is not None else item.baseline
            for item, trial in zip(items, trials, strict=True)
        ]
        run = Together(name=name, candidates=tuple(found.candidate for found in nodes))
        key = (name, tuple(candidate.name for candidate in run.candidates))
        if key not in self._runs:
            members = [
                (item.shared, found.evaluated) for item, found in zip(items, nodes, strict=True)
            ]
            self._runs[key] = run, self._pipeline.together(name, members)
        _, folder = self._builder.folder(self._runs[key][1].output("evaluation"))
        return _read(folder)

    def _judged(self, evaluation: Evaluation) -> tuple[GateVerdict, ...]:
        allowed = self._use.gates.metric
        if allowed is None:
            return ()
        return (judge_metric(allowed, evaluation, float_pipeline(self._builder, self._pipeline)),)

    def _quantized(self) -> list[str]:
        """Return the models whose chosen artifact is not the float one, once each."""
        names = [
            out.item.shared.model.name
            for out in self.outcomes
            if out.chosen and out.chosen.kind != FLOAT
        ]
        return list(dict.fromkeys(names))

    def _worst(self, found: Combination) -> list[str]:
        """Return the quantized models whose choice is free, the one that loses most first."""
        free = {
            out.item.shared.model.name
            for out in self.outcomes
            if out.item.use.quantize.mode == "auto"
        }
        losses = {}
        for name in self._quantized():
            metric = found.alone[name].metric if name in found.alone else None
            paired = found.alone[name].paired if name in found.alone else None
            # One that fails alone has lost everything.
            loss = math.inf if paired is None or paired.delta is None else paired.delta
            losses[name] = -loss if metric and metric.higher_is_better else loss
        return sorted(free & losses.keys(), key=lambda name: (-losses[name], name))


def float_pipeline(builder: Builder, pipeline: PipelineNodes) -> Evaluation:
    """Return what a pipeline is worth with the float models.

    Raises:
        EdgedeployError: It failed.
    """
    _, folder = builder.folder(pipeline.scored.output("score"))
    return _read(folder)


def _refusal(gates: Sequence[GateVerdict]) -> str:
    """Return why gates refuse, in words; empty where none does."""
    return "; ".join(
        f"{gate.gate}: {gate.value} (limit {gate.limit})"
        for gate in gates
        if gate.state == "refused"
    )


def _is_built(trial: Trial | None) -> bool:
    return trial is not None and trial.nodes is not None and trial.compiled is not None


def _read(folder: Path) -> Evaluation:
    data = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    return Evaluation.from_json(data)
