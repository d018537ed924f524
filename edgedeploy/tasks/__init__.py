"""Task presets: what a profile means by ``task: classify``; one file per preset.

A preset is a pure function from its own parameters and what the profile says of the model to the
words that a user would else write: they are merged *under* the profile
(:mod:`edgedeploy.profile.preset`), where its own keys win one by one, before anything is checked.
A new preset is one file here with a ``PRESET``; nothing else names it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgedeploy.config.nearest import advice, shorten
from edgedeploy.errors import ProfileError
from edgedeploy.parameters import Parameters
from edgedeploy.signature import Dim, Signature

MODEL_KEYS = ("metric", "decode", "inputs")
PROFILE_KEYS = ("quantize", "gates")

Guess = Literal["sure", "perhaps"]
"""How far a model says that it is for a task: by its metadata, or by its shapes alone."""

Words = dict[str, Any]
"""Words of a profile as plain data: ``metric``, ``decode`` and ``inputs`` of the model, and
``quantize`` and ``gates``, which hold for all targets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A task.

    Attributes:
        name: What ``task:`` names.
        summary: What models it is for, a few words.
        parameters: Its parameters by name, each explained in a few words.
        answer: Kind of the answer (:data:`edgedeploy.decode.AnswerKind`).
        expand: Returns the words, given the parameters and the model's part of the profile as it
            was written (not checked yet: any part of it may be of a wrong type). ``metric`` and
            the gate on it are dropped where the profile has no ``evaluate`` data.
        guess: Returns whether a model (signature, metadata) looks like one; for starter profiles.
    """

    name: str
    summary: str
    parameters: Mapping[str, str]
    answer: str
    expand: Callable[[Parameters, Mapping[str, Any]], Words]
    guess: Callable[[Signature, Mapping[str, str]], Guess | None] = lambda signature, metadata: None


def presets() -> dict[str, Preset]:
    """Return every preset by name, sorted."""
    modules = (
        importlib.import_module(f"{__name__}.{item.name}")
        for item in pkgutil.iter_modules(__path__)
    )
    return {
        found.name: found for found in sorted((m.PRESET for m in modules), key=lambda p: p.name)
    }


def preset_words(name: str, parameters: Mapping[str, Any], model: Mapping[str, Any]) -> Words:
    """Return what a task stands for.

    Args:
        name: Of the preset.
        parameters: What the profile gives it.
        model: The model's part of the profile, as it was written.

    Raises:
        ProfileError: There is no such preset (E870).
        DataError: A parameter cannot be used (E871).
    """
    known = presets()
    if name not in known:
        raise ProfileError(
            f"`{shorten(name)}` is no task", code="E870", hint=advice(name, list(known))
        )
    preset = known[name]
    given = Parameters(owner=f"the task {name}", subject=name, values=parameters, code="E871")
    given.only(*preset.parameters)
    return preset.expand(given, model)


def guess_tasks(signature: Signature, metadata: Mapping[str, str]) -> dict[Guess, tuple[str, ...]]:
    """Return the tasks that a model may be for, by how sure that is.

    Args:
        signature: Its inputs and outputs.
        metadata: Its metadata properties.
    """
    found = {name: preset.guess(signature, metadata) for name, preset in presets().items()}
    kinds: tuple[Guess, ...] = ("sure", "perhaps")
    return {kind: tuple(name for name in found if found[name] == kind) for kind in kinds}


def takes_images(signature: Signature) -> bool:
    """Return whether the first input has the shape of a picture."""
    dims = signature.inputs[0].dims if signature.inputs else None
    return dims is not None and len(dims) == 4 and bool({1, 3} & {dims[1], dims[3]})


def output_dims(signature: Signature) -> tuple[Dim, ...]:
    """Return the dims of the first output; empty where they are not known."""
    return (signature.outputs[0].dims or ()) if signature.outputs else ()


def inputs_with(model: Mapping[str, Any], key: str) -> Iterator[tuple[str, Any]]:
    """Yield (input, value) of each input of a model that has a key such as ``image``."""
    inputs = model.get("inputs")
    for name, given in inputs.items() if isinstance(inputs, Mapping) else ():
        if isinstance(given, Mapping) and given.get(key) is not None:
            yield name, given[key]


def without_none(values: Mapping[str, Any]) -> Words:
    """Return the values that are not None."""
    return {key: value for key, value in values.items() if value is not None}
