"""What kind of file one is, and which models take it; nothing is read or run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgedeploy.data.sources import SUFFIXES
from edgedeploy.errors import UsageError
from edgedeploy.profile.semantics import DECODERS_OF
from edgedeploy.profile.types import ModelSpec

_KINDS: Mapping[str, frozenset[str]] = {
    "picture": SUFFIXES["images"],
    "sound": SUFFIXES["audio"],
    "arrays": SUFFIXES["numpy"],
    "text": frozenset({".txt"}),
}

SHOWN: Mapping[str, str] = {
    "picture": "a picture",
    "sound": "a sound",
    "arrays": "arrays",
    "text": "a text",
}
"""What a file of a kind is called in a sentence."""


def kind_of(file: Path) -> str:
    """Return ``picture``, ``sound``, ``text`` or ``arrays``, by the end of a file's name.

    Raises:
        UsageError: There is no such file, or it is of no kind that is known (E850).
    """
    if not file.is_file():
        raise UsageError(
            f"there is no file {file}", code="E850", subject=str(file), hint="check the path"
        )
    suffix = file.suffix.lower()
    for kind, suffixes in _KINDS.items():
        if suffix in suffixes:
            return kind
    known = "; ".join(f"{kind}: {', '.join(sorted(ends))}" for kind, ends in _KINDS.items())
    raise UsageError(
        f"{file.name} is of no kind that can be tried",
        code="E850",
        subject=str(file),
        hint=f"give a file that ends in one of these: {known}",
    )


def kinds_of(model: ModelSpec, inputs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the kinds of files that a model takes.

    Args:
        model: The profile's words on it.
        inputs: The model's inputs, :class:`edgedeploy.signature.TensorSpec` as JSON data.
    """
    words = model.inputs.values()
    state = {pair.input for pair in model.state}
    given = [
        item
        for item in inputs
        if item["name"] not in state
        and (item["name"] not in model.inputs or model.inputs[item["name"]].value is None)
    ]
    found = ["arrays"]
    if any(spec.image is not None for spec in words):
        found.insert(0, "picture")
    if any(spec.audio is not None for spec in words):
        found.insert(0, "sound")
    if len(given) == 1 and given[0]["dtype"] == "string":
        found.insert(0, "text")
    return tuple(found)


def answers_boxes(model: ModelSpec) -> bool:
    """Whether a model's answers are boxes."""
    return model.decode is not None and model.decode.name in DECODERS_OF["map"]
