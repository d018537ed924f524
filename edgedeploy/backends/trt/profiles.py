"""Optimisation profiles: for which sizes an engine holds, and for which of them it is tuned.

Every open dim of a network gets a lowest, a most wanted and a highest size. Source: NVIDIA TensorRT
documentation, "Working with Dynamic Shapes", section "Optimization Profiles".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgedeploy.errors import BuildError, Diagnostic
from edgedeploy.profile.dims import format_dim, takes
from edgedeploy.profile.types import DimSpec
from edgedeploy.signature import TensorSpec

MOST_PROFILES = 16
"""Of one engine. An engine grows with each; as many as a model may have variants of buckets."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The shapes of one input in one profile.

    Attributes:
        low: The lowest size of every axis.
        opt: What kernels are tuned for.
        high: The highest size of every axis.
    """

    low: Shape
    opt: Shape
    high: Shape

    def to_json(self) -> dict[str, list[int]]:
        """Return the shapes as JSON data, by the names that TensorRT has for them."""
        return {"min": list(self.low), "opt": list(self.opt), "max": list(self.high)}


OptimisationProfile = Mapping[str, Sizes]
"""Sizes by the name of an input; every input of the network is there."""


def optimisation_profiles(
    inputs: Sequence[TensorSpec], dims: Mapping[str, DimSpec], opt: Mapping[str, Any] | None = None
) -> tuple[OptimisationProfile, ...]:
    """Return the profiles of a network; none where all of its sizes are fixed.

    A range gives one profile, tuned for ``opt`` or else the size in the middle. Buckets give a
    profile of fixed sizes for each of them: kernels are then chosen for these sizes alone.

    Args:
        inputs: Of the network, in its order.
        dims: What sizes an open dim may take, by its name.
        opt: The size to tune for by the name of a dim that has a range.

    Raises:
        BuildError: A dim without limits, an ``opt`` that names no range or a size outside of it,
            or more than :data:`MOST_PROFILES` combinations of buckets (E335), all at once.
    """
    wanted = opt or {}
    found = [*_without_limits(inputs, dims), *_bad_opt(inputs, dims, wanted)]
    names = _open_dims(inputs)
    bucketed = {name: dims[name].buckets for name in names if name in dims and dims[name].buckets}
    combined = list(itertools.product(*bucketed.values()))
    if len(combined) > MOST_PROFILES:
        found.append(
            Diagnostic(
                code="E335",
                message=f"the buckets combine to {len(combined)} optimisation profiles, an engine "
                f"gets at most {MOST_PROFILES}",
                subject=", ".join(bucketed),
                hint="give fewer buckets, or a range",
            )
        )
    if found:
        raise BuildError(found)
    if not names:
        return ()
    return tuple(
        _profile(inputs, dims, wanted, dict(zip(bucketed, sizes, strict=True)))
        for sizes in combined
    )


def middle(dim: DimSpec) -> int:
    """Return the size in the middle of a range, on its steps."""
    low, high = dim.low or 1, dim.high or 1
    return low + (high - low) // 2 // dim.step * dim.step


def _profile(
    inputs: Sequence[TensorSpec],
    dims: Mapping[str, DimSpec],
    opt: Mapping[str, Any],
    buckets: Mapping[str, int],
) -> OptimisationProfile:
    """Return the profile for one combination of buckets."""

    def sizes(axis: int | str) -> tuple[int, int, int]:
        if isinstance(axis, int):
            return axis, axis, axis
        if axis in buckets:
            return (buckets[axis],) * 3
        dim = dims[axis]
        if dim.fixed is not None:
            return (dim.fixed,) * 3
        return dim.low or 1, opt.get(axis, middle(dim)), dim.high or 1

    found = {}
    for spec in inputs:
        axes = [sizes(axis) for axis in spec.dims or () if axis is not None]
        low, best, high = zip(*axes, strict=True) if axes else ((), (), ())
        found[spec.name] = Sizes(low=low, opt=best, high=high)
    return found


def _open_dims(inputs: Sequence[TensorSpec]) -> list[str]:
    """Return the names of the open dims, each once, in the order of the inputs."""
    axes = (axis for spec in inputs for axis in spec.dims or ())
    return list(dict.fromkeys(axis for axis in axes if isinstance(axis, str)))


def _without_limits(
    inputs: Sequence[TensorSpec], dims: Mapping[str, DimSpec]
) -> Iterator[Diagnostic]:
    for spec in inputs:
        if spec.dims is None:
            yield Diagnostic(
                code="E335",
                message=f"the rank of {spec.name!r} is not known",
                subject=spec.name,
                hint="state its shape under `inputs:` in the profile",
            )
        for place, axis in enumerate(spec.dims or ()):
            if isinstance(axis, int) or axis in dims:
                continue
            words = f"`dims: {{{axis}: 1..8}}`"
            if axis is None:
                words = f"`inputs: {{{spec.name}: {{shape: [...]}}}}`"
            yield Diagnostic(
                code="E335",
                message=f"axis {place} of {spec.name!r} has no limits",
                subject=spec.name,
                hint=f"give its dim a size, a range or buckets in the profile, such as {words}",
            )


def _bad_opt(
    inputs: Sequence[TensorSpec], dims: Mapping[str, DimSpec], opt: Mapping[str, Any]
) -> Iterator[Diagnostic]:
    names = [
        name
        for name in _open_dims(inputs)
        if name in dims and dims[name].fixed is None and not dims[name].buckets
    ]
    for name, size in opt.items():
        if name not in names:
            yield Diagnostic(
                code="E335",
                message=f"`opt` names {name!r}, which is no dim with a range",
                subject=name,
                hint=f"dims with a range: {', '.join(names) or 'none'}",
            )
        elif type(size) is not int or not takes(dims[name], size):
            yield Diagnostic(
                code="E335",
                message=f"`opt` tunes {name} for {size!r}, which is not within "
                f"{format_dim(dims[name])}",
                subject=name,
                hint="name a size of the range",
            )
