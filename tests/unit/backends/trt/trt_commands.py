"""Recipes for tests of command lines, and what trtexec makes of its arguments."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

DEFAULTS: Mapping[str, Any] = {
    "compile_on": "device",
    "workspace": None,
    "dla": None,
    "dla_fallback": False,
    "sparsity": False,
    "refit": False,
    "version_compatible": False,
    "hardware_compatible": "none",
    "optimisation_level": 3,
    "timing_cache": True,
    "tf32": False,
}
CHOICES: Mapping[str, tuple[Any, ...]] = {
    "workspace": (None, 1 << 30),
    "dla": (None, 1),
    "dla_fallback": (False, True),
    "sparsity": (False, True),
    "refit": (False, True),
    "version_compatible": (False, True),
    "hardware_compatible": ("none", "ampere+", "same-compute-capability"),
    "optimisation_level": (0, 5),
    "timing_cache": (False, True),
    "tf32": (False, True),
}
LAYERS: Mapping[str, Mapping[str, Any]] = {
    "float32": {"default": "float32", "exceptions": {}},
    "float16": {"default": "float16", "exceptions": {"/norm/Pow": "float32"}},
    "int8": {"default": "float32", "exceptions": {}},
}
TYPES: Mapping[str, list[str]] = {
    "float32": ["float32"],
    "float16": ["float16", "float32"],
    "int8": ["float32", "int8"],
}
ONE = {"x": {"min": [1, 3, 48, 48], "opt": [1, 3, 48, 320], "max": [1, 3, 48, 960]}}
TWO = {"x": {"min": [1, 3, 48, 961], "opt": [1, 3, 48, 1000], "max": [1, 3, 48, 1920]}}


def recipe(kind: str = "float32", profiles: int = 0, **options: Any) -> dict[str, Any]:
    """Return a recipe of one kind of types, with a number of optimisation profiles."""
    return {
        "schema": 1,
        "strongly_typed": True,
        "precision": TYPES[kind],
        "layers": LAYERS[kind],
        "profiles": [ONE, TWO][:profiles],
        "options": {**DEFAULTS, **options},
        "state": [],
    }


def every_recipe() -> Iterator[dict[str, Any]]:
    """Yield every combination of options, types and numbers of profiles."""
    for values in itertools.product(*CHOICES.values()):
        options = dict(zip(CHOICES, values, strict=True))
        if options["dla_fallback"] and options["dla"] is None:
            continue
        for kind, profiles in itertools.product(TYPES, (0, 1, 2)):
            yield recipe(kind, profiles, **options)


def arguments(command: list[str]) -> list[tuple[str, str]]:
    """Return flags with their values as trtexec splits them: at the first ``=``.

    After ``argsToArgumentsMap`` in sampleOptions.cpp of TensorRT.
    """
    return [(flag, value) for flag, _, value in (item.partition("=") for item in command[1:])]


def shapes(value: str) -> dict[str, list[int]]:
    """Return the sizes by input as trtexec reads them: ``,`` ends entries, the last ``:`` a name.

    After ``getShapesBuild`` and ``splitNameAndValue`` there.
    """
    found = {}
    for entry in value.split(","):
        name, _, sizes = entry.rpartition(":")
        found[name.replace("'", "")] = [int(size) for size in sizes.split("x")]
    return found
