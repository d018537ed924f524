"""Which fields the messages of an ONNX model have: the part of onnx.proto that intake reads.

Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (IR version 13). Fields that are
not listed are skipped, as every protobuf reader does.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Content = Literal["int", "text", "skip", "span", "message"]
"""int: varint kept; text: UTF-8 kept; skip: not kept; span: only where it lies; message: walked."""


class Field(NamedTuple):
    """One field of a message.

    Attributes:
        wire: Its wire type where it is not packed.
        message: Kind of the message it holds.
        dropped: Whether it is walked but not kept.
    """

    name: str
    content: Content
    wire: int
    repeated: bool = False
    message: str = ""
    dropped: bool = False


def _int(name: str, repeated: bool = False) -> Field:
    return Field(name, "int", 0, repeated)


def _text(name: str, repeated: bool = False) -> Field:
    return Field(name, "text", 2, repeated)


def _skip(name: str, wire: int = 2, repeated: bool = False) -> Field:
    return Field(name, "skip", wire, repeated)


def _span(name: str, wire: int = 2, repeated: bool = True) -> Field:
    return Field(name, "span", wire, repeated)


def _one(name: str, message: str) -> Field:
    return Field(name, "message", 2, False, message)


def _many(name: str, message: str) -> Field:
    return Field(name, "message", 2, True, message)


MESSAGES: dict[str, dict[int, Field]] = {
    "model": {
        1: _int("ir_version"),
        2: _text("producer_name"),
        3: _text("producer_version"),
        4: _text("domain"),
        5: _int("model_version"),
        6: _skip("doc_string"),
        7: _one("graph", "graph"),
        8: _many("opset_import", "opset"),
        14: _many("metadata_props", "pair"),
        20: _many("training_info", "training"),
        25: _many("functions", "function"),
    },
    "opset": {1: _text("domain"), 2: _int("version")},
    "pair": {1: _text("key"), 2: _text("value")},
    "training": {1: _one("initialization", "graph"), 2: _one("algorithm", "graph")},
    "graph": {
        1: _many("node", "node"),
        2: _text("name"),
        5: _many("initializer", "tensor"),
        10: _skip("doc_string"),
        11: _many("input", "value"),
        12: _many("output", "value"),
        13: Field("value_info", "message", 2, True, "value", True),
        15: _many("sparse_initializer", "sparse"),
    },
    "function": {
        1: _text("name"),
        4: _text("input", repeated=True),
        5: _text("output", repeated=True),
        6: _text("attribute", repeated=True),
        7: _many("node", "node"),
        8: _skip("doc_string"),
        9: _many("opset_import", "opset"),
        10: _text("domain"),
        11: _many("attribute_proto", "attribute"),
        12: Field("value_info", "message", 2, True, "value", True),
        13: _text("overload"),
    },
    "node": {
        1: _text("input", repeated=True),
        2: _text("output", repeated=True),
        3: _text("name"),
        4: _text("op_type"),
        5: _many("attribute", "attribute"),
        6: _skip("doc_string"),
        7: _text("domain"),
        8: _text("overload"),
    },
    "attribute": {
        1: _text("name"),
        2: _skip("f", 5),
        3: _int("i"),
        4: _skip("s"),
        5: _one("t", "tensor"),
        6: _one("g", "graph"),
        7: _skip("floats", 5, repeated=True),
        8: _skip("ints", 0, repeated=True),
        9: _skip("strings", repeated=True),
        10: _many("tensors", "tensor"),
        11: _many("graphs", "graph"),
        13: _skip("doc_string"),
        14: _one("tp", "type"),
        15: Field("type_protos", "message", 2, True, "type", True),
        20: _int("type"),
        21: _text("ref_attr_name"),
        22: _one("sparse_tensor", "sparse"),
        23: _many("sparse_tensors", "sparse"),
    },
    "tensor": {
        1: _int("dims", repeated=True),
        2: _int("data_type"),
        3: _span("segment", repeated=False),
        4: _span("float_data", 5),
        5: _span("int32_data", 0),
        6: _span("string_data"),
        7: _span("int64_data", 0),
        8: _text("name"),
        9: _span("raw_data", repeated=False),
        10: _span("double_data", 1),
        11: _span("uint64_data", 0),
        12: _skip("doc_string"),
        13: _many("external_data", "pair"),
        14: _int("data_location"),
    },
    "sparse": {
        1: _one("values", "tensor"),
        2: _one("indices", "tensor"),
        3: _int("dims", repeated=True),
    },
    "value": {1: _text("name"), 2: _one("type", "type"), 3: _skip("doc_string")},
    "type": {
        1: _one("tensor_type", "tensor_type"),
        4: _one("sequence_type", "sequence_type"),
        5: _one("map_type", "map_type"),
        6: _skip("denotation"),
        7: _skip("opaque_type"),
        8: _one("sparse_tensor_type", "tensor_type"),
        9: _one("optional_type", "sequence_type"),
    },
    "tensor_type": {1: _int("elem_type"), 2: _one("shape", "shape")},
    "sequence_type": {1: _one("elem_type", "type")},
    "map_type": {1: _int("key_type"), 2: _one("value_type", "type")},
    "shape": {1: _many("dim", "dim")},
    "dim": {1: _int("dim_value"), 2: _text("dim_param"), 3: _skip("denotation")},
}


class ElementType(NamedTuple):
    """An element type of a tensor.

    Attributes:
        name: NumPy name, or the ONNX name in lower case where NumPy has none.
        bits: Size of an element; 0 for strings.
        typed: The typed data field that may hold it besides ``raw_data``.
        per_entry: Entries of the typed field per element (complex: 2) or, negated, elements
            per entry (packed 4- and 2-bit types).
    """

    name: str
    bits: int
    typed: str
    per_entry: int = 1


ELEMENT_TYPES: dict[int, ElementType] = {
    1: ElementType("float32", 32, "float_data"),
    2: ElementType("uint8", 8, "int32_data"),
    3: ElementType("int8", 8, "int32_data"),
    4: ElementType("uint16", 16, "int32_data"),
    5: ElementType("int16", 16, "int32_data"),
    6: ElementType("int32", 32, "int32_data"),
    7: ElementType("int64", 64, "int64_data"),
    8: ElementType("string", 0, "string_data"),
    9: ElementType("bool", 8, "int32_data"),
    10: ElementType("float16", 16, "int32_data"),
    11: ElementType("float64", 64, "double_data"),
    12: ElementType("uint32", 32, "uint64_data"),
    13: ElementType("uint64", 64, "uint64_data"),
    14: ElementType("complex64", 64, "float_data", 2),
    15: ElementType("complex128", 128, "double_data", 2),
    16: ElementType("bfloat16", 16, "int32_data"),
    17: ElementType("float8e4m3fn", 8, "int32_data"),
    18: ElementType("float8e4m3fnuz", 8, "int32_data"),
    19: ElementType("float8e5m2", 8, "int32_data"),
    20: ElementType("float8e5m2fnuz", 8, "int32_data"),
    21: ElementType("uint4", 4, "int32_data", -2),
    22: ElementType("int4", 4, "int32_data", -2),
    23: ElementType("float4e2m1", 4, "int32_data", -2),
    24: ElementType("float8e8m0", 8, "int32_data"),
    25: ElementType("uint2", 2, "int32_data", -4),
    26: ElementType("int2", 2, "int32_data", -4),
}

DATA_FIELDS = (
    "raw_data",
    "float_data",
    "int32_data",
    "string_data",
    "int64_data",
    "double_data",
    "uint64_data",
)
"""The fields of a tensor of which exactly one holds its values."""
