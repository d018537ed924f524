"""Every nasty kind through the whole build: parity shown, or a typed end that names the node."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from nasty import ABOUT, NASTY
from running import Run, check_published, cosines, edgedeploy, targets_of
from zoo import TARGETS, write_profile

pytestmark = pytest.mark.slow

# Minutes on every converter; tests/soak builds it.
LONG = ("long_chain",)
KINDS = tuple(name for name in NASTY if name not in LONG)
# What OpenVINO has no conversion for, and the first node of it.
UNKNOWN_TO_OPENVINO = {"string_input": "LabelEncoder_0", "sklearn_mlp": "ArrayFeatureExtractor_0"}
# An output that is a list of dictionaries is nothing that a tensor runtime gives.
NO_TENSOR = "tree_ensemble_zipmap"
# What each refusal names: the node or weight at fault; None where it is the file as a whole.
CULPRITS = {
    "unknown_domain": "wand",
    "unknown_operator": "typo",
    "cycle": "second",
    "duplicate_value": "second",
    "missing_input": "layer",
    "opset_too_new": None,
    "ir_too_new": None,
    "nan_weight": "w",
    NO_TENSOR: "table",
}


@dataclass(frozen=True, kw_only=True)
class Built:
    run: Run
    folder: Path
    targets: dict[tuple[str, str], dict[str, Any]]


def _model_name(kind: str) -> str:
    return kind.replace("_", "-")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Built:
    """Return one build of all kinds: what befalls one model must not touch the others."""
    base = tmp_path_factory.mktemp("nasty")
    models = {}
    for kind in KINDS:
        (base / kind).mkdir()
        NASTY[kind](base / kind)
        models[_model_name(kind)] = {"source": f"{kind}/model.onnx"}
    profile = write_profile(base, "nasty", models, quantize="none")
    run = edgedeploy("build", profile, "-o", base / "build", "--store", store, "--no-bench")
    folder = base / "build/nasty"
    return Built(run=run, folder=folder, targets=targets_of(folder))


def _refused(kind: str, target: str) -> bool:
    return (
        ABOUT[kind].code is not None
        or kind == NO_TENSOR
        or (target == TARGETS[1] and kind in UNKNOWN_TO_OPENVINO)
    )


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if not _refused(kind, TARGETS[0])])
def test_it_builds_with_parity_or_is_refused_by_name(built: Built, kind: str, target: str) -> None:
    said = built.targets[_model_name(kind), target]
    if _refused(kind, target):
        first = said["diagnostics"][0]
        assert (first["code"], first["subject"]) == ("E320", UNKNOWN_TO_OPENVINO[kind])
        assert "drop the OpenVINO target" in first["hint"]
        return
    assert said["verdict"] == "accepted"
    parity = {item["output"]: item["stats"] for item in said["evaluation"]["parity"]}
    assert parity and all(item["outside_tolerance"] == 0 for item in parity.values())
    assert min(cosines(said).values()) > 0.9999


@pytest.mark.parametrize("kind", [kind for kind in KINDS if _refused(kind, TARGETS[0])])
def test_a_refusal_names_the_node_and_the_way_out(built: Built, kind: str) -> None:
    for target in TARGETS:
        said = built.targets[_model_name(kind), target]
        assert said["verdict"] == "failed"
        first = said["diagnostics"][0]
        assert first["code"] == (ABOUT[kind].code or "E318")
        assert first.get("subject") == CULPRITS[kind]
        assert first["hint"]
        assert first["message"] in built.run.err


def test_the_exit_status_is_that_of_refused_models(built: Built) -> None:
    assert built.run.code == 2


def test_every_artifact_loads_in_a_fresh_process(built: Built) -> None:
    accepted = {key: said for key, said in built.targets.items() if said["verdict"] == "accepted"}
    assert len(accepted) == sum(not _refused(kind, target) for kind in KINDS for target in TARGETS)
    check_published(built.folder, sizes=accepted)


def test_a_classifier_builds_without_its_dictionaries(tmp_path: Path, store: Path) -> None:
    """The way out that the refusal names: keep the tensor outputs only."""
    NASTY[NO_TENSOR](tmp_path)
    model = {"source": "model.onnx", "outputs": ["label"]}
    profile = write_profile(tmp_path, "labels", {"tree": model}, quantize="none")
    run = edgedeploy("build", profile, "-o", tmp_path / "build", "--store", store, "--no-bench")
    targets = targets_of(tmp_path / "build/labels")
    assert run.code == 3, run.err
    said = targets["tree", TARGETS[0]]
    assert said["verdict"] == "accepted"
    assert [item["output"] for item in said["evaluation"]["parity"]] == ["label"]
    said = targets["tree", TARGETS[1]]["diagnostics"][0]
    assert said["code"] == "E320" and "TreeEnsembleClassifier" in said["message"]


def test_weights_that_went_missing(tmp_path: Path, store: Path) -> None:
    """A model file without the file of its external data."""
    NASTY["external_data"](tmp_path)
    (tmp_path / "weights.bin").unlink()
    profile = write_profile(tmp_path, "bare", {"main": {"source": "model.onnx"}}, quantize="none")
    run = edgedeploy("build", profile, "-o", tmp_path / "build", "--store", store, "--no-bench")
    assert run.code == 2 and "weights.bin" in run.err and "hint:" in run.err


def test_a_file_that_is_no_model(tmp_path: Path, store: Path) -> None:
    for name, content in (("text.onnx", b"hello, this is no model\n"), ("empty.onnx", b"")):
        (tmp_path / name).write_bytes(content)
        profile = write_profile(tmp_path, "none", {"main": {"source": name}}, quantize="none")
        run = edgedeploy("build", profile, "-o", tmp_path / "build", "--store", store, "--no-bench")
        assert run.code == 2 and "error[E201]" in run.err and "hint:" in run.err
