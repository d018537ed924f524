"""The validated schema objects become the frozen profile; defaults and overrides are joined here.

One rule joins them: maps override key by key, anything else replaces as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgedeploy.errors import Place
from edgedeploy.profile.schema import (
    ImageSchema,
    InputSchema,
    MetricSchema,
    ModelSchema,
    ProfileSchema,
    RoleSchema,
    TargetSchema,
)
from edgedeploy.profile.schema_parts import Strict
from edgedeploy.profile.types import (
    AudioPreprocess,
    BenchSpec,
    DataRole,
    DecodeSpec,
    GateSpec,
    ImagePreprocess,
    InputSpec,
    MetricSpec,
    ModelSource,
    ModelSpec,
    PipelineSpec,
    Profile,
    QuantizeSpec,
    ReleaseSpec,
    StatePair,
    TargetUse,
    TaskSpec,
)

MAIN_MODEL = "main"
"""Name of the model that ``model:`` declares."""


def to_profile(
    schema: ProfileSchema, *, folder: Path, file: Path, places: Mapping[str, Place]
) -> Profile:
    """Return the profile.

    Args:
        schema: The validated file.
        folder: What relative paths are relative to.
        file: The profile's file.
        places: Where each target id stands.
    """
    given = schema.models if schema.model is None else {MAIN_MODEL: schema.model}
    return Profile(
        name=schema.name,
        version=schema.version,
        folder=folder,
        file=file,
        models={name: _model(name, item, schema) for name, item in (given or {}).items()},
        targets=tuple(
            _target(target, use, schema, places.get(target))
            for target, use in schema.targets.items()
        ),
        files=tuple(schema.files),
        release=ReleaseSpec(
            golden=schema.release.golden,
            deny=tuple(schema.release.deny),
            files_licence=schema.release.files_licence,
            texts=tuple(schema.release.texts),
        ),
        pipeline=_pipeline(schema),
    )


def _pipeline(schema: ProfileSchema) -> PipelineSpec | None:
    metric = _metric(schema.metric)
    if schema.pipeline is None or metric is None:  # the schema refuses one without a metric
        return None
    return PipelineSpec(function=schema.pipeline, data=_roles(schema.data), metric=metric)


def override(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``over`` on top: maps key by key, anything else replaced."""
    joined = dict(base)
    for key, value in over.items():
        old = joined.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        joined[key] = override(old, value) if both else value  # type: ignore[arg-type]
    return joined


def _given(schema: Strict | None) -> dict[str, Any]:
    """Return what was written in a map: the keys that stand in the file, converted."""
    if schema is None:
        return {}
    found = {key: getattr(schema, key) for key in sorted(schema.model_fields_set)}
    return {k: _given(v) if isinstance(v, Strict) else v for k, v in found.items()}


def _target(
    target: str, use: TargetSchema, schema: ProfileSchema, place: Place | None
) -> TargetUse:
    quantize = override(_given(schema.quantize), _given(use.quantize))
    for key in ("keep_float", "keep_float_ops"):
        if key in quantize:
            quantize[key] = tuple(quantize[key])
    bench = override(_given(schema.bench), _given(use.bench))
    return TargetUse(
        target=target,
        quantize=QuantizeSpec(**quantize),
        gates=_gates(override(_given(schema.gates), _given(use.gates))),
        bench=BenchSpec(**{**bench, "cpus": tuple(bench.get("cpus", ()))}),
        options=dict(use.options),
        place=place,
    )


def _gates(given: Mapping[str, Any]) -> GateSpec:
    latency = given.get("latency") or {}
    return GateSpec(
        metric=given.get("metric"),
        size_bytes=given.get("size"),
        latency_ms={key: value for key, value in latency.items() if value is not None},
        memory_bytes=given.get("memory"),
        energy_j=given.get("energy"),
        not_slower_than_float=given.get("not_slower_than_float", True),
        cosine=given.get("cosine"),
        worst_class=given.get("worst_class"),
    )


def _model(name: str, model: ModelSchema, schema: ProfileSchema) -> ModelSpec:
    # Data and metric at the top are the pipeline's own where there is one.
    shared = schema.pipeline is None
    roles = {**(_roles(schema.data) if shared else {}), **_roles(model.data)}
    metric = schema.metric if shared and model.metric is None else model.metric
    return ModelSpec(
        name=name,
        source=_source(model),
        author=model.author,
        licence=model.licence,
        classes=model.classes,
        inputs={key: _input(key, item) for key, item in model.inputs.items()},
        outputs=tuple(model.outputs),
        dims=dict(model.dims),
        state=tuple(StatePair(input=item.input, output=item.output) for item in model.state),
        data=roles,
        metric=_metric(metric),
        task=_task(model),
        decode=_decode(model),
        allow_nonfinite=model.allow_nonfinite,
    )


def _source(model: ModelSchema) -> ModelSource:
    source = model.source
    package, _, version = (source.package or "").partition("==")
    return ModelSource(
        path=source.file,
        distribution=package or None,
        version=version or None,
        sha256=source.sha256,
    )


def _roles(data: Strict) -> dict[str, DataRole]:
    found = {key: getattr(data, key) for key in type(data).model_fields}
    return {key: _role(key, item) for key, item in found.items() if item is not None}


def _role(name: str, role: RoleSchema) -> DataRole:
    return DataRole(
        name=name,
        source=role.source,
        reader=role.reader,
        labels=role.labels,
        samples=role.samples,
        parameters=dict(role.parameters),
        tables=role.tables,
    )


def _metric(metric: MetricSchema | None) -> MetricSpec | None:
    if metric is None:
        return None
    return MetricSpec(name=metric.name, output=metric.output, parameters=dict(metric.parameters))


def _task(model: ModelSchema) -> TaskSpec | None:
    task = model.task
    return None if task is None else TaskSpec(name=task.name, parameters=dict(task.parameters))


def _decode(model: ModelSchema) -> DecodeSpec | None:
    how = model.decode
    if how is None:
        return None
    return DecodeSpec(name=how.name, output=how.output, parameters=dict(how.parameters))


def _input(name: str, given: InputSchema) -> InputSpec:
    audio = given.audio
    return InputSpec(
        name=name,
        shape=None if given.shape is None else tuple(given.shape),
        image=None if given.image is None else _image(given.image),
        audio=None
        if audio is None
        else AudioPreprocess(
            rate_hz=audio.rate, frame_samples=audio.frame, hop_samples=audio.hop or audio.frame
        ),
        value=given.value,
    )


def _image(image: ImageSchema) -> ImagePreprocess:
    height, width = image.size
    return ImagePreprocess(
        height=height,
        width=width,
        fit=image.fit,
        pad_value=image.pad_value,
        resample=image.resample,
        colour=image.colour,
        layout=image.layout,
        scale=image.scale,
        mean=image.mean,
        std=image.std,
        bake=tuple(image.bake),
    )
