"""ONNX to ONNX: the normal form shared by all backends, optimisation and fp16."""
