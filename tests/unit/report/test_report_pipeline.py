"""A pipeline in the reports: a table like a model's, under its own title."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgedeploy.report import figures
from edgedeploy.report.compare import compare
from edgedeploy.report.document import (
    BuildDocument,
    EvaluationReport,
    FloatReport,
    Interval,
    LossReport,
    MetricReport,
    PipelineReport,
    TargetReport,
    from_json,
)
from edgedeploy.report.markdown import markdown_report
from edgedeploy.report.page import html_report
from edgedeploy.report.terminal import terminal_report

CER = MetricReport(
    name="cer", value=0.02, low=0.01, high=0.03, n=32, higher_is_better=False, fraction=True
)
LOSS = LossReport(model="finder", value=0.05, delta=Interval(value=0.03, low=0.01, high=0.05))


@pytest.fixture
def whole(document: BuildDocument) -> BuildDocument:
    """The document with a pipeline that was refused."""
    target = TargetReport(
        target="rpi5/ort",
        verdict="refused",
        chosen="finder w8a8, <reader> w8a8",
        size_bytes=4_000_000,
        evaluation=EvaluationReport(metric=replace(CER, value=0.06), n=32),
        notes=(figures.loss(LOSS, fraction=True),),
    )
    pipeline = PipelineReport(
        function="read_*.py:<read>",
        float=FloatReport(metric=CER, size_bytes=16_000_000),
        targets=(target,),
        losses={"rpi5/ort": (LOSS,)},
    )
    return replace(document, pipeline=pipeline)


def test_it_is_read_back(whole: BuildDocument) -> None:
    assert from_json(whole.to_json()) == whole


def test_every_report_shows_it_and_escapes_its_name(whole: BuildDocument) -> None:
    """The title, the candidates of both models, and what one of them loses."""
    loss = "finder alone, the other models in float: +3.00 pt [1.00, 5.00]"
    text = terminal_report(whole)
    assert "Pipeline read_*.py:<read>" in text and loss.replace("[1.00, 5.00]", "")[:40] in text
    assert "finder w8a8, <reader> w8a8" in text and "1 accepted, 2 refused, 1 failed" in text
    page = html_report(whole)
    assert "Pipeline read_*.py:&lt;read&gt;" in page and "<reader>" not in page
    assert "+3.00 pt" in page
    marks = markdown_report(whole)
    assert "### Pipeline read\\_\\*.py:&lt;read&gt;" in marks and "+3.00 pt" in marks


def test_without_a_value_a_loss_says_so() -> None:
    assert figures.loss(replace(LOSS, delta=None), fraction=True).endswith("not defined")


def test_two_builds_are_compared_with_it(whole: BuildDocument) -> None:
    found = {change.model for change in compare(whole, whole).changes}
    assert "read_*.py:<read>" in found
