"""How a model lies in a folder of ours: one file, and for big models a second one with weights."""

from __future__ import annotations

MODEL_NAME = "model.onnx"
DATA_NAME = "model.onnx.data"

INLINE_BYTES = 128 << 20
"""Weights beyond this go to the data file, one tensor at a time. Inline they are in memory twice
while the message is written, and a protobuf message ends at 2 GiB."""

SMALLEST_EXTERNAL_BYTES = 1024
"""Smaller tensors stay inline in any case, where shape inference sees them."""
