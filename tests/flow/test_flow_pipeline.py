"""A function over two models: what feeds the second, and the gate on both together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgedeploy import api
from edgedeploy.data.pack import PackReader
from edgedeploy.errors import DataError, ExitCode, RefusedError
from edgedeploy.quant.table import CalibrationTable
from edgedeploy.release.keys import read_public_key
from edgedeploy.release.opening import open_bundle
from edgedeploy.release.signing import key_id
from tests.flow.running import edgedeploy
from tests.flow.sorter import SORTING, TARGET, WEIGHTS, Project, write_project

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, api.BuildResult]:
    """The project, built with all layers in 8 bits."""
    project = write_project(tmp_path_factory.mktemp("sorter"))
    return project, project.build()


def test_each_passes_and_the_two_together_do_not(
    refused: tuple[Project, api.BuildResult],
) -> None:
    """The report says which of them loses it, each alone with the other in float."""
    project, result = refused
    assert result.exit_code == ExitCode.REFUSED
    assert [outcome.state for outcome in result.outcomes] == ["accepted", "accepted"]
    (together,) = result.combinations
    assert together.state == "refused"
    assert together.chosen == {"finder": "w8a8", "reader": "w8a8"}
    (gate,) = together.gates
    assert (gate.gate, gate.state, gate.evidence) == ("metric", "refused", "host-runtime")
    losses = {item["model"]: item["delta"]["value"] for item in project.pipeline["losses"][TARGET]}
    assert losses["finder"] < -0.1 and losses["reader"] == 0
    text = (project.folder / "build/sorter/report.txt").read_text(encoding="utf-8")
    assert "Pipeline sorting.py:sort" in text and "finder alone, the other models in" in text
    assert "Pipeline sorting.py:sort" in (project.folder / "build/sorter/report.html").read_text()


def test_the_second_model_is_calibrated_on_what_the_first_one_feeds_it(
    refused: tuple[Project, api.BuildResult],
) -> None:
    """As plain ONNX Runtime computes it with the two files, sample by sample."""
    project, result = refused
    given = PackReader(project.tree(result, "pipeline.data.calibrate", "samples"))
    fed = PackReader(project.tree(result, "reader.samples.calibrate", "samples"))
    finder = onnxruntime.InferenceSession(project.folder / "finder.onnx")
    expected = [finder.run(None, sample.tensors())[0][:, 1:] for sample in given]
    assert len(fed) == len(given) == 12
    assert [sample.id for sample in fed] == [f"{sample.id}/0" for sample in given]
    for sample, scores in zip(fed, expected, strict=True):
        np.testing.assert_allclose(sample.tensors()["x"], scores, rtol=1e-6)
    table = CalibrationTable.read(project.tree(result, "reader.calibrate", "table") / "table.json")
    assert table.tensors["x"].high == pytest.approx(max(map(np.max, expected)), rel=1e-6)


def test_what_is_refused_together_is_neither_pushed_nor_released(
    refused: tuple[Project, api.BuildResult],
) -> None:
    project, _ = refused
    with pytest.raises(RefusedError) as error:
        project.release()
    (found,) = error.value.diagnostics
    assert found.code == "E439" and found.subject == f"pipeline -> {TARGET}"


def test_accept_lists_the_combination_and_holds_it_to_what_is_required(
    refused: tuple[Project, api.BuildResult],
) -> None:
    """A metric is required of the models together, and not of each."""
    project, _ = refused
    places = ["-o", "build", "--store", "store", "--json"]
    required = ["--require", "metric:host-runtime", "--require", "parity:host-runtime"]
    done = edgedeploy("accept", "sorter.yaml", *places, *required, cwd=project.folder)
    rows = {item["item"]: item for item in done.document["items"]}
    assert done.code == 1 and rows[f"pipeline -> {TARGET}"]["state"] == "refused"
    unmet = {name: item["unmet"] for name, item in rows.items()}
    assert unmet == {
        f"finder -> {TARGET}": [],
        f"reader -> {TARGET}": [],
        f"pipeline -> {TARGET}": ["metric:host-runtime"],
    }


def test_auto_searches_the_model_that_loses_most(
    refused: tuple[Project, api.BuildResult],
) -> None:
    """It is held by the gate on both together; the other one stays in 8 bits. Then all travels."""
    project, _ = refused
    auto = "quantize.mode=auto"
    result = project.build(auto)
    assert result.exit_code == ExitCode.DONE
    (together,) = result.combinations
    assert together.state == "accepted" and together.chosen["reader"] == "w8a8"
    assert together.chosen["finder"] not in ("w8a8", "float")
    finder = next(out for out in result.outcomes if out.item.shared.name == "finder")
    tried = {trial.name: trial.reason for trial in finder.trials}
    assert tried["w8a8"].startswith("together: -") and finder.state == "accepted"

    released = project.release(auto)
    public = read_public_key(project.folder / "key.pub")
    with open_bundle(released.path, {key_id(public): public}) as bundle:
        (target,) = bundle.release.targets
        whole = target.pipeline
        assert whole is not None and whole.function == "files/sorting.py:sort"
        # The function's file and the module that it imports; not the file of the data function.
        assert whole.files == ("files/kinds.py", "files/sorting.py")
        assert list(whole.requires) == ["numpy"]
        assert [figure.value for figure in whole.figures] == [1.0]
        assert {gate.gate: gate.state for gate in whole.gates} == {"metric": "passed"}
        assert {model.name for model in target.models} == {"finder", "reader"}


TRIPPING = """\
    lost = np.abs(scores[0] - inputs["x"][0] @ WEIGHTS[:, 1:]).max() > 0.01
    found = {"kinds": scores}["other" if lost else "kinds"]
"""
"""Works as long as the scores are those of the float finder."""


def test_a_function_that_trips_over_artifacts_fails_the_combination(
    refused: tuple[Project, api.BuildResult],
) -> None:
    """With the float models it works; its own line is named, and the models stay what they are."""
    project, _ = refused
    with written(project, "    found = models", f"{TRIPPING}    found = models"):
        result = project.build()
    (together,) = result.combinations
    (found, *_) = together.diagnostics
    assert together.state == "failed" and found.code == "E881" and "KeyError" in found.message
    assert str(found.place).startswith("sorting.py:8:")
    assert [outcome.state for outcome in result.outcomes] == ["accepted", "accepted"]
    assert result.exit_code == ExitCode.USAGE


def test_a_model_that_is_never_called_is_named(refused: tuple[Project, api.BuildResult]) -> None:
    project, _ = refused
    with written(project, 'models.reader(x=np.ascontiguousarray(scores))["z"]', "scores * 2"):
        result = project.build()
    reader = next(out for out in result.outcomes if out.item.shared.name == "reader")
    codes = {item.code for trial in reader.trials for item in trial.diagnostics}
    assert reader.state == "failed" and codes == {"E885"}
    (together,) = result.combinations
    assert together.state == "failed" and "reader" in together.reason
    assert result.exit_code == ExitCode.USAGE


@contextmanager
def written(project: Project, old: str, new: str) -> Iterator[None]:
    """Let the function say something else for a while."""
    file = project.folder / "sorting.py"
    assert old in SORTING
    head = f"WEIGHTS = np.array({WEIGHTS.tolist()}, np.float32)\n"
    text = SORTING.replace(old, new).replace("import np\n", "")
    file.write_text(text.replace("import numpy as np\n", f"import numpy as np\n{head}"))
    try:
        yield
    finally:
        file.write_text(SORTING)


def test_one_file_is_tried_on_all_models_together(
    refused: tuple[Project, api.BuildResult], tmp_path: Path
) -> None:
    """What the float models answer is what the two weights give; the refused ones are shown too."""
    project, _ = refused
    assert project.build().exit_code == ExitCode.REFUSED  # tests before this one built other things
    x = np.random.default_rng(11).uniform(size=(1, 8)).astype(np.float32)
    np.savez(tmp_path / "one.npz", x=x)
    options = api.TryOptions(output=project.folder / "build", store=project.folder / "store")
    found = api.try_file(tmp_path / "one.npz", project.request(), options)
    first, other = found.rows
    assert found.exit_code == ExitCode.DONE
    assert first.answer is not None and first.answer["kind"] == "values"
    scores = np.maximum(x @ WEIGHTS, 0)[:, 1:]
    kind = first.answer["value"]["kind"]
    assert kind["shape"] == [1, 3]
    assert kind["max"] == pytest.approx(2 * scores.max(), rel=1e-5)
    assert (other.model, other.target, other.verdict) == ("pipeline", TARGET, "refused")
    assert other.evidence == "host-runtime" and other.answer is not None
    assert other.difference is not None
    assert other.difference["outputs"]["scores"]["max_abs"] > 0.01  # what the gate refused it for

    np.savez(tmp_path / "other.npz", y=x)
    with pytest.raises(DataError) as error:
        api.try_file(tmp_path / "other.npz", project.request(), options)
    assert [item.code for item in error.value.diagnostics] == ["E852"]
