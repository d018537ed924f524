"""What all flow tests share: one store, and the models that are calibrated in this process."""

from collections.abc import Callable
from pathlib import Path

import pytest
from forms import Calibrated, calibrated


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What models share is built once."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Calibrated]:
    """Return a function that brings a model to its normal form and calibrates it, once."""
    known: dict[str, Calibrated] = {}

    def make(name: str) -> Calibrated:
        if name not in known:
            known[name] = calibrated(name, tmp_path_factory.mktemp(name))
        return known[name]

    return make
