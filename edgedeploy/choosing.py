"""Choosing among a target's candidates: the first that no gate refuses.

Nothing here is stored: the candidates' stages are, and the choice follows from their results and
from the newest measurements.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from edgedeploy.artifact import Tree
from edgedeploy.backends import FAMILIES
from edgedeploy.errors import BuildError, Diagnostic, EdgedeployError, ExitCode, ModelError
from edgedeploy.executor import Builder
from edgedeploy.parity.evaluation import Evaluation
from edgedeploy.parity.gates import GateVerdict, judge
from edgedeploy.plan import CandidateNodes, Item
from edgedeploy.quant.candidates import LEAST_SHARE
from edgedeploy.store import ActionRecord

# Name of the trial that stands for a failure before any candidate.
NO_CANDIDATE = "-"

State = Literal["accepted", "refused", "failed", "left out"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What became of one candidate.

    Attributes:
        name: Candidate name, such as ``w8a8``.
        kind: ``w8a8``, ``fp16`` or ``float``.
        state: ``failed`` when a stage failed, ``left out`` when it was not even tried.
        reason: Why it is not accepted, in words; empty when it is.
        compiled: Record of the compile stage.
        evaluation: What the artifact's outputs are worth.
        gates: Verdicts.
        diagnostics: Why it failed.
    """

    name: str
    kind: str
    state: State
    reason: str = ""
    compiled: ActionRecord | None = None
    evaluation: Evaluation | None = None
    gates: tuple[GateVerdict, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    exit_code: ExitCode = ExitCode.DONE

    @property
    def artifact(self) -> Tree | None:
        """The files that were made."""
        return self.compiled.outputs["artifact"] if self.compiled else None

    @property
    def size_bytes(self) -> int:
        """Bytes of the files that the runtime loads; notes beside them are not shipped."""
        if self.compiled is None:
            return 0
        tree = self.compiled.outputs["artifact"]
        return sum(tree.file(path).size for path in self.compiled.summary["loaded"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one item of the plan.

    Attributes:
        chosen: The accepted trial; else the last one that was built; None when all failed.
        trials: Every candidate that was looked at, in order.
        baseline: The float artifact on the same target, for comparison; None when it failed.
        records: Measurements by artifact (``float`` and the candidate's name).
        placement: What each provider of the target would take of the chosen model.
        wider: Nodes (``node``, ``op``, ``reason``) whose weights have more bits than asked for.
    """

    item: Item
    chosen: Trial | None
    trials: tuple[Trial, ...]
    baseline: Trial | None = None
    records: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    placement: Mapping[str, Any] = field(default_factory=dict)
    wider: tuple[Mapping[str, str], ...] = ()

    @property
    def state(self) -> State:
        """The item's verdict."""
        return self.chosen.state if self.chosen else "failed"


def screen(builder: Builder, item: Item, *, after: int = -1, only: str | None = None) -> Outcome:
    """Build candidates in order until one passes every gate that needs no measurement.

    Args:
        builder: Brings the stages up to date.
        item: A model on a target.
        after: Start behind this position of ``item.candidates``.
        only: Try this candidate alone (``--locked``).

    Raises:
        Stopped: The run was interrupted.
        EdgedeployError: What all candidates share failed (the model or its data is refused).
    """
    trials = [
        Trial(name=name, kind=name, state="left out", reason=reason)
        for name, reason in item.left_out.items()
    ]
    for position, nodes in enumerate(item.candidates):
        if position <= after or (only is not None and nodes.candidate.name != only):
            continue
        trial = try_candidate(builder, item, nodes)
        trials.append(trial)
        if trial.state == "accepted":
            break
    built = [trial for trial in trials if trial.evaluation is not None]
    return Outcome(item=item, chosen=built[-1] if built else None, trials=tuple(trials))


def try_candidate(builder: Builder, item: Item, nodes: CandidateNodes) -> Trial:
    """Build one candidate and judge the gates that need no measurement.

    Raises:
        Stopped: The run was interrupted.
        EdgedeployError: What all candidates share failed.
    """
    name, kind = nodes.candidate.name, nodes.candidate.kind
    refusal = _too_large(builder, item, kind)
    if refusal is not None:
        return _failed_trial(name, kind, refusal)
    reference = _reference(builder, item)
    try:
        builder.build(nodes.evaluated)
        compiled = builder.build(nodes.compiled)
        evaluation = _evaluation(builder, nodes)
    except (BuildError, ModelError) as error:
        return _failed_trial(name, kind, error)
    trial = Trial(name=name, kind=kind, state="accepted", compiled=compiled, evaluation=evaluation)
    return judged(item, trial, reference, {}, board_is_host=False)


def _too_large(builder: Builder, item: Item, kind: str) -> BuildError | None:
    """Return the error for a candidate that the target's format cannot hold, else None.

    Known from the weights of the normal form, so that nothing behind it runs in vain. It is a lower
    bound: what is only a little too large is refused by the compile stage.
    """
    most = FAMILIES[item.target.runtime].most_bytes
    weights = int(builder.build(item.shared.normal).summary["weight_bytes"])
    if most is None or weights * LEAST_SHARE[kind] <= most:
        return None
    fitting = [
        f"`{mode}`"
        for mode in item.target.get("runtime.quantize") or ()
        if weights * LEAST_SHARE[mode] <= most
    ]
    choice = f"set `quantize:` to one of {', '.join(fitting)}" if fitting else "split the model"
    least = weights * LEAST_SHARE[kind]
    return BuildError(
        f"{weights / 1e9:.2f} GB of weights are at least {least / 1e9:.2f} GB as {kind}; "
        f"the format of {item.use.target} ends at {most / 1e9:.2f} GB",
        code="E314",
        subject=item.name,
        hint=f"{choice}, or choose a target whose format holds it, such as an OpenVINO one",
    )


def _failed_trial(name: str, kind: str, error: EdgedeployError) -> Trial:
    return Trial(
        name=name,
        kind=kind,
        state="failed",
        reason=error.diagnostics[0].message,
        diagnostics=error.diagnostics,
        exit_code=error.exit_code,
    )


def judged(
    item: Item,
    trial: Trial,
    reference: Evaluation,
    records: Mapping[str, Mapping[str, Any]],
    *,
    board_is_host: bool,
) -> Trial:
    """Return the trial with the verdicts of its gates, given what was measured."""
    if trial.evaluation is None or trial.artifact is None:
        return trial
    wanted = item.use.gates
    if trial.kind == "float":  # nothing to be slower than
        wanted = replace(wanted, not_slower_than_float=False)
    gates = judge(
        wanted,
        evaluation=trial.evaluation,
        float_evaluation=reference,
        size_bytes=trial.size_bytes,
        bench=records.get(trial.name),
        float_bench=records.get("float"),
        board_is_host=board_is_host,
    )
    refused = [gate for gate in gates if gate.state == "refused"]
    reason = "; ".join(f"{gate.gate}: {gate.value} (limit {gate.limit})" for gate in refused)
    return replace(trial, state="refused" if refused else "accepted", reason=reason, gates=gates)


def float_trial(builder: Builder, item: Item) -> Trial:
    """Compile the float artifact of the item's target: what sizes and times are held against."""
    candidate = item.baseline.candidate
    refusal = _too_large(builder, item, candidate.kind)
    if refusal is not None:
        return _failed_trial(candidate.name, candidate.kind, refusal)
    try:
        compiled = builder.build(item.baseline.compiled)
    except (BuildError, ModelError) as error:
        return _failed_trial(candidate.name, candidate.kind, error)
    return Trial(name=candidate.name, kind=candidate.kind, state="accepted", compiled=compiled)


def reference_evaluation(builder: Builder, item: Item) -> Evaluation:
    """Return what the float model itself is worth on the evaluation data."""
    return _reference(builder, item)


def _reference(builder: Builder, item: Item) -> Evaluation:
    _, folder = builder.folder(item.shared.reference.output("score"))
    return _read(folder)


def _evaluation(builder: Builder, nodes: CandidateNodes) -> Evaluation:
    _, folder = builder.folder(nodes.evaluated.output("evaluation"))
    return _read(folder)


def _read(folder: Path) -> Evaluation:
    data = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    return Evaluation.from_json(data)


def failed(item: Item, error: EdgedeployError) -> Outcome:
    """Return the outcome of an item whose shared stages failed."""
    trial = _failed_trial(NO_CANDIDATE, NO_CANDIDATE, error)
    return Outcome(item=item, chosen=None, trials=(trial,))
