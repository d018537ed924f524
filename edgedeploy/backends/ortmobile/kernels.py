"""Which nodes the CPU provider has kernels for, from the runtime's own registry.

onnx is imported where it is used: the backend also runs artifacts where no onnx is installed.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from edgedeploy.backends.base import NodePlacement, ProviderPlacement
from edgedeploy.backends.ortmobile.graph import GraphFacts, GraphNode
from edgedeploy.backends.ortmobile.runner import load_runtime

_FLOAT16 = "tensor(float16)"
_FLOAT = "tensor(float)"


class KernelRegistry:
    """The operators and CPU kernels of the installed onnxruntime."""

    def __init__(self) -> None:
        self.version: str = load_runtime().__version__
        from onnxruntime.capi import _pybind_state as state

        self._schemas: dict[str, list[Any]] = defaultdict(list)
        for schema in state.get_all_operator_schema():
            self._schemas[f"{schema.domain or 'ai.onnx'}:{schema.name}"].append(schema)
        self._kernels: dict[str, list[Any]] = defaultdict(list)
        for kernel in state.get_all_opkernel_def():
            if kernel.provider == "CPUExecutionProvider":
                self._kernels[f"{kernel.domain or 'ai.onnx'}:{kernel.op_name}"].append(kernel)

    def schema(self, op: str, opset: int) -> Any | None:
        """Return the operator's definition in an opset, None where there is none."""
        fitting = [item for item in self._schemas.get(op, ()) if item.since_version <= opset]
        return max(fitting, key=lambda item: item.since_version, default=None)

    def kernels(self, op: str, since_version: int) -> list[Any]:
        """Return the CPU kernels for one version of an operator."""
        return [
            kernel
            for kernel in self._kernels.get(op, ())
            if kernel.version_range[0] <= since_version <= kernel.version_range[1]
        ]


def place_on_cpu(facts: GraphFacts, registry: KernelRegistry) -> ProviderPlacement:
    """Return what the CPU provider runs, node by node.

    A float16 node without a kernel of its own counts as supported: the runtime casts around it
    and computes in float32. How many those are stands in the notes.
    """
    nodes: list[NodePlacement] = []
    upcast = 0
    for node in facts.nodes:
        reason, in_float32 = _judge(node, facts, registry)
        upcast += in_float32
        nodes.append(
            NodePlacement(node=node.name, op=node.op, supported=reason is None, reason=reason)
        )
    notes: tuple[str, ...] = ()
    if upcast:
        notes = (
            f"{upcast} float16 nodes have no float16 kernel and run in float32 between casts; "
            "expect the speed of float32 or less",
        )
    return ProviderPlacement(
        provider="CPUExecutionProvider",
        judged=True,
        partitions=1 if nodes else 0,
        nodes=tuple(nodes),
        source=f"kernel registry of onnxruntime {registry.version}",
        notes=notes,
    )


def _judge(node: GraphNode, facts: GraphFacts, registry: KernelRegistry) -> tuple[str | None, bool]:
    """Return why a node has no kernel (None: it has one), and whether it runs in float32."""
    if node.op == "ai.onnx:Constant":
        return None, False  # turned into an initializer while the model is loaded
    domain = node.op.split(":")[0]
    schema = registry.schema(node.op, facts.opsets.get(domain, 1))
    if schema is None:
        return "the runtime does not know the operator", False
    bound = _bound_types(node, schema, facts)
    kernels = registry.kernels(node.op, schema.since_version)
    if any(_takes(kernel, bound) for kernel in kernels):
        return None, False
    if _FLOAT16 in bound.values():
        widened = {key: _FLOAT if kind == _FLOAT16 else kind for key, kind in bound.items()}
        if any(_takes(kernel, widened) for kernel in kernels):
            return None, True
    if _is_function(node, facts):
        return None, False
    if not kernels:
        return "there is no CPU kernel for the operator", False
    kinds = ", ".join(sorted(set(bound.values())))
    return f"there is no CPU kernel for the element types {kinds}", False


def _bound_types(node: GraphNode, schema: Any, facts: GraphFacts) -> dict[str, str]:
    """Return the node's element types by type variable and by parameter name."""
    bound: dict[str, str] = {}
    for names, parameters in (
        (node.proto.input, schema.inputs),
        (node.proto.output, schema.outputs),
    ):
        for index, name in enumerate(names):
            number = facts.dtypes.get(name, 0)
            if not name or not number or not parameters:
                continue
            # A variadic parameter is the last one and covers all that follow.
            parameter = parameters[min(index, len(parameters) - 1)]
            kind = f"tensor({_type_name(number)})"
            bound.setdefault(parameter.typeStr, kind)
            bound.setdefault(parameter.name, kind)
    return bound


def _type_name(number: int) -> str:
    import onnx

    return str(onnx.TensorProto.DataType.Name(number)).lower()


def _takes(kernel: Any, bound: dict[str, str]) -> bool:
    return all(
        name not in bound or bound[name] in allowed
        for name, allowed in kernel.type_constraints.items()
    )


def _is_function(node: GraphNode, facts: GraphFacts) -> bool:
    """Return whether the standard defines the operator by others, which the runtime then runs."""
    import onnx

    domain, op_type = node.op.split(":")
    opset = facts.opsets.get(domain, 1)
    name = "" if domain == "ai.onnx" else domain
    if not onnx.defs.has(op_type, opset, name):
        return False
    schema = onnx.defs.get_schema(op_type, opset, name)
    return bool(schema.has_function or schema.has_context_dependent_function)
