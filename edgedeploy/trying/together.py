"""Asking a profile's pipeline, with the float models and with those of each target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from edgedeploy.choosing import Outcome
from edgedeploy.errors import DataError
from edgedeploy.pipelinenodes import PipelineNodes
from edgedeploy.runner import Evidence
from edgedeploy.trying.answered import PIPELINE, Answered
from edgedeploy.trying.attempt import Attempt, Source, not_built
from edgedeploy.trying.devices import OnDevice
from edgedeploy.trying.kinds import SHOWN


def ask_pipeline(
    attempt: Attempt, nodes: PipelineNodes, devices: Sequence[OnDevice]
) -> list[Answered]:
    """Return what a pipeline answers, with the float models and with each target's artifacts.

    Args:
        attempt: The file and the build.
        nodes: The pipeline's.
        devices: Where the artifacts run; empty: here.

    Raises:
        DataError: The file gives other arrays than the pipeline's samples (E852), cannot be read,
            or the function fails with the float models.
        BuildError: It is not built, or not as the profile now says (E438).
    """
    targets = dict.fromkeys(item.use.target for item in attempt.built.plan.items)
    if devices:
        targets = dict.fromkeys(device.target for device in devices)
    outcomes = attempt.built.outcomes(targets)
    ran = attempt.run(
        f"{PIPELINE}.onefile", "onefile", {"kind": attempt.kind}, {"file": attempt.file}
    )
    pack = ran.outputs["samples"]
    _check_names(attempt, nodes, pack)
    row = Answered(model=PIPELINE)
    sources: list[Source | Answered] = [
        Source(row=row, outputs=partial(_float, attempt, nodes, pack))
    ]
    for target in targets:
        own = [outcome for outcome in outcomes if outcome.item.use.target == target]
        sources += _sources(attempt, nodes, target, own, devices, pack)
    inputs = {"samples": pack}
    return attempt.rows(PIPELINE, sources, {"state": [], "decode": None}, inputs)


def _check_names(attempt: Attempt, nodes: PipelineNodes, pack: Path) -> None:
    """Refuse a file whose arrays are called otherwise than those that the function knows.

    Raises:
        DataError: They are (E852).
    """
    from edgedeploy.data.pack import PackReader

    known = attempt.paths({"samples": nodes.data["evaluate"].output("samples")})["samples"]
    wanted = sorted(PackReader(known)[0].tensors())
    given = sorted(PackReader(pack)[0].tensors())
    if wanted != given:
        raise DataError(
            f"{attempt.file.name} is {SHOWN[attempt.kind]} and gives {', '.join(given)}, while the "
            f"pipeline's samples hold {', '.join(wanted)}",
            code="E852",
            subject=str(attempt.file),
            hint="give an .npz file with those arrays, or call them so in data and function",
        )


def _float(attempt: Attempt, nodes: PipelineNodes, pack: Path) -> tuple[Path, Evidence]:
    """Return what the function answers with the float models."""
    trace = nodes.traces["evaluate"]
    params = {**trace.params, "record": []}
    paths = attempt.paths(_models(trace.inputs))
    ran = attempt.run(f"{PIPELINE}.float", "trace", params, {**paths, "samples": pack})
    return ran.outputs["outputs"], "host-runtime"


def _models(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of a pipeline's node that are not about samples."""
    about = ("model.", "facts.", "artifact.")
    return {name: ref for name, ref in inputs.items() if name.startswith(about)}


def _sources(
    attempt: Attempt,
    nodes: PipelineNodes,
    target: str,
    outcomes: Sequence[Outcome],
    devices: Sequence[OnDevice],
    pack: Path,
) -> list[Source | Answered]:
    """Return what answers for a target: its artifacts here, or on each of its devices.

    A target of which a model failed in the last build is a row already.
    """
    report = attempt.built.combined(target)
    row = Answered(
        model=PIPELINE,
        target=target,
        candidate=report.chosen or "",
        verdict=report.verdict,
    )
    if report.verdict == "failed":
        return [not_built(row, report.diagnostics)]
    if not devices:
        return [Source(row=row, outputs=partial(_here, attempt, nodes, target, outcomes, pack))]
    return [
        Source(
            row=replace(row, device=device.name),
            outputs=partial(_there, attempt, nodes, device, outcomes, pack),
        )
        for device in devices
        if device.target == target
    ]


def _here(
    attempt: Attempt,
    nodes: PipelineNodes,
    target: str,
    outcomes: Sequence[Outcome],
    pack: Path,
) -> tuple[Path, Evidence]:
    """Return what the function answers with a target's artifacts here."""
    members = [
        (outcome.item.shared, outcome.chosen.nodes.evaluated)
        for outcome in outcomes
        if outcome.chosen is not None and outcome.chosen.nodes is not None
    ]
    node = nodes.together(target, members)
    params = {key: node.params[key] for key in ("function", "models")}
    paths = attempt.paths(_models(node.inputs))
    ran = attempt.run(f"{PIPELINE}.{target}", "outputs", params, {**paths, "samples": pack})
    return ran.outputs["outputs"], ran.summary["evidence"]


def _there(
    attempt: Attempt,
    nodes: PipelineNodes,
    device: OnDevice,
    outcomes: Sequence[Outcome],
    pack: Path,
) -> tuple[Path, Evidence]:
    """Return what the function answers with a target's artifacts on a device."""
    shared = {outcome.item.shared.name: outcome.item.shared for outcome in outcomes}
    with attempt.builder() as builder:
        return device.pipeline(nodes, shared, builder, pack)
