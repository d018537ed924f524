"""What must hold between the parts of one profile.

Works on the plain data, not on the validated objects, and steps over what has another type than
it should: the schema reports that, and both kinds of fault appear in the same run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgedeploy.config.document import DataPath, Document
from edgedeploy.config.forbidden import secrets_within
from edgedeploy.config.nearest import nearest, shorten
from edgedeploy.errors import Diagnostic

DECODERS_OF: Mapping[str, tuple[str, ...]] = {
    "top1": ("classes",),
    "topk": ("classes",),
    "f1": ("speech", "classes"),
    "map": ("boxes", "yolo"),
    "cer": ("ctc",),
    "wer": ("ctc",),
}
"""Metric that reads an answer -> the decoders whose answers it reads."""

READING: Mapping[str, tuple[str, ...]] = {
    "f1": ("threshold",),
    "map": ("boxes", "scores", "classes", "format", "space"),
    "cer": ("decode", "characters"),
    "wer": ("decode", "characters"),
}
"""Metric -> its parameters that say how an output is read, which a decoder says instead."""


def semantic_diagnostics(document: Document) -> Iterator[Diagnostic]:
    """Yield the faults between parts of the profile."""
    data = document.data
    yield from _models_given(document)
    yield from _pipeline(document)
    for path, model in model_maps(data):
        yield from _shapes(document, path, model)
        yield from _preprocessing(document, path, model)
        yield from _state(document, path, model)
        yield from _roles(document, path, model)
        yield from _answers(document, path, model)
    for path, secret in secrets_within(_free_parts(data), ()):
        yield document.diagnostic(
            "E136",
            f"`{shorten(secret)}` has no place in this file: secrets never stand in a profile",
            path,
            key=True,
            hint="let the data function read it from the environment",
        )


def model_maps(data: dict[str, Any]) -> Iterator[tuple[DataPath, dict[str, Any]]]:
    """Yield (path, map) of each model."""
    if isinstance(data.get("model"), dict):
        yield ("model",), data["model"]
    models = data.get("models")
    for name, model in models.items() if isinstance(models, dict) else ():
        if isinstance(model, dict):
            yield ("models", name), model


def target_ids(data: dict[str, Any]) -> Iterator[tuple[DataPath, str, bool]]:
    """Yield (path, id, whether it is a map key) of each target that is named."""
    targets = data.get("targets")
    if isinstance(targets, dict):
        yield from ((("targets", key), key, True) for key in targets)
    elif isinstance(targets, list):
        for place, item in enumerate(targets):
            if isinstance(item, str):
                yield ("targets", place), item, False


def _models_given(document: Document) -> Iterator[Diagnostic]:
    data = document.data
    if "model" in data and "models" in data:
        yield document.diagnostic(
            "E133",
            "`model` and `models` both stand here",
            ("model",),
            key=True,
            hint="move the model into `models`, under a name of its own",
        )
    elif data.get("model") is None and data.get("models") in (None, {}):
        key = next((item for item in ("model", "models") if item in data), None)
        yield document.diagnostic(
            "E133",
            "the profile names no model",
            () if key is None else (key,),
            key=True,
            hint="add `model: {source: model.onnx}`",
        )


def _pipeline(document: Document) -> Iterator[Diagnostic]:
    """A pipeline has data and a metric of its own, and calibrates models, not itself."""
    data = document.data
    if data.get("pipeline") is None:
        return
    roles = data.get("data")
    roles = roles if isinstance(roles, dict) else {}
    missing = [
        what
        for what, given in (
            ("`metric`", data.get("metric")),
            ("`data: {evaluate: ...}`", roles.get("evaluate")),
        )
        if given is None
    ]
    if missing:
        yield document.diagnostic(
            "E880",
            "nothing says what the pipeline is worth",
            ("pipeline",),
            key=True,
            hint=f"add {' and '.join(missing)} at the top of the profile: what the function is "
            "given, and what its outputs are measured by",
        )
    calibrate = roles.get("calibrate")
    if isinstance(calibrate, dict) and calibrate.get("tables") is not None:
        yield document.diagnostic(
            "E887",
            "a pipeline is given samples, and calibration tables are the models'",
            ("data", "calibrate", "tables"),
            key=True,
            hint="write `data: {calibrate: {tables: ...}}` under each model",
        )
    yield from _same_data(document, ((), roles))


def _shapes(document: Document, path: DataPath, model: dict[str, Any]) -> Iterator[Diagnostic]:
    """Each name in a shape must stand in ``dims``."""
    dims = model.get("dims")
    known = list(dims) if isinstance(dims, dict) else []
    for name, given in _maps(model.get("inputs")):
        shape = given.get("shape")
        for place, axis in enumerate(shape if isinstance(shape, list) else ()):
            if not isinstance(axis, str) or ".." in axis or axis in known:
                continue
            guess = nearest(axis, known)
            yield document.diagnostic(
                "E135",
                f"the dim `{shorten(axis)}` has no size",
                (*path, "inputs", name, "shape", place),
                hint=f"did you mean `{guess}`?" if guess else f"add `{shorten(axis)}` to `dims`",
            )


def _preprocessing(
    document: Document, path: DataPath, model: dict[str, Any]
) -> Iterator[Diagnostic]:
    """An input is fed in one way."""
    for name, given in _maps(model.get("inputs")):
        ways = [key for key in ("image", "audio", "value") if given.get(key) is not None]
        if len(ways) > 1:
            yield document.diagnostic(
                "E145",
                f"`{ways[0]}` and `{ways[1]}` both say how `{shorten(name)}` is fed",
                (*path, "inputs", name, ways[1]),
                key=True,
                hint="keep one of them",
            )


def _state(document: Document, path: DataPath, model: dict[str, Any]) -> Iterator[Diagnostic]:
    """A state input and a state output belong to one pair, and are fed by nothing else."""
    pairs = model.get("state")
    seen: dict[tuple[str, str], int] = {}
    for place, pair in enumerate(pairs if isinstance(pairs, list) else ()):
        for key in ("input", "output"):
            name = pair.get(key) if isinstance(pair, dict) else None
            if not isinstance(name, str):
                continue
            if (key, name) in seen:
                yield document.diagnostic(
                    "E142",
                    f"the {key} `{shorten(name)}` stands in two state pairs",
                    (*path, "state", place, key),
                    hint="name each state input and output once",
                )
            seen[key, name] = place
    for name, given in _maps(model.get("inputs")):
        for key in ("image", "audio", "value"):
            if ("input", name) in seen and given.get(key) is not None:
                yield document.diagnostic(
                    "E142",
                    f"`{shorten(name)}` is a state input and is fed by `{key}` as well",
                    (*path, "inputs", name, key),
                    key=True,
                    hint=f"remove `{key}`; state starts from zeros and is carried over",
                )


def _roles(document: Document, path: DataPath, model: dict[str, Any]) -> Iterator[Diagnostic]:
    """Calibration data must not be the evaluation data."""
    shared = () if document.data.get("pipeline") is not None else (((), document.data.get("data")),)
    yield from _same_data(document, *shared, (path, model.get("data")))


def _same_data(document: Document, *places: tuple[DataPath, Any]) -> Iterator[Diagnostic]:
    """Refuse two roles that are the same data, each taken from the last place that names it."""
    found: dict[str, tuple[DataPath, Any]] = {}
    for base, data in places:
        for role in ("calibrate", "evaluate"):
            if isinstance(data, dict) and data.get(role) is not None:
                given = data[role]
                full = {"source": given} if isinstance(given, str) else given
                found[role] = ((*base, "data", role), full)
    if len(found) < 2:
        return
    (_, first), (place, second) = found["calibrate"], found["evaluate"]
    if first == second and isinstance(first, dict) and first.get("source") is not None:
        yield document.diagnostic(
            "E138",
            "calibrate and evaluate are the same data",
            place,
            hint="evaluate on other samples: another folder, or other parameters of the function",
        )


def _answers(document: Document, path: DataPath, model: dict[str, Any]) -> Iterator[Diagnostic]:
    """A metric reads the answer of the model's decoder, and nothing else says how."""
    decoder = _named(model.get("decode"))["name"]
    at, given = (*path, "metric"), model.get("metric")
    if given is None and document.data.get("pipeline") is None:
        at, given = ("metric",), document.data.get("metric")
    metric = _named(given)
    reads = DECODERS_OF.get(metric["name"]) if isinstance(metric["name"], str) else None
    if not isinstance(decoder, str) or reads is None:
        return
    if decoder not in reads:
        yield document.diagnostic(
            "E876",
            f"the metric `{metric['name']}` cannot read what `decode: {shorten(decoder)}` gives",
            at,
            hint=f"it reads {' or '.join(f'`decode: {name}`' for name in reads)}",
        )
        return
    parameters = metric.get("parameters")
    own = [key for key in READING.get(metric["name"], ()) if key in _keys(parameters)]
    places = [(*at, "parameters", key) for key in own]
    if metric.get("output") is not None:
        places.append((*at, "output"))
    for place in places:
        yield document.diagnostic(
            "E876",
            f"`{place[-1]}` of the metric and `decode: {decoder}` both say how the output is read",
            place,
            key=True,
            hint=f"say it under `decode` alone, and remove `{place[-1]}` here",
        )


def _named(value: Any) -> dict[str, Any]:
    """Return a map with a ``name`` of its full or short form."""
    given = value if isinstance(value, dict) else {"name": value}
    return {"name": None, **given}


def _keys(value: Any) -> list[str]:
    return list(value) if isinstance(value, dict) else []


def _maps(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, item in value.items() if isinstance(value, dict) else ():
        if isinstance(item, dict):
            yield key, item


def _free_parts(data: dict[str, Any]) -> dict[str, Any]:
    """Return the data with nothing but free-form parameters and options, paths unchanged."""

    def prune(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: item if key in ("parameters", "options") else prune(item)
                for key, item in value.items()
                if isinstance(item, (dict, list))
            }
        return [prune(item) for item in value] if isinstance(value, list) else value

    found = prune(data)
    return found if isinstance(found, dict) else {}
