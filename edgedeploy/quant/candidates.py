"""The candidates of ``quantize: auto``: what is tried on a target, in order.

The first candidate that passes the profile's gates is shipped; float, the last, always exists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from edgedeploy.profile.types import QuantizeSpec
from edgedeploy.quant.scheme import Scheme, scheme_for


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
    kind: Literal["w8a8", "w8a16", "w8", "w4", "dynamic", "fp16", "float"]
    scheme: Scheme | None
    reason: str


_FP16 = Candidate(
    name="fp16", kind="fp16", scheme=None, reason="Half the size, with little loss of accuracy."
)
FLOAT = Candidate(
    name="float", kind="float", scheme=None, reason="The model as it is: what always passes."
)


def candidates(
    target_defaults: Mapping[str, Any], spec: QuantizeSpec, ops: Iterable[str]
) -> tuple[Candidate, ...]:
    """Return what is tried, best first; never empty.

    Args:
        target_defaults: As in :func:`scheme_for`.
        spec: The profile's ``quantize:`` for the target; any mode but ``auto`` gives one candidate.
        ops: What :func:`edgedeploy.quant.layers.layer_ops` returns for the model; without a common
            op there is no integer candidate.
    """
    if spec.mode == "none":
        return (FLOAT,)
    if spec.mode == "fp16":
        return (_FP16,)
    scheme = scheme_for(spec, target_defaults)
    if spec.mode != "auto":
        reason = "The profile asks for it."
        name = spec.mode if spec.method == "own" else f"{spec.mode}-{spec.method}"
        return (Candidate(name=name, kind=spec.mode, scheme=scheme, reason=reason),)
    usable = set(scheme.ops) - set(scheme.keep_float_ops)
    integer = _integer_candidates(scheme, spec) if usable.intersection(ops) else ()
    return (*integer, _FP16, FLOAT)


def _integer_candidates(scheme: Scheme, spec: QuantizeSpec) -> tuple[Candidate, ...]:
    found = [
        Candidate(
            name="w8a8",
            kind="w8a8",
            scheme=scheme,
            reason="Every layer on integers: the smallest, and the fastest where kernels exist.",
        )
    ]
    if spec.ranges is None:
        other: Literal["minmax", "average"] = "average" if scheme.ranges == "minmax" else "minmax"
        found.append(
            Candidate(
                name=f"w8a8-{other}",
                kind="w8a8",
                scheme=replace(scheme, ranges=other),
                reason="As small and fast; for models whose rare large activations matter."
                if other == "minmax"
                else "As small and fast; for models whose rare large activations do not matter.",
            )
        )
    roles = tuple(dict.fromkeys((*scheme.keep_float_roles, "depthwise", "first", "last")))
    found.append(
        Candidate(
            name="w8a8-edges-float",
            kind="w8a8",
            scheme=replace(scheme, keep_float_roles=roles),
            reason="The layers that 8 bits hurt most stay in float: depthwise, first and last.",
        )
    )
    return tuple(found)
