"""Nodes that stand in no plan: what a build found it needs while it ran."""

from __future__ import annotations

from collections.abc import Iterable

from edgedeploy.choosing import Outcome
from edgedeploy.combining import Combination
from edgedeploy.engines import ENGINES, engine_nodes
from edgedeploy.gpu import GpuPlatform
from edgedeploy.node import Node
from edgedeploy.plan import CandidateNodes, Plan


def searched(outcomes: Iterable[Outcome]) -> list[CandidateNodes]:
    """Return the candidates that were tried and stand in no plan."""
    return [
        trial.nodes
        for outcome in outcomes
        for trial in outcome.trials
        if trial.nodes is not None
        if all(trial.nodes.candidate != known.candidate for known in outcome.item.candidates)
    ]


def further(
    outcomes: Iterable[Outcome],
    plan: Plan | None = None,
    combinations: Iterable[Combination] = (),
) -> list[Node]:
    """Return the nodes that a build found it needs: mixtures, engines, and what was surveyed.

    Args:
        outcomes: What became of the items.
        plan: Take the nodes of this plan instead, made anew from the same profile.
        combinations: What became of them together, where there is a pipeline.
    """
    found = _combined(combinations, plan)
    for place, outcome in enumerate(outcomes):
        item = plan.items[place] if plan else outcome.item
        for nodes in searched([outcome]):
            found.append((item.nodes(nodes.candidate) if plan else nodes).evaluated)
        for trial in (outcome.chosen, outcome.baseline):
            if trial is None or trial.nodes is None or trial.nodes.compiled.kind != ENGINES:
                continue
            joined = trial.nodes.compiled
            found.append(
                _joined_again(joined, item.nodes(trial.nodes.candidate)) if plan else joined
            )
        if outcome.survey is not None and item.effects is not None:
            found.append(item.effects)
    return found


def _combined(combinations: Iterable[Combination], plan: Plan | None) -> list[Node]:
    """Return what ran a pipeline over the models of each target."""
    found = []
    for combination in combinations:
        for run, node in combination.runs:
            if plan is None or plan.pipeline is None:
                found.append(node)
                continue
            items = [it for it in plan.items if it.use.target == combination.use.target]
            found.append(run.node(plan.pipeline, items))
    return found


def _joined_again(joined: Node, nodes: CandidateNodes) -> Node:
    """Return the same engines, of the same program made anew."""
    platforms = [GpuPlatform.from_json(data) for data in joined.params["platforms"]]
    return engine_nodes(nodes.compiled, platforms, joined.params["notes"])
