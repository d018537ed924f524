"""Which of ONNX's node tests the Core ML front end has to pass, and why the others are left out.

``scope.txt`` is the list that follows from it; ``python -m tests.coreml.scope`` writes it. A case
that is in scope and is refused counts as a failure.
"""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

import onnx

LIST = Path(__file__).parent / "scope.txt"

LEFT_OUT: dict[str, str] = {
    "training": "Adagrad Adam Momentum NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss",
    "classic machine learning": "ArrayFeatureExtractor Binarizer LabelEncoder TreeEnsemble",
    "text": "RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer",
    "sequences and optional values": (
        "OptionalGetElement OptionalHasElement SequenceInsert SequenceMap SplitToSequence"
    ),
    "bits of numbers": "BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor",
    "signals": "BlackmanWindow DFT HammingWindow HannWindow MelWeightMatrix STFT",
    "chance": "Bernoulli",
    "image files": "ImageDecoder",
    "outputs whose size is in the data, sorted": "Unique",
    "rare, and without a counterpart in MIL": (
        "CausalConvWithState DeformConv Det FlexAttention LinearAttention"
    ),
}
"""Operators outside the tiers that are promised, by reason."""

_TYPES = (
    "UNDEFINED STRING COMPLEX64 COMPLEX128 BFLOAT16 FLOAT8E4M3FN FLOAT8E4M3FNUZ FLOAT8E5M2 "
    "FLOAT8E5M2FNUZ FLOAT8E8M0 FLOAT4E2M1"
)
UNHELD_TYPES = frozenset(onnx.TensorProto.DataType.Value(name) for name in _TYPES.split())
"""Types that Core ML holds no values of, in any form."""


@functools.cache
def cases() -> dict[str, Any]:
    """Return every node test by name."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in collect_testcases(None)}


def operator(case: Any) -> str:
    """Return the operator that a case tests: its only one, or the last."""
    return str(case.model.graph.node[-1].op_type)


def in_scope(case: Any) -> bool:
    """Return whether a case has to pass.

    The ``_expanded`` cases are the same ones written out in other operators.
    """
    if case.name.endswith("_expanded") or "_expanded_" in case.name:
        return False
    if any(operator(case) in names.split() for names in LEFT_OUT.values()):
        return False
    graph = case.model.graph
    return all(_held(item.type) for item in (*graph.input, *graph.output))


def _held(kind: onnx.TypeProto) -> bool:
    return kind.HasField("tensor_type") and kind.tensor_type.elem_type not in UNHELD_TYPES


def listed() -> list[str]:
    """Return the names that are committed."""
    return LIST.read_text(encoding="utf-8").split()


def ruled() -> list[str]:
    """Return the names that the rule gives for the installed version of ONNX."""
    return sorted(name for name, case in cases().items() if in_scope(case))


if __name__ == "__main__":
    LIST.write_text("\n".join(ruled()) + "\n", encoding="utf-8")
