"""EfficientNet-lite0 and MiniLM become TensorRT-RTX engines, as their users export them."""

from pathlib import Path

import pytest

from tests.trt.engines import EXPORTED, PORTABLE, attempt, prepare, write_form

pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT for RTX")

MOST_BYTES = {"fp32": 1.2, "fp16": 0.6, "w8a8": 1.2}


@pytest.mark.parametrize("name", EXPORTED)
def test_exports_become_engines_for_every_generation(name: str, tmp_path: Path) -> None:
    """Half precision makes engines half as large; of 8-bit weights many become float in them."""
    model, table = prepare(name, tmp_path)
    given = model.stat().st_size
    for form, most in MOST_BYTES.items():
        found = attempt(write_form(model, table, form, tmp_path / form), PORTABLE)
        assert found.size, found.refusal
        assert found.size < most * given, form
