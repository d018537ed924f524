"""ONNX to OpenVINO IR, in reproducible bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgedeploy.backends.ov.runtime import load_runtime
from edgedeploy.errors import BuildError, Diagnostic
from edgedeploy.signature import Signature, TensorSpec

MODEL = "model.xml"
WEIGHTS = "model.bin"

LEAST_HALVED_BYTES = 512
"""Smaller constants stay float32 where weights are stored as float16."""

_NO_RULE = re.compile(r"No conversion rule found for operations: (?P<ops>.+)")
_NODE = re.compile(r"While validating ONNX node '<Node\((?P<op>[^)]+)\): (?P<output>[^>]+)>'")

# A layer that has no name in the model gets one with a counter that runs through the process.
_COUNTED = re.compile(r"[A-Za-z]\w*_\d+")
_LAYER = re.compile(r'(<layer id="(\d+)" name=")([A-Za-z]\w*_\d+)(" type="(\w+)")')
_VERSION = re.compile(
    r'^\s*<(?:info name="OpenVINO Runtime"|Runtime_version) value="[^"]*" />\n', re.M
)
_PLACE = re.compile(r'<data [^<>]*\boffset="(\d+)" size="(\d+)"')

Dims = Sequence[Any]
"""One entry per axis: a size, ``[low, high]`` (high None: no limit), or None to leave it."""


def read_onnx(model: Path) -> Any:
    """Return the converted model with the transformations that OpenVINO's own converter makes.

    Raises:
        BuildError: The file is missing (E312), an operator has no conversion (E320), or a node
            cannot be converted (E321).
    """
    runtime = load_runtime()
    from openvino import _offline_transformations as transformations

    if not model.is_file():
        raise BuildError("the model file is missing", code="E312", subject=model.name)
    try:
        converted = runtime.Core().read_model(str(model))
        _drop_zero_points(converted)
        transformations.apply_moc_transformations(converted, cf=False, smart_reshape=True)
        transformations.compress_quantize_weights_transformation(converted)
        transformations.apply_fused_names_cleanup(converted)
    except Exception as error:
        raise frontend_refusal(str(error), model) from error
    return converted


def _drop_zero_points(converted: Any) -> None:
    """Let what reads ``x - 0`` read ``x``, where the zeros are those of a DequantizeLinear.

    The frontend makes one node of an initialiser, so what shares a zero point in the model (equal
    sizes make equal zeros) shares it here too. Where a convolution and a matrix product do, each
    along another axis, the plugin finds no integer form of either: of a text recogniser's 47
    quantized layers 27 computed on integers; without the zeros all do, in 6.7 ms instead of 10.4.
    """
    for op in converted.get_ordered_ops():
        if op.get_type_name() != "Subtract":
            continue
        given, zero = op.input_value(0), op.input_value(1).get_node()
        while zero.get_type_name() in ("Convert", "Reshape"):
            zero = zero.input_value(0).get_node()
        if zero.get_type_name() != "Constant" or zero.data.any():
            continue
        if given.get_partial_shape() == op.output(0).get_partial_shape():
            for reader in op.output(0).get_target_inputs():
                reader.replace_source_output(given)


def frontend_refusal(text: str, model: Path) -> BuildError:
    """Return the typed error for what the frontend said, one finding per node or operator."""
    nodes = _OnnxNames(model)
    found = [*_unknown_operators(text, nodes), *_refused_nodes(text, nodes)]
    if not found:
        place = _NODE.search(text)
        told = " ".join(text.split())
        found.append(
            Diagnostic(
                code="E321",
                message=f"OpenVINO cannot convert the model: {told[:2000]}",
                subject=nodes.maker_of(place["output"]) if place else model.name,
                hint="change the node that is named, or drop the OpenVINO target",
            )
        )
    return BuildError(found)


def _unknown_operators(text: str, nodes: _OnnxNames) -> Iterator[Diagnostic]:
    for match in _NO_RULE.finditer(text):
        for told in match["ops"].split(", "):
            op = re.sub(r"-\d+$", "", told.strip())
            yield Diagnostic(
                code="E320",
                message=f"OpenVINO has no conversion for the operator {op}",
                subject=nodes.first_of(op.rsplit(".", 1)[-1]) or op,
                hint="replace it by standard operators, or drop the OpenVINO target",
            )


def _refused_nodes(text: str, nodes: _OnnxNames) -> Iterator[Diagnostic]:
    """Yield a finding per ``-- Op with a message:`` paragraph."""
    for paragraph in re.split(r"\n\s*\n", text):
        for part in re.split(r"^-- (?=\S+ with a message:)", paragraph, flags=re.M)[1:]:
            op, _, told = part.partition(" with a message:")
            told = " ".join(told.split())
            place = _NODE.search(told)
            maker = nodes.maker_of(place["output"].split(", ")[0]) if place else None
            op = re.sub(r"-\d+$", "", op)
            yield Diagnostic(
                code="E321",
                message=f"OpenVINO cannot convert a {op}: {told}",
                subject=maker or nodes.first_of(op.rsplit(".", 1)[-1]) or op,
                hint="bind the model's dims if a rank or shape is unknown, or change the node",
            )


def _load_graph(model: Path) -> Any:
    """Return the ONNX graph without external data.

    Raises:
        BuildError: The file is no ONNX model (E312).
    """
    import onnx

    try:
        return onnx.load(str(model), load_external_data=False).graph
    except Exception as error:
        raise BuildError(
            f"the model cannot be read: {error}", code="E312", subject=model.name
        ) from error


class _OnnxNames:
    """Names in the ONNX file, to say which node a message of the frontend means."""

    def __init__(self, model: Path) -> None:
        self._makers: dict[str, str] = {}
        self._first: dict[str, str] = {}
        self.all: set[str] = set()
        self._walk(_load_graph(model))

    def _walk(self, graph: Any) -> None:
        self.all.update(item.name for item in (*graph.input, *graph.initializer))
        for node in graph.node:
            name = node.name or f"{node.op_type} making {', '.join(node.output)}"
            self._first.setdefault(node.op_type, name)
            self._makers.update((output, name) for output in node.output)
            self.all.update((name, *node.output))
            for attribute in node.attribute:
                for body in (attribute.g, *attribute.graphs):
                    if body.node:
                        self._walk(body)

    def maker_of(self, tensor: str) -> str | None:
        """Return the node that makes a tensor."""
        return self._makers.get(tensor)

    def first_of(self, op_type: str) -> str | None:
        """Return the first node of an operator."""
        return self._first.get(op_type)


def ranged_inputs(model: Path, ranges: Mapping[str, tuple[int, int]]) -> dict[str, Dims]:
    """Return what :func:`bind_dims` takes for the inputs that have a dim with a range."""
    import onnx

    found: dict[str, Dims] = {}
    for item in onnx.load(str(model), load_external_data=False).graph.input if ranges else ():
        names = [dim.dim_param for dim in item.type.tensor_type.shape.dim]
        if any(name in ranges for name in names):
            found[item.name] = [list(ranges[name]) if name in ranges else None for name in names]
    return found


def bind_dims(converted: Any, dims: Mapping[str, Dims]) -> None:
    """Give inputs the sizes and ranges asked for.

    Raises:
        BuildError: An input that does not exist, another rank, or sizes that contradict the model
            (E323).
    """
    if not dims:
        return
    runtime = load_runtime()
    names = {name: port for port in converted.inputs for name in port.get_names()}
    shapes = {}
    for name, sizes in dims.items():
        if name not in names:
            raise BuildError(
                f"dims are given for {name!r}, which is no input",
                code="E323",
                subject=name,
                hint=f"inputs: {', '.join(sorted(names))}",
            )
        shape = names[name].get_partial_shape()
        if shape.rank.is_static and len(sizes) != shape.rank.get_length():
            raise BuildError(
                f"input {name!r} has rank {shape.rank.get_length()}, {len(sizes)} dims are given",
                code="E323",
                subject=name,
                hint="give one entry per axis",
            )
        shapes[name] = runtime.PartialShape(
            [
                _dimension(runtime, size, shape[axis] if shape.rank.is_static else None)
                for axis, size in enumerate(sizes)
            ]
        )
    try:
        converted.reshape(shapes)
    except Exception as error:
        raise BuildError(
            f"the dims do not fit the model: {' '.join(str(error).split())}",
            code="E323",
            subject=", ".join(sorted(dims)),
            hint="compare the dims with the axes that the model fixes",
        ) from error


def _dimension(runtime: Any, size: Any, given: Any) -> Any:
    if size is None:
        return given if given is not None else runtime.Dimension()
    if isinstance(size, int):
        return runtime.Dimension(size)
    low, high = size
    return runtime.Dimension(low, -1 if high is None else high)


def onnx_signature(model: Path, converted: Any) -> Signature:
    """Return the inputs and outputs by their original names with the bound dims.

    Raises:
        BuildError: A string tensor (E325), or inputs or outputs that were lost (E321).
    """
    import onnx

    graph = _load_graph(model)
    initializers = {item.name for item in graph.initializer}
    inputs = [item.name for item in graph.input if item.name not in initializers]
    outputs = [item.name for item in graph.output]
    for item in (*graph.input, *graph.output):
        if item.type.tensor_type.elem_type == onnx.TensorProto.STRING:
            raise BuildError(
                f"{item.name!r} is a string tensor",
                code="E325",
                subject=item.name,
                hint="move the lookup of strings out of the model, or use the ort runtime",
            )
    if len(inputs) != len(converted.inputs) or len(outputs) != len(converted.outputs):
        raise BuildError(
            f"OpenVINO keeps {len(converted.inputs)} inputs and {len(converted.outputs)} outputs "
            f"of {len(inputs)} and {len(outputs)}",
            code="E321",
            subject=model.name,
            hint="remove inputs that nothing uses and outputs given twice",
        )
    return Signature(
        inputs=tuple(map(_spec, inputs, converted.inputs)),
        outputs=tuple(map(_spec, outputs, converted.outputs)),
    )


def _spec(name: str, port: Any) -> TensorSpec:
    shape = port.get_partial_shape()
    dims = None
    if shape.rank.is_static:
        dims = tuple(dim.get_length() if dim.is_static else None for dim in shape)
    kind = port.get_element_type().to_string()
    return TensorSpec(name=name, dtype=_DTYPES.get(kind, kind), dims=dims)


_DTYPES: dict[str, str] = {
    "f16": "float16",
    "f32": "float32",
    "f64": "float64",
    "bf16": "bfloat16",
    "boolean": "bool",
    **{f"i{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"u{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}


def write_ir(
    converted: Any, model: Path, folder: Path, *, half_weights: bool
) -> tuple[tuple[int, int], ...]:
    """Write ``model.xml`` and ``model.bin`` so that their bytes depend on the model alone.

    Names with the process's counter become ``type_id``, and the version that wrote the file is
    left out: the key of the artifact holds it.

    Args:
        converted: From :func:`read_onnx`.
        model: The ONNX file it came from, whose names are kept.
        folder: Where to write.
        half_weights: Store float32 constants as float16; the graph still computes in float32.

    Returns:
        Offset and length in bytes of every constant in ``model.bin``, ascending; equal constants
        share a place.
    """
    runtime = load_runtime()
    path = folder / MODEL
    if half_weights:
        _halve(converted)
    runtime.save_model(converted, str(path), compress_to_fp16=False)
    kept = _OnnxNames(model).all
    text = path.read_text(encoding="utf-8")

    def stable(match: re.Match[str]) -> str:
        if match[3] in kept:
            return match[0]
        name = f"{match[5]}_{match[2]}"
        while name in kept:
            name += "_"
        return match[1] + name + match[4]

    text = _VERSION.sub("", _LAYER.sub(stable, text))
    path.write_text(text, encoding="utf-8", newline="\n")
    places = {(int(offset), int(size)) for offset, size in _PLACE.findall(text)}
    return tuple(sorted(place for place in places if place[1]))


def _halve(converted: Any) -> None:
    """Store large float32 constants as float16 behind a Convert, which the plugin folds at load.

    The runtime's own compression passes over every model that has FakeQuantize nodes. Constants
    with values beyond float16 stay as they are, and so do the small ones: sizes and scales, for
    which the graph may need all digits.
    """
    runtime = load_runtime()
    opset = runtime.opset13
    for op in converted.get_ordered_ops():
        if op.get_type_name() != "Constant" or op.get_element_type() != runtime.Type.f32:
            continue
        if op.get_byte_size() < LEAST_HALVED_BYTES:
            continue
        values = op.data
        if not np.all(np.abs(values) <= np.finfo(np.float16).max):
            continue
        readers = list(op.output(0).get_target_inputs())
        half = opset.constant(values.astype(np.float16))
        half.set_friendly_name(op.get_friendly_name())
        whole = opset.convert(half, "f32")
        whole.set_friendly_name(f"{op.get_friendly_name()}/f32")
        for reader in readers:
            reader.replace_source_output(whole.output(0))


def stable_names(converted: Any) -> list[tuple[str, Any]]:
    """Return every operation in topological order with a name free of the process's counter."""
    found = []
    for index, op in enumerate(converted.get_ordered_ops()):
        name = op.get_friendly_name()
        if _COUNTED.fullmatch(name):
            tensors = sorted(op.output(0).get_names()) if op.get_output_size() else []
            name = tensors[0] if tensors else f"{op.get_type_name()}_{index}"
        found.append((name, op))
    return found
