"""The environment of the torch tests."""

import numpy as np
import torch


def test_the_environment_is_the_cpu_build() -> None:
    """A CUDA build would be another product, with gigabytes of libraries."""
    assert torch.__version__ == "2.13.0+cpu"
    assert torch.version.cuda is None
    assert tuple(int(part) for part in np.__version__.split(".")[:2]) < (2, 4)
