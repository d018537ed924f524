"""Random forms of gathers, scatters, recurrent layers, attention, detection, by the runtime."""

from __future__ import annotations

import pytest

from tests.coreml.sequence_forms import SEQUENCES
from tests.coreml.sweeps import sweep

COUNTS = {"attention": 6, "recurrent": 3, "sampling": 3, "suppression": 1}
"""Forms of families that become many operations each; 10 of the others."""


@pytest.mark.slow
@pytest.mark.parametrize("family", SEQUENCES)
def test_forms_are_the_runtimes(family: str) -> None:
    opset, draws = SEQUENCES[family]
    ios = 18 if family in ("attention", "gather") else 16
    count = COUNTS.get(family, 10)
    found = sweep(draws, count=count, seed=3, opset=opset, ios=ios)
    assert found.wrong + found.refused == []
    assert len(found.passed) == count
