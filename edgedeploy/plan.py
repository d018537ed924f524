"""The graph of stages that a profile asks for; made without running or importing anything heavy.

For each model and shape variant::

    intake -> normalise -> optimise -> calibrate -----.
                  |            |                      |
                  |            '-> candidate (w8a8, fp16, float): quantize -> compile -> evaluate
                  '-> reference (float outputs and score) ------------------------------'
                           '-> preprocessing (is another one than declared better?)

What a pipeline over the models adds is in :mod:`edgedeploy.pipelinenodes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgedeploy import backends
from edgedeploy.errors import ProfileError
from edgedeploy.modelnodes import (
    OPSET,
    ModelNodes,
    NormalNodes,
    locate,
    model_nodes,
    name_axes,
    normal_nodes,
    variants,
)
from edgedeploy.node import FileRef, FilesRef, Node, OutputRef
from edgedeploy.pipelinenodes import PipelineNodes, pipeline_nodes
from edgedeploy.profile.types import (
    ModelSpec,
    Profile,
    TargetUse,
)
from edgedeploy.profile.unbuilt import QUANTIZE_MODES
from edgedeploy.quant.candidates import FLOAT, Candidate, candidates
from edgedeploy.quant.scheme import RUNTIME_DEFAULTS, Scheme
from edgedeploy.quant.survey import COMPARED_RANGES
from edgedeploy.target.types import Target
from edgedeploy.toolchain import is_installed

# Field of a target's scheme -> field of quant.scheme.Scheme.
_SCHEME_NAMES = {
    "activation_dtype": "activation_dtype",
    "symmetric_activations": "symmetric",
    "per_channel": "per_channel",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateNodes:
    """One way to represent the numbers of a model on a target, and its nodes.

    Attributes:
        golden: Samples with the artifact's answers, for devices; a build alone never runs it.
    """

    candidate: Candidate
    typed: OutputRef
    compiled: Node
    evaluated: Node
    golden: Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One artifact that the profile asks for: a model on a target.

    Attributes:
        candidates: What may be tried, best first; ``auto`` also tries mixtures of the first.
        baseline: The float artifact, built for comparison.
        left_out: Candidates that cannot even be tried, with the reason.
        survey: How the layers take to 8 bits; None where that cannot be told.
        effects: The survey with what the noisiest layers do to the metric; None where it is.
    """

    use: TargetUse
    target: Target
    shared: ModelNodes
    candidates: tuple[CandidateNodes, ...]
    baseline: CandidateNodes
    left_out: Mapping[str, str]
    survey: Node | None
    effects: Node | None

    @property
    def name(self) -> str:
        """The item's name for people, such as ``main -> rpi5/ort``."""
        return f"{self.shared.name} -> {self.use.target}"

    def nodes(self, candidate: Candidate) -> CandidateNodes:
        """Return the nodes of a candidate: those of the plan, or new ones for a mixture."""
        for nodes in (*self.candidates, self.baseline):
            if nodes.candidate == candidate:
                return nodes
        return _candidate(self.use, self.target, self.shared, candidate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that a profile asks for.

    Attributes:
        pipeline: None where the profile has no function over its models. With one, the metric gate
            of a target holds its models together, and is none of an item's.
    """

    profile: Profile
    targets: Mapping[str, Target]
    items: tuple[Item, ...]
    pipeline: PipelineNodes | None = None

    def first_choices(self) -> Plan:
        """Return the plan with each item's first candidate only."""
        items = tuple(
            replace(item, candidates=item.candidates[:1], survey=None) for item in self.items
        )
        return replace(self, items=items)

    def nodes(self, more: Iterable[Node] = ()) -> Iterator[Node]:
        """Yield every node once, each after what it needs.

        Args:
            more: Nodes that a build found it needs.
        """
        seen: set[Node] = set()

        def walk(node: Node) -> Iterator[Node]:
            if node in seen:
                return
            for ref in node.inputs.values():
                if isinstance(ref, OutputRef):
                    yield from walk(ref.node)
            seen.add(node)
            yield node

        for item in self.items:
            yield from walk(item.shared.reference)
            if item.shared.preprocessing is not None:
                yield from walk(item.shared.preprocessing)
            for candidate in item.candidates:
                yield from walk(candidate.evaluated)
            if item.survey is not None and item.use.quantize.mode == "auto":
                yield from walk(item.survey)
            yield from walk(item.baseline.compiled)
        if self.pipeline is not None:
            yield from walk(self.pipeline.scored)
        for node in more:
            yield from walk(node)


def make_plan(profile: Profile, targets: Mapping[str, Target]) -> Plan:
    """Return the plan of ``profile``.

    Args:
        profile: The checked profile.
        targets: Every target that it names, by id.

    Raises:
        ProfileError: Too many shape buckets (E180).
        ModelError: A model file or package is missing (E186, E187).
        DataError: A data source is missing or ambiguous, or a calibration table is (E263).
    """
    items = []
    joined = [use for use in profile.targets if _takes_all_buckets(use, targets[use.target])]
    opset = min(int(target.get("runtime.opset") or OPSET) for target in targets.values())
    models = [*map(name_axes, profile.models.values())]
    starts = {model.name: _starts(model, profile, opset) for model in models}
    pipeline = None
    if profile.pipeline is not None:
        pipeline = pipeline_nodes(profile, profile.pipeline, starts)
    for model in models:
        for variant, uses in _uses(variants(model), profile.targets, joined):
            start = next(
                (item for item in starts[model.name] if item.variant == variant), None
            ) or _start(model, profile, variant, opset)
            fed = {} if pipeline is None else pipeline.fed(start)
            shared = model_nodes(profile, start, fed)
            for use in uses:
                gates = use.gates if pipeline is None else replace(use.gates, metric=None)
                items.append(_item(replace(use, gates=gates), targets[use.target], shared))
    return Plan(profile=profile, targets=targets, items=tuple(items), pipeline=pipeline)


def _starts(model: ModelSpec, profile: Profile, opset: int) -> list[NormalNodes]:
    """Return a model up to its normal form, in every shape variant of its buckets."""
    return [_start(model, profile, variant, opset) for variant in variants(model)]


def _start(
    model: ModelSpec, profile: Profile, variant: Mapping[str, int], opset: int
) -> NormalNodes:
    return normal_nodes(model, locate(model.source, profile.folder), variant, opset)


def _takes_all_buckets(use: TargetUse, target: Target) -> bool:
    """Return whether one artifact of a target serves all buckets of a model."""
    wanted = backends.FAMILIES[target.runtime].bucket_options
    return bool(wanted) and all(use.options.get(name) == value for name, value in wanted.items())


def _uses(
    found: Sequence[Mapping[str, int]], uses: Sequence[TargetUse], joined: Sequence[TargetUse]
) -> Iterator[tuple[Mapping[str, int], Sequence[TargetUse]]]:
    """Yield each shape variant of a model with the targets that want it.

    Args:
        found: The variants of the model's buckets.
        uses: All targets.
        joined: Those of them whose artifact serves all buckets: they get one variant with none.
    """
    apart = [use for use in uses if use not in joined]
    if len(found) == 1 or not joined:
        yield from ((variant, uses) for variant in found)
        return
    yield from ((variant, apart) for variant in found if apart)
    yield {}, joined


def _item(use: TargetUse, target: Target, shared: ModelNodes) -> Item:
    found = []
    left_out: dict[str, str] = {}
    scheme = target.get("runtime.scheme") or {}
    defaults = {
        **RUNTIME_DEFAULTS.get(target.runtime, {}),
        **{_SCHEME_NAMES[name]: value for name, value in scheme.items() if name in _SCHEME_NAMES},
    }
    legal = [mode for mode in target.get("runtime.quantize") if mode not in QUANTIZE_MODES]
    fast = [item["mode"] for item in target.get("runtime.fast") or () if not item.get("provider")]
    for candidate in candidates(defaults, use.quantize, legal, fast):
        if candidate.scheme and candidate.scheme.calibrated and shared.table is None:
            left_out[candidate.name] = "there is no `calibrate` data"
            continue
        found.append(_candidate(use, target, shared, _feasible(shared, candidate)))
    if not found:
        raise ProfileError(
            f"quantize: {use.quantize.mode} needs calibration data for {use.target}",
            code="E181",
            subject=shared.name,
            hint="add `data: {calibrate: ...}`, or use `quantize: fp16` or `none`",
            place=use.place,
        )
    plain = [nodes for nodes in found if nodes.candidate.kind == "float"]
    survey, effects = _surveys(use, shared, [nodes.candidate for nodes in found])
    return Item(
        use=use,
        target=target,
        shared=shared,
        candidates=tuple(found),
        baseline=plain[0] if plain else _candidate(use, target, shared, FLOAT),
        left_out=left_out,
        survey=survey,
        effects=effects,
    )


def _feasible(shared: ModelNodes, candidate: Candidate) -> Candidate:
    """Return a candidate as the calibration data allows it.

    A kept table stands for the samples in all but the second moments, which are too large to keep:
    weights are then rounded to the nearest. A profile that asks for more is refused (E166).
    """
    scheme = candidate.scheme
    if scheme is None or not scheme.needs_moments or shared.moments is not None:
        return candidate
    return replace(candidate, scheme=replace(scheme, rounding="nearest"))


def _surveys(
    use: TargetUse, shared: ModelNodes, found: Iterable[Candidate]
) -> tuple[Node | None, Node | None]:
    """Return the nodes of the layers' sensitivity to ``w8a8``, without and with the metric."""
    scheme = next((item.scheme for item in found if item.kind == "w8a8"), None)
    if scheme is None or shared.table is None or shared.calibrate is None:
        return None, None
    params = shared.reference.params
    common = {"scheme": scheme.to_json(), "state": params["state"]}
    inputs = {"model": shared.optimised.output("model"), **_calibration(shared, scheme)}
    survey = Node(
        id=f"{shared.name}.{use.target}.sensitivity",
        kind="sensitivity",
        params={
            **common,
            "methods": list(COMPARED_RANGES) if use.quantize.ranges is None else [],
        },
        inputs={**inputs, "samples": shared.calibrate.output("samples")},
    )
    effects = Node(
        id=f"{shared.name}.{use.target}.effects",
        kind="effects",
        params={**common, **_scoring(shared)},
        inputs={
            **inputs,
            **_named_classes(shared),
            "survey": survey.output("survey"),
            "evaluate": shared.evaluate.output("samples"),
            "reference": shared.reference.output("outputs"),
            "facts": shared.intake.output("facts"),
        },
    )
    return survey, survey if params["metric"] is None else effects


def _scoring(shared: ModelNodes) -> dict[str, Any]:
    """Return how a model's outputs are scored: as those of the float model."""
    return {key: shared.reference.params[key] for key in ("metric", "decode", "project")}


def _named_classes(shared: ModelNodes) -> dict[str, FileRef | FilesRef | OutputRef]:
    """Return the file of classes as an input, where the model's decoder reads it."""
    given = shared.reference.inputs
    return {"classes": given["classes"]} if "classes" in given else {}


def _by_nncf(use: TargetUse, shared: ModelNodes, name: str) -> OutputRef:
    """Return the model that NNCF makes; it calibrates by itself, on the same samples."""
    if shared.calibrate is None:
        raise ProfileError(
            f"`method: nncf` needs calibration data for {use.target}",
            code="E165",
            subject=shared.name,
            hint="name samples under `data: {calibrate: ...}`",
            place=use.place,
        )
    return Node(
        id=name,
        kind="quantize_nncf",
        params={
            "state": [[pair.input, pair.output] for pair in shared.model.state],
            "keep_float": list(use.quantize.keep_float),
            "keep_float_ops": list(use.quantize.keep_float_ops),
        },
        inputs={
            "model": shared.optimised.output("model"),
            "samples": shared.calibrate.output("samples"),
        },
    ).output("model")


def _calibration(shared: ModelNodes, scheme: Scheme) -> dict[str, OutputRef]:
    """Return what a scheme needs to know of the calibration data, as inputs of a node."""
    found = {}
    if scheme.calibrated and shared.table is not None:
        found["table"] = shared.table.output("table")
    if scheme.needs_moments and shared.moments is not None:
        found["moments"] = shared.moments.output("moments")
    return found


def _upgraded(shared: ModelNodes, opset: int) -> OutputRef:
    """Return the optimised model at a newer opset than all targets of the plan share."""
    return Node(
        id=f"{shared.name}.upgrade[{opset}]",
        kind="upgrade",
        params={"opset": opset},
        inputs={"model": shared.optimised.output("model")},
    ).output("model")


def _sources(shared: ModelNodes) -> dict[str, FileRef | OutputRef]:
    """Return what a backend that wants the profile's words reads beside the model."""
    found: dict[str, FileRef | OutputRef] = {"facts": shared.intake.output("facts")}
    if shared.classes is not None:
        found["classes"] = shared.classes
    return found


def _tried(
    family: backends.Family, options: Mapping[str, Any], shared: ModelNodes
) -> dict[str, OutputRef]:
    """Return the samples that a backend tries what it writes on, where it does."""
    wanted = family.tried_options
    if wanted is None or any(options.get(name) != value for name, value in wanted.items()):
        return {}
    return {"samples": (shared.calibrate or shared.evaluate).output("samples")}


def _half(shared: ModelNodes, name: str, kept: Mapping[str, list[str]]) -> OutputRef:
    """Return the float16 model; a calibration table tells what would overflow in it."""
    inputs = {"model": shared.optimised.output("model")}
    if shared.table is not None:
        inputs["table"] = shared.table.output("table")
    return Node(id=name, kind="half", params=kept, inputs=inputs).output("model")


def _candidate(
    use: TargetUse, target: Target, shared: ModelNodes, candidate: Candidate
) -> CandidateNodes:
    base = f"{shared.name}.{use.target}.{candidate.name}"
    optimised = shared.optimised.output("model")
    runtime = target.runtime
    family = backends.FAMILIES[runtime]
    kept = {
        "keep_float": list(use.quantize.keep_float),
        "keep_float_ops": list(use.quantize.keep_float_ops),
    }
    if candidate.scheme is not None and use.quantize.method == "nncf":
        typed = _by_nncf(use, shared, f"{base}.quantize")
    elif candidate.scheme is not None:
        inputs = {"model": optimised}
        if candidate.scheme.weights == "int4" and family.four_bit_opset is not None:
            inputs["model"] = _upgraded(shared, family.four_bit_opset)
        inputs.update(_calibration(shared, candidate.scheme))
        typed = Node(
            id=f"{base}.quantize",
            kind="quantize",
            params={"scheme": candidate.scheme.to_json()},
            inputs=inputs,
        ).output("model")
    elif candidate.kind == "fp16" and family.half_options is None:
        typed = _half(shared, f"{base}.half", kept)
    else:
        typed = optimised
    options = {
        name: option["default"]
        for name, option in (target.get("runtime.options") or {}).items()
        if option.get("default") is not None
    }
    if candidate.scheme is not None:
        options.update(family.integer_options)
    if candidate.kind == "fp16" and family.half_options is not None:
        options.update({**family.half_options, **kept})
    options.update(use.options)
    code = (f"backends/{family.package}", "backends/base", "backends/inputs", *family.code)
    words = {"words": shared.words} if family.wants_words else {}
    compiled = Node(
        id=f"{base}.compile",
        kind="compile",
        params={
            "runtime": runtime,
            "options": options,
            "ranges": {
                name: [dim.low, dim.high] for name, dim in shared.model.dims.items() if dim.low
            },
            **words,
        },
        inputs={
            "model": typed,
            **(_sources(shared) if family.wants_words else {}),
            **_tried(family, options, shared),
        },
        fields={name: target.get(name) for name in family.reads},
        tools=(*family.tools, *filter(is_installed, family.hint_tools)),
        code=code,
    )
    here = {
        "runtime": runtime,
        # Artifacts are run on this machine's CPU, whatever they are for.
        "options": {name: value for name, value in options.items() if name != "device"},
        "state": shared.reference.params["state"],
    }
    evaluated = Node(
        id=f"{base}.evaluate",
        kind="evaluate",
        params={
            **here,
            **_scoring(shared),
        },
        inputs={
            **_named_classes(shared),
            "artifact": compiled.output("artifact"),
            "samples": shared.evaluate.output("samples"),
            "reference": shared.reference.output("outputs"),
            "score": shared.reference.output("score"),
            "facts": shared.intake.output("facts"),
        },
        tools=family.tools,
        code=code,
    )
    golden = Node(
        id=f"{base}.golden",
        kind="golden",
        params=here,
        inputs={
            "artifact": compiled.output("artifact"),
            "samples": shared.evaluate.output("samples"),
        },
        tools=family.tools,
        code=code,
    )
    return CandidateNodes(
        candidate=candidate, typed=typed, compiled=compiled, evaluated=evaluated, golden=golden
    )
