"""From what was chosen to how it is measured."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgedeploy.sessions import _options

F32 = {"properties": {"INFERENCE_PRECISION_HINT": "f32"}}


@pytest.mark.parametrize(
    ("runtime", "processor", "given", "wanted"),
    [
        ("ort", "cpu", {}, {}),
        ("openvino", "cpu", {}, F32),
        ("openvino", "gpu", {}, {**F32, "device": "GPU"}),
        ("openvino", "npu", {"device": "NPU"}, {**F32, "device": "NPU"}),
        ("openvino", "gpu", {"device": "CPU"}, F32),
    ],
)
def test_an_artifact_is_measured_on_the_boards_processor(
    runtime: str, processor: str, given: dict[str, str], wanted: dict[str, Any]
) -> None:
    """The CPU of an Intel box says nothing of its GPU."""
    target = SimpleNamespace(runtime=runtime, get={"board.processor": processor}.get)
    nodes = SimpleNamespace(compiled=SimpleNamespace(params={"options": given}))
    assert _options(SimpleNamespace(target=target), nodes) == wanted  # type: ignore[arg-type]
