"""A release against the last build of its profile, sample by sample: may the new one follow it?

The release's artifacts are run on the profile's present evaluation data, in workers, by the stage
that evaluated the build's own; the store keeps what they scored. Preprocessing and data are the
present ones, so a release that takes other inputs is refused; how outputs become answers is the
release's own.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from edgedeploy.comparing import release_document, vouched
from edgedeploy.deploy.contents import Built
from edgedeploy.describing import describe_inputs
from edgedeploy.disk import disk_errors
from edgedeploy.errors import DataError, EdgedeployError, ProfileError, UsageError
from edgedeploy.events import EventLog
from edgedeploy.executor import Builder
from edgedeploy.manifest import canonical
from edgedeploy.measured import read_measurements
from edgedeploy.node import FileRef, FilesRef, Node, OutputRef
from edgedeploy.opening import Request
from edgedeploy.parity.paired import Paired
from edgedeploy.plaindata import to_plain
from edgedeploy.plan import Item
from edgedeploy.release.bundle import ReleaseModel, Tensor, folder_of
from edgedeploy.release.extracting import extract
from edgedeploy.release.opening import Bundle, open_bundle
from edgedeploy.retraining.findings import Retrained, judge
from edgedeploy.signature import Signature, TensorSpec
from edgedeploy.store import Store

_FORM = re.compile(rb"^edgedeploy:", re.MULTILINE)
_HEAD_BYTES = 1 << 16
"""How far into a file the key is looked for that makes it a profile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainOptions:
    """How a release is held against the last build.

    Attributes:
        output: Folder for results that the build was given.
        store: The store that it was built with.
        keys: Files of public keys that are believed.
        trust: Trust file whose keys are believed too; None: there is none.
        slices: Columns of the labels, and functions (``file.py:function``) of a sample's name, by
            whose values samples are judged apart.
    """

    output: Path
    store: Path
    keys: tuple[Path, ...]
    trust: Path | None = None
    slices: tuple[str, ...] = ()


def compare_with_release(
    bundle: Path, request: Request, options: RetrainOptions, events: EventLog | None = None
) -> Retrained:
    """Run a release's artifacts on the present data, and pair them with the last build's.

    Args:
        bundle: What was shipped.
        request: The profile that was built since, with the options that it was built with.
        options: How.
        events: Where progress is told.

    Raises:
        UsageError: Nobody is believed, or the release is of another name (E763).
        IntegrityError: The bundle (E731 to E736) or its measurements (E762) are refused.
        ProfileError: A model of the release takes or gives something else than the present one
            (E856), or samples cannot be parted (E857).
        DataError: No model can be paired (E858), or a metric or slice cannot be used (E857).
        BuildError: The profile is not built (E438), or an artifact does not run.
        StoreError: A file cannot be read, or the disk refuses (E601, E602).
    """
    events = events or EventLog()
    store = Store(options.store, events)
    whom = vouched(options.keys, options.trust)
    with ExitStack() as stack:
        stack.enter_context(store.in_use())
        built = Built(request, options.output, store, events)
        stack.enter_context(disk_errors("cannot read the release"))
        opened = stack.enter_context(open_bundle(bundle, whom.trusted, whom.revoked))
        release = opened.release
        if release.name != built.app:
            raise UsageError(
                f"{release.name} is no release of the profile {built.app}",
                code="E763",
                subject=release.name,
                hint="give a release of this profile",
            )
        before = release_document(release, read_measurements(opened, whom.trusted))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgedeploy-")))
        extract(opened, folder / "release", lambda: None)
        pairs, not_paired = _pairable(opened, built)
        builder = stack.enter_context(
            Builder(store, built.plan.profile.folder.absolute(), events=events)
        )
        ways = _Ways(
            release=folder / "release", project=built.plan.profile.folder, slices=options.slices
        )
        found = _pair_all(builder, pairs, ways)
    return judge(
        f"{release.name} {release.version}",
        before,
        built.document,
        [(pair.item, paired) for pair, paired in found],
        not_paired,
    )


def profile_at(path: Path) -> Path:
    """Return the profile that a path means: the file itself, or the only one of a folder.

    Raises:
        UsageError: The folder holds none, or several (E859).
        StoreError: It cannot be read (E602).
    """
    if not path.is_dir():
        return path
    with disk_errors("cannot look for the profile"):
        found = [
            file
            for file in sorted(path.iterdir())
            if file.suffix in (".yaml", ".yml") and file.is_file()
            if _FORM.search(file.read_bytes()[:_HEAD_BYTES])
        ]
    if len(found) == 1:
        return found[0]
    names = ", ".join(file.name for file in found)
    raise UsageError(
        f"the folder {path} holds {names or 'no profile'}",
        code="E859",
        subject=str(path),
        hint="name the profile's file",
    )


# -- what can be paired --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """An artifact of the release and what stands in its place now.

    Attributes:
        item: The model on a target.
        evaluated: What evaluated the artifact that the last build chose.
        released: What the release says of its own.
    """

    item: Item
    evaluated: Node
    released: ReleaseModel


def _pairable(bundle: Bundle, built: Built) -> tuple[list[_Pair], dict[str, str]]:
    """Return what can be paired, and why other models on targets cannot.

    Raises:
        ProfileError: As :func:`compare_with_release`.
        DataError: Nothing can be (E858).
    """
    released = {
        (model.name, target.target): model
        for target in bundle.release.targets
        for model in target.models
    }
    pairs, why = [], dict[str, str]()
    for outcome in built.outcomes():
        item = outcome.item
        model = released.get((item.shared.name, item.use.target))
        nodes = outcome.chosen.nodes if outcome.chosen else None
        reason = _unpairable(model, item)
        if model is None or nodes is None or reason:
            why[f"{item.shared.name} {item.use.target}"] = reason
            continue
        _check_fit(bundle, model, item, built)
        pairs.append(_Pair(item=item, evaluated=nodes.evaluated, released=model))
    if not pairs:
        raise DataError(
            f"nothing of {bundle.release.file_name} can be held against the last build: "
            + "; ".join(f"{name}: {reason}" for name, reason in why.items()),
            code="E858",
            subject=bundle.release.name,
            hint="two bundles can be compared without samples",
        )
    return pairs, why


def _unpairable(model: ReleaseModel | None, item: Item) -> str:
    """Return why a model on a target has no pairs of samples; empty where it has."""
    metric = item.shared.model.metric
    if model is None:
        return "the release has no such artifact"
    if metric is None or item.shared.evaluate_role != "evaluate":
        return "the profile names no metric on evaluation data"
    if metric.is_closeness:
        return f"{metric.name} tells the distance to a float model, and there are two of them"
    if model.engines:
        return "its engines run on their devices alone"
    return ""


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


# -- running and pairing -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ways:
    """What every pair is run with.

    Attributes:
        release: Folder that the release was extracted into.
        project: The profile's folder.
        slices: As :class:`RetrainOptions` has them.
    """

    release: Path
    project: Path
    slices: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The slices that are columns of the labels."""
        return tuple(name for name in self.slices if ".py:" not in name)


def _pair_all(builder: Builder, pairs: Sequence[_Pair], ways: _Ways) -> list[tuple[_Pair, Paired]]:
    """Return what the stages found of every pair; the first that fails ends it."""
    nodes = [_paired_node(pair, ways, len(pairs)) for pair in pairs]
    for outcome in builder.build_all(nodes):
        if isinstance(outcome, EdgedeployError):
            raise outcome
    found = []
    for pair, node in zip(pairs, nodes, strict=True):
        _, folder = builder.folder(node.output("paired"))
        data = json.loads((folder / "paired.json").read_text(encoding="utf-8"))
        found.append((pair, Paired.from_json(data)))
    return found


def _paired_node(pair: _Pair, ways: _Ways, comparisons: int) -> Node:
    """Return the node that pairs a released artifact with the one that was chosen since."""
    shared, now = pair.item.shared, pair.evaluated
    metric = shared.model.metric
    runs_code = len(ways.columns) < len(ways.slices) or (
        metric is not None and metric.runs_user_code
    )
    inputs: dict[str, FileRef | FilesRef | OutputRef] = {
        "before": _released_node(pair, ways.release).output("evaluation"),
        "after": now.output("evaluation"),
        "samples": now.inputs["samples"],
        "model": shared.normal.output("model"),
        "facts": now.inputs["facts"],
    }
    if "classes" in now.inputs:
        inputs["classes"] = now.inputs["classes"]
    if ways.columns:
        inputs["labels"] = _label_file(pair.item, ways.columns[0])
    return Node(
        id=f"{shared.name}.{pair.item.use.target}.paired",
        kind="paired",
        params={
            "metric": now.params["metric"],
            "decode": now.params["decode"],
            "slices": list(ways.slices),
            "comparisons": comparisons,
            "project": str(ways.project.resolve()) if runs_code else None,
        },
        inputs=inputs,
    )


def _released_node(pair: _Pair, release: Path) -> Node:
    """Return the node that evaluates a released artifact as the last build's was evaluated."""
    now, model, target = pair.evaluated, pair.released, pair.item.use.target
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
        id=f"{pair.item.shared.name}.{target}.released",
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


def _label_file(item: Item, column: str) -> FileRef:
    """Return the table of labels that an item is evaluated with.

    Raises:
        DataError: There is none (E857).
    """
    labels = item.shared.evaluate.inputs.get("labels")
    if isinstance(labels, FilesRef) and [name[-4:].lower() for name in labels.names] == [".csv"]:
        return FileRef(path=labels.folder / labels.names[0])
    raise DataError(
        f"the labels of {item.shared.name} are no table, and have no column {column!r}",
        code="E857",
        subject=column,
        hint="give `labels:` a CSV with that column, or a function: `--slices file.py:function`",
    )
