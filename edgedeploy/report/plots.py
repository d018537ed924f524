"""The plots of the HTML report, drawn as SVG: no script, no font, no request.

Colours are classes that the page's style sheet defines for light and dark; every plot has a title
and a description for those who do not see it, and repeats its figures as text.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgedeploy.report.document import Interval, LayerReport
from edgedeploy.report.figures import number

_WIDTH = 360
_LABEL_ROOM = 118
_LAYERS_SHOWN = 15
_SHORTEST_MS = 1e-6  # one nanosecond, what the clock tells
SERIES = 8
"""Number of series colours that the style sheet defines (``s0`` is the float model)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar: what it is, its figure as drawn and as text, and its series colour."""

    label: str
    value: Interval | None
    text: str
    series: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One latency distribution: the 0th, 1st ... 100th percentile in ms."""

    label: str
    quantiles_ms: tuple[float, ...]
    series: int


def bars(identity: str, title: str, items: Sequence[Bar]) -> str:
    """Return horizontal bars from zero, with whiskers for the confidence intervals."""
    known = [item.value for item in items if item.value is not None]
    top = max((max(v.value, v.high or 0.0) for v in known), default=0.0) or 1.0
    room = _WIDTH - _LABEL_ROOM
    parts = []
    for row, item in enumerate(items):
        y = 40 * row
        parts.append(_text(0, y + 14, item.label, "label"))
        parts.append(f'<rect class="track" x="0" y="{y + 20}" width="{room}" height="10" rx="3"/>')
        if item.value is not None:
            width = max(1.0, room * max(0.0, item.value.value) / top)
            parts.append(
                f'<rect class="fill s{item.series}" x="0" y="{y + 20}" width="{_n(width)}"'
                ' height="10" rx="3"/>'
            )
            parts += _whisker(item.value, room / top, y + 25)
        parts.append(_text(room + 10, y + 29, item.text, "figure"))
    says = "; ".join(f"{item.label}: {item.text}" for item in items)
    return _svg(identity, title, says, 40 * len(items), parts)


def _whisker(value: Interval, scale: float, y: float) -> list[str]:
    if value.low is None or value.high is None or value.low == value.high:
        return []
    low, high = _n(max(0.0, value.low) * scale), _n(value.high * scale)
    path = f"M{low} {y}H{high}M{low} {y - 4}v8M{high} {y - 4}v8"
    return [f'<path class="whisker" d="{path}"/>']


def distribution(identity: str, title: str, curves: Sequence[Curve]) -> str:
    """Return the share of inferences that took at most so long, one curve per artifact.

    The axis is logarithmic, so that one slow inference does not squeeze everything else.
    """
    low = max(_SHORTEST_MS, min(curve.quantiles_ms[0] for curve in curves))
    high = max(low, *(curve.quantiles_ms[-1] for curve in curves))
    left, width, height = 38.0, _WIDTH - 50.0, 190.0
    span = math.log(high / low) or 1.0

    def place(ms: float) -> float:
        return left + width * max(0.0, math.log(max(ms, low) / low)) / span

    parts = []
    for percent in (0, 25, 50, 75, 100):
        y = 8 + height * (1 - percent / 100)
        parts.append(f'<path class="grid" d="M{_n(left)} {_n(y)}h{_n(width)}"/>')
        parts.append(_text(left - 6, y + 4, f"{percent} %", "tick end"))
    for tick in log_ticks(low, high):
        x = place(tick)
        parts.append(f'<path class="grid" d="M{_n(x)} 8v{_n(height)}"/>')
        parts.append(_text(x, height + 24, f"{tick:g}", "tick middle"))
    parts.append(_text(left + width / 2, height + 42, "latency in ms (log)", "tick middle"))
    for curve in curves:
        points = " ".join(
            f"{_n(place(ms))},{_n(8 + height * (1 - percent / 100))}"
            for percent, ms in enumerate(curve.quantiles_ms)
        )
        parts.append(f'<polyline class="line s{curve.series}" points="{points}"/>')
    says = "; ".join(
        f"{curve.label}: half within {number(curve.quantiles_ms[50])} ms, 99 % within"
        f" {number(curve.quantiles_ms[99])} ms, all within {number(curve.quantiles_ms[100])} ms"
        for curve in curves
    )
    return _svg(identity, title, says, height + 50, parts)


def log_ticks(low: float, high: float) -> list[float]:
    """Return readable ticks between two positive values, four to eight of them where possible."""
    finest = [i / 10 for i in range(10, 100)]
    for steps in ((1,), (1, 3), (1, 2, 5), range(1, 10), finest):
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        found = [
            float(f"{step}e{power}")
            for power in range(first, last + 1)
            for step in steps
            if low <= float(f"{step}e{power}") <= high
        ]
        if len(found) >= 4:
            return found[:: math.ceil(len(found) / 8)]
    return sorted({float(f"{low:.3g}"), float(f"{high:.3g}")})


def layers(identity: str, title: str, items: Sequence[LayerReport], series: int) -> str:
    """Return the slowest layers as bars, the rest summed up as text."""
    ordered = sorted(items, key=lambda item: (-item.mean_ms, item.name))
    shown, rest = ordered[:_LAYERS_SHOWN], ordered[_LAYERS_SHOWN:]
    total = sum(item.mean_ms for item in items) or 1.0
    found = [
        Bar(
            label=f"{item.name} ({item.op})",
            value=Interval(value=item.mean_ms),
            text=f"{number(item.mean_ms)} ms, {item.mean_ms / total:.0%}",
            series=series,
        )
        for item in shown
    ]
    if rest:
        left = sum(item.mean_ms for item in rest)
        text = f"{number(left)} ms, {left / total:.0%}"
        label = f"{len(rest)} other layers"
        found.append(Bar(label=label, value=None, text=text, series=series))
    return bars(identity, title, found)


def _svg(identity: str, title: str, says: str, height: float, parts: Sequence[str]) -> str:
    name = html.escape(identity)
    return (
        f'<svg role="img" viewBox="0 0 {_WIDTH} {_n(height)}" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{html.escape(title)}</title>'
        f'<desc id="{name}-d">{html.escape(says)}</desc>{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, kind: str) -> str:
    shown = text if len(text) <= 52 else f"{text[:25]}…{text[-26:]}"
    return f'<text class="{kind}" x="{_n(x)}" y="{_n(y)}">{html.escape(shown)}</text>'


def _n(value: float | str) -> str:
    return f"{float(value):.2f}".rstrip("0").rstrip(".")
