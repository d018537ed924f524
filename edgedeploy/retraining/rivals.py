"""What of a release stands against what of the last build: nodes that evaluate each of the two.

A model on a target is paired by its own metric; the models of a target together by the metric of
the profile's pipeline, which runs as it is now with the artifacts as they were released.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgedeploy.comparing import PIPELINE
from edgedeploy.deploy.contents import Built
from edgedeploy.describing import describe_inputs
from edgedeploy.errors import DataError, ProfileError
from edgedeploy.manifest import canonical
from edgedeploy.node import FileRef, FilesRef, Node, OutputRef
from edgedeploy.pipelinenodes import PipelineNodes
from edgedeploy.plaindata import to_plain
from edgedeploy.plan import Item
from edgedeploy.profile.types import MetricSpec
from edgedeploy.release.bundle import ReleaseModel, Tensor, folder_of
from edgedeploy.release.opening import Bundle
from edgedeploy.retraining.findings import Place
from edgedeploy.signature import Signature, TensorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Rivals:
    """Two evaluations on the same samples.

    Attributes:
        place: Whose they are.
        metric: What both are scored with.
        before, after: What evaluates what was released, and what the last build chose.
        samples: What reads the samples.
        reads: What the metric needs besides its own records, as inputs of a node.
    """

    place: Place
    metric: MetricSpec
    before: Node
    after: Node
    samples: Node
    reads: Mapping[str, FileRef | FilesRef | OutputRef]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """An artifact of the release, and what stands in its place now."""

    item: Item
    before: Node
    after: Node


def rivals_of(bundle: Bundle, built: Built, release: Path) -> tuple[list[Rivals], dict[str, str]]:
    """Return what can be paired, and why other models on targets cannot, by ``model target``.

    Args:
        bundle: The release.
        built: The profile as it was last built.
        release: Folder that the release was extracted into; a file is added to it.

    Raises:
        ProfileError: A model of the release takes or gives something else than now (E856).
        DataError: Nothing can be paired (E858).
        BuildError: The profile is not built (E438).
    """
    released = {
        (model.name, target.target): model
        for target in bundle.release.targets
        for model in target.models
    }
    pipeline = built.plan.pipeline
    found, why, members = [], dict[str, str](), list[_Member]()
    for outcome in built.outcomes():
        item = outcome.item
        name = f"{item.shared.name} {item.use.target}"
        model = released.get((item.shared.name, item.use.target))
        nodes = outcome.chosen.nodes if outcome.chosen else None
        if model is None or nodes is None:
            why[name] = "the release has no such artifact"
            continue
        if model.engines:
            why[name] = "its engines run on their devices alone"
            continue
        _check_fit(bundle, model, item, built)
        before = _released_node(item, nodes.evaluated, model, release)
        members.append(_Member(item=item, before=before, after=nodes.evaluated))
        own = _own(members[-1])
        if isinstance(own, Rivals):
            found.append(own)
        elif pipeline is None or item.shared.model.metric is not None:
            why[name] = own
    if pipeline is not None:
        found += _together(built, pipeline, members)
    if not found:
        raise DataError(
            f"nothing of {bundle.release.file_name} can be held against the last build: "
            + "; ".join(f"{name}: {reason}" for name, reason in why.items()),
            code="E858",
            subject=bundle.release.name,
            hint="two bundles can be compared without samples",
        )
    return found, why


def _own(member: _Member) -> Rivals | str:
    """Return a model's two artifacts by its own metric, or why there is none."""
    shared, metric = member.item.shared, member.item.shared.model.metric
    if metric is None or shared.evaluate_role != "evaluate":
        return "the profile names no metric on evaluation data"
    if metric.is_closeness:
        return f"{metric.name} tells the distance to a float model, and there are two of them"
    reads: dict[str, FileRef | FilesRef | OutputRef] = {
        "model": shared.normal.output("model"),
        **{name: ref for name, ref in member.after.inputs.items() if name in ("facts", "classes")},
    }
    return Rivals(
        place=Place(model=shared.name, target=member.item.use.target, gates=member.item.use.gates),
        metric=metric,
        before=member.before,
        after=member.after,
        samples=shared.evaluate,
        reads=reads,
    )


def _together(
    built: Built, pipeline: PipelineNodes, members: Sequence[_Member]
) -> Iterator[Rivals]:
    """Yield the models of each target together, where all of them are there."""
    metric = pipeline.spec.metric
    if metric is None or metric.is_closeness:
        return
    for use in built.plan.profile.targets:
        wanted = [item for item in built.plan.items if item.use.target == use.target]
        there = [member for member in members if member.item.use.target == use.target]
        if wanted and len(there) == len(wanted):
            yield Rivals(
                place=Place(model=PIPELINE, target=use.target, gates=use.gates),
                metric=metric,
                before=pipeline.together(
                    f"{use.target}.released", [(one.item.shared, one.before) for one in there]
                ),
                after=pipeline.together(
                    use.target, [(one.item.shared, one.after) for one in there]
                ),
                samples=pipeline.data["evaluate"],
                reads={},
            )


def _check_fit(bundle: Bundle, model: ReleaseModel, item: Item, built: Built) -> None:
    """Refuse a released model that the present samples or answers do not fit (E856)."""
    about, _ = built.report(item)
    now = {tensor.name: tensor for tensor in describe_inputs(item, about)}
    was = {tensor.name: tensor for tensor in model.inputs}
    for name in sorted(now.keys() | was.keys()):
        difference = _differs(was.get(name), now.get(name))
        if difference:
            raise _unfit(item, f"its input {name!r} {difference}")
    outputs = {tensor.name for tensor in model.outputs}
    missing = [spec["name"] for spec in about.signature["outputs"] if spec["name"] not in outputs]
    if missing:
        raise _unfit(item, f"it has no output {missing[0]!r}")
    decoder = built.decoder(item)
    if decoder is not None and model.decode is not None and model.decode.name != _decodes(item):
        raise _unfit(item, f"its outputs are decoded by {model.decode.name}")
    labels = () if decoder is None else decoder.labels
    if labels and model.labels is not None:
        known = bundle.read(model.labels).decode().removesuffix("\n").split("\n")
        if [line.removesuffix("\r") for line in known] != list(labels):
            raise _unfit(item, "its classes or characters are others")


def _decodes(item: Item) -> str | None:
    spec = item.shared.model.decode
    return None if spec is None else spec.name


def _differs(was: Tensor | None, now: Tensor | None) -> str:
    """Return how an input of the release differs from the present one; empty where it does not."""
    if was is None or now is None:
        return "is missing" if was is None else "is no input of the present model"
    for name in ("dtype", "shape", "image", "audio", "state"):
        old, new = (canonical(to_plain(getattr(item, name))) for item in (was, now))
        if old != new:
            return f"has another {name}: {old.decode()}, now {new.decode()}"
    return ""


def _unfit(item: Item, why: str) -> ProfileError:
    return ProfileError(
        f"the released model of {item.name} cannot be run on the present data: {why}",
        code="E856",
        subject=item.name,
        hint="leave the target out with -t, or compare with a release that takes the same data",
        place=item.use.place,
    )


def _released_node(item: Item, now: Node, model: ReleaseModel, release: Path) -> Node:
    """Return the node that evaluates a released artifact as ``now`` did the last build's."""
    target = item.use.target
    folder = release / folder_of(target, model.name)
    _tell_signature(folder, model)
    names = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    decode = now.params["decode"]
    if decode is not None and model.decode is not None:
        # A release leaves out what its labels say: they were found to be the same.
        kept = {k: v for k, v in decode["parameters"].items() if k == "characters"}
        decode = {
            "name": model.decode.name,
            "output": model.decode.output,
            "parameters": {**model.decode.parameters, **kept},
        }
    return replace(
        now,
        id=f"{item.shared.name}.{target}.released",
        params={
            **now.params,
            "decode": decode,
            "options": {key: value for key, value in model.options.items() if key != "device"},
        },
        inputs={**now.inputs, "artifact": FilesRef(folder=folder, names=tuple(names))},
    )


def _tell_signature(folder: Path, model: ReleaseModel) -> None:
    """Write what a model takes and gives beside it, which no app needs and OpenVINO's runner reads.

    Source: ``edgedeploy/backends/ov/runner.py``; IR may give tensors other names than the model.
    """
    told = Signature(
        inputs=tuple(map(_spec, model.inputs)), outputs=tuple(map(_spec, model.outputs))
    )
    text = json.dumps(told.to_json(), indent=1, sort_keys=True, ensure_ascii=False)
    (folder / "signature.json").write_text(f"{text}\n", encoding="utf-8")


def _spec(tensor: Tensor) -> TensorSpec:
    dims = tuple(None if axis == "any" else axis for axis in tensor.shape)
    return TensorSpec(name=tensor.name, dtype=tensor.dtype, dims=dims)
