"""The candidates of a target: what a profile's ``quantize:`` may mean there, best first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from edgedeploy.profile.types import QuantizeSpec
from edgedeploy.quant.scheme import Scheme, scheme_for

Kind = Literal["w8a8", "fp8", "w8a16", "w8", "w4", "dynamic", "fp16", "float"]

PREFERRED: tuple[Kind, ...] = ("w8a8", "fp8", "dynamic", "w4", "w8", "fp16")
"""What ``auto`` tries, where it is legal; the modes with fast kernels on the target go first."""

WEIGHT_ONLY: tuple[Kind, ...] = ("w4", "w8")
"""Kinds that ``auto`` takes only where they are fast: the arithmetic stays in float."""

LEAST_SHARE: Mapping[str, float] = {
    **dict.fromkeys(("none", "float"), 1.0),
    "fp16": 1 / 2,
    **dict.fromkeys(("w8a8", "fp8", "w8a16", "w8", "dynamic"), 1 / 4),
    "w4": 1 / 8,
}
"""What is left at least of the bytes of float weights, by mode or kind of candidate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to represent the model's numbers.

    Attributes:
        name: Stable name, unique among a target's candidates.
        kind: Which steps make it.
        scheme: How to quantize; None where ``kind`` is ``fp16`` or ``float``.
        reason: Why it stands where it stands, one sentence for the report.
    """

    name: str
    kind: Kind
    scheme: Scheme | None
    reason: str


_REASONS: Mapping[Kind, str] = {
    "w8a8": "Every layer on integers: a quarter of the size.",
    "fp8": "Every layer on 8-bit floats: a quarter of the size.",
    "dynamic": "Matrix products on integers, their ranges found at run time.",
    "w4": "4-bit weights, float arithmetic.",
    "w8": "8-bit weights, float arithmetic.",
    "fp16": "Half the size, with little loss of accuracy.",
}
FLOAT = Candidate(
    name="float", kind="float", scheme=None, reason="The model as it is: what always passes."
)


def candidates(
    target_defaults: Mapping[str, Any],
    spec: QuantizeSpec,
    legal: Iterable[str],
    fast: Iterable[str],
) -> tuple[Candidate, ...]:
    """Return what may be tried, best first; never empty.

    ``auto`` finds more while it searches (:mod:`edgedeploy.quant.search`): mixtures of the first.

    Args:
        target_defaults: As in :func:`scheme_for`.
        spec: The profile's ``quantize:`` for the target; any mode but ``auto`` gives one candidate.
        legal: Modes that the target can take.
        fast: Those of them that are documented to have fast kernels there.
    """
    if spec.mode == "none":
        return (FLOAT,)
    if spec.mode != "auto":
        one = _candidate(spec.mode, spec, target_defaults, "The profile asks for it.")
        return (one if spec.method == "own" else replace(one, name=f"{one.name}-{spec.method}"),)
    allowed, quick = set(legal), set(fast)
    kinds = [
        kind for kind in PREFERRED if kind in allowed and (kind in quick or kind not in WEIGHT_ONLY)
    ]
    kinds.sort(key=lambda kind: kind not in quick)
    found = []
    for kind in kinds:
        slow = "" if kind in quick else " No fast kernels are known on this target."
        found.append(_candidate(kind, spec, target_defaults, _REASONS[kind] + slow))
    return (*found, FLOAT)


def _candidate(
    kind: Kind, spec: QuantizeSpec, target_defaults: Mapping[str, Any], reason: str
) -> Candidate:
    if kind == "fp16" or kind == "float":
        return Candidate(name=kind, kind=kind, scheme=None, reason=reason)
    scheme = scheme_for(replace(spec, mode=kind), target_defaults)
    return Candidate(name=kind, kind=kind, scheme=scheme, reason=reason)
