"""What an ONNX model file is, as frozen plain data, and the limits of what is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgedeploy.signature import Signature

OLDEST_OPSET, NEWEST_OPSET = 7, 28
"""Range of the ``ai.onnx`` opset that the pinned onnx and onnxruntime read."""
NEWEST_IR = 14
"""Newest IR version that the pinned onnx and onnxruntime read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a model may at most be; beyond it the scan refuses (E202, E203).

    Together they bound the scan to some seconds and below 200 MB, whatever the file says.

    Attributes:
        model_bytes: Size of the ``.onnx`` file (protobuf itself ends at 2 GiB).
        external_bytes: Size of all external tensor data together.
        fields: Wire fields that are walked one by one.
        depth: Nesting of messages (protobuf readers stop at 100).
        nodes: Nodes in all graphs and functions together.
        tensors: Stored tensors together.
        names: Distinct names.
        text_bytes: One text that is kept (a name, a metadata value).
        all_text_bytes: All distinct names and metadata together.
        rank: Axes of a tensor.
    """

    model_bytes: int = (1 << 31) - 1
    external_bytes: int = 1 << 40
    fields: int = 3_000_000
    depth: int = 100
    nodes: int = 200_000
    tensors: int = 200_000
    names: int = 400_000
    text_bytes: int = 4 << 20
    all_text_bytes: int = 24 << 20
    rank: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalFile:
    """A file with external tensor data: path relative to the model's folder, and its size."""

    location: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What the scan found in a model file.

    Attributes:
        sha256: SHA-256 of the model file's bytes, followed, if there is external data, by the
            bytes of every external tensor in the order of the model (64 hex digits).
        signature: Inputs (without those that an initialiser backs) and outputs. A sequence or
            map has a dtype such as ``seq(map(int64,float32))`` and dims None.
        opsets: Version by operator domain (the default domain is ``""``).
        ops: Number of nodes by operator, in all graphs and functions; operators outside the
            default domain are written ``domain::op``.
        functions: ``domain::name`` of the local functions.
        weights: Number of stored tensors: initialisers, constants, attributes.
        weight_bytes: Their bytes, external ones included.
        sparse: Number of sparse tensors.
        size_bytes: Size of the model file itself.
        external: Files with external data, in the order of first use.
        metadata: The model's metadata properties.
    """

    sha256: str
    signature: Signature
    ir_version: int
    opsets: Mapping[str, int]
    producer: str
    ops: Mapping[str, int]
    nodes: int
    functions: tuple[str, ...]
    weights: int
    weight_bytes: int
    sparse: int
    size_bytes: int
    external: tuple[ExternalFile, ...]
    metadata: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the facts as JSON data."""
        return {
            "sha256": self.sha256,
            "signature": self.signature.to_json(),
            "ir_version": self.ir_version,
            "opsets": dict(self.opsets),
            "producer": self.producer,
            "ops": dict(self.ops),
            "nodes": self.nodes,
            "functions": list(self.functions),
            "weights": self.weights,
            "weight_bytes": self.weight_bytes,
            "sparse": self.sparse,
            "size_bytes": self.size_bytes,
            "external": [
                {"location": file.location, "size_bytes": file.size_bytes} for file in self.external
            ],
            "metadata": dict(self.metadata),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ModelFacts:
        """Return the facts that :meth:`to_json` wrote."""
        return cls(
            **{
                **data,
                "signature": Signature.from_json(data["signature"]),
                "functions": tuple(data["functions"]),
                "external": tuple(ExternalFile(**item) for item in data["external"]),
            }
        )
