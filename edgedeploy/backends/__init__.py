"""Backends: one per family of runtimes; each compiles an ONNX model and runs the result.

Nothing heavy is imported here: :func:`load` imports a family when it is used.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgedeploy.errors import BuildError

if TYPE_CHECKING:
    from edgedeploy.backends.base import Backend


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What a plan must know of a backend without importing it.

    Attributes:
        package: Where it lives below ``backends/``; has a ``BACKEND`` in ``backend.py``.
        tools: Distributions whose versions decide what is written.
        hint_tools: Distributions that it asks for hints where they are installed, and does without
            where they are not.
        reads: Dotted target fields that it may look at.
        code: Parts of edgedeploy outside of ``package`` that decide what is written or answered.
        wants_words: Whether what it writes also holds what the profile says of the model
            (:class:`edgedeploy.backends.base.Words`).
        bench_options: Options of ``bench/loop.py`` under which the artifact computes as it did
            when its outputs were compared.
        half_options: Compile options with which the backend itself makes an ``fp16`` artifact of
            the float model; it then also takes ``keep_float`` and ``keep_float_ops``. None where
            the model is changed before.
        tried_options: Compile options with which it tries what it writes on samples; None where it
            never does.
        integer_options: Compile options of models with integer weights, unless the profile says
            otherwise.
        bucket_options: Options with which one artifact serves all buckets of a model.
        four_bit_opset: Opset that a model with 4-bit weights must be of; None: that of all models.
        most_bytes: What one artifact's format holds at most; None: no limit that matters.
        on_device: Whether devices of the board make the artifact of what is written here
            (:mod:`edgedeploy.engines`).
    """

    package: str
    tools: tuple[str, ...]
    reads: tuple[str, ...]
    hint_tools: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    wants_words: bool = False
    bench_options: Mapping[str, Any] = field(default_factory=dict)
    half_options: Mapping[str, Any] | None = None
    tried_options: Mapping[str, Any] | None = None
    integer_options: Mapping[str, Any] = field(default_factory=dict)
    bucket_options: Mapping[str, Any] = field(default_factory=dict)
    four_bit_opset: int | None = None
    most_bytes: int | None = None
    on_device: bool = False


# FLATBUFFERS_MAX_BUFFER_SIZE: offsets are 32 bits and the sign bit stays free.
ORT_FILE_BYTES = 2**31 - 1

# A thread that polls the GPU heats and disturbs what follows, as spinning workers do.
ENGINE_OPTIONS: Mapping[str, Any] = {"sync": "blocking"}

# The first opset with INT4 tensors and scales per block, which TensorRT takes 4-bit weights as.
INT4_OPSET = 21

FAMILIES: dict[str, Family] = {
    "coreml": Family(
        package="apple",
        tools=("coremltools", "onnx", "onnx-ir", "numpy"),
        reads=("board.os", "board.os_version"),
        code=("mil", "data/pack"),
        wants_words=True,
        bucket_options={"shapes": "enumerated"},
        half_options={"precision": "float16"},
        tried_options={"precision": "float16"},
        integer_options={"precision": "float16"},
    ),
    "ort": Family(
        package="ortmobile",
        tools=("onnxruntime", "onnx", "flatbuffers"),
        reads=(
            "board.os",
            "board.arch",
            "runtime.versions",
            "runtime.opset",
            "runtime.ir_version",
        ),
        most_bytes=ORT_FILE_BYTES,
    ),
    "openvino": Family(
        package="ov",
        tools=("openvino", "onnx"),
        reads=("board.processor",),
        # By itself the runtime may take bfloat16 on CPUs that have it.
        bench_options={"properties": {"INFERENCE_PRECISION_HINT": "f32"}},
        # What stays in float beside int8 weights need not be the larger part of the file; its
        # rounding is an eighth of theirs, or less.
        integer_options={"half_weights": True},
    ),
    "tensorrt": Family(
        package="trt",
        tools=("onnx", "onnx-ir", "onnxruntime", "numpy"),
        reads=("board.gpu", "runtime.versions"),
        hint_tools=("tensorrt-rtx-cu13-libs",),
        code=("backends/ortmobile", "backends/rtx"),
        wants_words=True,
        bench_options=ENGINE_OPTIONS,
        bucket_options={"buckets": "profiles"},
        four_bit_opset=INT4_OPSET,
        on_device=True,
    ),
    "tensorrt-rtx": Family(
        package="rtx",
        tools=("tensorrt-rtx-cu13-libs", "onnx", "onnx-ir", "onnxruntime", "numpy"),
        reads=("board.gpu",),
        code=("backends/trt", "backends/ortmobile"),
        wants_words=True,
        bench_options=ENGINE_OPTIONS,
        bucket_options={"buckets": "profiles"},
        four_bit_opset=INT4_OPSET,
    ),
}
"""Backend by the runtime id of a target."""


def load(runtime: str) -> Backend:
    """Return the backend of a target's runtime.

    Raises:
        BuildError: There is no such family (E311).
    """
    if runtime not in FAMILIES:
        raise BuildError(
            f"there is no backend for the runtime {runtime!r}",
            code="E311",
            subject=runtime,
            hint=f"use one of: {', '.join(sorted(FAMILIES))}",
        )
    backend: Backend = importlib.import_module(
        f"{__name__}.{FAMILIES[runtime].package}.backend"
    ).BACKEND
    return backend
