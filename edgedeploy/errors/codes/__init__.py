"""The catalogue of diagnostic codes: one file per area, each a ``CODES`` table.

Ranges: E0xx verdicts, E1xx usage, profile and target, E2xx model and data, E3xx build,
E4xx device, E5xx tool, E6xx store, E7xx integrity, E8xx applications, E9xx bug.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import NamedTuple


class Explanation(NamedTuple):
    """What a code means: a title (one line) and prose with cause and way out."""

    title: str
    text: str


def catalogue() -> dict[str, Explanation]:
    """Return every code with its explanation, sorted by code."""
    found: dict[str, Explanation] = {}
    for module in pkgutil.iter_modules(__path__):
        table = importlib.import_module(f"{__name__}.{module.name}").CODES
        found.update(table)
    return dict(sorted(found.items()))
