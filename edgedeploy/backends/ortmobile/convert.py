"""ONNX to the ORT model format, in reproducible bytes."""

from __future__ import annotations

import mmap
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedeploy.backends import ORT_FILE_BYTES
from edgedeploy.backends.ortmobile.runner import load_runtime, session_options
from edgedeploy.backends.ortmobile.tables import Layout, Table, read_tree
from edgedeploy.errors import BuildError, Diagnostic

# Slots of the schema's tables that are looked at here.
_SESSION_MODEL, _MODEL_GRAPH, _GRAPH_NODES = 1, 7, 2
_NODE_NAME, _NODE_DOMAIN, _NODE_OP, _NODE_ATTRIBUTES = 0, 2, 5, 10
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 0, 4, 7, 12
_GRAPH_OPTIMISATIONS, _ENTRY_RECORDS, _RECORD_ACTION, _RECORD_PRODUCED = 8, 1, 0, 3

# A saved optimisation names an action that the runtime on the device looks up, and a file with one
# that it does not know fails to load there (1.17 refuses what 1.32 saves of a quantized Softmax).
# These are known to 1.17 and 1.32; any other is left out and its nodes run as they are written.
_REPLAYABLE_ACTIONS = frozenset(
    b"drop dropDQ dropSplitQDQ 1DQ 2DQ *DQ Conv Gemm ConvAct ConvAddRelu".split()
)

# MatMulAddFusion takes a MatMul together with its dequantized operands before they can become one
# integer kernel, and leaves a float Gemm. WeightBiasQuantization gives float weights between
# dequantized operands one int8 scale per tensor: the layers that are kept in float on purpose.
_HARMFUL_TO_INTEGERS = ["MatMulAddFusion", "WeightBiasQuantization"]
# It joins int8 weights with the product that reads them into an 8-bit MatMulNBits, where it finds
# no 8-bit activations to make a true integer product of.
JOINS_WEIGHTS = "QDQSelectorActionTransformer"
# It gives a MatMulNBits the bias that is added to its result as a sixth input.
JOINS_BIAS = "MatMulNBitsFusion"

# Operator -> attribute that 1.32 writes into every file even where it is 0, which is its default.
_NEW_ATTRIBUTES = {b"MatMulNBits": b"weight_prepacked"}

# onnxruntime's messages: what is known of each, and which code it has here.
_MESSAGES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("E302", re.compile(r"No Op registered for (?P<op>\S+)")),
    ("E302", re.compile(r"(?P<op>\S+:\S+)\(-?\d+\) is not a registered function/op")),
    ("E303", re.compile(r"Could not find an implementation for (?P<op>\S+?)\(\d+\)")),
    ("E304", re.compile(r"ONNX Runtime only \*guarantees\* support for models stamped")),
    ("E304", re.compile(r"Unsupported model IR version")),
    ("E305", re.compile(r"This is an invalid model")),
)
_NODE_NAMES = (
    re.compile(r'In Node, \("(?P<node>[^"]+)"'),
    re.compile(r"node with name '(?P<node>[^']+)'"),
    re.compile(r"in node \((?P<node>[^)]+)\)"),
    re.compile(r"node name \((?P<node>[^)]+)\)"),
    re.compile(r"Name:'(?P<node>[^']+)'"),
)
HINTS = {
    "E302": "replace it by standard operators or export the model without it",
    "E303": "cast around the node to float32 or int64, or keep it in float when quantizing",
    "E304": "export the model with a lower opset",
    "E305": "correct the node and export again",
    "E301": "change the node that is named, or keep it out of the model",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CanonicalModel:
    """What is known of a written ``.ort`` file.

    Attributes:
        kernels: ``domain:Op`` -> number of nodes, bodies included, sorted by name.
        tensors: Offset and length in bytes of every tensor, ascending.
        saved: Number of saved optimisations that were kept.
        left_out: Number of saved optimisations that not every runtime could replay.
    """

    kernels: Mapping[str, int]
    tensors: tuple[tuple[int, int], ...]
    saved: int
    left_out: int


def runtime_refusal(error: Exception, model: Path) -> BuildError:
    """Return the typed error for what onnxruntime raised while it loaded or converted a model."""
    text = " ".join(str(error).split()).replace(str(model), model.name)
    code, subject = "E301", None
    for candidate, pattern in _MESSAGES:
        match = pattern.search(text)
        if match:
            code = candidate
            subject = match.groupdict().get("op")
            break
    for pattern in _NODE_NAMES:
        match = pattern.search(text)
        if match:
            subject = match["node"]
            break
    return BuildError(
        Diagnostic(
            code=code,
            message=f"onnxruntime refuses the model: {text}",
            subject=subject,
            hint=HINTS[code],
        )
    )


def check_size(model: Path) -> None:
    """Refuse a model whose weights cannot fit into one ``.ort`` file, before any work.

    Raises:
        BuildError: The model is missing (E312) or larger than 2 GiB (E314).
    """
    if not model.is_file():
        raise BuildError("the model file is missing", code="E312", subject=model.name)
    data = model.with_name(model.name + ".data")
    nbytes = model.stat().st_size + (data.stat().st_size if data.is_file() else 0)
    if nbytes > ORT_FILE_BYTES:
        raise BuildError(
            f"the model has {nbytes} bytes; an .ort file ends at {ORT_FILE_BYTES}",
            code="E314",
            subject=model.name,
            hint="quantize the weights, or choose a runtime that reads external data",
        )


def save_optimised(
    model: Path,
    out: Path,
    *,
    arm: bool,
    minimal: str | None = None,
    quantized: bool = False,
    too_new: Sequence[str] = (),
) -> None:
    """Write ``model`` in the ORT format as onnxruntime writes it.

    The level is EXTENDED: the next one, layout, makes graphs for the CPU of this machine.

    Args:
        model: ``model.onnx``.
        out: The file to write.
        arm: Whether signed int8 pairs stay signed: ARM kernels take them, x86 ones are faster
            with unsigned activations.
        minimal: None bakes all optimisations in; ``save`` writes those that a minimal build can
            replay beside the unfused graph; ``apply`` bakes in exactly these.
        quantized: Whether the model holds quantize and dequantize nodes.
        too_new: Optimisers that make what not every runtime in the field can read.

    Raises:
        BuildError: The runtime refuses the model (E301-E305).
    """
    runtime = load_runtime()
    keys = {
        "session.save_model_format": "ORT",
        "session.qdqisint8allowed": "1" if arm else "0",
    }
    if minimal is not None:
        keys["optimization.minimal_build_optimizations"] = minimal
    options = session_options(1, keys)
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(out)
    disabled = [*(_HARMFUL_TO_INTEGERS if quantized else ()), *too_new]
    try:
        runtime.InferenceSession(
            str(model),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=disabled or None,
        )
    except Exception as error:
        raise runtime_refusal(error, model) from error


def canonicalise(written: Path, out: Path, skeleton: Path) -> CanonicalModel:
    """Rewrite an ``.ort`` file so that its bytes depend on the model alone.

    onnxruntime keeps several lists in hash maps that are seeded by addresses and writes them in
    the order of the map, so that two runs differ. Lists whose order has no meaning are sorted and
    everything gets a fixed place; what the file says stays the same.

    Args:
        written: What :func:`save_optimised` wrote.
        out: The file to write.
        skeleton: Where to write the same with empty tensors, for tools that look at the graph.

    Raises:
        BuildError: Unknown fields (E316), more than 2 GiB (E314), or operators of a layout that
            only machines like this one have (E315).
    """
    with (
        open(written, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        memoryview(data) as view,
        open(out, "wb") as target,
        open(skeleton, "wb") as bare,
    ):
        root = read_tree(view)
        main = root.values[_SESSION_MODEL].values[_MODEL_GRAPH]
        kernels = Counter(name for graph in _graphs(main) for name in _operators(graph))
        for graph in _graphs(main):
            _drop_new_attributes(graph)
        pruned = [_prune_optimisations(graph) for graph in _graphs(main)]
        layout = Layout(root)
        tensors = layout.write(view, target)
        layout.write(view, bare, with_tensors=False)
    bound = [name for name in kernels if name.startswith("com.microsoft.nchwc:")]
    if bound:
        raise BuildError(
            "the model holds operators of this machine's own layout",
            code="E315",
            subject=bound[0],
            hint="export the model before layout optimisation",
        )
    return CanonicalModel(
        kernels=dict(sorted(kernels.items())),
        tensors=tensors,
        saved=sum(saved for saved, _ in pruned),
        left_out=sum(left_out for _, left_out in pruned),
    )


def int_attribute(model: Path, op: bytes, name: bytes) -> dict[str, int]:
    """Return an integer attribute of every node of an operator that states it, by node name.

    Args:
        model: An ``.ort`` file.
        op: Operator type, in any domain.
        name: The attribute's.

    Raises:
        BuildError: The file is no ORT format model (E316).
    """
    with (
        open(model, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        memoryview(data) as view,
    ):
        main = read_tree(view).values[_SESSION_MODEL].values[_MODEL_GRAPH]
        return {
            node.values[_NODE_NAME].decode(): int.from_bytes(
                attribute.values[_ATTRIBUTE_INT] or b"", "little", signed=True
            )
            for graph in _graphs(main)
            for node in graph.values[_GRAPH_NODES] or ()
            if node.values[_NODE_OP] == op
            for attribute in node.values[_NODE_ATTRIBUTES] or ()
            if attribute.values[_ATTRIBUTE_NAME] == name
        }


def _graphs(graph: Table) -> Iterator[Table]:
    """Yield a graph and all bodies in it."""
    yield graph
    for node in graph.values[_GRAPH_NODES] or ():
        for attribute in node.values[_NODE_ATTRIBUTES] or ():
            body = attribute.values[_ATTRIBUTE_GRAPH]
            for inner in [
                *([] if body is None else [body]),
                *(attribute.values[_ATTRIBUTE_GRAPHS] or ()),
            ]:
                yield from _graphs(inner)


def _operators(graph: Table) -> Iterator[str]:
    """Yield ``domain:Op`` of every node."""
    for node in graph.values[_GRAPH_NODES] or ():
        domain = (node.values[_NODE_DOMAIN] or b"").decode() or "ai.onnx"
        yield f"{domain}:{node.values[_NODE_OP].decode()}"


def _drop_new_attributes(graph: Table) -> None:
    """Leave out attributes that say the default and that older runtimes refuse to read."""
    for node in graph.values[_GRAPH_NODES] or ():
        new = _NEW_ATTRIBUTES.get(node.values[_NODE_OP])
        if new is not None:
            node.values[_NODE_ATTRIBUTES] = [
                attribute
                for attribute in node.values[_NODE_ATTRIBUTES] or ()
                if attribute.values[_ATTRIBUTE_NAME] != new
                or any(attribute.values[_ATTRIBUTE_INT] or b"")
            ]


def _prune_optimisations(graph: Table) -> tuple[int, int]:
    """Leave out what not every runtime can replay; return how many stay and go."""
    optimisations = graph.values[_GRAPH_OPTIMISATIONS]
    saved = left_out = 0
    for entry in (optimisations.values[0] or ()) if optimisations is not None else ():
        records = entry.values[_ENTRY_RECORDS] or []
        kept = [record for record in records if _replayable(record)]
        entry.values[_ENTRY_RECORDS] = kept
        saved += len(kept)
        left_out += len(records) - len(kept)
    return saved, left_out


def _replayable(record: Table) -> bool:
    action = record.values[_RECORD_ACTION]
    # Fusions of MatMul are saved without the operator that they make, and no runtime loads that.
    makes_node = bool(record.values[_RECORD_PRODUCED]) or action.startswith(b"drop")
    return action in _REPLAYABLE_ACTIONS and makes_node
