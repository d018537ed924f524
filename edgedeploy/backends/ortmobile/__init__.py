"""ONNX Runtime Mobile: `.ort` models with what a reduced build of the runtime needs."""
