"""What the makers of nasty models share: the registry, feeds, and writing a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh


@dataclass(frozen=True, kw_only=True)
class About:
    """What to do with a nasty model.

    Attributes:
        feeds: Input sets, each name -> (shape, dtype); values are drawn by :func:`feed`.
        code: The diagnostic code it must end with, None if it must build.
        texts: Inputs of dtype ``str`` draw from these.
        openvino: Whether OpenVINO must build it too (it has no text or ``ai.onnx.ml`` operators).
        raw: Whether onnxruntime runs the file as it is (the normal form it runs in any case).
    """

    feeds: tuple[Mapping[str, tuple[tuple[int, ...], str]], ...] = ()
    code: str | None = None
    texts: tuple[str, ...] = ()
    openvino: bool = True
    raw: bool = True


NASTY: dict[str, Callable[[Path], Path]] = {}
ABOUT: dict[str, About] = {}


def nasty(**about: Any) -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
    def register(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
        NASTY[make.__name__] = make
        ABOUT[make.__name__] = About(**about)
        return make

    return register


def feed(name: str, index: int = 0, seed: int = 0) -> dict[str, np.ndarray]:
    """Return one set of inputs for a nasty model."""
    rng = np.random.default_rng(seed)
    made = {}
    for key, (shape, dtype) in ABOUT[name].feeds[index].items():
        if dtype == "str":
            made[key] = rng.choice(np.array(ABOUT[name].texts, object), shape)
        elif np.dtype(dtype).kind == "b":
            made[key] = rng.integers(0, 2, shape).astype(bool)
        elif np.dtype(dtype).kind in "iu":
            made[key] = rng.integers(0, 4, shape).astype(dtype)
        else:
            made[key] = rng.uniform(-1, 1, shape).astype(dtype)
    return made


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def weight(shape: tuple[int, ...], name: str, dtype: Any = np.float32) -> onnx.TensorProto:
    return nh.from_array(rng().normal(0, 0.5, shape).astype(dtype), name)


def io(name: str, dims: Any, kind: int = T.FLOAT) -> onnx.ValueInfoProto:
    return h.make_tensor_value_info(name, kind, dims)


def write(
    folder: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: list[onnx.TensorProto] | None = None,
    *,
    opset: int = 17,
    ir: int = 8,
    domains: Mapping[str, int] | None = None,
    functions: list[onnx.FunctionProto] | None = None,
) -> Path:
    """Write a model of these parts and return its path."""
    graph = h.make_graph(nodes, "nasty", inputs, outputs, weights or [])
    imports = [h.make_opsetid("", opset)]
    imports += [h.make_opsetid(domain, version) for domain, version in (domains or {}).items()]
    model = h.make_model(graph, opset_imports=imports, ir_version=ir, functions=functions or [])
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path
