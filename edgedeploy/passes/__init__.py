"""ONNX to ONNX: one normal form for every backend, optimisation and half precision.

Heavy libraries are imported by the modules of this package, so only workers import them.
"""
