"""Quantization: calibration, int8 schemes, QDQ models and their comparison with the float model.

Every module here imports numpy and onnx-ir at its top, and calibration and comparison import the
runtime, except ``scheme`` and ``candidates``, which planning may import.
"""
