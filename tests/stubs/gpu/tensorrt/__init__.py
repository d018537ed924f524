"""A stand-in for the run-time part of Python's ``tensorrt``, for tests without a GPU.

Written from NVIDIA's Python API reference of TensorRT 8.6, 10.3 and 11; it was never held against a
GPU. ``EDGEDEPLOY_STAND_IN_TENSORRT`` says which version it is. Its "engines" are ONNX models behind
a header; what computes is ONNX Runtime, on the memory of the stand-in for the driver
(``libcuda.c``), when the stream is waited for.
"""

import os

__edgedeploy_stand_in__ = True
__version__ = os.environ.get("EDGEDEPLOY_STAND_IN_TENSORRT", "10.3.0")

from tensorrt.running import (
    DataType,
    ICudaEngine,
    IExecutionContext,
    ILogger,
    IOutputAllocator,
    IProfiler,
    Runtime,
    TensorIOMode,
    TensorLocation,
    init_libnvinfer_plugins,
    stand_in_engine,
)

__all__ = [
    "DataType",
    "ICudaEngine",
    "IExecutionContext",
    "ILogger",
    "IOutputAllocator",
    "IProfiler",
    "Runtime",
    "TensorIOMode",
    "TensorLocation",
    "init_libnvinfer_plugins",
    "stand_in_engine",
]
