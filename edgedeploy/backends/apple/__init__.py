"""Core ML: ONNX -> ML Program (``.mlpackage``), on any system."""
