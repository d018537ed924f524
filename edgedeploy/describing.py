"""What a manifest says of a build's artifacts: targets, models, figures, files."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from edgedeploy.artifact import FileEntry, Tree
from edgedeploy.decode import Decoder
from edgedeploy.deploy.contents import FILES, GOLDEN, Built
from edgedeploy.deploy.functionfiles import required
from edgedeploy.deploy.push import Contents
from edgedeploy.devices.version import VersionModel
from edgedeploy.gpu import EngineNeeds, GpuPlatform
from edgedeploy.parity.gates import ON_DEVICE
from edgedeploy.plan import Item
from edgedeploy.profile.expand import application_inputs
from edgedeploy.profile.types import ModelSpec
from edgedeploy.release.bundle import (
    Decode,
    Figure,
    Gate,
    Golden,
    ReleaseEngine,
    ReleaseFile,
    ReleaseModel,
    ReleasePipeline,
    ReleaseTarget,
    Role,
    Tensor,
    folder_of,
)
from edgedeploy.report.document import GateReport, ModelReport, TargetReport

LABELS = "labels"
"""Folder of a release with the classes of its models, one file per model."""

_MEASURED = ("latency_", "memory", "energy", "not_slower")
_DIFFERS = "outputs have other shapes or values than the float model's"
_BESIDE = "see the measurements beside the bundle"


def describe_target(built: Built, items: Sequence[Item], contents: Contents) -> ReleaseTarget:
    """Return what a release says of a target.

    Args:
        built: The profile as it was last built.
        items: Its models on the target, in the order of the profile.
        contents: The files for the target.

    Raises:
        BuildError: The last build was of other targets (E438).
    """
    target = items[0].target
    gpu = target.get("board.gpu") or {}
    by_name = {model.name: model for model in contents.version.models}
    return ReleaseTarget(
        target=target.id,
        os=str(target.get("board.os")),
        arch=str(target.get("board.arch")),
        os_version=target.get("board.os_version"),
        runtime=target.runtime,
        runtime_versions=str(target.get("runtime.versions")),
        compute_capabilities=tuple(gpu.get("compute_capabilities", ())),
        models=tuple(_model(built, item, by_name[item.shared.name], contents) for item in items),
        pipeline=_pipeline(built, target.id),
    )


def _pipeline(built: Built, target: str) -> ReleasePipeline | None:
    spec = built.plan.profile.pipeline
    if spec is None:
        return None
    report = built.combined(target)
    needed = built.function_files()
    folder = built.plan.profile.folder
    return ReleasePipeline(
        function=f"{FILES}/{Path(spec.function).as_posix()}",
        files=tuple(f"{FILES}/{name}" for name in needed),
        requires=required(folder / name for name in needed),
        size_bytes=report.size_bytes or 0,
        figures=tuple(_figures(report)),
        gates=tuple(map(_gate, report.gates)),
    )


def _model(built: Built, item: Item, model: VersionModel, contents: Contents) -> ReleaseModel:
    about, report = built.report(item)
    decoder = built.decoder(item)
    target, name = item.use.target, item.shared.name
    golden = model.golden
    engines = tuple(_engines(built, item, model, contents))
    return ReleaseModel(
        name=name,
        entry=f"{target}/{model.entry}"
        if len(engines) < 2
        else posixpath.commonpath([engine.entry for engine in engines]),
        candidate=model.candidate,
        artifact=model.artifact,
        inputs=tuple(describe_inputs(item, about)),
        outputs=tuple(
            Tensor(name=spec["name"], dtype=spec["dtype"], shape=_shape(item, spec["dims"]))
            for spec in about.signature["outputs"]
        ),
        labels=labels_path(item.shared.model, decoder),
        task=None if item.shared.model.task is None else item.shared.model.task.name,
        decode=_decode(item.shared.model, decoder, about),
        options=model.options,
        size_bytes=report.size_bytes or 0,
        figures=tuple(_figures(report)),
        gates=tuple(map(_gate, report.gates)),
        engines=engines,
        golden=None
        if golden is None
        else Golden(
            inputs=f"{target}/{golden.inputs}",
            outputs=f"{target}/{golden.outputs}",
            cosine=golden.cosine,
        ),
    )


def _engines(
    built: Built, item: Item, model: VersionModel, contents: Contents
) -> Iterator[ReleaseEngine]:
    """Yield the engines of a model, by platform, with the digests that devices know them by."""
    target, made = item.use.target, built.engines(item)
    if model.needs is not None:
        yield ReleaseEngine(
            entry=f"{target}/{model.entry}",
            artifact=model.artifact,
            size_bytes=built.report(item)[1].size_bytes or 0,
            needs=model.needs,
            platform=None,
        )
    for engine in sorted(made.values(), key=lambda engine: str(engine["entry"])):
        folder = f"{model.name}/{posixpath.dirname(engine['entry'])}/"
        tree = Tree(
            files=tuple(
                replace(file, path=file.path.removeprefix(f"{model.name}/"))
                for file in contents.version.files
                if file.path.startswith(folder)
            )
        )
        yield ReleaseEngine(
            entry=f"{target}/{model.name}/{engine['entry']}",
            artifact=tree.digest,
            size_bytes=tree.size_bytes,
            needs=EngineNeeds.from_json(engine["needs"]),
            platform=GpuPlatform.from_json(engine["platform"]),
        )


def is_measured(gate: str) -> bool:
    """Return whether a gate is judged by what a run measured, and not by the artifact alone."""
    return gate.startswith(_MEASURED) or gate.endswith(ON_DEVICE)


def _gate(gate: GateReport) -> Gate:
    if is_measured(gate.gate):
        # Neither figures nor verdicts of a measurement: the next run has others.
        state: Literal["refused", "measured"] = "refused" if gate.state == "refused" else "measured"
        return Gate(gate=gate.gate, state=state, limit=gate.limit, evidence="none", reason=_BESIDE)
    return Gate(
        gate=gate.gate,
        state=gate.state,
        limit=gate.limit,
        evidence=gate.evidence,
        # What is wrong with outputs is told by the names of samples, which are nobody's business.
        reason=_DIFFERS if gate.gate == "parity" and gate.state == "refused" else gate.reason,
    )


def labels_path(model: ModelSpec, decoder: Decoder | None) -> str | None:
    """Return the file of a release with a model's classes or characters; None where it has none."""
    given = model.classes is not None or (decoder is not None and decoder.labels)
    return f"{LABELS}/{model.name}.txt" if given else None


def _decode(model: ModelSpec, decoder: Decoder | None, about: ModelReport) -> Decode | None:
    spec = model.decode
    if spec is None or decoder is None:
        return None
    return Decode(
        name=spec.name,
        output=spec.output or about.signature["outputs"][0]["name"],
        answer=decoder.kind,
        parameters={key: value for key, value in spec.parameters.items() if key != "characters"},
        steps=decoder.steps(),
    )


def describe_inputs(item: Item, about: ModelReport) -> Iterator[Tensor]:
    """Yield the inputs of a model as a release says them, state inputs among them.

    Args:
        item: The model on a target.
        about: What the last build said of the model.
    """
    words = application_inputs(item.shared.model)
    fed = {pair.input: pair.output for pair in item.shared.model.state}
    for spec in about.signature["inputs"]:
        said = words.get(spec["name"]) or {}
        yield Tensor(
            name=spec["name"],
            dtype=spec["dtype"],
            shape=_shape(item, spec["dims"]),
            image=said.get("image"),
            audio=said.get("audio"),
            state=fed.get(spec["name"]),
        )


def _shape(item: Item, dims: Sequence[int | str | None]) -> tuple[int | str, ...]:
    """Return sizes, ranges and names of dims, as a reader without the profile needs them."""
    known = item.shared.model.dims
    return tuple(
        f"{known[dim].low}..{known[dim].high}"
        if isinstance(dim, str) and dim in known and known[dim].low
        else dim
        if dim is not None
        else "any"
        for dim in dims
    )


def _figures(report: TargetReport) -> Iterator[Figure]:
    found = report.evaluation
    if found is None:
        return
    if found.metric is not None:
        yield Figure(
            name=found.metric.name,
            value=found.metric.value,
            low=found.metric.low,
            high=found.metric.high,
            samples=found.metric.n,
            evidence=found.evidence,
            higher_is_better=found.metric.higher_is_better,
            fraction=found.metric.fraction,
        )
    for parity in found.parity:
        yield Figure(
            name=f"cosine {parity.output}",
            value=parity.stats.get("cosine"),
            low=None,
            high=None,
            samples=found.n,
            evidence=found.evidence,
        )


def describe_files(target: ReleaseTarget, contents: Contents) -> Iterator[ReleaseFile]:
    """Yield the files of a target as a release lists them; those of `files:` for each target."""
    opened = [
        entry
        for model in target.models
        for entry in ([engine.entry for engine in model.engines] or [model.entry])
    ]
    for file in contents.version.files:
        first = file.path.partition("/")[0]
        if first == FILES:
            yield _file(file, file.path, "file")
        elif first == GOLDEN:
            yield _file(file, f"{target.target}/{file.path}", "golden")
        else:
            path = folder_of(target.target, file.path)
            yield _file(file, path, _role(path, opened))


def _role(path: str, opened: Sequence[str]) -> Role:
    if any(path == entry or path.startswith(f"{entry}/") for entry in opened):
        return "model"
    return "interface" if path.endswith(".json") else "weights"


def _file(file: FileEntry, path: str, role: Role) -> ReleaseFile:
    moved = replace(file, path=path)
    return ReleaseFile(
        path=moved.path,
        size=moved.size,
        sha256=moved.sha256,
        role=role,
        segments=tuple((part.offset, part.length, part.sha256) for part in moved.segments),
    )
