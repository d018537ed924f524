"""coremltools checks a program once for each conversion, and writes what it wrote before."""

from __future__ import annotations

import contextlib
from pathlib import Path

import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from edgedeploy.backends.apple import package
from edgedeploy.backends.apple.canonical import canonicalise
from edgedeploy.backends.apple.mil_api import PassPipelineManager, Program
from edgedeploy.backends.apple.translate import translate
from edgedeploy.mil.read import MODEL_FILE

pytestmark = pytest.mark.slow


def saved(folder: Path) -> Path:
    """Save a small model as a package."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 2])
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="a"),
        helper.make_node("Exp", ["a"], ["b"], name="b"),
        helper.make_node("Transpose", ["b"], ["y"], name="c"),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 21)]
    )
    folder.mkdir()
    made = package.save(translate(ir.from_proto(model), ios=17), folder)
    canonicalise(made)
    return made


def test_the_passes_do_what_they_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = []
    whole = Program.validate

    def counted(program: Program, *given: bool, **words: bool) -> None:
        checks.append(program)
        whole(program, *given, **words)

    monkeypatch.setattr(Program, "validate", counted)
    before = PassPipelineManager.apply_pipeline
    brisk = saved(tmp_path / "brisk")
    assert 1 <= len(checks) <= 2
    assert PassPipelineManager.apply_pipeline is before
    monkeypatch.setattr(package, "checked_once", contextlib.nullcontext)
    slow = saved(tmp_path / "slow")
    assert len(checks) > 50
    assert (brisk / MODEL_FILE).read_bytes() == (slow / MODEL_FILE).read_bytes()
