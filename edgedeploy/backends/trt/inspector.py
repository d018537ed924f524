"""What an engine is made of, as its inspector (or trtexec) tells it, in one form for all versions.

The engine inspector writes JSON in the layouts of three generations, at two levels of detail:

====================  ==========================================================================
names alone           ``"Layers": [NAME, ...]``, where the engine was built without details
details               ``"Layers": [{"Name", "LayerType", "Inputs", "Outputs", "TacticName", ...}]``
8.6 and 10.x          tensors have ``"Format/Datatype"``; the engine has ``"Bindings"``, names
11.x                  tensors have ``"Format"`` and ``"DataType"``; ``"I/O Tensors"``, objects
====================  ==========================================================================

Which ONNX nodes a layer came from stands in its ``"Metadata"`` (from 8.6 on, with details) as
``[ONNX Layer: NAME | ...]``, one after another. Without it the name is taken apart, which holds
for plain fusions (``A + B``) alone.

All of it comes from a device: it is bounded and checked, and text is made printable.

Sources: NVIDIA TensorRT documentation, "Engine Inspector" (8.6, 10.16, 11.4) and "Migrating
IEngineInspector Usage from TensorRT 10.x to 11.x"; NVIDIA/TensorRT, tools/experimental/
trt-engine-explorer/trex (words for formats and types, separators) and onnx-tensorrt (metadata).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgedeploy.remote import printable

INSPECTED_BYTES = 64 << 20
"""The largest answer of an inspector that is read."""

_LAYERS = 100_000
_TENSORS = 1000
_NODES = 1000
_TEXT = 4000
_SIZES = 64

Detail = Literal["full", "names", "none"]
Device = Literal["gpu", "dla"]

# Between the parts of names and metadata; printable text has none of them.
_SEPARATORS = re.compile("[\x1e\x1f]")
_NODE = "[ONNX Layer: "
_REGION = "{ForeignNode["
_PROFILE = re.compile(r" ?\[profile (\d+)\]$")
_TYPES = (
    # Longer words first: UInt8 holds Int8, BFloat16 holds Float.
    ("bfloat16", "bfloat16"),
    ("bf16", "bfloat16"),
    ("uint8", "uint8"),
    ("uint4", "uint4"),
    ("fp16", "float16"),
    ("half", "float16"),
    ("fp32", "float32"),
    ("fp8", "float8"),
    ("fp4", "float4"),
    ("float", "float32"),
    ("int64", "int64"),
    ("int32", "int32"),
    ("int8", "int8"),
    ("int4", "int4"),
    ("bool", "bool"),
)
# What kernels of NVIDIA's libraries say of the types they multiply, such as
# sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32.
_KERNEL = re.compile(r"_(i8|f16|bf16|e4m3|tf32|f32)(?:i8|f16|bf16|e4m3|tf32|f32)_")
_KERNEL_TYPES = {"i8": "int8", "f16": "float16", "bf16": "bfloat16", "e4m3": "float8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTensor:
    """What a layer reads or writes.

    Attributes:
        name: As the inspector has it.
        dims: Sizes, -1 for an open one; None where it tells none.
        dtype: Type in the words of NumPy and ONNX, such as ``float16``; None where it is not told.
        layout: The inspector's words for type and order in memory.
    """

    name: str
    dims: tuple[int, ...] | None
    dtype: str | None
    layout: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLayer:
    """One layer of an engine: what the GPU or a DLA core runs as one.

    Attributes:
        name: As the inspector has it; the engine's times have the same names.
        kind: Type of layer, such as ``CaskConvolution``, ``gemm`` or ``Reformat``; empty where
            only names are told.
        nodes: Names of the ONNX nodes that it came from; empty where they are not told, or it
            came from none.
        within: Where only the first and the last node of a region are told: these two.
        inputs, outputs: What it reads and writes.
        dtype: What it multiplies (or moves) in; None where it is not told.
        device: What runs it; None where it is not told.
        kernel: Name of the kernel; empty where it is not told.
    """

    name: str
    kind: str = ""
    nodes: tuple[str, ...] = ()
    within: tuple[str, str] | None = None
    inputs: tuple[EngineTensor, ...] = ()
    outputs: tuple[EngineTensor, ...] = ()
    dtype: str | None = None
    device: Device | None = None
    kernel: str = ""

    @property
    def moves(self) -> bool:
        """Whether it only reorders or converts what another layer made."""
        return self.kind.lower() == "reformat" or self.name.startswith("Reformatting CopyNode")

    def to_json(self) -> dict[str, Any]:
        """Return the layer as JSON data."""

        def tensors(given: tuple[EngineTensor, ...]) -> list[dict[str, Any]]:
            return [
                {"name": item.name, "dims": item.dims, "dtype": item.dtype, "layout": item.layout}
                for item in given
            ]

        return {
            "name": self.name,
            "kind": self.kind,
            "nodes": list(self.nodes),
            "within": list(self.within) if self.within else None,
            "inputs": tensors(self.inputs),
            "outputs": tensors(self.outputs),
            "dtype": self.dtype,
            "device": self.device,
            "kernel": self.kernel,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLayers:
    """All layers of an engine, those of its first optimisation profile.

    Attributes:
        detail: How much the engine tells: ``full``, ``names`` alone or ``none``.
        layers: In order of execution.
    """

    detail: Detail
    layers: tuple[EngineLayer, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the form of ``report/layers.json`` of stage ``engine``."""
        layers = [layer.to_json() for layer in self.layers]
        return {"schema": 1, "detail": self.detail, "layers": layers}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EngineLayers:
        """Return what :meth:`to_json` wrote."""

        def tensors(given: list[dict[str, Any]]) -> tuple[EngineTensor, ...]:
            return tuple(
                EngineTensor(**{**item, "dims": None if item["dims"] is None else (*item["dims"],)})
                for item in given
            )

        return cls(
            detail=data["detail"],
            layers=tuple(
                EngineLayer(
                    name=item["name"],
                    kind=item["kind"],
                    nodes=tuple(item["nodes"]),
                    within=None if item["within"] is None else tuple(item["within"]),
                    inputs=tensors(item["inputs"]),
                    outputs=tensors(item["outputs"]),
                    dtype=item["dtype"],
                    device=item["device"],
                    kernel=item["kernel"],
                )
                for item in data["layers"]
            ),
        )


def read_layers(data: bytes) -> EngineLayers:
    """Return the layers that an engine inspector or ``trtexec --exportLayerInfo`` tells.

    Args:
        data: JSON, at most :data:`INSPECTED_BYTES`. Of an engine for several optimisation profiles
            the layers of the first are taken: the others are like them, with ``[profile N]`` in
            their names.

    Raises:
        ValueError: It is not what an inspector writes; says why.
    """
    told = _parsed(data, INSPECTED_BYTES)
    layers = told.get("Layers") if isinstance(told, dict) else None
    if not isinstance(layers, list) or len(layers) > _LAYERS:
        raise ValueError("the inspector's answer has no list of layers, or too long a one")
    if all(isinstance(layer, str) for layer in layers):
        names = [_clean(layer) for layer in layers]
        found = tuple(_named(name) for name in names if not _PROFILE.search(name))
        return EngineLayers(detail="names" if found else "none", layers=found)
    if not all(isinstance(layer, dict) for layer in layers):
        raise ValueError("the inspector's answer mixes two layouts of layers")
    detailed = [_layer(layer) for layer in layers]
    kept = tuple(layer for layer in detailed if not _PROFILE.search(layer.name))
    return EngineLayers(detail="full", layers=kept)


def _parsed(data: bytes, limit_bytes: int) -> Any:
    if len(data) > limit_bytes:
        raise ValueError("too large")
    try:
        return json.loads(data.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError) as error:
        raise ValueError("no JSON, or nested too deeply") from error


def _clean(text: str) -> str:
    """Return a name in one printable line, its parts joined as TensorRT joins names."""
    joined = _SEPARATORS.sub(" + ", text[:_TEXT])
    return printable(joined.encode("utf-8", "replace")).replace("\n", " ")


def _named(name: str) -> EngineLayer:
    """Return a layer of which only the name is told."""
    region = _region(name)
    if region:
        return EngineLayer(name=name, within=region)
    if name.startswith("Reformatting CopyNode"):
        return EngineLayer(name=name)
    plain = re.sub(r"PWN\(|\)$", "", name) if name.startswith("PWN(") else name
    return EngineLayer(name=name, nodes=tuple(plain.split(" + ")[:_NODES]))


def _layer(data: Mapping[str, Any]) -> EngineLayer:
    name, kind = data.get("Name"), data.get("LayerType", "")
    if not isinstance(name, str) or not isinstance(kind, str):
        raise ValueError("a layer has no name or no type")
    cleaned = _clean(name)
    inputs, outputs = (_tensors(data.get(side)) for side in ("Inputs", "Outputs"))
    kernel = data.get("TacticName")
    kernel = _clean(kernel) if isinstance(kernel, str) else ""
    metadata = data.get("Metadata")
    nodes = tuple(dict.fromkeys(_nodes(metadata))) if isinstance(metadata, str) else ()
    return EngineLayer(
        name=cleaned,
        kind=_clean(kind)[:100],
        nodes=nodes,
        within=None if nodes else _region(cleaned),
        inputs=inputs,
        outputs=outputs,
        dtype=_computes(data, inputs, kernel),
        device="dla" if kind.upper().startswith("DLA") else "gpu",
        kernel=kernel,
    )


def _nodes(metadata: str) -> list[str]:
    """Return the nodes that metadata names; what stands beside a name, after ``|``, is left out."""
    pieces = metadata[: 64 * _TEXT].split(_NODE)[1 : _NODES + 1]
    return [_clean(piece.partition("]")[0].partition(" | ")[0]) for piece in pieces]


def _region(name: str) -> tuple[str, str] | None:
    """Return the first and the last node of a region, from a name that tells these alone."""
    inner = name.partition(_REGION)[2].partition("]}")[0]
    first, dots, last = inner.partition("...")
    return (first, last) if dots and first and last else None


def _tensors(data: Any) -> tuple[EngineTensor, ...]:
    if data is None:
        return ()
    if not isinstance(data, list) or len(data) > _TENSORS:
        raise ValueError("a layer's tensors are no list, or too long a one")
    return tuple(_tensor(item) for item in data)


def _tensor(data: Any) -> EngineTensor:
    if not isinstance(data, dict) or not isinstance(data.get("Name"), str):
        raise ValueError("a layer's tensor has no name")
    words = {name.lower(): value for name, value in data.items() if isinstance(value, str)}
    layout = words.get("format/datatype", words.get("format", ""))
    dims: Any = data.get("Dimensions")
    right = isinstance(dims, list) and len(dims) <= _SIZES
    sizes = [size for size in dims if type(size) is int and -1 <= size < 2**62] if right else []
    return EngineTensor(
        name=_clean(data["Name"]),
        dims=tuple(sizes) if right and len(sizes) == len(dims) else None,
        dtype=_dtype(words.get("datatype") or layout),
        layout=_clean(layout)[:200],
    )


def _dtype(words: str) -> str | None:
    """Return the type in an inspector's words for a tensor, None where there is none."""
    lower = words.lower()
    if lower.startswith("n/a"):
        return None
    return next((dtype for word, dtype in _TYPES if word in lower), None)


def _computes(data: Mapping[str, Any], inputs: tuple[EngineTensor, ...], kernel: str) -> str | None:
    """Return what a layer multiplies in.

    The type of its first input; where open dims keep that from being told, of its weights; else
    what its kernel's name says.
    """
    if inputs and inputs[0].dtype is not None:
        return inputs[0].dtype
    weights = data.get("Weights")
    told = weights.get("Type") if isinstance(weights, dict) else None
    if isinstance(told, str) and (dtype := _dtype(told)):
        return dtype
    match = _KERNEL.search(kernel)
    return _KERNEL_TYPES.get(match[1], "float32") if match else None
