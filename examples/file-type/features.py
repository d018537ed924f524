"""What the build and the application share: from a file's bytes to the model's input, and labels.

The layout is the model's own (`config.min.json` beside it): up to 1024 bytes from the start of
the file without leading white space, padded behind, then up to 1024 from its end without trailing
white space, padded before. Padding is 256, one more than any byte.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np

MODEL = "models/standard_v3_3"


def config() -> dict:
    """Return the model's settings from the installed package, which is not imported."""
    package = importlib.util.find_spec("magika")
    if package is None or package.origin is None:
        raise SystemExit("the package magika is not installed: pip install --no-deps magika==1.0.3")
    return json.loads((Path(package.origin).parent / MODEL / "config.min.json").read_text())


def labels() -> list[str]:
    """Return the names of the model's classes, in the order of its output."""
    return config()["target_labels_space"]


def features(content: bytes, settings: dict) -> np.ndarray:
    """Return the input tensor of one file, int32 ``[1, 2048]``."""
    block, padding = settings["block_size"], settings["padding_token"]
    tensor = np.full((1, settings["beg_size"] + settings["end_size"]), padding, np.int32)
    first = content[:block].lstrip() if len(content) > block else content.strip()
    last = content[-block:].rstrip() if len(content) > block else content.strip()
    first, last = first[: settings["beg_size"]], last[-settings["end_size"] :]
    tensor[0, : len(first)] = np.frombuffer(first, np.uint8)
    tensor[0, tensor.size - len(last) :] = np.frombuffer(last, np.uint8)
    return tensor
