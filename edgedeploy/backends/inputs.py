"""Checking what is fed to a runner against the artifact's own signature.

Imported by runners inside other Python environments: the standard library and NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgedeploy.errors import BuildError, Diagnostic
from edgedeploy.signature import TensorSpec

Inputs = Mapping[str, np.ndarray]

Bounds = Sequence[tuple[int, int | None]]
"""Lowest and highest size (None: no limit) per axis."""


def checked_inputs(
    specs: Sequence[TensorSpec],
    inputs: Inputs,
    bounds: Mapping[str, Bounds] | None = None,
) -> dict[str, np.ndarray]:
    """Return the inputs in the order of the signature, contiguous.

    Args:
        specs: The inputs that the artifact states.
        inputs: Arrays by input name.
        bounds: Size limits by input name for axes that are dynamic within limits.

    Raises:
        BuildError: Missing or unknown names (E331), another dtype (E332), another rank or another
            size of a fixed axis (E333); all findings at once.
    """
    names = [spec.name for spec in specs]
    found = [
        Diagnostic(
            code="E331",
            message=f"input {name!r} is not given",
            subject=name,
            hint=f"give all inputs: {', '.join(names)}",
        )
        for name in names
        if name not in inputs
    ]
    found += [
        Diagnostic(
            code="E331",
            message=f"the artifact has no input {name!r}",
            subject=name,
            hint=f"its inputs are: {', '.join(names) or 'none'}",
        )
        for name in inputs
        if name not in names
    ]
    for spec in specs:
        if spec.name in inputs:
            value = np.asarray(inputs[spec.name])
            found += _findings(spec, value, (bounds or {}).get(spec.name))
    if found:
        raise BuildError(found)
    return {spec.name: _contiguous(inputs[spec.name], spec) for spec in specs}


def _contiguous(value: Any, spec: TensorSpec) -> np.ndarray:
    array = np.asarray(value)
    if spec.dtype == "string":
        return array.astype(object)
    return np.ascontiguousarray(array).reshape(array.shape)


def _findings(spec: TensorSpec, value: np.ndarray, bounds: Bounds | None) -> list[Diagnostic]:
    given = "string" if value.dtype.kind in "OUS" else value.dtype.name
    if given != spec.dtype:
        return [
            Diagnostic(
                code="E332",
                message=f"input {spec.name!r} has dtype {given}, the artifact takes {spec.dtype}",
                subject=spec.name,
                hint=f"convert it to {spec.dtype}",
            )
        ]
    if spec.dims is None:
        return []
    wanted = "[" + ", ".join("?" if dim is None else str(dim) for dim in spec.dims) + "]"
    if value.ndim != len(spec.dims):
        return [_shape_finding(spec.name, value.shape, wanted)]
    limits = bounds or [(0, None)] * value.ndim
    fits = all(
        size == dim if isinstance(dim, int) else low <= size <= (size if high is None else high)
        for size, dim, (low, high) in zip(value.shape, spec.dims, limits, strict=True)
    )
    if fits:
        return []
    if bounds:
        wanted += " with sizes " + ", ".join(
            f"{low}..{'' if high is None else high}" for low, high in bounds
        )
    return [_shape_finding(spec.name, value.shape, wanted)]


def _shape_finding(name: str, shape: tuple[int, ...], wanted: str) -> Diagnostic:
    return Diagnostic(
        code="E333",
        message=f"input {name!r} has shape {list(shape)}, the artifact takes {wanted}",
        subject=name,
        hint="feed the shape that the artifact was built for, or build it with other dims",
    )
