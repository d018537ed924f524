"""The one table of what a profile may already say but no backend can do yet.

Remove an entry when its backend lands; the schema, the types and the plan know the part already.
"""

from __future__ import annotations

from collections.abc import Mapping

QUANTIZE_MODES: Mapping[str, str] = {
    "w4a8": "4-bit weights with 8-bit activations",
    "w4a16": "4-bit weights with 16-bit activations",
}
"""Quantize mode -> what it is."""


def not_built(what: str, description: str) -> tuple[str, str]:
    """Return (message, hint) of the E137 diagnostic for an unbuilt part."""
    return (
        f"`{what}` ({description}) is not built yet",
        "remove it for now; docs/profile.md lists what this version can do",
    )
