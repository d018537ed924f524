"""What the builder has kernels for, by compute capability: known before it is asked.

Found by building each form for each capability with TensorRT for RTX 1.7.1, which names these
reasons itself, one at a time and after minutes in a large model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from edgedeploy.backends.ortmobile.graph import GraphFacts, GraphNode
from edgedeploy.backends.trt.typed import type_name
from edgedeploy.errors import Diagnostic

KNOWN = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""Compute capabilities that an engine can be made for."""

LEAST: Mapping[str, str] = {
    "BFLOAT16": "8.0",
    "INT4": "8.0",
    "FLOAT8E4M3FN": "8.9",
    "FLOAT4E2M1": "12.0",
}
"""The lowest capability with a type, by ONNX's name of it."""

TURING = "7.5"
_PRODUCTS = ("Attention", "Einsum", "GRU", "Gemm", "LSTM", "MatMul", "RNN")
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_NOWHERE = ("NonMaxSuppression",)
"""Operators that the parser takes, and the builder has no kernel of for any capability."""
# [N, C, D, H, W]: a convolution in three dimensions.
_SOLID = 5


def capability_findings(capabilities: Sequence[str], facts: GraphFacts) -> tuple[Diagnostic, ...]:
    """Return for which capabilities no engine of a graph can be made, and why (E334).

    Args:
        capabilities: Such as ``8.9``.
        facts: Of the typed graph.
    """
    unknown = [item for item in capabilities if item not in KNOWN]
    known = [item for item in capabilities if item in KNOWN]
    return (
        *map(_unknown, unknown),
        *_missing_operators(facts),
        *_missing_types(known, facts),
        *(_missing_kernels(facts) if TURING in known else ()),
    )


def _unknown(capability: str) -> Diagnostic:
    hint = f"it builds for {', '.join(KNOWN)}; the target of others is TensorRT, not its RTX form"
    return Diagnostic(
        code="E334",
        message=f"TensorRT for RTX builds no engines for compute capability {capability}",
        subject=capability,
        hint=hint,
    )


def _missing_operators(facts: GraphFacts) -> Iterator[Diagnostic]:
    for node in facts.nodes:
        if node.proto.op_type in _NOWHERE and not node.proto.domain:
            yield Diagnostic(
                code="E334",
                message=f"TensorRT for RTX has no kernel of {node.proto.op_type} ({node.name})",
                subject=node.name,
                hint="leave the suppression of boxes to the app: `nms: app`, or an output before "
                "it under `outputs:`",
            )


def _missing_types(capabilities: Sequence[str], facts: GraphFacts) -> Iterator[Diagnostic]:
    """Yield each type that a capability lacks, with the first node that uses it."""
    for kind, least in LEAST.items():
        lacking = [item for item in capabilities if _order(item) < _order(least)]
        node = next((node for node in facts.nodes if kind in _types(node, facts)), None)
        if lacking and node is not None:
            yield Diagnostic(
                code="E334",
                message=f"{node.proto.op_type} {node.name} uses {kind}, which needs compute "
                f"capability {least} or more; asked for: {', '.join(lacking)}",
                subject=node.name,
                hint="use another `quantize:` for this target",
            )


def _missing_kernels(facts: GraphFacts) -> Iterator[Diagnostic]:
    for node in facts.nodes:
        op = node.proto.op_type
        if type_name(facts.dtypes.get(node.input(0), 0)) != "FLOAT":
            continue
        if op in _CONVOLUTIONS and len(facts.dims.get(node.input(1), ())) != _SOLID:
            continue
        if op in (*_PRODUCTS, *_CONVOLUTIONS):
            what = "convolution in three dimensions" if op in _CONVOLUTIONS else "matrix product"
            yield Diagnostic(
                code="E334",
                message=f"{op} {node.name} is a {what} in float32, which does not exist for "
                f"compute capability {TURING} (Turing)",
                subject=node.name,
                hint="use `quantize: fp16` for this target",
            )


def _types(node: GraphNode, facts: GraphFacts) -> set[str]:
    names = (*node.proto.input, *node.proto.output)
    return {type_name(facts.dtypes.get(name, 0)) for name in names if name}


def _order(capability: str) -> tuple[int, ...]:
    return tuple(map(int, capability.split(".")))
