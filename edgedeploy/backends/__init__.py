"""Backends: one package or file per family of runtimes; each compiles an ONNX model and runs the result."""
