"""Asking each model of a profile on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from edgedeploy.choosing import Outcome
from edgedeploy.errors import DataError
from edgedeploy.modelnodes import ModelNodes
from edgedeploy.plan import Item
from edgedeploy.profile.expand import model_to_data
from edgedeploy.runner import Evidence
from edgedeploy.trying.answered import Answered
from edgedeploy.trying.attempt import Attempt, Source, not_built
from edgedeploy.trying.devices import OnDevice
from edgedeploy.trying.kinds import SHOWN, kinds_of


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fed:
    """A model in one shape variant, and the file as its samples.

    Attributes:
        shared: Its nodes.
        paths: Where its normal form (``model``), that without baked steps (``unbaked``), its
            ``facts`` and its ``classes`` lie.
        pack: The samples.
    """

    shared: ModelNodes
    paths: Mapping[str, Path]
    pack: Path


def ask_models(attempt: Attempt, devices: Sequence[OnDevice]) -> list[Answered]:
    """Return what every model that takes the file answers, in float and on its targets.

    Args:
        attempt: The file and the build.
        devices: Where the artifacts run; empty: here.

    Raises:
        DataError: No model takes the file (E851), or it cannot be read.
        BuildError: It is not built, or not as the profile now says (E438).
        EdgedeployError: A float model failed.
    """
    items = attempt.built.plan.items
    if devices:
        targets = {device.target for device in devices}
        items = tuple(item for item in items if item.use.target in targets)
    outcomes = attempt.built.outcomes({item.use.target for item in items})
    chosen = {outcome.item.name: outcome for outcome in outcomes}
    fed, left_out = _fed(attempt, items)
    rows = []
    for model in fed:
        own = [item for item in items if item.shared.name == model.shared.name]
        row = Answered(model=model.shared.name)
        sources: list[Source | Answered] = [
            Source(row=row, outputs=partial(_float, attempt, model))
        ]
        for item in own:
            sources += _sources(attempt, model, item, chosen.get(item.name), devices)
        params = {
            "state": _state(model.shared),
            "decode": model_to_data(model.shared.model)["decode"],
        }
        inputs = {**model.paths, "samples": model.pack}
        rows += attempt.rows(model.shared.name, sources, params, inputs)
    return [*rows, *left_out]


def _state(shared: ModelNodes) -> list[list[str]]:
    """Return the pairs of state inputs and outputs, as stages take them."""
    return [[pair.input, pair.output] for pair in shared.model.state]


def _float(attempt: Attempt, fed: _Fed) -> tuple[Path, Evidence]:
    """Return what the float model gives, unoptimised, as in the build's reference."""
    ran = attempt.run(
        f"{fed.shared.name}.float",
        "reference",
        {
            "inputs": fed.shared.reference.params["inputs"],
            "state": _state(fed.shared),
            "metric": None,
            "decode": None,
        },
        {"model": fed.paths["unbaked"], "facts": fed.paths["facts"], "samples": fed.pack},
    )
    return ran.outputs["outputs"], "host-runtime"


def _artifact(attempt: Attempt, fed: _Fed, outcome: Outcome) -> tuple[Path, Evidence]:
    """Return what a chosen artifact gives here, and what that is worth."""
    chosen = outcome.chosen
    if chosen is None or chosen.nodes is None:  # Built.outcomes() has seen to it
        raise TypeError(f"{outcome.item.name} has no artifact")
    evaluated = chosen.nodes.evaluated
    paths = attempt.paths({"artifact": evaluated.inputs["artifact"]})
    ran = attempt.run(
        f"{fed.shared.name}.{outcome.item.use.target}",
        "outputs",
        {key: evaluated.params[key] for key in ("runtime", "options", "state")},
        {**paths, "samples": fed.pack},
    )
    return ran.outputs["outputs"], ran.summary["evidence"]


def _sources(
    attempt: Attempt,
    fed: _Fed,
    item: Item,
    outcome: Outcome | None,
    devices: Sequence[OnDevice],
) -> list[Source | Answered]:
    """Return what answers for an item: its artifact here, or on each device of its target.

    An item that failed in the last build is a row already.
    """
    name = fed.shared.name
    _, report = attempt.built.report(item)
    row = Answered(
        model=name,
        target=item.use.target,
        candidate=report.chosen or "",
        verdict=report.verdict,
    )
    if outcome is None:
        return [not_built(row, report.diagnostics)]
    if not devices:
        return [Source(row=row, outputs=partial(_artifact, attempt, fed, outcome))]
    return [
        Source(
            row=replace(row, device=device.name),
            outputs=partial(device.model, name, fed.pack),
        )
        for device in devices
        if device.target == item.use.target
    ]


# -- the file as samples -------------------------------------------------------------------------


def _fed(attempt: Attempt, items: Sequence[Item]) -> tuple[list[_Fed], list[Answered]]:
    """Return the models that take the file with their samples, and rows for those that do not.

    Raises:
        DataError: None takes it.
    """
    shared = {item.shared.name: item for item in items}
    takers = _takers(attempt, list(shared.values()))
    tried = attempt.each([partial(_samples, attempt, item.shared) for item in takers])
    found = [item for item in tried if isinstance(item, _Fed)]
    failures = [item for item in tried if isinstance(item, _Misfit)]
    if not found and failures:
        raise failures[0].error
    if not found:
        raise DataError(
            f"{attempt.file.name} has the size of none of the buckets",
            code="E851",
            subject=str(attempt.file),
            hint="give a file of a size that one of the model's variants takes",
        )
    return found, [
        Answered(model=item.name, diagnostics=item.error.diagnostics) for item in failures
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Misfit:
    """A model that the file does not fit."""

    name: str
    error: DataError


def _samples(attempt: Attempt, shared: ModelNodes) -> _Fed | _Misfit | None:
    """Return a model with the file as its samples; None where another variant takes it."""
    refs: dict[str, Any] = {
        "model": shared.normal.output("model"),
        "unbaked": shared.unbaked.output("model"),
        "facts": shared.intake.output("facts"),
    }
    given = shared.reference.inputs
    if "classes" in given:
        refs["classes"] = given["classes"]
    paths = attempt.paths(refs)
    words = model_to_data(shared.model)
    params = {
        "kind": attempt.kind,
        "inputs": words["inputs"],
        "dims": words["dims"],
        "state": _state(shared),
    }
    try:
        ran = attempt.run(
            f"{shared.name}.onefile", "onefile", params, {**paths, "file": attempt.file}
        )
    except DataError as error:
        return _Misfit(name=shared.name, error=error)
    if not ran.summary["samples"]:
        return None
    return _Fed(shared=shared, paths=paths, pack=ran.outputs["samples"])


def _takers(attempt: Attempt, items: Sequence[Item]) -> list[Item]:
    """Return those whose models take files of the kind.

    Raises:
        DataError: None does (E851).
    """
    known = {
        item.shared.name: kinds_of(
            item.shared.model, attempt.built.report(item)[0].signature["inputs"]
        )
        for item in items
    }
    found = [item for item in items if attempt.kind in known[item.shared.name]]
    if found:
        return found
    told = "; ".join(
        f"{name} takes {' or '.join(SHOWN[kind] for kind in kinds)}"
        for name, kinds in known.items()
    )
    raise DataError(
        f"{attempt.file.name} is {SHOWN[attempt.kind]}, and {told}",
        code="E851",
        subject=str(attempt.file),
        hint="declare `image:` or `audio:` for the input, or give the inputs as an .npz file",
    )
