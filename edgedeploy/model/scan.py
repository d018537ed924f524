"""The pre-parser: decides, before any ONNX library sees the file, whether a model is acceptable.

One walk over the wire format (:mod:`edgedeploy.model.walk`). Each message is gathered into a small
dict and reduced to what is needed when it ends, so memory grows with the number of nodes and not
with the weights.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedeploy.errors import ModelError
from edgedeploy.model.external import (
    Reference,
    check_ranges,
    open_external,
    open_model,
)
from edgedeploy.model.facts import ExternalFile, Limits, ModelFacts
from edgedeploy.model.nonfinite import FLOAT_TYPES, NonFinite, count_nonfinite
from edgedeploy.model.operators import check_operators, check_versions
from edgedeploy.model.structure import Node, check_wiring
from edgedeploy.model.tensors import (
    Tensor,
    check_tensor,
    element_count,
    refuse_nonfinite,
    stored_nonfinite,
)
from edgedeploy.model.types import graph_signature
from edgedeploy.model.walk import Frame, Reduce, Walker, too_much
from edgedeploy.model.wire import chunks, malformed

_DENSE_BYTES = 1 << 31
"""Largest dense form of a sparse tensor; converters unpack it."""


@dataclass(frozen=True, slots=True)
class ExternalTensor:
    """A tensor whose data lie outside, with its message's place in the model file."""

    tensor: Tensor
    reference: Reference
    label: str
    frame: Frame


class ModelWalk:
    """One pass over a model file; the reduced content is in the attributes afterwards.

    Args:
        fd: The open model file.
        size: Its size in bytes.
        limits: What it may contain.
        allow_nonfinite: Whether NaN and infinite weights pass.

    Attributes:
        fields: The fields of the ``ModelProto``.
        externals: Tensors with external data, in file order.
        ops: Nodes by ``(domain, operator)``.
        first: Label of the first node of each operator.
        nodes: Number of nodes.
        weights: Number of stored tensors.
        weight_bytes: Their bytes.
        sparse: Number of sparse tensors.
    """

    def __init__(self, fd: int, size: int, limits: Limits, allow_nonfinite: bool) -> None:
        self._fd = fd
        self._limits = limits
        self._allow_nonfinite = allow_nonfinite
        self.externals: list[ExternalTensor] = []
        self.ops: Counter[tuple[str, str]] = Counter()
        self.first: dict[tuple[str, str], str] = {}
        self.nodes = 0
        self.weights = 0
        self.weight_bytes = 0
        self.sparse = 0
        reduce: dict[str, Reduce] = {
            "tensor": self._end_tensor,
            "sparse": self._end_sparse,
            "attribute": self._end_attribute,
            "node": self._end_node,
            "graph": self._end_graph,
            "function": self._end_function,
            "pair": lambda frame: (frame.fields.get("key", ""), frame.fields.get("value", "")),
            "opset": lambda frame: (frame.fields.get("domain", ""), frame.fields.get("version", 0)),
        }
        self.fields = Walker(fd, size, limits, reduce).run()

    def _end_tensor(self, frame: Frame) -> str:
        self.weights += 1
        if self.weights > self._limits.tensors:
            raise too_much("tensors", self._limits.tensors)
        label = frame.fields.get("name") or _where(frame)
        tensor = check_tensor(frame.fields, label, self._fd, self._limits)
        self.weight_bytes += tensor.nbytes
        if tensor.external is not None:
            self.externals.append(ExternalTensor(tensor, tensor.external, label, frame))
        elif not self._allow_nonfinite:
            refuse_nonfinite(stored_nonfinite(frame.fields, tensor, self._fd), tensor, label)
        return tensor.name

    def _end_sparse(self, frame: Frame) -> str:
        self.sparse += 1
        name: str = frame.fields.get("values") or ""
        label = name or _where(frame)
        count = element_count(frame.fields.get("dims", ()), label, self._limits)
        if count > _DENSE_BYTES:
            raise ModelError(
                f"a sparse tensor has {count} elements when unpacked",
                code="E207",
                subject=label,
                hint="export the model with a dense tensor of the size that is really used",
            )
        return name

    def _end_attribute(self, frame: Frame) -> dict[str, str] | None:
        """Return what the subgraphs of an attribute take from outside."""
        graphs = [frame.fields["g"]] if "g" in frame.fields else []
        graphs += frame.fields.get("graphs", ())
        captured: dict[str, str] = {}
        for graph in graphs:
            captured.update(graph["free"])
        return captured or None

    def _end_node(self, frame: Frame) -> Node:
        fields = frame.fields
        domain, op = fields.get("domain", ""), fields.get("op_type", "")
        key = ("" if domain == "ai.onnx" else domain, op)
        outputs = tuple(fields.get("output", ()))
        label = fields.get("name") or f"{op} -> {outputs[0] if outputs else '?'}"
        self.ops[key] += 1
        self.first.setdefault(key, label)
        self.nodes += 1
        if self.nodes > self._limits.nodes:
            raise too_much("nodes", self._limits.nodes)
        captured: dict[str, str] = {}
        for taken in fields.get("attribute", ()):
            captured.update(taken)
        return Node(label, tuple(fields.get("input", ())), outputs, captured)

    def _end_graph(self, frame: Frame) -> dict[str, Any]:
        fields = frame.fields
        initializers = fields.get("initializer", []) + fields.get("sparse_initializer", [])
        inputs = fields.get("input", [])
        outputs = fields.get("output", [])
        if "" in initializers:
            raise ModelError(
                "an initialiser has no name",
                code="E214",
                subject=fields.get("name"),
                hint="export the model again; nothing can use a nameless weight",
            )
        free = check_wiring(
            fields.get("node", ()),
            [value.get("name", "") for value in inputs],
            initializers,
            [value.get("name", "") for value in outputs],
            f"graph {fields.get('name', '')}".strip(),
        )
        return {"free": free, "input": inputs, "output": outputs, "initializer": initializers}

    def _end_function(self, frame: Frame) -> dict[str, Any]:
        fields = frame.fields
        domain, name = fields.get("domain", ""), fields.get("name", "")
        free = check_wiring(
            fields.get("node", ()),
            fields.get("input", ()),
            (),
            fields.get("output", ()),
            f"function {domain}::{name}",
        )
        refuse_missing(free)
        return {
            "key": ("" if domain == "ai.onnx" else domain, name),
            "opsets": fields.get("opset_import", ()),
        }


def _where(frame: Frame) -> str:
    """Return a name for an unnamed tensor: the named message around it."""
    around = frame.parent
    while around is not None:
        if around.fields.get("name"):
            return f"{frame.kind} in {around.kind} {around.fields['name']}"
        if around.kind == "node" and around.fields.get("output"):
            return f"{frame.kind} in the node that makes {around.fields['output'][0]}"
        around = around.parent
    return f"unnamed {frame.kind}"


def refuse_missing(free: dict[str, str]) -> None:
    """Raise E214 if a graph takes a name from outside where there is no outside."""
    for name, user in free.items():
        raise ModelError(
            f"the value {name!r} is used but nothing makes it",
            code="E214",
            subject=user,
            hint="export the model again; a node, input or initialiser is missing",
        )


@dataclass(frozen=True, slots=True)
class Scan:
    """The result of :func:`examine`: the facts, and where the external tensors stand."""

    facts: ModelFacts
    externals: tuple[ExternalTensor, ...]


def examine(fd: int, size: int, folder: Path, *, limits: Limits, allow_nonfinite: bool) -> Scan:
    """Return facts and external tensors of an open model file; raises as :func:`scan`."""
    if size == 0:
        raise malformed("it is empty", 0)
    if size > limits.model_bytes:
        raise too_much("bytes", limits.model_bytes)
    walk = ModelWalk(fd, size, limits, allow_nonfinite)
    model = walk.fields
    graph = model.get("graph")
    if graph is None:
        raise malformed("there is no graph", size)
    refuse_missing(graph["free"])
    functions = {item["key"] for item in model.get("functions", ())}
    opsets = check_versions(model.get("ir_version", 0), model.get("opset_import", ()))
    for item in model.get("functions", ()):
        check_versions(model["ir_version"], item["opsets"])
    check_operators(walk.first, opsets, functions)
    files = _check_files(walk.externals, folder, limits)
    facts = ModelFacts(
        sha256=_digest(fd, size, walk.externals, folder, allow_nonfinite),
        signature=graph_signature(graph),
        ir_version=model["ir_version"],
        opsets=opsets,
        producer=" ".join(
            filter(None, (model.get("producer_name"), model.get("producer_version")))
        ),
        ops={
            f"{domain}::{op}" if domain else op: count
            for (domain, op), count in sorted(walk.ops.items())
        },
        nodes=walk.nodes,
        functions=tuple(sorted(f"{domain}::{name}" for domain, name in functions)),
        weights=walk.weights,
        weight_bytes=walk.weight_bytes,
        sparse=walk.sparse,
        size_bytes=size,
        external=files,
        metadata=dict(model.get("metadata_props", ())),
    )
    return Scan(facts, tuple(walk.externals))


def _check_files(
    externals: list[ExternalTensor], folder: Path, limits: Limits
) -> tuple[ExternalFile, ...]:
    """Open every external file once and check all ranges against the sizes."""
    sizes: dict[str, int] = {}
    for item in externals:
        location = item.reference.location
        if location not in sizes:
            with open_external(folder, location, item.label) as (_, size):
                sizes[location] = size
    check_ranges(((item.reference, item.label) for item in externals), sizes)
    if sum(item.reference.length for item in externals) > limits.external_bytes:
        raise too_much("bytes of external data", limits.external_bytes)
    return tuple(ExternalFile(location=name, size_bytes=size) for name, size in sizes.items())


def _digest(
    fd: int,
    size: int,
    externals: list[ExternalTensor],
    folder: Path,
    allow_nonfinite: bool,
) -> str:
    """Return the digest of model and external tensors; check the latter for NaN on the way."""
    digest = hashlib.sha256()
    for part in chunks(fd, 0, size):
        digest.update(part)
    for item, data in external_bytes(externals, folder):
        checked = item.tensor.element in FLOAT_TYPES and not allow_nonfinite
        found = NonFinite()
        for part in data:
            digest.update(part)
            if checked:
                found += count_nonfinite(item.tensor.element, (part,))
        refuse_nonfinite(found, item.tensor, item.label)
    return digest.hexdigest()


def external_bytes(
    externals: list[ExternalTensor] | tuple[ExternalTensor, ...], folder: Path
) -> Iterator[tuple[ExternalTensor, Iterator[bytes]]]:
    """Yield every external tensor with its bytes in pieces, in the order of the model."""
    for item in externals:
        wanted = item.reference
        with open_external(folder, wanted.location, item.label) as (fd, _):
            yield item, chunks(fd, wanted.offset, wanted.length)


def scan(path: Path, *, limits: Limits | None = None, allow_nonfinite: bool = False) -> ModelFacts:
    """Return what a model file is, after checking everything that can be checked without ONNX.

    Args:
        path: The ``.onnx`` file; external data are looked for in its folder.
        limits: What the model may at most be.
        allow_nonfinite: Whether weights may hold NaN and infinity.

    Raises:
        ModelError: The model is refused; codes E200-E217 say why.
    """
    with open_model(path) as (fd, status):
        return examine(
            fd,
            status.st_size,
            path.parent,
            limits=limits or Limits(),
            allow_nonfinite=allow_nonfinite,
        ).facts
