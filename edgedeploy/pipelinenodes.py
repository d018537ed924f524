"""What a plan does for a pipeline: run it with the float models, then with what was chosen.

::

    data -> trace (the function over the float models) -> outputs -> score
                |                                            |         |
                '-> samples of each model -> (its own graph) |         |
                                                             v         v
    data, the artifacts that a target's models came to -> pipeline (evaluation of them together)

A model without data of its own is calibrated and compared on what the float pipeline fed it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgedeploy.errors import DataError
from edgedeploy.modelnodes import ModelNodes, NormalNodes, project_of, role_files
from edgedeploy.node import FileRef, FilesRef, Node, OutputRef
from edgedeploy.profile.dims import format_dim
from edgedeploy.profile.expand import pipeline_to_data
from edgedeploy.profile.types import PipelineSpec, Profile

NAME = "pipeline"
"""What the nodes of a pipeline begin with, and data.yaml calls it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineNodes:
    """What is done once for a pipeline, whatever the targets.

    Attributes:
        spec: The profile's words on it.
        folder: The profile's folder, absolute: where the function's code runs.
        data: What reads each of its data roles.
        traces: What runs it with the float models, by role.
        scored: What its outputs are worth with the float models.
        models: Every model by name, in its shape variants.
    """

    spec: PipelineSpec
    folder: str
    data: Mapping[str, Node]
    traces: Mapping[str, Node]
    scored: Node
    models: Mapping[str, Sequence[NormalNodes]]

    def fed(self, start: NormalNodes) -> dict[str, Node]:
        """Return the samples of a model for the roles that it has no data of its own for.

        A model whose artifact serves all shape variants gets what was fed to any of them.
        """
        variants = self.models[start.model.name]
        packs = [item.name for item in variants if start.variant in ({}, item.variant)]
        return {
            role: Node(
                id=f"{start.name}.samples.{role}",
                kind="traced",
                params={
                    "model": start.name,
                    "role": role,
                    "packs": packs,
                    "state": [given for given, _ in start.state],
                },
                inputs={"traces": trace.output("traces")},
            )
            for role, trace in self.traces.items()
            if role not in start.model.data
        }

    def together(self, name: str, members: Sequence[tuple[ModelNodes, Node]]) -> Node:
        """Return the node that evaluates artifacts of all models together.

        Args:
            name: What this combination is called, such as ``rpi5/ort`` or ``rpi5/ort.detector``.
            members: Every model, in each of its shape variants, with the node that evaluates the
                artifact by itself.
        """
        trace = self.traces["evaluate"]
        inputs: dict[str, FileRef | FilesRef | OutputRef] = {
            "function": trace.inputs["function"],
            "samples": self.data["evaluate"].output("samples"),
            "reference": trace.output("outputs"),
            "score": self.scored.output("score"),
        }
        models: dict[str, list[dict[str, Any]]] = {}
        for shared, evaluated in members:
            key = shared.name
            inputs[f"artifact.{key}"] = evaluated.inputs["artifact"]
            inputs[f"model.{key}"] = shared.normal.output("model")
            inputs[f"facts.{shared.model.name}"] = shared.intake.output("facts")
            variant = {
                **_variant(shared),
                "runtime": evaluated.params["runtime"],
                "options": evaluated.params["options"],
            }
            models.setdefault(shared.model.name, []).append(variant)
        params = trace.params
        return Node(
            id=f"{NAME}.{name}",
            kind="pipeline",
            params={
                "function": params["function"],
                "project": params["project"],
                "metric": self.scored.params["metric"],
                "models": models,
            },
            inputs=inputs,
            tools=tuple(sorted({tool for _, node in members for tool in node.tools})),
            code=tuple(sorted({part for _, node in members for part in node.code})),
        )


def pipeline_nodes(
    profile: Profile, spec: PipelineSpec, models: Mapping[str, Sequence[NormalNodes]]
) -> PipelineNodes:
    """Return the nodes of a profile's pipeline.

    Args:
        profile: The profile.
        spec: Its words on the pipeline.
        models: Every model by name, up to its normal form, in its shape variants.

    Raises:
        DataError: A data source is missing or ambiguous, or the function's file is (E282).
    """
    words = pipeline_to_data(spec)
    data: dict[str, Node] = {}
    for role in spec.data.values():
        source, inputs = role_files(profile, NAME, role)
        if "calibrate" in data:
            inputs["calibrate"] = data["calibrate"].output("samples")
        data[role.name] = Node(
            id=f"{NAME}.data.{role.name}",
            kind="feed",
            params={
                "role": role.name,
                "data": {**words["data"][role.name], "source": source},
                "project": project_of(profile, role),
            },
            inputs=inputs,
        )
    folder = str(profile.folder.resolve())
    function = _function(profile, spec)
    traces = {
        role: _trace(spec, role, node, function, models, folder) for role, node in data.items()
    }
    scored = Node(
        id=f"{NAME}.score",
        kind="score",
        params={"metric": words["metric"], "project": project_of(profile, spec.metric)},
        inputs={
            "samples": data["evaluate"].output("samples"),
            "outputs": traces["evaluate"].output("outputs"),
        },
    )
    return PipelineNodes(
        spec=spec, folder=folder, data=data, traces=traces, scored=scored, models=models
    )


def _function(profile: Profile, spec: PipelineSpec) -> FileRef:
    file = spec.function.rpartition(":")[0]
    path = profile.folder / file
    if not path.is_file():
        raise DataError(
            f"there is no file {file} with the pipeline",
            code="E282",
            subject=spec.function,
            hint="the path is relative to the profile's folder",
        )
    return FileRef(path=path)


def _trace(
    spec: PipelineSpec,
    role: str,
    data: Node,
    function: FileRef,
    models: Mapping[str, Sequence[NormalNodes]],
    folder: str,
) -> Node:
    inputs: dict[str, FileRef | FilesRef | OutputRef] = {
        "function": function,
        "samples": data.output("samples"),
    }
    for name, variants in models.items():
        inputs[f"facts.{name}"] = variants[0].intake.output("facts")
        for start in variants:
            inputs[f"model.{start.name}"] = start.normal.output("model")
    return Node(
        id=f"{NAME}.trace.{role}",
        kind="trace",
        params={
            "function": spec.function,
            "project": folder,
            "models": {name: [*map(_variant, starts)] for name, starts in models.items()},
            "record": [
                start.name
                for variants in models.values()
                for start in variants
                if role not in start.model.data
            ],
        },
        inputs=inputs,
    )


def _variant(start: NormalNodes | ModelNodes) -> dict[str, Any]:
    """Return what a call of a model in a shape variant is held against, as JSON data."""
    model = start.model
    return {
        "key": start.name,
        "state": [[pair.input, pair.output] for pair in model.state],
        "dims": {name: format_dim(dim) for name, dim in model.dims.items()},
    }
