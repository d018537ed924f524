"""Documents as the bench of a Swift package writes them on a phone; composed, nothing ran there.

The form is that of ``edgedeploy/release/formats/swift_files/bench/BenchReport.swift``.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

WINDOW_NS = 250_000_000


def document(**change: Any) -> dict[str, Any]:
    """Return a document of 45 windows of calls of about 5 ms, as data; ``change``: other values."""
    rng = np.random.Generator(np.random.PCG64(7))
    windows = []
    at = 1_000_000_000
    for _ in range(45):
        samples = rng.normal(5e6, 5e4, size=48).astype(int).tolist()
        windows.append(
            {
                "begin_ns": at,
                "end_ns": at + WINDOW_NS,
                "samples_ns": samples,
                "thermal": "nominal",
                "low_power": False,
            }
        )
        at += WINDOW_NS + 1000
    found = {
        "schema": 1,
        "kind": "app-bench",
        "created": "2026-11-20T10:00:00Z",
        "release": "1" * 64,
        "model": "main",
        "target": "ios17/coreml",
        "artifact": "2" * 64,
        "units": "ALL",
        "threads": 1,
        "inputs": "golden",
        "device": {
            "machine": "iPhone16,1",
            "os": "ios",
            "os_version": "17.5.1",
            "simulator": False,
        },
        "optimised": True,
        "load_ns": 900_000_000,
        "first_inference_ns": 20_000_000,
        "warm_up": {
            "medians_ns": [5_100_000, 5_000_000, 5_010_000],
            "elapsed_ns": 750_000_000,
            "stable": True,
        },
        "windows": windows,
        "ended": "complete",
        "cosines": {"class": 0.999},
        "least_cosine": 0.99,
    }
    return {**found, **change}


def content(**change: Any) -> bytes:
    """Return a document as bytes."""
    return json.dumps(document(**change)).encode()


def slower(found: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """Return a document whose calls took longer, and its windows with them."""
    windows = [
        {
            **window,
            "begin_ns": round(window["begin_ns"] * factor),
            "end_ns": round(window["end_ns"] * factor),
            "samples_ns": [round(ns * factor) for ns in window["samples_ns"]],
        }
        for window in found["windows"]
    ]
    return {**found, "windows": windows}
