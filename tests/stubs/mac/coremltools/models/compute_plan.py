"""What Core ML plans to run where. Which unit it prefers is made up: matrices on the last one."""

import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from coremltools import ComputeUnit
from coremltools.models.compute_device import (
    MLComputeDevice,
    MLCPUComputeDevice,
    MLGPUComputeDevice,
    MLNeuralEngineComputeDevice,
)
from edgedeploy.mil.program import Block
from edgedeploy.mil.read import read_package

_UNITS = {
    ComputeUnit.ALL: (MLCPUComputeDevice, MLGPUComputeDevice, MLNeuralEngineComputeDevice),
    ComputeUnit.CPU_AND_GPU: (MLCPUComputeDevice, MLGPUComputeDevice),
    ComputeUnit.CPU_AND_NE: (MLCPUComputeDevice, MLNeuralEngineComputeDevice),
    ComputeUnit.CPU_ONLY: (MLCPUComputeDevice,),
}
_MATRICES = ("matmul", "linear", "conv")


@dataclass(frozen=True)
class MLComputePlanDeviceUsage:
    """Which units run an operation."""

    preferred_compute_device: MLComputeDevice
    supported_compute_devices: list[MLComputeDevice]


@dataclass(frozen=True)
class MLComputePlanCost:
    """The share of an operation, 0 to 1."""

    weight: float


class MLComputePlan:
    """The plan of a compiled model."""

    def __init__(self, block: Any, units: ComputeUnit) -> None:
        self._units = units
        function = SimpleNamespace(inputs=[], block=block)
        program = SimpleNamespace(functions={"main": function})
        self.model_structure = SimpleNamespace(program=program, neuralnetwork=None, pipeline=None)
        self._count = sum(item.operator_name != "const" for item in block.operations)

    @classmethod
    def load_from_path(
        cls, path: str, compute_units: ComputeUnit = ComputeUnit.ALL
    ) -> "MLComputePlan":
        """Return the plan of a ``.mlmodelc``."""
        if os.environ.get("EDGEDEPLOY_STAND_IN_OLD"):
            raise ValueError("MLComputePlan is not supported.")
        program = read_package(Path(path, "stand-in.mlpackage"))
        return cls(_block(program.body), compute_units)

    def get_compute_device_usage_for_mlprogram_operation(
        self, operation: Any
    ) -> MLComputePlanDeviceUsage | None:
        """Return which units run an operation; None for constants."""
        if operation.operator_name == "const":
            return None
        supported = [unit() for unit in _UNITS[self._units]]
        at = -1 if operation.operator_name in _MATRICES else 0
        return MLComputePlanDeviceUsage(supported[at], supported)

    def get_estimated_cost_for_mlprogram_operation(
        self, operation: Any
    ) -> MLComputePlanCost | None:
        """Return the share of an operation."""
        if operation.operator_name == "const":
            return None
        return MLComputePlanCost(1 / self._count)


def _block(block: Block) -> Any:
    operations = [
        SimpleNamespace(
            operator_name=item.kind,
            outputs=[SimpleNamespace(name=output.name) for output in item.outputs],
            blocks=[_block(inner) for inner in item.blocks],
        )
        for item in block.operations
    ]
    return SimpleNamespace(operations=operations)
