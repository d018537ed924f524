"""The parser and builder of TensorRT for RTX, which need no GPU."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest


class Parser:
    """TensorRT-RTX's network of a model, or the errors of its parser."""

    def __init__(self, path: Path) -> None:
        self._trt: Any = pytest.importorskip(
            "tensorrt_rtx_bindings", reason="needs TensorRT for RTX"
        )
        logger = self._trt.Logger(self._trt.Logger.ERROR)
        self._builder = self._trt.Builder(logger)
        flag = self._trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
        self.network = self._builder.create_network(1 << int(flag))
        parser = self._trt.OnnxParser(self.network, logger)
        parser.parse_from_file(str(path))
        self.errors = [parser.get_error(number).desc() for number in range(parser.num_errors)]

    def layers(self) -> Counter[str]:
        """Return how many layers of each type the network has."""
        found = (self.network.get_layer(place).type for place in range(self.network.num_layers))
        return Counter(kind.name for kind in found)

    def engine(self) -> bytes:
        """Return the engine for compute capability 8.6."""
        config = self._builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(self._trt.ComputeCapability.SM86, 0)
        plan = self._builder.build_serialized_network(self.network, config)
        return b"" if plan is None else bytes(plan)
