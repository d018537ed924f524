"""Random forms of convolutions, pools, norms and others against ONNX Runtime."""

from __future__ import annotations

import pytest

from tests.coreml.forms import FAMILIES
from tests.coreml.sweeps import sweep

REFUSED = (
    "auto_pad of dilated windows",
    "auto_pad with strides that leave elements out",
    "an output beyond the windows",
    "a window larger than the padded input",
    "align_corners with scales that give no whole sizes",
    "an output without elements",
    "a crop along an axis that keeps its size",
)
"""Reasons that are right: in most of these forms ONNX Runtime and ONNX differ."""


@pytest.mark.slow
@pytest.mark.parametrize("ios", [16, 17])
@pytest.mark.parametrize("family", FAMILIES)
def test_forms_are_the_runtimes_or_refused(family: str, ios: int) -> None:
    found = sweep(FAMILIES[family], count=12, seed=ios, ios=ios)
    assert found.wrong == []
    assert [told for told in found.refused if not any(why in told for why in REFUSED)] == []
    assert len(found.passed) >= 8
