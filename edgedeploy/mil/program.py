"""A saved ML Program as plain data: functions, blocks, operations, types.

The names are those of MIL.proto (https://apple.github.io/coremltools/mlmodel/Format/MIL.html).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class TensorType:
    """Type of a tensor or scalar.

    Attributes:
        dtype: ``float16 float32 bool string int8 int16 int32 uint8 uint16 int4 uint4 uint1 ...``.
        dims: One entry per axis; None where the size is known only when it runs.
        any_rank: Whether even the number of axes is known only when it runs; ``dims`` is empty.
    """

    dtype: str
    dims: tuple[int | None, ...] = ()
    any_rank: bool = False


@dataclass(frozen=True, slots=True)
class ListType:
    """A list of tensors of one type."""

    item: TensorType


@dataclass(frozen=True, slots=True)
class StateType:
    """A tensor that keeps its value between predictions."""

    wrapped: TensorType


Type = TensorType | ListType | StateType


@dataclass(frozen=True, slots=True)
class Named:
    """A name and its type."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Ref:
    """A use of another value by its name."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation.

    Attributes:
        kind: Such as ``conv``; ``const`` for a constant.
        name: Its name in the program, the first output's where it has none.
        inputs: By parameter name, one or (for lists of tensors) several references or values.
        outputs: What it makes.
        blocks: Bodies of ``cond`` and ``while_loop``.
        attributes: Constants that belong to it, such as ``val`` of a ``const``.
    """

    kind: str
    name: str
    inputs: Mapping[str, tuple[Ref | Any, ...]]
    outputs: tuple[Named, ...]
    blocks: tuple[Block, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Operations in order of execution."""

    inputs: tuple[Named, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """An input, output or state as the package states it to apps.

    Attributes:
        name: Name of the feature.
        kind: ``array``, ``image``, or ``other`` for what an app gives in no array.
        dtype: ``float16 float32 float64 int32 int8``; empty for images.
        shapes: The shapes it may have, the default first; empty where only ``bounds`` or nothing
            is stated.
        bounds: Lowest and highest size per axis (highest None: unlimited); empty without a range.
        optional: Whether it may be left out.
    """

    name: str
    kind: str
    dtype: str
    shapes: tuple[tuple[int, ...], ...]
    bounds: tuple[tuple[int, int | None], ...] = ()
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The main function of a package, with what the package says of it.

    Attributes:
        opset: Such as ``CoreML7``.
        inputs: Inputs (and states) of the function.
        body: Its block.
        features: What an app sees: inputs, outputs, states by name.
        outputs: Names of the outputs, in order.
        metadata: Author, licence, version, description and user-defined entries.
    """

    opset: str
    inputs: tuple[Named, ...]
    body: Block
    features: Mapping[str, Feature]
    outputs: tuple[str, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
