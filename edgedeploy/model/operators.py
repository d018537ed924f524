"""Which versions and operator domains a model may use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgedeploy.errors import ModelError
from edgedeploy.model.facts import NEWEST_IR, NEWEST_OPSET, OLDEST_OPSET
from edgedeploy.model.wire import malformed

KNOWN_DOMAINS = frozenset(("", "ai.onnx.ml", "com.microsoft"))
"""Domains whose operators the reference runtime has; functions may add others."""


def check_versions(ir_version: int, imports: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Return the opset version by domain after checking that the tools here read them.

    Raises:
        ModelError: The IR version (E211) or the opset (E210) is out of range.
    """
    if not 3 <= ir_version <= NEWEST_IR:
        raise ModelError(
            f"IR version {ir_version} is not supported; 3..{NEWEST_IR} is",
            code="E211",
            hint="export the model again with an exporter of this range",
        )
    opsets: dict[str, int] = {}
    for domain, version in imports:
        domain = "" if domain == "ai.onnx" else domain
        if opsets.setdefault(domain, version) != version:
            raise malformed(f"the opset of domain {domain!r} is given twice", 0)
    default = opsets.get("", OLDEST_OPSET)
    if not OLDEST_OPSET <= default <= NEWEST_OPSET:
        raise ModelError(
            f"opset {default} is not supported; {OLDEST_OPSET}..{NEWEST_OPSET} is",
            code="E210",
            hint="export the model again, opset 17 suits every target",
        )
    return opsets


def check_operators(
    first: Mapping[tuple[str, str], str],
    opsets: Mapping[str, int],
    functions: set[tuple[str, str]],
) -> None:
    """Check that every operator is of a known domain or a local function (E215).

    Args:
        first: The label of one node by ``(domain, operator)``.
        opsets: The model's imports.
        functions: ``(domain, name)`` of the local functions.
    """
    for (domain, op), label in first.items():
        if (domain, op) in functions:
            continue
        if domain not in KNOWN_DOMAINS:
            raise ModelError(
                f"the operator {op!r} is of the unknown domain {domain!r}",
                code="E215",
                subject=label,
                hint="export the model without custom operators, or with this one as a "
                "local function",
            )
        if domain not in opsets:
            raise ModelError(
                f"the operator {op!r} is used but the domain {domain or 'ai.onnx'!r} is not "
                "imported",
                code="E210",
                subject=label,
                hint="export the model again; its opset_import is incomplete",
            )
