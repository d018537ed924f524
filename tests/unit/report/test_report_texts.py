"""Terminal and Markdown reports against reviewed text; hostile names change nothing.

To renew the reviewed files: ``EDGEDEPLOY_RENEW_GOLDEN=1 pytest`` and read the difference.
"""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import pytest

from edgedeploy.report.collect import wider
from edgedeploy.report.compare import compare, comparison_text
from edgedeploy.report.document import ArithmeticReport, BuildDocument, TargetReport
from edgedeploy.report.figures import arithmetic, number, size
from edgedeploy.report.markdown import escape, markdown_report
from edgedeploy.report.page import html_report
from edgedeploy.report.terminal import terminal_report

GOLDEN = Path(__file__).with_name("golden")


def same(name: str, text: str) -> None:
    """Assert that the text is what was reviewed."""
    path = GOLDEN / name
    if os.environ.get("EDGEDEPLOY_RENEW_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def changed_target(document: BuildDocument, at: int, **fields: object) -> BuildDocument:
    model = document.models[0]
    targets = list(model.targets)
    targets[at] = dataclasses.replace(targets[at], **fields)  # type: ignore[arg-type]
    model = dataclasses.replace(model, targets=tuple(targets))
    return dataclasses.replace(document, models=(model,))


def test_terminal_table(document: BuildDocument) -> None:
    text = terminal_report(document)
    same("terminal-100.txt", text)
    assert max(map(len, text.splitlines())) <= 100


def test_a_narrow_terminal_gets_a_list(document: BuildDocument) -> None:
    same("terminal-60.txt", terminal_report(document, width=60))


def words(text: str) -> set[str]:
    """Return the words of a report without the rules of its table."""
    return set(re.findall(r"[\w./%-]+", re.sub(r"--+", "", text)))


def test_colour_adds_escapes_and_nothing_else(document: BuildDocument) -> None:
    coloured = terminal_report(document, width=140, colour=True)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert plain != coloured
    assert words(plain) == words(terminal_report(document, width=140))


def test_markdown(document: BuildDocument) -> None:
    same("report.md", markdown_report(document))


def test_names_cannot_steer_a_terminal(document: BuildDocument) -> None:
    hostile = changed_target(document, 0, target="a\x1b[2Jb\x07/ort")
    for colour in (False, True):
        text = terminal_report(hostile, width=140, colour=colour)
        assert "\x07" not in text and "[2J" in text and "\x1b[2J" not in text


@pytest.mark.parametrize(
    "text", ["a|b", "<b>x</b>", "`c`", "[l](u)", "*e*", "a\nb", "@user", "#1", "~~s~~"]
)
def test_markdown_is_escaped(text: str) -> None:
    shown = escape(text)
    assert "\n" not in shown and "<" not in shown
    assert not re.search(r"(?<!\\)[|`*\[\]@#~]", shown)


def test_an_empty_build_has_reports(document: BuildDocument) -> None:
    empty = BuildDocument(profile="p", created="2026-11-24T10:00:00+00:00", version="0.1.0")
    assert "no targets" in terminal_report(empty)
    assert "no targets" in markdown_report(empty)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (9.996, "10.0"), (0.0521, "0.0521"), (1234.5, "1234"), (1e-9, "1.00e-09"),
     (-3.14159, "-3.14"), (2.5e9, "2.50e+09"), (999.6, "1000")],
)  # fmt: skip
def test_numbers_have_three_significant_digits(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (12, "12 B"),
        (1500, "1.50 kB"),
        (3_120_400, "3.12 MB"),
        (2_930_000_000, "2.93 GB"),
    ],
)
def test_sizes(value: int | None, text: str) -> None:
    assert size(value) == text


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ((53, 52, 1000, 999, 0), "52 of 53 layers, 99 % of multiply-adds on integers"),
        ((3, 3, 1000, 1000, 0), "3 of 3 layers, 100 % of multiply-adds on integers"),
        ((3, 1, 1000, 1, 0), "1 of 3 layers, < 1 % of multiply-adds on integers"),
        ((3, 0, 1000, 0, 0), "0 of 3 layers, 0 % of multiply-adds on integers"),
        ((2, 1, 0, 0, 2), "1 of 2 layers on integers (2 not counted)"),
    ],
)
def test_shares_on_integers_are_never_rounded_up(counts: tuple[int, ...], text: str) -> None:
    layers, integer, macs, integer_macs, uncounted = counts
    report = ArithmeticReport(
        layers=layers,
        integer_layers=integer,
        macs=macs,
        integer_macs=integer_macs,
        uncounted_layers=uncounted,
    )
    assert arithmetic(report) == text


def slower(target: TargetReport, factor: float) -> TargetReport:
    assert target.bench is not None and target.bench.p50_ms is not None
    p50 = target.bench.p50_ms
    moved = dataclasses.replace(
        p50,
        value=p50.value * factor,
        low=(p50.low or 0) * factor,
        high=(p50.high or 0) * factor,
    )
    return dataclasses.replace(target, bench=dataclasses.replace(target.bench, p50_ms=moved))


def findings(before: BuildDocument, after: BuildDocument) -> dict[str, str]:
    """Return the findings about the first target by quantity."""
    found = compare(before, after).changes
    first = before.models[0].targets[0].target
    return {item.quantity: item.finding for item in found if item.target == first}


def test_a_build_is_no_worse_than_itself(document: BuildDocument) -> None:
    comparison = compare(document, document)
    assert comparison.worse == () and comparison.only_before == comparison.only_after == ()
    assert findings(document, document) == {
        "verdict": "same", "size": "same", "metric": "same", "latency": "no difference shown",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("factor", "finding"),
    [(1.5, "worse"), (0.5, "better"), (1.01, "no difference shown"), (0.99, "no difference shown")],
)
def test_latency_is_compared_by_its_intervals(
    document: BuildDocument, factor: float, finding: str
) -> None:
    after = changed_target(document, 0)
    model = after.models[0]
    targets = (slower(model.targets[0], factor), *model.targets[1:])
    after = dataclasses.replace(after, models=(dataclasses.replace(model, targets=targets),))
    assert findings(document, after)["latency"] == finding


def test_latency_of_other_machines_or_doubtful_runs_is_not_compared(
    document: BuildDocument,
) -> None:
    bench = document.models[0].targets[0].bench
    assert bench is not None
    for change in (
        {"cpu": "Another CPU"},
        {"threads": 2},
        {"evidence": "device"},
        {"validity": "unreliable"},
        {"p50_ms": None},
    ):
        other = dataclasses.replace(bench, **change)  # type: ignore[arg-type]
        after = changed_target(document, 0, bench=other)
        assert findings(document, after)["latency"] == "not comparable"
    assert (
        findings(document, changed_target(document, 0, bench=None))["latency"] == "not comparable"
    )


def test_metric_and_size_and_verdict_are_compared(document: BuildDocument) -> None:
    evaluated = document.models[0].targets[0].evaluation
    assert evaluated is not None and evaluated.metric is not None
    worse = dataclasses.replace(evaluated.metric, value=0.05, low=0.04, high=0.06)
    after = changed_target(
        document,
        0,
        verdict="refused",
        size_bytes=2_000_000,
        evaluation=dataclasses.replace(evaluated, metric=worse),
    )
    found = findings(document, after)
    assert (found["verdict"], found["size"], found["metric"]) == ("worse", "better", "worse")
    back = findings(after, document)
    assert (back["verdict"], back["size"], back["metric"]) == ("better", "worse", "better")
    near = dataclasses.replace(evaluated.metric, value=0.006)
    after = changed_target(document, 0, evaluation=dataclasses.replace(evaluated, metric=near))
    assert findings(document, after)["metric"] == "no difference shown"
    assert compare(document, after).to_json()["schema"] == 1


def test_comparison_text(document: BuildDocument) -> None:
    after = changed_target(document, 0, size_bytes=3_500_000)
    after = changed_target(after, 2, target="rpi4/ort")
    same("comparison.txt", comparison_text(compare(document, after)))


def test_layers_with_more_bits_than_asked_for_are_named_everywhere(document: BuildDocument) -> None:
    nodes = [{"node": f"n{i}", "op": "Conv", "reason": "no <4-bit> form"} for i in range(3)]
    nodes.insert(1, {"node": "last", "op": "Gemm", "reason": "it is transposed"})
    lines = wider(nodes)
    assert lines == (
        "3 layers with 8-bit weights: no <4-bit> form",
        "1 layer with 8-bit weights: it is transposed",
    )
    told = changed_target(document, 0, wider=lines)
    assert lines[0] in terminal_report(told, width=140)
    assert "1 layer with 8-bit weights: it is transposed" in markdown_report(told)
    assert "3 layers with 8-bit weights: no &lt;4-bit&gt; form" in html_report(told)


def test_what_a_backend_says_of_an_artifact_is_told_everywhere(document: BuildDocument) -> None:
    told = changed_target(document, 0, notes=("names were changed: a<b is ab",))
    assert "  - names were changed: a<b is ab" in terminal_report(told, width=140)
    assert "names were changed: a&lt;b is ab" in markdown_report(told)
    assert "names were changed: a&lt;b is ab" in html_report(told)


def test_interpreted_is_explained_where_it_stands(document: BuildDocument) -> None:
    explained = "interpreted: run by an interpreter here"
    assert explained not in terminal_report(document)
    evaluated = document.models[0].targets[0].evaluation
    assert evaluated is not None
    told = dataclasses.replace(evaluated, evidence="interpreted")
    assert explained in terminal_report(changed_target(document, 0, evaluation=told))
