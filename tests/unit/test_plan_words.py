"""What a plan tells backends beside the model, and which targets share a shape variant."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedeploy.errors import ModelError
from edgedeploy.plan import Plan, make_plan
from edgedeploy.profile.load import load_profile
from edgedeploy.target.library import TargetLibrary

PROFILE = """
edgedeploy: 1
name: p
version: "1.2"
model:
  source: m.onnx
  author: A. Uthor
  licence: MIT
  {classes}
  inputs: {{x: {{shape: [1, 3, 16, W], image: [16, keep]}}}}
  dims: {{W: [16, 32]}}
quantize: {quantize}
targets:
  ios17/ort: {{}}
  ios17/coreml: {{options: {{shapes: {shapes}}}}}
"""


def plan(folder: Path, *, shapes: str = "range", quantize: str = "none", classes: str = "") -> Plan:
    (folder / "m.onnx").write_bytes(b"")
    (folder / "p.yaml").write_text(
        PROFILE.format(shapes=shapes, quantize=quantize, classes=classes), encoding="utf-8"
    )
    profile = load_profile(folder / "p.yaml")
    library = TargetLibrary(project=folder)
    return make_plan(profile, {use.target: library.load(use.target) for use in profile.targets})


def test_buckets_are_artifacts_of_their_own_where_ranges_are_told(tmp_path):
    assert [item.name for item in plan(tmp_path).items] == [
        "main[W=16] -> ios17/ort",
        "main[W=16] -> ios17/coreml",
        "main[W=32] -> ios17/ort",
        "main[W=32] -> ios17/coreml",
    ]


def test_a_target_that_lists_shapes_takes_all_buckets_at_once(tmp_path):
    items = plan(tmp_path, shapes="enumerated").items
    assert [item.name for item in items] == [
        "main[W=16] -> ios17/ort",
        "main[W=32] -> ios17/ort",
        "main -> ios17/coreml",
    ]
    words = items[2].candidates[0].compiled.params["words"]
    assert words["dims"] == {"W": [16, 32]}
    assert items[2].shared.evaluate.params["sizes"] == {"W": [16, 32]}


def test_only_a_backend_that_wants_them_gets_the_words(tmp_path):
    """What the others write does not change with them, and neither do their keys."""
    (tmp_path / "c.txt").write_text("a\nb\n")
    ort, coreml = (
        item.candidates[0] for item in plan(tmp_path, classes="classes: c.txt").items[:2]
    )
    assert "words" not in ort.compiled.params
    assert set(ort.compiled.inputs) == {"model"}
    words = coreml.compiled.params["words"]
    assert (words["author"], words["licence"], words["version"]) == ("A. Uthor", "MIT", "1.2")
    assert words["images"]["x"]["height"] == 16 and words["dims"] == {}
    assert set(coreml.compiled.inputs) == {"model", "facts", "classes"}


def test_a_file_of_classes_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ModelError) as caught:
        plan(tmp_path, classes="classes: none.txt")
    assert caught.value.diagnostics[0].code == "E186"


def test_core_ml_makes_fp16_of_the_float_model_itself(tmp_path):
    ort, coreml = (item.candidates[0] for item in plan(tmp_path, quantize="fp16").items[:2])
    assert ort.typed.node.kind == "half"
    assert coreml.typed.node.kind == "optimise"
    assert coreml.compiled.params["options"]["precision"] == "float16"
