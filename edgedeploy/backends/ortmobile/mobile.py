"""Which nodes the mobile providers (XNNPACK, NNAPI, Core ML) take, estimated from the graph.

NNAPI and Core ML: the operator lists that onnxruntime ships for its own usability check, with the
limits that can be read from a graph checked per node; the remaining ones are listed as notes.
XNNPACK: the conditions of ``onnxruntime/core/providers/xnnpack`` in the runtime's source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from edgedeploy.backends.base import NodePlacement, ProviderPlacement
from edgedeploy.backends.ortmobile.graph import GraphFacts, GraphNode
from edgedeploy.backends.ortmobile.runner import load_runtime

Rule = Callable[[GraphNode, GraphFacts], str | None]
"""Returns why a node is not taken, or None."""

_QDQ = ("ai.onnx:QuantizeLinear", "ai.onnx:DequantizeLinear")
_FLOAT, _UINT8, _INT8, _FLOAT16 = 1, 2, 3, 10


def _constant(*indices: int) -> Rule:
    def rule(node: GraphNode, facts: GraphFacts) -> str | None:
        for index in indices:
            name = node.input(index)
            if name and name not in facts.constants and name not in facts.dequantized:
                return f"input {index} ({name}) is not constant"
        return None

    return rule


def _rank(*ranks: int) -> Rule:
    def rule(node: GraphNode, facts: GraphFacts) -> str | None:
        dims = facts.dims.get(node.input(0))
        if dims is None:
            return "the rank of its input is not known"
        if len(dims) not in ranks:
            return f"its input has rank {len(dims)}, only {' or '.join(map(str, ranks))} is taken"
        return None

    return rule


def _most_rank(limit: int) -> Rule:
    def rule(node: GraphNode, facts: GraphFacts) -> str | None:
        for name in node.proto.input:
            if len(facts.dims.get(name, ())) > limit:
                return f"{name} has a rank above {limit}"
        return None

    return rule


def _attribute(name: str, default: object, *allowed: object) -> Rule:
    def rule(node: GraphNode, facts: GraphFacts) -> str | None:
        value = node.attribute(name, default)
        if value in allowed:
            return None
        return f"{name} is {value!r}, only {' or '.join(map(repr, allowed))} is taken"

    return rule


def _static_inputs(node: GraphNode, facts: GraphFacts) -> str | None:
    for name in node.proto.input:
        if name and not facts.static(name):
            return f"the shape of {name} is not fixed"
    return None


def _no_float16(node: GraphNode, facts: GraphFacts) -> str | None:
    if any(facts.dtypes.get(name) == _FLOAT16 for name in node.proto.input):
        return "float16 is not taken"
    return None


def _known_axes(*axes: int) -> Rule:
    def rule(node: GraphNode, facts: GraphFacts) -> str | None:
        dims = facts.dims.get(node.input(0), ())
        for axis in axes:
            if not -len(dims) <= axis < len(dims) or not isinstance(dims[axis], int):
                return f"axis {axis} of its input has no fixed size"
        return None

    return rule


def _element_types(*numbers: int) -> Rule:
    def rule(node: GraphNode, facts: GraphFacts) -> str | None:
        number = facts.dtypes.get(node.input(0))
        return None if number in numbers else "the element type of its input is not taken"

    return rule


def _last_axis(node: GraphNode, facts: GraphFacts) -> str | None:
    rank = len(facts.dims.get(node.input(0), ()))
    axis = node.attribute("axis", -1)
    return None if axis in (-1, rank - 1) else "only the last axis is taken"


def _matrix_ranks(node: GraphNode, facts: GraphFacts) -> str | None:
    left = len(facts.dims.get(node.input(0), ()))
    right = len(facts.dims.get(node.input(1), ()))
    if right in (1, 2) and left in (right, right + 1):
        return None
    return f"ranks {left} x {right} are not taken"


def _one_output(node: GraphNode, facts: GraphFacts) -> str | None:
    return "the Indices output is not taken" if len(node.proto.output) > 1 else None


def _larger_kernel(node: GraphNode, facts: GraphFacts) -> str | None:
    kernel = list(node.attribute("kernel_shape", []))
    return None if len(kernel) == 2 and kernel != [1, 1] else "a 1x1 kernel is not taken"


_XNN_2D: tuple[Rule, ...] = (
    _element_types(_FLOAT, _UINT8, _INT8),
    _rank(4),
    _known_axes(1, 2, 3),
)
_XNN_CONV: tuple[Rule, ...] = (*_XNN_2D, _constant(1, 2))
_XNN_POOL: tuple[Rule, ...] = (
    *_XNN_2D,
    _attribute("ceil_mode", 0, 0),
    _one_output,
    _larger_kernel,
)
XNNPACK_RULES: Mapping[str, tuple[Rule, ...]] = {
    "ai.onnx:Conv": _XNN_CONV,
    "ai.onnx:ConvTranspose": _XNN_CONV,
    "ai.onnx:QLinearConv": (*_XNN_2D, _constant(3, 8)),
    "ai.onnx:MaxPool": _XNN_POOL,
    "ai.onnx:AveragePool": _XNN_POOL,
    "ai.onnx:Softmax": (_element_types(_FLOAT, _UINT8), _last_axis, _known_axes(-1)),
    "ai.onnx:Resize": (
        _rank(4),
        _known_axes(1),
        _attribute("mode", "nearest", "linear"),
        _attribute("antialias", 0, 0),
        _attribute("exclude_outside", 0, 0),
        _constant(2, 3),
    ),
    "ai.onnx:Gemm": (
        _element_types(_FLOAT),
        _rank(2),
        _attribute("alpha", 1.0, 1.0),
        _attribute("beta", 1.0, 1.0),
        _constant(1, 2),
    ),
    "ai.onnx:MatMul": (_element_types(_FLOAT), _constant(1), _matrix_ranks),
}
_XNN_FUSED = {"ai.onnx:Relu": (), "ai.onnx:Clip": (1, 2)}
_XNN_FUSED_AFTER = ("ai.onnx:Conv", "ai.onnx:MaxPool", "ai.onnx:AveragePool")

_NNAPI_RULES: Mapping[str, tuple[Rule, ...]] = {
    "ai.onnx:Conv": (_rank(4), _constant(1, 2)),
    "ai.onnx:AveragePool": (_rank(4),),
    "ai.onnx:MaxPool": (_rank(4),),
    "ai.onnx:GlobalAveragePool": (_rank(4),),
    "ai.onnx:GlobalMaxPool": (_rank(4),),
    "ai.onnx:DepthToSpace": (_attribute("mode", "DCR", "DCR"),),
    "ai.onnx:DequantizeLinear": (_constant(1, 2),),
    "ai.onnx:QuantizeLinear": (_constant(1, 2),),
    "ai.onnx:Pad": (_attribute("mode", "constant", "constant"), _constant(1, 2)),
    "ai.onnx:Squeeze": (_constant(1),),
    "ai.onnx:Unsqueeze": (_constant(1),),
    "ai.onnx:QLinearConv": (_rank(4), _constant(1, 2, 3, 4, 5, 6, 7, 8)),
    "ai.onnx:QLinearMatMul": (_constant(1, 2, 4, 5, 6, 7),),
}
_COREML_SHARED: Mapping[str, tuple[Rule, ...]] = {
    "ai.onnx:AveragePool": (_rank(4),),
    "ai.onnx:MaxPool": (_rank(4),),
    "ai.onnx:GlobalAveragePool": (_rank(4),),
    "ai.onnx:GlobalMaxPool": (_rank(4),),
    "ai.onnx:Gemm": (_constant(1),),
    "ai.onnx:Slice": (_constant(1, 2, 3, 4),),
    "ai.onnx:Split": (_constant(1),),
    "ai.onnx:Pow": (_element_types(_FLOAT),),
}
_COREML_NETWORK_RULES: Mapping[str, tuple[Rule, ...]] = {
    **_COREML_SHARED,
    "ai.onnx:Conv": (_rank(3, 4), _constant(1, 2)),
    "ai.onnx:DepthToSpace": (_attribute("mode", "DCR", "DCR"),),
    "ai.onnx:MatMul": (_constant(1),),
    "ai.onnx:Pad": (_attribute("mode", "constant", "constant"), _constant(1, 2, 3)),
    "ai.onnx:PRelu": (_constant(1),),
    "ai.onnx:Resize": (
        _rank(4),
        _attribute("coordinate_transformation_mode", "half_pixel", "asymmetric"),
        _attribute("mode", "nearest", "linear", "nearest"),
        _constant(2, 3),
    ),
}
_COREML_PROGRAM_RULES: Mapping[str, tuple[Rule, ...]] = {
    **_COREML_SHARED,
    "ai.onnx:Conv": (_rank(3, 4), _constant(2)),
    "ai.onnx:ConvTranspose": (_constant(1, 2), _attribute("auto_pad", "NOTSET", "NOTSET", "VALID")),
    "ai.onnx:GridSample": (_rank(4),),
}


def place_on_mobile(facts: GraphFacts) -> tuple[ProviderPlacement, ...]:
    """Return what XNNPACK, NNAPI and both forms of the Core ML provider take.

    Only the main graph is judged: the providers do not reach into bodies of control flow.
    """
    return (
        _xnnpack(facts),
        _listed(
            facts,
            "NnapiExecutionProvider",
            "nnapi_supported_ops.md",
            (_static_inputs, _no_float16, _most_rank(4)),
            _NNAPI_RULES,
        ),
        _listed(
            facts,
            "CoreMLExecutionProvider (NeuralNetwork)",
            "coreml_supported_neuralnetwork_ops.md",
            (_static_inputs, _no_float16, _most_rank(5)),
            _COREML_NETWORK_RULES,
        ),
        _listed(
            facts,
            "CoreMLExecutionProvider (MLProgram)",
            "coreml_supported_mlprogram_ops.md",
            (_static_inputs, _most_rank(5)),
            _COREML_PROGRAM_RULES,
        ),
    )


def _listed(
    facts: GraphFacts,
    provider: str,
    list_name: str,
    general: Iterable[Rule],
    rules: Mapping[str, tuple[Rule, ...]],
) -> ProviderPlacement:
    listed = _read_list(list_name)
    reasons: dict[str, str | None] = {}
    for node in facts.nodes:
        if node.in_body:
            reasons[node.name] = "it is in the body of a control-flow node"
        elif node.op not in listed:
            reasons[node.name] = "the provider does not have the operator"
        else:
            reasons[node.name] = _first((*general, *rules.get(node.op, ())), node, facts)
    present = {node.op for node in facts.nodes}
    notes = tuple(f"{op}: {listed[op]}" for op in sorted(present) if listed.get(op))
    source = (
        f"{list_name} of onnxruntime {load_runtime().__version__}, limits checked by edgedeploy"
    )
    return _placement(facts, provider, reasons, source, notes)


def _xnnpack(facts: GraphFacts) -> ProviderPlacement:
    reasons: dict[str, str | None] = {}
    for node in facts.nodes:
        if node.in_body:
            reasons[node.name] = "it is in the body of a control-flow node"
        elif node.op in XNNPACK_RULES:
            reasons[node.name] = _first(XNNPACK_RULES[node.op], node, facts)
        else:
            reasons[node.name] = "the provider does not have the operator"
    _add_companions(facts, reasons)
    return _placement(
        facts,
        "XnnpackExecutionProvider",
        reasons,
        "conditions in onnxruntime/core/providers/xnnpack, checked by edgedeploy",
        ("quantized groups need equal signedness of activations and weights",)
        if any(node.op in _QDQ for node in facts.nodes)
        else (),
    )


def _add_companions(facts: GraphFacts, reasons: dict[str, str | None]) -> None:
    """Take the nodes that go with a taken one: fused activations and the Q/DQ pairs around it."""
    makers = {name: node for node in facts.nodes for name in node.proto.output}
    users: dict[str, list[GraphNode]] = {}
    for node in facts.nodes:
        for name in node.proto.input:
            users.setdefault(name, []).append(node)
    for node in facts.nodes:
        maker = makers.get(node.input(0))
        taken_maker = maker is not None and reasons[maker.name] is None
        if node.op in _XNN_FUSED and maker is not None and taken_maker:
            bounds = (node.input(index) for index in _XNN_FUSED[node.op])
            if maker.op in _XNN_FUSED_AFTER and all(
                not name or name in facts.constants for name in bounds
            ):
                reasons[node.name] = None
        elif (node.op == _QDQ[0] and taken_maker) or (
            node.op == _QDQ[1]
            and any(reasons[user.name] is None for user in users.get(node.proto.output[0], ()))
        ):
            reasons[node.name] = None


def _first(rules: Iterable[Rule], node: GraphNode, facts: GraphFacts) -> str | None:
    return next((reason for rule in rules if (reason := rule(node, facts)) is not None), None)


def _placement(
    facts: GraphFacts,
    provider: str,
    reasons: Mapping[str, str | None],
    source: str,
    notes: tuple[str, ...],
) -> ProviderPlacement:
    return ProviderPlacement(
        provider=provider,
        judged=True,
        partitions=count_partitions(facts, {name for name, why in reasons.items() if why is None}),
        nodes=tuple(
            NodePlacement(
                node=node.name,
                op=node.op,
                supported=reasons[node.name] is None,
                reason=reasons[node.name],
            )
            for node in facts.nodes
        ),
        source=source,
        notes=notes,
    )


def count_partitions(facts: GraphFacts, supported: set[str]) -> int:
    """Return into how many pieces a provider's nodes fall.

    A piece may hold nodes that do not touch: the runtime groups all supported nodes that can run
    before the next unsupported one has to. So each node gets the number of changes from supported
    to unsupported on the worst path to it, and equal numbers form one piece.
    """
    epochs: dict[str, int] = {}
    makers: dict[str, GraphNode] = {}
    found: set[int] = set()
    for node in facts.nodes:
        if node.in_body:
            continue
        epoch = 0
        for name in node.proto.input:
            maker = makers.get(name)
            if maker is not None:
                leaves = maker.name in supported and node.name not in supported
                epoch = max(epoch, epochs[maker.name] + leaves)
        epochs[node.name] = epoch
        makers.update((name, node) for name in node.proto.output)
        if node.name in supported:
            found.add(epoch)
    return len(found)


def _read_list(name: str) -> dict[str, str]:
    """Return ``domain:Op`` -> limits in words from a list that onnxruntime ships."""
    folder = Path(load_runtime().__file__).parent / "tools" / "mobile_helpers"
    found: dict[str, str] = {}
    for line in (folder / name).read_text(encoding="utf-8").splitlines():
        cells = line.strip().strip("|").split("|")
        # Two entries are misspelt in the shipped lists.
        op = cells[0].strip().replace("ai.onnx.ReduceSum", "ai.onnx:ReduceSum")
        op = op.replace("ai.onnx:Argmax", "ai.onnx:ArgMax")
        if line.startswith("|") and ":" in op:
            found[op] = " ".join("|".join(cells[1:]).replace("<br/>", " ").split())
    return found
