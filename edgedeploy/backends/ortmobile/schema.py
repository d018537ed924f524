"""The tables of the ORT model format (versions 5 and 6) as data.

Source: ``onnxruntime/core/flatbuffers/schema/ort.fbs`` of ONNX Runtime; a test compares the slots
with the readers that the installed onnxruntime ships. Field kinds are described at :class:`Field`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FILE_IDENTIFIER = b"ORTM"
ROOT = "InferenceSession"

Kind = Literal["scalar", "string", "table", "union", "raw", "strings", "tables", "blob"]


@dataclass(frozen=True, slots=True)
class Field:
    """One slot of a table.

    Attributes:
        kind: ``scalar`` (inline, ``size`` bytes), ``string``, ``table`` (of type ``of``), ``union``
            (of :data:`TYPE_INFO_UNION`, chosen by the slot before it), ``raw`` (a vector of
            elements of ``size`` bytes aligned to ``align``), ``strings`` and ``tables`` (vectors of
            references) or ``blob`` (the bytes of a tensor).
        size: Bytes of the scalar or of one vector element.
        align: Alignment of one vector element.
        of: Name of the table type referred to.
        key: For ``tables`` in which the order means nothing: the string slot to sort by.
    """

    kind: Kind
    size: int = 4
    align: int = 4
    of: str = ""
    key: int | None = None


def _scalar(size: int) -> Field:
    return Field("scalar", size=size, align=size)


def _table(of: str) -> Field:
    return Field("table", of=of)


def _tables(of: str, key: int | None = None) -> Field:
    return Field("tables", of=of, key=key)


def _raw(size: int, align: int = 0) -> Field:
    return Field("raw", size=size, align=align or size)


_STRING = Field("string")
_STRINGS = Field("strings")
_EDGES = _raw(12, 4)

# Slots that are not written any more (deprecated in the schema) are None.
TABLES: dict[str, tuple[Field | None, ...]] = {
    "ArgTypeAndIndex": (_scalar(1), _scalar(4)),
    "Attribute": (
        _STRING,
        _STRING,
        _scalar(4),
        _scalar(4),
        _scalar(8),
        _STRING,
        _table("Tensor"),
        _table("Graph"),
        _raw(4),
        _raw(8),
        _STRINGS,
        _tables("Tensor"),
        _tables("Graph"),
    ),
    "Dimension": (_table("DimensionValue"), _STRING),
    "DimensionValue": (_scalar(1), _scalar(8), _STRING),
    "Graph": (
        _tables("Tensor", 0),
        _tables("ValueInfo", 0),
        _tables("Node"),
        _scalar(4),
        _tables("NodeEdge"),
        _STRINGS,
        _STRINGS,
        _tables("SparseTensor"),
        _table("RuntimeOptimizations"),
    ),
    "InferenceSession": (_STRING, _table("Model"), None, _table("KernelTypeStrResolver")),
    "KernelTypeStrArgsEntry": (_STRING, _tables("ArgTypeAndIndex")),
    "KernelTypeStrResolver": (_tables("OpIdKernelTypeStrArgsEntry", 0),),
    "MapType": (_scalar(4), _table("TypeInfo")),
    "Model": (
        _scalar(8),
        _tables("OperatorSetId", 0),
        _STRING,
        _STRING,
        _STRING,
        _scalar(8),
        _STRING,
        _table("Graph"),
        _STRING,
        _tables("StringStringEntry", 0),
    ),
    "Node": (
        _STRING,
        _STRING,
        _STRING,
        _scalar(4),
        _scalar(4),
        _STRING,
        _scalar(4),
        _STRING,
        _STRINGS,
        _STRINGS,
        _tables("Attribute", 0),
        _raw(4),
        _STRINGS,
    ),
    "NodeEdge": (_scalar(4), _EDGES, _EDGES),
    "NodesToOptimizeIndices": (
        _raw(4),
        _scalar(4),
        _scalar(4),
        _scalar(1),
        _scalar(1),
        _scalar(4),
        _scalar(4),
    ),
    "OpIdKernelTypeStrArgsEntry": (_STRING, _tables("KernelTypeStrArgsEntry", 0)),
    "OperatorSetId": (_STRING, _scalar(8)),
    "RuntimeOptimizationRecord": (_STRING, _table("NodesToOptimizeIndices"), None, _STRINGS),
    "RuntimeOptimizationRecordContainerEntry": (_STRING, _tables("RuntimeOptimizationRecord")),
    "RuntimeOptimizations": (_tables("RuntimeOptimizationRecordContainerEntry", 0),),
    "SequenceType": (_table("TypeInfo"),),
    "Shape": (_tables("Dimension"),),
    "SparseTensor": (_table("Tensor"), _table("Tensor"), _raw(8)),
    "StringStringEntry": (_STRING, _STRING),
    "Tensor": (
        _STRING,
        _STRING,
        _raw(8),
        _scalar(4),
        Field("blob", size=1, align=1),
        _STRINGS,
        _scalar(8),
    ),
    "TensorTypeAndShape": (_scalar(4), _table("Shape")),
    "TypeInfo": (_STRING, _scalar(1), Field("union")),
    "ValueInfo": (_STRING, _STRING, _table("TypeInfo")),
}

TYPE_INFO_UNION: dict[int, str] = {
    1: "TensorTypeAndShape",
    2: "SequenceType",
    3: "MapType",
}
