"""The one place that imports TensorRT for RTX: parse, configure, build."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgedeploy.errors import BuildError


def load_builder() -> Any:
    """Return the module of its bindings.

    Raises:
        BuildError: It is not installed (E326).
    """
    try:
        import tensorrt_rtx_bindings
    except ImportError as error:
        raise BuildError(
            "TensorRT for RTX is not installed",
            code="E326",
            subject="tensorrt-rtx-cu13",
            hint="pip install 'edgedeploy[tensorrt-rtx]'",
        ) from error
    return tensorrt_rtx_bindings


def build_engine(model: Path, capabilities: Sequence[str]) -> bytes:
    """Return the serialized engine of a typed ONNX model.

    Args:
        model: The typed graph.
        capabilities: Compute capabilities such as ``8.9``; the engine runs on each of them.

    Raises:
        BuildError: The parser (E327) or the builder (E328) refuses it.
    """
    trt = load_builder()
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        told = [parser.get_error(number).desc() for number in range(parser.num_errors)]
        raise BuildError(
            f"the parser of TensorRT for RTX refuses it: {told[0] if told else 'no reason given'}",
            code="E327",
            subject=model.name,
            hint="use another `quantize:`, or another target",
        )
    config = builder.create_builder_config()
    config.num_compute_capabilities = len(capabilities)
    for place, capability in enumerate(capabilities):
        name = "SM" + capability.replace(".", "")
        config.set_compute_capability(getattr(trt.ComputeCapability, name), place)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildError(
            "the builder of TensorRT for RTX makes no engine",
            code="E328",
            subject=model.name,
            hint="use another `quantize:`, or another target",
        )
    return bytes(plan)
