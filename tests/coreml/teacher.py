"""Quantized models layer by layer, each layer fed what ONNX Runtime computed before it.

End to end, one value at the boundary of two integers that falls on its other side changes what all
later layers get, and a model may amplify that without end: the outputs of two right runtimes differ
by more than a defect would make. Here no difference is carried on. A model is cut at its quantized
tensors into pieces, from quantized inputs to quantized outputs; each piece gets the inputs that
ONNX Runtime without optimisation computed for it, so that its outputs differ from ONNX Runtime's by
one last addition at most: by one quantum, where the float value is next to the boundary of two.

:func:`taught` converts the pieces. :func:`examined` turns the roles round: the whole package runs
as it is, and ONNX Runtime computes each piece from the package's own quantized tensors, which shows
that no pass of the converter works across the cuts.

``python -m tests.coreml.teacher [NAME ...]`` prints what it finds of the models of
:mod:`tests.coreml.models`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgedeploy.backends.apple.runner import CoreMlRunner
from edgedeploy.backends.apple.translate import identifiers
from edgedeploy.mil.program import Operation
from tests.coreml.models import (
    MODELS,
    Inputs,
    Package,
    Reference,
    fed,
    normal_form,
    quantized_form,
)

NEAR = 1e-3
"""How near to the boundary of two integers a float must be that may be rounded to either.

In quanta, of which a tensor has up to 127 on either side of 0: 8e-6 of the largest value.
"""

NEAR_IN = {"magika": 0.05}
"""The same for models with a layer that loses more of its floats' bits.

magika takes a variance over 131072 values as ``E[x^2] - E[x]^2``. Against the same layer in
float64 the float32 of ONNX Runtime is up to 0.039 quanta off, that of the package 0.0005.
"""

SHARE = 1e-4
"""The share of all quantized values that may be rounded to the other integer."""

LIVELY = 16
"""How many different integers at least half of the tensors have: equal values prove little."""

FLOATS = 1e-5
"""How far float outputs may be, as a share of the largest value of the output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A quantized tensor: the output of a QuantizeLinear that is no constant.

    Attributes:
        before: The float that is quantized.
        integers: The quantized tensor.
        after: The float that a DequantizeLinear makes of it.
        scale: The size of a quantum.
        zero: The integer that stands for 0.
    """

    before: str
    integers: str
    after: str
    scale: float
    zero: int

    def floats(self, integers: np.ndarray) -> np.ndarray:
        """Return what integers stand for."""
        return (integers.astype(np.int32) - self.zero).astype(np.float32) * np.float32(self.scale)


def edges(model: onnx.ModelProto) -> list[Edge]:
    """Return the quantized tensors of a model, in the order of its nodes.

    Raises:
        ValueError: One is read by something else than DequantizeLinear, or has several scales.
    """
    constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear":
            continue
        (integers,) = node.output
        readers = [item for item in model.graph.node if integers in item.input]
        if not readers or {item.op_type for item in readers} != {"DequantizeLinear"}:
            raise ValueError(f"{integers!r} is read by {[item.op_type for item in readers]}")
        scale, zero = (constants[name] for name in node.input[1:])
        if scale.size != 1:
            raise ValueError(f"{integers!r} has {scale.size} scales")
        found.append(
            Edge(
                before=node.input[0],
                integers=integers,
                after=readers[0].output[0],
                scale=float(scale.reshape(())),
                zero=int(zero.reshape(())),
            )
        )
    return found


def exposed(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """Return a model with further values among its outputs."""
    made = _copy(model)
    known = {item.name for item in made.graph.output}
    for name in dict.fromkeys(names):
        if name not in known:
            made.graph.output.append(onnx.ValueInfoProto(name=name))
    return made


def _given(edge: Edge) -> str:
    return f"{edge.integers}__given"


def cut(model: onnx.ModelProto, found: Sequence[Edge], values: Inputs) -> onnx.ModelProto:
    """Return all pieces of a model as one model, side by side.

    A quantized tensor becomes an output. What read it reads a new input instead: a float that holds
    what the tensor stands for, and that passes a QuantizeLinear of the same parameters, which gives
    back the very integers. So a piece begins and ends with the same pairs as in the whole model,
    and what a converter does to these it does here as well.

    Args:
        model: The quantized model.
        found: Its quantized tensors.
        values: A value of every :attr:`Edge.after`, for its shape.
    """
    made = _copy(model)
    names = {edge.integers: edge for edge in found}
    nodes = []
    for node in model.graph.node:
        changed = onnx.NodeProto()
        changed.CopyFrom(node)
        for place, name in enumerate(node.input):
            if name in names:
                changed.input[place] = f"{name}__again"
        nodes.append(changed)
        if node.output[0] in names:
            again = onnx.NodeProto()
            again.CopyFrom(node)
            again.name, again.input[0] = f"{node.name}__again", _given(names[node.output[0]])
            again.output[0] = f"{node.output[0]}__again"
            nodes.append(again)
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    kinds = {item.name: item.data_type for item in model.graph.initializer}
    zeros = {node.output[0]: node.input[2] for node in model.graph.node if node.output[0] in names}
    for edge in found:
        shape = values[edge.after].shape
        made.graph.input.append(
            helper.make_tensor_value_info(_given(edge), onnx.TensorProto.FLOAT, shape)
        )
        made.graph.output.append(
            helper.make_tensor_value_info(edge.integers, kinds[zeros[edge.integers]], shape)
        )
    return onnx.shape_inference.infer_shapes(made)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made


def pieces(model: onnx.ModelProto) -> int:
    """Return into how many parts that share no computed value a model falls."""
    constants = {item.name for item in model.graph.initializer}
    parts: list[set[str]] = []
    for node in model.graph.node:
        names = ({*node.input} - constants - {""}) | {*node.output}
        if names == {*node.output}:
            constants |= names  # a weight
            continue
        apart = [part for part in parts if not part & names]
        parts = [*apart, names.union(*(part for part in parts if part & names))]
    return len(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A quantized output of a piece, over all samples.

    Attributes:
        name: The tensor.
        elements: How many values were compared.
        off: How many of them differ.
        worst: The largest difference, in quanta.
        different: How many different integers there are.
        distance: How far from a boundary of two integers the farthest value is that differs, as
            ONNX Runtime computed it, in quanta.
    """

    name: str
    elements: int
    off: int
    worst: int
    different: int
    distance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What comparing piece by piece found.

    Attributes:
        pieces: How many there are.
        layers: The quantized outputs.
        floats: By the other outputs, the largest difference as a share of the largest value.
    """

    pieces: int
    layers: tuple[Layer, ...]
    floats: Mapping[str, float]

    @property
    def share(self) -> float:
        """The share of all quantized values that differ."""
        return sum(item.off for item in self.layers) / sum(item.elements for item in self.layers)

    def wrong(self, near: float = NEAR) -> list[str]:
        """Return what is more than the rounding of single floats, in words; nothing if right.

        Args:
            near: How far from a boundary a value may be that differs, in quanta.
        """
        found = [
            f"{item.name}: {item.off} of {item.elements} differ, by up to {item.worst} quanta, "
            f"{item.distance:.2g} from a boundary"
            for item in self.layers
            if item.worst > 1 or item.distance > near
        ]
        if np.median([item.different for item in self.layers]) < LIVELY:
            found.append("most tensors hold nearly the same integer everywhere")
        if self.share > SHARE:
            found.append(f"{self.share:.2g} of all values differ")
        outputs = ((name, share) for name, share in self.floats.items() if share > FLOATS)
        return found + [f"{name}: differs by {share:.2g}" for name, share in outputs]

    def __str__(self) -> str:
        """Return it in one line."""
        distance = max((item.distance for item in self.layers), default=0)
        return (
            f"{self.pieces} pieces, {len(self.layers)} quantized tensors, "
            f"{sum(item.elements for item in self.layers)} values; worst "
            f"{max((item.worst for item in self.layers), default=0)} quanta, off by one "
            f"{self.share:.1e} ({sum(item.off for item in self.layers)}), at most {distance:.1e} "
            f"quanta from a boundary; float outputs {max(self.floats.values(), default=0):.1e}"
        )


def taught(model: Path, folder: Path, given: Sequence[Inputs], *, ios: int = 17) -> Lesson:
    """Compare the pieces of a quantized model with ONNX Runtime, as a saved Core ML package.

    Args:
        model: The quantized model.
        folder: Where to work; made here.
        given: Samples, all of the same shapes.
        ios: Major version of iOS.
    """
    folder.mkdir()
    whole = onnx.load(model)
    found = edges(whole)
    names = [name for edge in found for name in (edge.before, edge.integers, edge.after)]
    onnx.save(exposed(whole, names), folder / "exposed.onnx")
    teacher = Reference(folder / "exposed.onnx")
    wanted = [teacher.run(item) for item in given]
    parts = cut(whole, found, wanted[0])
    onnx.save(parts, folder / "pieces.onnx")
    package = Package(folder / "pieces.onnx", folder / "package", ios=ios)
    made = [
        package.run({**item, **{_given(edge): values[edge.after] for edge in found}})
        for item, values in zip(given, wanted, strict=True)
    ]
    return _lesson(whole, parts, wanted, made)


def examined(model: Path, package: Package, folder: Path, given: Sequence[Inputs]) -> Lesson:
    """Compare every piece of a whole package, as it runs, with ONNX Runtime.

    Args:
        model: The quantized model.
        package: What was made of it, in float32.
        folder: Where to work; made here.
        given: Samples, all of the same shapes.

    Raises:
        KeyError: A quantized tensor of the model is none of the package.
    """
    folder.mkdir()
    whole = onnx.load(model)
    found = edges(whole)
    names = identifiers([edge.integers for edge in found])
    seen: Inputs = {}

    def observe(operation: Operation, _: Mapping[str, Any], results: tuple[Any, ...]) -> None:
        if operation.kind == "quantize":
            seen[operation.outputs[0].name] = results[0]

    made = []
    with CoreMlRunner(package.path.parent, observe=observe) as runner:
        for item in given:
            outputs = runner.run(item)
            own = {edge.integers: seen[names[edge.integers]] for edge in found}
            made.append({**outputs, **own})
    parts = cut(whole, found, {edge.after: made[0][edge.integers] for edge in found})
    onnx.save(exposed(parts, [edge.before for edge in found]), folder / "pieces.onnx")
    teacher = Reference(folder / "pieces.onnx")
    wanted = [
        teacher.run({**item, **{_given(edge): edge.floats(own[edge.integers]) for edge in found}})
        for item, own in zip(given, made, strict=True)
    ]
    return _lesson(whole, parts, wanted, made)


def _lesson(
    whole: onnx.ModelProto,
    parts: onnx.ModelProto,
    wanted: Sequence[Inputs],
    made: Sequence[Inputs],
) -> Lesson:
    return Lesson(
        pieces=pieces(parts),
        layers=tuple(_layer(edge, wanted, made) for edge in edges(whole)),
        floats={item.name: _share(item.name, wanted, made) for item in whole.graph.output},
    )


def _layer(edge: Edge, wanted: Sequence[Inputs], made: Sequence[Inputs]) -> Layer:
    def joined(values: Sequence[Inputs], name: str) -> np.ndarray:
        return np.concatenate([item[name].ravel() for item in values])

    true = joined(wanted, edge.integers).astype(np.int64)
    apart = np.abs(joined(made, edge.integers).astype(np.int64) - true)
    exact = joined(wanted, edge.before).astype(np.float64)[apart > 0] / edge.scale
    return Layer(
        name=edge.integers,
        elements=true.size,
        off=exact.size,
        worst=int(apart.max()),
        different=np.unique(true).size,
        distance=float(np.abs(exact - np.floor(exact) - 0.5).max(initial=0)),
    )


def _share(name: str, wanted: Sequence[Inputs], made: Sequence[Inputs]) -> float:
    pairs = [
        (true[name].astype(np.float64), mine[name].astype(np.float64))
        for true, mine in zip(wanted, made, strict=True)
    ]
    largest = max(float(np.abs(true).max()) for true, _ in pairs)
    return max(float(np.abs(mine - true).max()) for true, mine in pairs) / max(largest, 1e-30)


def main(words: list[str]) -> None:
    """Print one line per model, and what is wrong with it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--ios", type=int, default=17)
    parser.add_argument("--samples", type=int, default=2)
    chosen = parser.parse_args(words)
    for name in chosen.names or MODELS:
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch)
            integers = quantized_form(name, normal_form(name, place), place)
            given = fed(name, chosen.samples)
            package = Package(integers, place / "package", ios=chosen.ios)
            lessons = {
                "pieces": taught(integers, place / "taught", given, ios=chosen.ios),
                "whole": examined(integers, package, place / "examined", given),
            }
            for kind, lesson in lessons.items():
                wrong = lesson.wrong(NEAR_IN.get(name, NEAR))
                print(f"{name}, {kind}: {lesson}", *wrong, sep="\n  ", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
