"""All of ONNX's node tests that are in scope for Core ML, for every deployment target."""

from __future__ import annotations

import collections

import pytest

from tests.coreml.nodes import run_all
from tests.coreml.scope import listed
from tests.coreml.table import not_passed

IOS = 17
"""What docs/coreml-operators.md is about."""


@pytest.mark.parametrize("ios", [16, IOS, 18])
def test_every_case(ios: int) -> None:
    results = list(run_all(listed(), ios=ios, processes=2))
    print(ios, dict(collections.Counter(result.outcome for result in results)))
    bad = [result for result in results if result.outcome in ("wrong", "failed")]
    assert bad == []
    if ios == IOS:
        told = {result.name: result.outcome for result in results if result.outcome != "passed"}
        assert told == not_passed()
