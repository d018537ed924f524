"""Models with trained weights, exported from torch as a user would do it."""

import pytest
import torch
from trained import load_efficientnet


@pytest.fixture(scope="session")
def efficientnet() -> torch.nn.Module:
    """EfficientNet-lite0 with its ImageNet weights; input [N, 3, 224, 224] float32."""
    return load_efficientnet()
