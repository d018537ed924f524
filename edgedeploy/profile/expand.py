"""The expanded form of a profile: JSON data in which every default and target fact stands.

``plan --expand`` prints it, the lock keeps it, and a run that finds nothing changed reads the
profile back from it: this module imports neither YAML nor pydantic. It holds no path of a machine:
everything is relative to the profile's folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgedeploy.profile.dims import format_dim, parse_dim
from edgedeploy.profile.types import (
    AudioPreprocess,
    BenchSpec,
    DataRole,
    DecodeSpec,
    Delta,
    DimSpec,
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
from edgedeploy.target.types import Target

FORM_VERSION = 1


def expand(profile: Profile, targets: Mapping[str, Target]) -> dict[str, Any]:
    """Return the expanded form as JSON data.

    Args:
        profile: The profile.
        targets: Every target that the profile names, by id.
    """
    return {
        "edgedeploy": FORM_VERSION,
        "name": profile.name,
        "version": profile.version,
        "models": {name: model_to_data(model) for name, model in profile.models.items()},
        "targets": [_use(use) for use in profile.targets],
        "target_facts": {use.target: _target(targets[use.target]) for use in profile.targets},
        "files": list(profile.files),
        "release": _fields(profile.release),
        "pipeline": None if profile.pipeline is None else pipeline_to_data(profile.pipeline),
    }


def profile_from_expanded(data: Mapping[str, Any], folder: Path, file: Path) -> Profile:
    """Return the profile that :func:`expand` was given (without the places of its targets).

    Args:
        data: The expanded form.
        folder: What relative paths are relative to.
        file: The profile's file.
    """
    return Profile(
        name=data["name"],
        version=data["version"],
        folder=folder,
        file=file,
        models={name: _read_model(name, model) for name, model in data["models"].items()},
        targets=tuple(_read_use(use) for use in data["targets"]),
        files=tuple(data["files"]),
        release=ReleaseSpec(**_tupled(data["release"], "deny", "texts")),
        pipeline=_read_pipeline(data["pipeline"]),
    )


def pipeline_to_data(pipeline: PipelineSpec) -> dict[str, Any]:
    """Return the pipeline's part of the expanded form."""
    return {
        "function": pipeline.function,
        "data": {name: _fields(role, "name") for name, role in pipeline.data.items()},
        "metric": _fields(pipeline.metric),
    }


def _read_pipeline(data: Mapping[str, Any] | None) -> PipelineSpec | None:
    if data is None:
        return None
    return PipelineSpec(
        function=data["function"],
        data={key: role_from_data(key, item) for key, item in data["data"].items()},
        metric=MetricSpec(**data["metric"]),
    )


def targets_from_expanded(data: Mapping[str, Any]) -> dict[str, Target]:
    """Return the targets that :func:`expand` was given, by id (without their files)."""
    return {
        name: Target(
            id=name,
            fields=facts["fields"],
            sources=facts["sources"],
            origins=tuple(facts["origins"]),
            digest=facts["digest"],
        )
        for name, facts in data["target_facts"].items()
    }


def _fields(value: Any, *leave_out: str) -> dict[str, Any]:
    """Return the fields of a frozen dataclass as JSON data, tuples as lists."""
    found = {}
    for name in type(value).__dataclass_fields__:
        if name not in leave_out:
            item = getattr(value, name)
            found[name] = list(item) if isinstance(item, tuple) else item
    return found


def _tupled(data: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return the data with the named lists as tuples."""
    return {**data, **{name: tuple(data[name]) for name in names}}


def _target(target: Target) -> dict[str, Any]:
    return _fields(target, "id", "files")


_CHANGES = ("metric", "worst_class")
"""Gates that are allowed changes."""


def _use(use: TargetUse) -> dict[str, Any]:
    gates = _fields(use.gates)
    for name in _CHANGES:
        allowed: Delta | None = getattr(use.gates, name)
        gates[name] = None if allowed is None else _fields(allowed)
    return {
        "target": use.target,
        "quantize": _fields(use.quantize),
        "gates": gates,
        "bench": _fields(use.bench),
        "options": dict(use.options),
    }


def _read_use(data: Mapping[str, Any]) -> TargetUse:
    gates = dict(data["gates"])
    for name in _CHANGES:
        gates[name] = None if gates[name] is None else Delta(**gates[name])
    return TargetUse(
        target=data["target"],
        quantize=QuantizeSpec(**_tupled(data["quantize"], "keep_float", "keep_float_ops")),
        gates=GateSpec(**gates),
        bench=BenchSpec(**_tupled(data["bench"], "cpus")),
        options=data["options"],
    )


def model_to_data(model: ModelSpec) -> dict[str, Any]:
    """Return a model's part of the expanded form; its parts are parameters of stages."""
    return {
        **_fields(model, "name"),
        "source": _fields(model.source),
        "inputs": {name: _input(given) for name, given in model.inputs.items()},
        "dims": {name: format_dim(dim) for name, dim in model.dims.items()},
        "state": [_fields(pair) for pair in model.state],
        "data": {name: _fields(role, "name") for name, role in model.data.items()},
        "metric": None if model.metric is None else _fields(model.metric),
        "task": None if model.task is None else _fields(model.task),
        "decode": None if model.decode is None else _fields(model.decode),
    }


def _read_model(name: str, data: Mapping[str, Any]) -> ModelSpec:
    return ModelSpec(
        name=name,
        source=ModelSource(**data["source"]),
        author=data["author"],
        licence=data["licence"],
        classes=data["classes"],
        inputs={key: input_from_data(key, item) for key, item in data["inputs"].items()},
        outputs=tuple(data["outputs"]),
        dims={key: parse_dim(item) for key, item in data["dims"].items()},
        state=tuple(StatePair(**item) for item in data["state"]),
        data={key: role_from_data(key, item) for key, item in data["data"].items()},
        metric=metric_from_data(data["metric"]),
        task=None if data["task"] is None else TaskSpec(**data["task"]),
        decode=decode_from_data(data["decode"]),
        allow_nonfinite=data["allow_nonfinite"],
    )


def _input(given: InputSpec) -> dict[str, Any]:
    shape = given.shape
    return {
        "shape": None if shape is None else [_axis(item) for item in shape],
        "image": None if given.image is None else _fields(given.image),
        "audio": None if given.audio is None else _fields(given.audio),
        "value": given.value,
    }


def application_inputs(model: ModelSpec) -> dict[str, Any]:
    """Return a model's words on its inputs as an application needs them, by input name.

    Preprocessing that is baked into the model is left out: what an application does, it does not
    do again.
    """
    return {
        name: _input(given if given.image is None else replace(given, image=given.image.outside))
        for name, given in model.inputs.items()
    }


def _axis(item: int | str | DimSpec) -> int | str | list[int]:
    return format_dim(item) if isinstance(item, DimSpec) else item


def metric_from_data(data: Mapping[str, Any] | None) -> MetricSpec | None:
    """Return the metric that stands under ``metric`` of a model's expanded form."""
    return None if data is None else MetricSpec(**data)


def decode_from_data(data: Mapping[str, Any] | None) -> DecodeSpec | None:
    """Return the decoder that stands under ``decode`` of a model's expanded form."""
    return None if data is None else DecodeSpec(**data)


def role_from_data(name: str, data: Mapping[str, Any]) -> DataRole:
    """Return the data role that stands under ``data`` of a model's expanded form."""
    return DataRole(name=name, **data)


def input_from_data(name: str, data: Mapping[str, Any]) -> InputSpec:
    """Return the input that stands under ``inputs`` of a model's expanded form."""
    shape, image, audio = data["shape"], data["image"], data["audio"]
    return InputSpec(
        name=name,
        shape=None if shape is None else tuple(_read_axis(item) for item in shape),
        image=None if image is None else ImagePreprocess(**_tupled(image, "mean", "std", "bake")),
        audio=None if audio is None else AudioPreprocess(**audio),
        value=data["value"],
    )


def baked_images(inputs: Mapping[str, Mapping[str, Any]]) -> dict[str, ImagePreprocess]:
    """Return the preprocessing of those inputs of a model of which steps are baked.

    Args:
        inputs: The words of the expanded model on its inputs.
    """
    specs = (input_from_data(name, words) for name, words in inputs.items())
    return {spec.name: spec.image for spec in specs if spec.image and spec.image.baked}


def _read_axis(item: int | str | list[int]) -> int | str | DimSpec:
    is_dim = isinstance(item, list) or (isinstance(item, str) and ".." in item)
    return parse_dim(item) if is_dim else item  # type: ignore[return-value]
