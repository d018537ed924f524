"""Quantization: calibration and QDQ models."""
