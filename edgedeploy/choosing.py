"""Choosing among a target's candidates: running the search, and judging what it proposes.

Nothing here is stored: the candidates' stages are, and the choice follows from their results and
from the newest measurements.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from edgedeploy.artifact import Tree
from edgedeploy.backends import FAMILIES
from edgedeploy.errors import (
    BuildError,
    Diagnostic,
    EdgedeployError,
    ExitCode,
    ModelError,
    ProfileError,
)
from edgedeploy.executor import Builder
from edgedeploy.lockfile import NAME as LOCK_NAME
from edgedeploy.lockfile import Lock
from edgedeploy.measuring import ANSWERS
from edgedeploy.node import Node
from edgedeploy.parity.evaluation import Evaluation
from edgedeploy.parity.gates import GateVerdict, judge, judge_answers
from edgedeploy.plan import CandidateNodes, Item
from edgedeploy.quant.candidates import LEAST_SHARE, Candidate
from edgedeploy.quant.scheme import Scheme
from edgedeploy.quant.search import LeftOut, Settled, Verdict, search
from edgedeploy.quant.survey import Survey
from edgedeploy.store import ActionRecord

# Name of the trial that stands for a failure before any candidate.
NO_CANDIDATE = "-"

State = Literal["accepted", "outdone", "refused", "failed", "left out"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What became of one candidate.

    Attributes:
        name: Candidate name, such as ``w8a8``.
        kind: ``w8a8``, ``fp16`` or ``float``.
        state: ``failed`` when a stage failed, ``left out`` when it was not even tried,
            ``outdone`` when it passes and a faster one does too.
        reason: Why it is not accepted, in words; empty when it is.
        about: What the candidate is, in words.
        nodes: Its nodes; None where there are none.
        compiled: Record of the compile stage.
        evaluation: What the artifact's outputs are worth.
        gates: Verdicts.
        diagnostics: Why it failed.
    """

    name: str
    kind: str
    state: State
    reason: str = ""
    about: str = ""
    nodes: CandidateNodes | None = None
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
        """Bytes of the files that the runtime loads; notes beside them are not shipped.

        Where an artifact holds an engine for each of several platforms, that of the largest: a
        device gets one.
        """
        if self.compiled is None:
            return 0
        tree = self.compiled.outputs["artifact"]
        sizes: dict[str, int] = {}
        for path in self.compiled.summary["loaded"]:
            of = path.rpartition("/")[0] if "engines" in self.compiled.summary else ""
            sizes[of] = sizes.get(of, 0) + tree.file(path).size
        return max(sizes.values(), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one item of the plan.

    Attributes:
        chosen: The accepted trial; else the last one that was built; None when all failed.
        trials: Every candidate that was looked at, in order.
        baseline: The float artifact on the same target, for comparison; None when it failed.
        records: Measurements by artifact (``float`` and the candidate's name).
        survey: How the layers take to 8 bits; None where nothing asked for it.
        placement: What each provider of the target would take of the chosen model.
        arithmetic: What the runtime computes of it on integers
            (:class:`edgedeploy.backends.base.Arithmetic` as JSON data).
        wider: Nodes (``node``, ``op``, ``reason``) whose weights have more bits than asked for.
        notes: What the backend says of the chosen artifact, one sentence each.
        half: What of it stayed in float32, and why
            (:class:`edgedeploy.passes.float16.Float16Report` as JSON data); empty where the model
            was not made half before it was compiled.
        unmeasured: Why a device that should have measured it did not.
    """

    item: Item
    chosen: Trial | None
    trials: tuple[Trial, ...]
    baseline: Trial | None = None
    records: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    placement: Mapping[str, Any] = field(default_factory=dict)
    survey: Survey | None = None
    arithmetic: Mapping[str, Any] = field(default_factory=dict)
    wider: tuple[Mapping[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    half: Mapping[str, Any] = field(default_factory=dict)
    unmeasured: tuple[Diagnostic, ...] = ()

    @property
    def state(self) -> State:
        """The item's verdict."""
        return self.chosen.state if self.chosen else "failed"


def locked_candidate(item: Item, lock: Lock | None) -> Candidate | None:
    """Return the candidate that the lock file names for an item; None without a lock.

    Raises:
        ProfileError: There is no such candidate (E184).
    """
    name = lock.chosen.get(item.name) if lock else None
    if lock is None or name is None:
        return None
    for nodes in item.candidates:
        if nodes.candidate.name == name:
            return nodes.candidate
    scheme = lock.schemes.get(item.name)
    if scheme is None:
        raise ProfileError(
            f"--locked: {LOCK_NAME} names the candidate {name}, which {item.name} does not have",
            code="E184",
            subject=item.name,
            hint="build without --locked and review the change of the lock file",
        )
    return Candidate(
        name=name, kind="w8a8", scheme=Scheme.from_json(scheme), reason="The lock file names it."
    )


class Chooser:
    """The search for the best candidate of one item.

    Args:
        builder: Brings the stages up to date.
        item: A model on a target.
        locked: Try this candidate alone (``--locked``).
        also: What an accepted trial goes through too, before it counts as accepted.
    """

    def __init__(
        self,
        builder: Builder,
        item: Item,
        locked: Candidate | None = None,
        also: Callable[[Trial], Trial] | None = None,
    ) -> None:
        self._builder = builder
        self._item = item
        self._also = also
        self._survey: Survey | None = None
        spec = item.use.quantize
        options = [nodes.candidate for nodes in item.candidates] if locked is None else [locked]
        self._search = search(options, self._surveyed, spec.trials)
        self._verdict: Verdict | None = None  # a generator is started by sending None
        self._mixes = locked is None and spec.mode == "auto"
        self._trials = [
            Trial(name=name, kind=name, state="left out", reason=reason)
            for name, reason in item.left_out.items()
        ]

    def screen(self) -> Outcome:
        """Build candidates until one passes every gate that needs no measurement, or all failed.

        Raises:
            Stopped: The run was interrupted.
            EdgedeployError: What all candidates share failed (the model or its data is refused).
        """
        while True:
            try:
                step = self._search.send(self._verdict)  # type: ignore[arg-type]
            except StopIteration:
                break
            if isinstance(step, Settled):
                break
            if isinstance(step, LeftOut):
                found = Trial(name=step.name, kind=step.name, state="left out", reason=step.reason)
                self._verdict = Verdict(passed=False)
            else:
                found = try_candidate(self._builder, self._item, step)
                if self._also is not None and found.state == "accepted":
                    found = self._also(found)
                self._verdict = _verdict(found)
            self._trials.append(found)
        return self._outcome()

    def measured(self, trial: Trial) -> None:
        """Take in the verdict on the accepted trial after it was measured."""
        self._trials = [trial if item.name == trial.name else item for item in self._trials]
        self._verdict = _verdict(trial)

    def _outcome(self) -> Outcome:
        # One that was evaluated has failed all the same where devices make no engine of it.
        built = [
            trial
            for trial in self._trials
            if trial.evaluation is not None and trial.state != "failed"
        ]
        accepted = [trial for trial in built if trial.state == "accepted"]
        chosen = accepted[-1] if accepted else built[-1] if built else None
        for trial in accepted[:-1]:
            place = self._trials.index(trial)
            self._trials[place] = replace(
                trial, state="outdone", reason="passes too, with more layers in float"
            )
        return Outcome(
            item=self._item, chosen=chosen, trials=tuple(self._trials), survey=self._survey
        )

    def _surveyed(self) -> Survey | None:
        """Return the survey; without one the report says why there are no mixtures."""
        if not self._mixes:
            return None
        why = "it takes calibration samples, and the profile has none"
        if self._item.survey is not None:
            try:
                self._survey = survey(self._builder, self._item.survey)
                return self._survey
            except (BuildError, ModelError) as error:
                why = error.diagnostics[0].message
        reason = f"no survey of the layers: {why}"
        left = Trial(name="w8a8-keep", kind="w8a8", state="left out", reason=reason)
        self._trials.append(left)
        return None


def _verdict(trial: Trial) -> Verdict:
    refused = frozenset(gate.gate for gate in trial.gates if gate.state == "refused")
    noises = [
        0.0 if output.sqnr_db is None else 10.0 ** (-output.sqnr_db / 10.0)
        for output in (trial.evaluation.outputs if trial.evaluation else ())
    ]
    return Verdict(
        passed=trial.state == "accepted", refused=refused, noise=max(noises, default=math.inf)
    )


def survey(builder: Builder, node: Node) -> Survey:
    """Return how the layers of a model take to 8 bits.

    Raises:
        EdgedeployError: The stage failed.
    """
    _, folder = builder.folder(node.output("survey"))
    data = json.loads((folder / "sensitivity.json").read_text(encoding="utf-8"))
    return Survey.from_json(data)


def try_candidate(builder: Builder, item: Item, candidate: Candidate) -> Trial:
    """Build one candidate and judge the gates that need no measurement.

    Raises:
        Stopped: The run was interrupted.
        EdgedeployError: What all candidates share failed (the model or its data is refused).
    """
    nodes = item.nodes(candidate)
    trial = Trial(
        name=candidate.name,
        kind=candidate.kind,
        state="accepted",
        about=candidate.reason,
        nodes=nodes,
    )
    refusal = _too_large(builder, item, candidate.kind)
    if refusal is not None:
        return failed_trial(trial, refusal)
    reference = reference_evaluation(builder, item)
    try:
        builder.build(nodes.evaluated)
        compiled = builder.build(nodes.compiled)
        evaluation = _evaluation(builder, nodes)
    except (BuildError, ModelError) as error:
        return failed_trial(trial, error)
    trial = replace(trial, compiled=compiled, evaluation=evaluation)
    return judged(item, trial, reference, (), board_is_host=False)


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


def failed_trial(trial: Trial, error: EdgedeployError) -> Trial:
    """Return a trial that failed with an error."""
    return replace(
        trial,
        state="failed",
        reason=error.diagnostics[0].message,
        diagnostics=error.diagnostics,
        exit_code=error.exit_code,
    )


def judged(
    item: Item,
    trial: Trial,
    reference: Evaluation,
    each: Sequence[Mapping[str, Mapping[str, Any]]],
    *,
    board_is_host: bool,
) -> Trial:
    """Return the trial with the verdicts of its gates, given what was measured.

    Where a device of the board answered to samples, its answers are judged beside this machine's.

    Args:
        item: Whose gates count.
        trial: What is judged.
        reference: The float model's evaluation.
        each: Measurements by artifact; of several platforms with engines of their own, those of
            each: the first ones judge, and what another one refuses is refused.
        board_is_host: Whether the target's board is this machine.
    """
    if trial.evaluation is None or trial.artifact is None:
        return trial
    wanted = item.use.gates
    if trial.kind == "float":  # nothing to be slower than
        wanted = replace(wanted, not_slower_than_float=False)
    found: dict[str, GateVerdict] = {}
    for records in each or ({},):
        gates = judge(
            wanted,
            evaluation=trial.evaluation,
            float_evaluation=reference,
            size_bytes=None if _is_program(item, trial) else trial.size_bytes,
            bench=records.get(trial.name),
            float_bench=records.get("float"),
            board_is_host=board_is_host,
        )
        record = records.get(trial.name, {})
        answers = record.get(ANSWERS)
        if answers is not None:
            gates += judge_answers(wanted, Evaluation.from_json(answers))
        _join(found, gates, record.get("device", {}).get("platform"))
    gates = tuple(found.values())
    refused = [gate for gate in gates if gate.state == "refused"]
    reason = "; ".join(
        f"{gate.gate}: {gate.value} (limit {gate.limit})"
        + (f", {gate.reason}" if gate.gate == "not_slower" else "")
        for gate in refused
    )
    return replace(trial, state="refused" if refused else "accepted", reason=reason, gates=gates)


def _join(
    found: dict[str, GateVerdict], gates: Sequence[GateVerdict], platform: str | None
) -> None:
    """Add the verdicts of a further platform, if any: what it refuses counts before the first's."""
    for gate in gates:
        known = found.setdefault(gate.gate, gate)
        if gate.state == "refused" and known.state != "refused":
            found[gate.gate] = replace(gate, reason=f"on {platform}: {gate.reason}")


def _is_program(item: Item, trial: Trial) -> bool:
    """Return whether a device has yet to make the artifact of what was compiled here."""
    made = trial.nodes is not None and trial.nodes.compiled.kind != "compile"
    return FAMILIES[item.target.runtime].on_device and not made


def float_trial(builder: Builder, item: Item) -> Trial:
    """Compile the float artifact of the item's target: what sizes and times are held against."""
    nodes = item.baseline
    name, kind = nodes.candidate.name, nodes.candidate.kind
    trial = Trial(name=name, kind=kind, state="accepted", nodes=nodes)
    refusal = _too_large(builder, item, kind)
    if refusal is not None:
        return failed_trial(trial, refusal)
    try:
        return replace(trial, compiled=builder.build(nodes.compiled))
    except (BuildError, ModelError) as error:
        return failed_trial(trial, error)


def reference_evaluation(builder: Builder, item: Item) -> Evaluation:
    """Return what the float model itself is worth on the evaluation data."""
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
    trial = failed_trial(Trial(name=NO_CANDIDATE, kind=NO_CANDIDATE, state="failed"), error)
    return Outcome(item=item, chosen=None, trials=(trial,))
