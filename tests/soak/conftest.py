"""The soak tests run only where they are asked for: ``pytest tests/soak``."""

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    asked = any("soak" in argument for argument in config.invocation_params.args)
    return None if asked else True
