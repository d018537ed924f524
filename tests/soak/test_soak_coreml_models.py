"""The real models that `make test` does not convert to Core ML."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "flow"))

from test_coreml_models import SAMPLE, agrees_with_onnx, compared

from tests.coreml import pairs
from tests.coreml.models import (
    MODELS,
    Package,
    fed,
    normal_form,
    quantized_form,
    refined,
)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in SAMPLE])
def test_a_model_and_its_quantized_form(name: str, tmp_path: Path) -> None:
    source = normal_form(name, tmp_path)
    assert compared(name, source, Package(source, tmp_path / "full")).largest <= 1e-4
    refined(source, tmp_path / "half", fed(name, 2))
    assert compared(name, source, tmp_path / "half").sqnr_db > 38
    integers = quantized_form(name, source, tmp_path)
    package = Package(integers, tmp_path / "integers")
    assert pairs.of_package(package.program) == pairs.of_model(integers)
    agrees_with_onnx(name, source, integers, package, tmp_path)
