"""The build document is read back exactly or refused with the field's name."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgedeploy.errors import UsageError
from edgedeploy.errors.codes import bench as codes
from edgedeploy.report.document import (
    BuildDocument,
    EvaluationReport,
    MetricReport,
    ParityReport,
    from_json,
    read_document,
)


def test_what_is_written_is_read_back(document: BuildDocument, tmp_path: Path) -> None:
    path = tmp_path / "build.json"
    path.write_text(document.text())
    assert read_document(path) == document
    assert read_document(path).text() == document.text()


def test_figures_that_are_not_finite_become_null(document: BuildDocument) -> None:
    model = document.models[0]
    metric = MetricReport(name="mse", value=math.nan, low=-math.inf, high=math.inf, n=3)
    parity = (ParityReport(output="y", stats={"max_abs": math.inf}),)
    evaluated = EvaluationReport(metric=metric, n=3, parity=parity)
    target = dataclasses.replace(model.targets[0], evaluation=evaluated)
    model = dataclasses.replace(model, targets=(target,))
    read = from_json(json.loads(dataclasses.replace(document, models=(model,)).text()))
    found = read.models[0].targets[0].evaluation
    assert found is not None and found.metric is not None
    assert (found.metric.value, found.metric.low) == (None, None)
    assert found.parity[0].stats == {"max_abs": None}


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: Any) -> None:
        *parents, last = path.split(".")
        for name in parents:
            data = data[int(name) if name.isdigit() else name]
        data[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (_set("schema", 2), "E371", "schema 2"),
        (_set("surprise", 1), "E370", "surprise"),
        (lambda data: data.pop("host"), "E370", "host"),
        (lambda data: data.pop("schema"), "E370", "schema"),
        (_set("models.0.name", 7), "E370", "models[0].name` is 7"),
        (_set("models.0.targets.0.verdict", "fine"), "E370", "targets[0].verdict` is 'fine'"),
        (_set("models.0.targets.1.bench.n", True), "E370", "bench.n` is True"),
        (_set("models.0.targets.0.files", {}), "E370", "files` is {}"),
        (_set("models.0.float", []), "E370", "float` is []"),
    ],
)
def test_anything_else_is_refused_by_name(
    document: BuildDocument, change: Callable[[Any], None], code: str, said: str
) -> None:
    data = document.to_json()
    change(data)
    with pytest.raises(UsageError) as caught:
        from_json(data)
    assert caught.value.diagnostics[0].code == code and code in codes.CODES
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"schema": 1}'])
def test_files_that_are_no_documents(text: str, tmp_path: Path) -> None:
    path = tmp_path / "build.json"
    path.write_text(text)
    with pytest.raises(UsageError):
        read_document(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"build\.json"):
        read_document(tmp_path / "build.json")
