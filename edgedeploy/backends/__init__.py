"""Backends: one per family of runtimes; each compiles an ONNX model and runs the result."""
