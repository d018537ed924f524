"""A release against what was trained since: what it finds, allows, refuses and leaves alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import knock
import numpy as np
import pytest
from running import edgedeploy

from edgedeploy import api
from edgedeploy.errors import EdgedeployError
from edgedeploy.events import EventLog
from edgedeploy.profile.types import MetricSpec
from edgedeploy.release.bundle import Release, Tensor
from edgedeploy.release.keys import new_key, read_signing_key
from edgedeploy.release.opening import open_bundle
from edgedeploy.releasing import Draft, write_release

pytestmark = pytest.mark.slow

ORT, OPENVINO = "linux-x86-64/ort", "linux-x86-64/openvino"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project whose first model was released; its store and bundle lie in it."""
    folder = tmp_path_factory.mktemp("knock")
    knock.write_project(folder)
    new_key(folder / "key")
    build(folder)
    made = api.release(
        api.Request(profile=folder / "knock.yaml"),
        api.ReleaseOptions(output=folder / "build", store=folder / "store", key=folder / "key"),
        EventLog(),
    )
    for file in made.path.parent.glob("knock-1.0.0*"):
        shutil.copy(file, folder)
    return folder


def build(folder: Path, *sets: str, targets: tuple[str, ...] = ()) -> None:
    """Build the project."""
    result = api.build(
        api.Request(profile=folder / "knock.yaml", sets=sets, targets=targets),
        api.BuildOptions(output=folder / "build", store=folder / "store", jobs=2),
    )
    assert result.exit_code == 0


def retrained(folder: Path, trained: Any, *targets: str) -> None:
    """Build a newly trained model in place of the one before."""
    knock.save(folder / "model.onnx", trained)
    build(folder, targets=targets)


def compare(
    folder: Path,
    *sets: str,
    targets: tuple[str, ...] = (),
    slices: tuple[str, ...] = (),
    bundle: Path | None = None,
) -> api.Retrained:
    """Compare the release with the last build."""
    return api.compare_with_release(
        bundle or folder / "knock-1.0.0.edpkg",
        api.Request(profile=folder / "knock.yaml", sets=sets, targets=targets),
        api.RetrainOptions(
            output=folder / "build",
            store=folder / "store",
            keys=(folder / "key.pub",),
            slices=slices,
        ),
    )


def refused(folder: Path, *sets: str, **more: Any) -> str:
    """Return the code with which a comparison is refused."""
    with pytest.raises(EdgedeployError) as caught:
        compare(folder, *sets, **more)
    assert caught.value.diagnostics[0].hint
    return caught.value.diagnostics[0].code


def scored(trained: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return which of the evaluation samples a model has right, by NumPy alone, bool ``[n]``."""
    features, truth = knock.draw(knock.SAMPLES, 99)
    weights, biases = trained
    answers = features @ weights.astype(np.float32) + biases.astype(np.float32)
    return np.asarray(answers.argmax(axis=1) == truth)


def test_two_trainings_that_are_alike_are_silent(project: Path) -> None:
    retrained(project, knock.train(2), ORT)
    found = compare(project, targets=(ORT,), slices=("place", "slices.py:third"))
    (target,) = found.targets
    names = {item.group.name for item in target.groups if item.group.kind == "slice"}
    assert names == {"place=yard", "place=hall", "place=street", "third=third 0", "third=third 1"}
    assert {item.finding for item in target.groups} == {"no difference shown"}
    assert (found.regressions, found.unproven) == ((), ())
    before, after = scored(knock.train(1)), scored(knock.train(2))
    everything = target.groups[0].group
    assert everything.before == pytest.approx(before.mean())
    assert everything.after == pytest.approx(after.mean())
    assert 0 < everything.lost == int((before & ~after).sum())
    assert everything.gained == int((after & ~before).sum())
    assert found.changes.only_before == ("main linux-x86-64/openvino",)


def test_a_class_that_the_mean_hides_is_a_regression(project: Path, tmp_path: Path) -> None:
    retrained(project, knock.faulty(2), OPENVINO)
    summary = tmp_path / "summary.md"
    run = edgedeploy(
        *("compare", "knock-1.0.0.edpkg", ".", "--key", "key.pub", "-t", OPENVINO),
        *("--slices", "place", "--markdown", summary, "--store", project / "store", "--json"),
        cwd=project,
    )
    assert run.code == 1, run.err
    found = run.document["comparison"]
    assert [item["quantity"] for item in found["regressions"]] == ["class 3"]
    before, after = scored(knock.train(1)), scored(knock.faulty(2))
    assert before.mean() - after.mean() < 0.01  # what the gate on the metric allows
    flips = found["targets"][0]["paired"]["flips"]
    lost = [flip["sample"] for flip in flips if flip["what"] == "lost"]
    assert lost == [f"s{at:04}.npy" for at in np.flatnonzero(before & ~after)]
    text = summary.read_text(encoding="utf-8")
    assert "**⛔ 1 regression**" in text
    assert "| class 3, n=150 |" in text
    assert f"<summary>{(before != after).sum()} samples answer differently</summary>" in text
    allowed = compare(project, "gates.worst_class=-30 pt", targets=(OPENVINO,))
    assert allowed.regressions == ()
    strict = compare(project, "gates.worst_class=-0.5 pt", targets=(OPENVINO,))
    assert [item.quantity for item in strict.regressions] == ["class 3"]
    assert "class 3" not in {item.quantity for item in strict.unproven}
    assert all("not shown, n = 150" in item.why for item in strict.unproven)


@pytest.mark.parametrize(
    ("slices", "code"),
    [
        ("weather", "E857"),
        ("slices.py:fails", "E857"),
        ("slices.py:nothing", "E282"),
    ],
)
def test_slices_that_cannot_be_made_are_refused(project: Path, slices: str, code: str) -> None:
    retrained(project, knock.train(2), ORT)
    assert refused(project, targets=(ORT,), slices=(slices,)) == code


def altered(folder: Path, goal: Path, change: Callable[[Release], Release]) -> Path:
    """Write the release with something else in its manifest, signed by the same key."""
    key = read_signing_key(folder / "key")
    with open_bundle(folder / "knock-1.0.0.edpkg", {key.id: key.public}) as bundle:
        places: dict[str, Path | bytes] = {
            file.sha256: bundle.read(file.path) for file in bundle.release.files
        }
        return write_release(Draft(release=change(bundle.release), places=places), goal, key)


def with_models(release: Release, **changes: Any) -> Release:
    """Return a release in which every model says something else."""
    targets = tuple(
        replace(target, models=tuple(replace(model, **changes) for model in target.models))
        for target in release.targets
    )
    return replace(release, targets=targets)


INPUT = Tensor(name="x", dtype="float32", shape=(1, knock.FEATURES))


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda it: replace(it, targets=it.targets[:1]), "E858", "no such artifact"),
        (lambda it: replace(it, name="other"), "E763", "no release of the profile"),
        (lambda it: with_models(it, inputs=(replace(INPUT, name="z"),)), "E856", "input 'x' is"),
        (
            lambda it: with_models(it, inputs=(replace(INPUT, audio={"rate": 16000}),)),
            "E856",
            "another audio",
        ),
        (lambda it: with_models(it, outputs=(replace(INPUT, name="z"),)), "E856", "no output 'y'"),
    ],
)
def test_what_cannot_be_paired_is_refused_with_the_reason(
    project: Path, tmp_path: Path, change: Callable[[Release], Release], code: str, words: str
) -> None:
    retrained(project, knock.train(2), ORT)
    bundle = altered(project, tmp_path, change)
    with pytest.raises(EdgedeployError, match=words) as caught:
        compare(project, targets=(ORT,), bundle=bundle)
    assert caught.value.diagnostics[0].code == code


def test_a_closeness_to_float_is_no_metric_of_two_models() -> None:
    for name, closeness in (("agreement", True), ("mse", True), ("cosine", True), ("top1", False)):
        assert MetricSpec(name=name).is_closeness == closeness


def test_a_profile_that_was_not_built_is_no_pair(project: Path) -> None:
    retrained(project, knock.train(2), ORT)
    knock.save(project / "model.onnx", knock.train(3))
    assert refused(project, targets=(ORT,)) == "E438"


def test_a_folder_stands_for_its_only_profile(project: Path, tmp_path: Path) -> None:
    assert api.profile_at(project) == project / "knock.yaml"
    (tmp_path / "devices.yaml").write_text("devices: {}\n")
    for names in ((), ("a.yaml", "b.yml")):
        for name in names:
            (tmp_path / name).write_text("# ours\nedgedeploy: 1\n")
        with pytest.raises(EdgedeployError) as caught:
            api.profile_at(tmp_path)
        assert caught.value.diagnostics[0].code == "E859"
        assert all(name in str(caught.value) for name in names)


def test_options_of_a_retraining_are_refused_elsewhere(project: Path) -> None:
    bundle = str(project / "knock-1.0.0.edpkg")
    run = edgedeploy("compare", bundle, bundle, "--slices", "place", "--json")
    assert run.code == 2
    assert run.codes == {"E100"}
    assert "--slices" in json.dumps(run.document)
