"""Shapes of inputs that an app may choose: ranges, or a list of shapes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgedeploy.backends.apple.interface import Port
from edgedeploy.backends.apple.mil_api import ct
from edgedeploy.errors import BuildError, Diagnostic

UNNAMED = "None"
"""What stands for the name of a dim that has none."""

MOST_SHAPES = 128
"""Of one input. Source: coremltools guide, "Flexible Input Shapes" (EnumeratedShapes)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What sizes the open dims of a model may take.

    Attributes:
        ranges: Lowest and highest by name.
        listed: All of them by name; goes before ``ranges``.
    """

    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    listed: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def check(self, inputs: Sequence[Port]) -> None:
        """Let inputs pass whose open dims all have sizes that Core ML can be told.

        Raises:
            BuildError: A dim without sizes, or too many shapes (E348), all at once.
        """
        found = [*self._unknown(inputs), *self._too_many(inputs)]
        if found:
            raise BuildError(found)

    def _unknown(self, inputs: Sequence[Port]) -> Iterator[Diagnostic]:
        for port in inputs:
            for axis, dim in enumerate(port.dims):
                if isinstance(dim, str) and dim not in self.ranges and dim not in self.listed:
                    yield _without_limits(port, axis, dim)

    def _too_many(self, inputs: Sequence[Port]) -> Iterator[Diagnostic]:
        listed = [port for port in inputs if any(dim in self.listed for dim in port.dims)]
        for port in listed[1:]:
            yield Diagnostic(
                code="E348",
                message=f"Core ML: shapes of {listed[0].onnx_name!r} and of {port.onnx_name!r} are "
                "listed, and only one input may have a list",
                subject=port.onnx_name,
                hint="set `shapes: range` for this target, or bind one of them",
            )
        for port in listed:
            count = len(list(self._shapes(port.dims)))
            if count > MOST_SHAPES:
                yield Diagnostic(
                    code="E348",
                    message=f"Core ML: {port.onnx_name!r} would have {count} shapes, at most "
                    f"{MOST_SHAPES} can be listed",
                    subject=port.onnx_name,
                    hint="use larger steps or fewer buckets, or set `shapes: range`",
                )

    def _shapes(self, dims: Sequence[int | str]) -> Iterator[tuple[int, ...]]:
        """Yield every shape of an input whose sizes are listed."""
        names = list(dict.fromkeys(dim for dim in dims if isinstance(dim, str)))
        for sizes in itertools.product(*(self.listed[name] for name in names)):
            chosen = dict(zip(names, sizes, strict=True))
            yield tuple(dim if isinstance(dim, int) else chosen[dim] for dim in dims)

    def shape(self, dims: Sequence[int | str]) -> Any:
        """Return the shape of an input as coremltools takes it."""
        if any(dim in self.listed for dim in dims):
            return ct.EnumeratedShapes(shapes=list(self._shapes(dims)))
        return [
            dim if isinstance(dim, int) else ct.RangeDim(*self.ranges[dim]) for dim in dims
        ] or [1]


def _without_limits(port: Port, axis: int, dim: str) -> Diagnostic:
    words = f"`inputs: {{{port.onnx_name}: {{shape: [...]}}}}`"
    if dim != UNNAMED:
        words = f"`dims: {{{dim}: 1..8}}`"
    return Diagnostic(
        code="E348",
        message=f"Core ML: axis {axis} of {port.onnx_name!r} has no limits",
        subject=port.onnx_name,
        hint=f"give its dim a size, a range or buckets in the profile, such as {words}",
    )
