"""The long form: false alarms of many pairs, of real trainings too, and models in a pipeline."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from edgedeploy import api
from edgedeploy.comparing import PIPELINE
from edgedeploy.events import EventLog
from edgedeploy.release.keys import new_key
from tests.flow import knock
from tests.unit.parity.test_parity_pairing import alarms, false_alarms, top1

PROFILE = """\
edgedeploy: 1
name: knock
version: "1.0.0"
models:
  ear: {source: model.onnx, licence: MIT}
pipeline: pages.py:answer
data: {evaluate: {source: evaluate, labels: labels.csv}}
metric: top1
quantize: none
gates: {metric: -1 pt}
files: []
release: {files_licence: MIT}
targets: [linux-x86-64/ort]
"""
FUNCTION = '''\
def answer(inputs, models):
    """Return the scores of the classes."""
    return {"y": models.ear(x=inputs["input"])["y"]}
'''


def test_equal_artifacts_raise_fewer_false_alarms_than_alpha_allows() -> None:
    assert false_alarms(range(10_000, 12_000)) <= 30  # 1 % of 2000 is 20


def test_trainings_of_one_recipe_are_silent() -> None:
    """Other seeds, the same plentiful data's worth: 100 pairs of models on one evaluation set."""
    features, truth = knock.draw(knock.SAMPLES, 99)
    count = 0
    for seed in range(100):
        hits = [
            (features @ weights + biases).argmax(axis=1) == truth
            for weights, biases in (knock.train(1000 + seed), knock.train(5000 + seed))
        ]
        count += bool(alarms(top1(*(hit.tolist() for hit in hits), truth.tolist())))
    assert count <= 4


@pytest.mark.slow
def test_a_pipeline_is_paired_as_a_whole(tmp_path: Path) -> None:
    knock.write_project(tmp_path)
    (tmp_path / "knock.yaml").write_text(PROFILE, encoding="utf-8")
    (tmp_path / "pages.py").write_text(FUNCTION, encoding="utf-8")
    new_key(tmp_path / "key")
    request = api.Request(profile=tmp_path / "knock.yaml")
    options = api.BuildOptions(output=tmp_path / "build", store=tmp_path / "store", jobs=2)
    assert api.build(request, options).exit_code == 0
    made = api.release(
        request,
        api.ReleaseOptions(
            output=tmp_path / "build", store=tmp_path / "store", key=tmp_path / "key"
        ),
        EventLog(),
    )
    bundle = Path(shutil.copy(made.path, tmp_path))
    knock.save(tmp_path / "model.onnx", knock.faulty(2))
    assert api.build(request, options).exit_code == 0
    found = api.compare_with_release(
        bundle,
        request,
        api.RetrainOptions(
            output=tmp_path / "build",
            store=tmp_path / "store",
            keys=(tmp_path / "key.pub",),
            slices=("place",),
        ),
    )
    assert [(item.model, item.quantity) for item in found.regressions] == [(PIPELINE, "class 3")]
    (target,) = found.targets
    features, truth = knock.draw(knock.SAMPLES, 99)
    for trained, value in (
        (knock.train(1), target.groups[0].group.before),
        (knock.faulty(2), target.groups[0].group.after),
    ):
        answers = (features @ trained[0] + trained[1]).argmax(axis=1)
        assert value == pytest.approx(np.mean(answers == truth))
