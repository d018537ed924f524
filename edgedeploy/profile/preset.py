"""``task:`` is replaced by what it stands for: words merged under those of the profile.

Works on the plain data before it is checked. What a preset adds has the place of its ``task:``,
so that a fault in it points there. Maps are merged key by key, and a key that stands in the
profile wins, also with ``null``; anything else is taken as a whole, and so is a ``metric`` or
``decode`` of another name, whose parameters would not fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from edgedeploy.config.document import DataPath, Document, Mark
from edgedeploy.errors import DataError, Diagnostic, ProfileError
from edgedeploy.profile.semantics import model_maps
from edgedeploy.tasks import MODEL_KEYS, PROFILE_KEYS, Words, preset_words

_SHORT: Mapping[str, tuple[type, str]] = {
    "metric": (str, "name"),
    "decode": (str, "name"),
    "quantize": (str, "mode"),
    "image": (list, "size"),
}
"""Key -> the type of its short form, and the key that it is short for."""

_NAMED = ("metric", "decode")
_LISTS = ("keep_float", "keep_float_ops")
"""Keys whose values several presets add up."""


def apply_tasks(document: Document) -> list[Diagnostic]:
    """Merge the words of every task into the document; return what is wrong with the tasks."""
    found: list[Diagnostic] = []
    asked: dict[str, Any] = {}
    first: DataPath = ()
    for path, model in list(model_maps(document.data)):
        if model.get("task") is None:
            continue
        at = (*path, "task")
        try:
            words = _words(document.data, model)
        except (ProfileError, DataError) as error:
            found += [
                document.diagnostic(item.code, item.message, at, hint=item.hint)
                for item in error.diagnostics
            ]
            continue
        first = first or at
        for key in MODEL_KEYS:
            if key in words:
                place = _place_of(key, document.data, path)
                _merge(document, place, words[key], document.mark(at))
        found += _collect(document, at, asked, words)
    for key, value in asked.items():
        _merge(document, (key,), value, document.mark(first))
    return found


def _words(data: Mapping[str, Any], model: Mapping[str, Any]) -> Words:
    """Return the words of a model's task, without those that do not hold in this profile.

    Raises:
        ProfileError: There is no such preset (E870).
        DataError: A parameter cannot be used (E871).
    """
    task = model["task"]
    name = task.get("name") if isinstance(task, dict) else task
    if not isinstance(name, str):
        return {}  # the schema reports it
    parameters = {k: v for k, v in task.items() if k != "name"} if isinstance(task, dict) else {}
    words = deepcopy(preset_words(name, parameters, model))  # they become part of the profile
    metric = words.get("metric", {}).get("name")
    if not (_evaluated(data, model) and _metric_is(metric, data, model)):
        words.pop("metric", None)
        words.get("gates", {}).pop("metric", None)
    if data.get("pipeline") is not None:
        words.pop("gates", None)  # they hold the combination, which is no preset's task
    return words


def _tops(data: Mapping[str, Any], key: str) -> Any:
    """Return what the top of the profile says for its models: nothing where it has a pipeline."""
    return data.get(key) if data.get("pipeline") is None else None


def _evaluated(data: Mapping[str, Any], model: Mapping[str, Any]) -> bool:
    """Return whether a model is evaluated on data of its own: without, nothing has a truth."""
    return any(
        isinstance(roles, dict) and roles.get("evaluate") is not None
        for roles in (model.get("data"), _tops(data, "data"))
    )


def _metric_is(name: str | None, data: Mapping[str, Any], model: Mapping[str, Any]) -> bool:
    """Return whether the profile leaves the metric to the preset, or only adds to it."""
    if "metric" in model:
        given = model["metric"]
        return given is not None and _name(given) in (None, name)
    given = _tops(data, "metric")
    # With several models, a metric at the top is theirs as it stands.
    return given is None or ("model" in data and _name(given) in (None, name))


def _place_of(key: str, data: Mapping[str, Any], path: DataPath) -> DataPath:
    """Return where the words of a model belong: a metric that stands at the top is added to."""
    top = key == "metric" and path == ("model",) and _tops(data, key) is not None
    return (key,) if top and "metric" not in data["model"] else (*path, key)


def _collect(
    document: Document, at: DataPath, asked: dict[str, Any], words: Words
) -> Iterator[Diagnostic]:
    """Add the words that hold for all models to ``asked``; yield where two presets differ."""
    for key in PROFILE_KEYS:
        mine = asked.setdefault(key, {})
        given = document.data.get(key)
        for name, value in words.get(key, {}).items():
            if isinstance(given, dict) and name in given:
                continue  # the profile says it
            if name in _LISTS:
                mine[name] = [
                    *mine.get(name, []),
                    *(x for x in value if x not in mine.get(name, [])),
                ]
            elif mine.setdefault(name, value) != value:
                yield document.diagnostic(
                    "E872",
                    f"the tasks of two models ask for `{key}: {{{name}: ...}}` of `{mine[name]}` "
                    f"and `{value}`",
                    at,
                    hint=f"write `{key}: {{{name}: ...}}` yourself",
                )
        if not mine:
            del asked[key]


def _name(value: Any) -> Any:
    return value.get("name") if isinstance(value, dict) else value


def _merge(document: Document, path: DataPath, words: Any, mark: Mark | None) -> None:
    """Merge ``words`` under what stands at ``path``."""
    container = document.data
    for part in path[:-1]:
        container = container[part]
    key = path[-1]
    if key not in container:
        container[key] = words
        _mark_all(document, path, words, mark)
        return
    given = container[key]
    kind, full = _SHORT.get(str(key), (type(None), ""))
    if full and isinstance(given, kind):
        given = container[key] = {full: given}
        if path in document.values:
            document.values[(*path, full)] = document.values[path]
    if not isinstance(given, dict) or not isinstance(words, Mapping):
        return
    if key in _NAMED and _name(given) not in (None, words.get("name")):
        return
    for name, value in words.items():
        _merge(document, (*path, name), value, mark)


def _mark_all(document: Document, path: DataPath, words: Any, mark: Mark | None) -> None:
    """Give everything below ``path`` the place of the task."""
    if mark is None:
        return
    document.values[path] = document.keys[path] = mark
    for name, value in words.items() if isinstance(words, Mapping) else ():
        _mark_all(document, (*path, name), value, mark)
