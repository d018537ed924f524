"""In words, what differs between the keys of two runs of a stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield in words what differs between two sets of key components."""
    if before.get("code") != now["code"]:
        yield "edgedeploy's own code changed"
    for part, noun in (("tools", "tool"), ("inputs", "input"), ("fields", "target field")):
        known = before.get(part, {})
        for name in sorted({*known, *now[part]}):
            old, new = known.get(name), now[part].get(name)
            if old == new:
                continue
            if part == "inputs":
                yield f"{noun} {name} changed"
            else:
                yield f"{noun} {name} {old} -> {new}"
    known = before.get("params", {})
    for name in sorted({*known, *now["params"]}):
        old, new = known.get(name), now["params"].get(name)
        if old != new:
            yield f"{name} {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
