"""A profile with a pipeline: what stands at the top is the pipeline's own, and its faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedeploy.errors import ProfileError
from edgedeploy.profile.check import cross_check
from edgedeploy.profile.load import load_profile
from edgedeploy.profile.types import Profile
from edgedeploy.target.library import TargetLibrary

PROFILE = """\
edgedeploy: 1
name: reader
models:
  finder: {source: a.onnx}
  namer: {source: b.onnx, metric: cosine, data: {evaluate: names}}
pipeline: read.py:read
data: {calibrate: some, evaluate: others}
metric: cer
quantize: w8a8
gates: {metric: +1 pt}
targets: [rpi5/ort]
"""


def load(folder: Path, text: str) -> Profile:
    """Return a profile of some text."""
    (folder / "p.yaml").write_text(text)
    return load_profile(folder / "p.yaml")


def refused(folder: Path, old: str, new: str) -> list[tuple[str, int]]:
    """Return code and line of every fault of the profile with something else in it."""
    assert old in PROFILE
    with pytest.raises(ProfileError) as error:
        load(folder, PROFILE.replace(old, new))
    return [(item.code, item.place.line if item.place else 0) for item in error.value.diagnostics]


def test_what_stands_at_the_top_is_the_pipelines_own(tmp_path: Path) -> None:
    """Models have what they say themselves; a metric gate asks nothing of them."""
    profile = load(tmp_path, PROFILE)
    pipeline = profile.pipeline
    assert pipeline is not None
    assert (pipeline.function, pipeline.metric.name) == ("read.py:read", "cer")
    assert {name: role.source for name, role in pipeline.data.items()} == {
        "calibrate": "some",
        "evaluate": "others",
    }
    finder, namer = profile.models["finder"], profile.models["namer"]
    assert finder.data == {} and finder.metric is None
    assert list(namer.data) == ["evaluate"] and namer.metric is not None
    target = TargetLibrary().load("rpi5/ort")
    errors = [it for it in cross_check(profile, {target.id: target}) if it.severity == "error"]
    assert errors == []  # what the pipeline feeds a model calibrates it


def test_without_a_pipeline_it_is_every_models(tmp_path: Path) -> None:
    profile = load(tmp_path, PROFILE.replace("pipeline: read.py:read\n", ""))
    assert profile.pipeline is None
    assert set(profile.models["finder"].data) == {"calibrate", "evaluate"}
    metric = profile.models["finder"].metric
    assert metric is not None and metric.name == "cer"


def test_a_pipeline_without_worth_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, "metric: cer\n", "") == [("E880", 6)]
    assert refused(tmp_path, ", evaluate: others", "") == [("E880", 6)]


def test_faults_of_its_data(tmp_path: Path) -> None:
    """Tables are a model's, and nothing is evaluated on what it was calibrated on."""
    assert refused(tmp_path, "calibrate: some", "calibrate: {tables: some}") == [("E887", 7)]
    assert refused(tmp_path, "evaluate: others", "evaluate: some") == [("E138", 7)]


def test_nothing_to_calibrate_on_is_refused(tmp_path: Path) -> None:
    profile = load(tmp_path, PROFILE.replace("calibrate: some, ", ""))
    target = TargetLibrary().load("rpi5/ort")
    codes = [item.code for item in cross_check(profile, {target.id: target})]
    assert codes == ["E147", "E147"]
