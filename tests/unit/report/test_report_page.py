"""The HTML report: well-formed, self-contained, escaped, accessible, the same bytes every time."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from edgedeploy.report.document import BuildDocument, LayerReport
from edgedeploy.report.page import html_report
from edgedeploy.report.plots import Curve, distribution, layers, log_ticks

VOID = {"meta", "br"}


class Checker(HTMLParser):
    """Collects every element and fails on tags that do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def checked(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    return checker


def test_it_is_well_formed_and_loads_nothing(document: BuildDocument) -> None:
    text = html_report(document)
    checker = checked(text)
    names = {tag for tag, _ in checker.elements}
    assert not names & {"script", "link", "img", "iframe", "object", "form"}
    for _, attributes in checker.elements:
        assert not {"src", "href", "onclick", "onload"} & attributes.keys()
    assert "url(" not in text and "@import" not in text
    assert "default-src 'none'" in text


def test_names_are_escaped(document: BuildDocument) -> None:
    hostile = "\"><script>alert(1)</script><i x='"
    model = document.models[0]
    layer = LayerReport(name=hostile, op=hostile, provider=hostile, mean_ms=1)
    target = dataclasses.replace(model.targets[0], target=hostile, layers=(layer,))
    model = dataclasses.replace(model, name=hostile, targets=(target, *model.targets[1:]))
    text = html_report(dataclasses.replace(document, profile=hostile, models=(model,)))
    tags = {tag for tag, _ in checked(text).elements}
    assert "script" not in tags and "i" not in tags


def test_it_says_what_was_found(document: BuildDocument) -> None:
    text = " ".join(" ".join(checked(html_report(document)).text).split())
    for said in ("0.520 %", "[0.300, 0.830]", "n=200", "+0.110 pt", "3.55 ms", "not judged",
                 "host-runtime, quick", "no difference shown", "the measurement is unreliable",
                 "CER +2.3 pt, limit +1 pt", "Name the node in `keep_float`.", "neck/Resize_3",
                 "ab" * 32, "97 of 120", "line-017"):  # fmt: skip
        assert said in text


def test_it_names_what_is_computed_in_float(document: BuildDocument) -> None:
    text = " ".join(checked(html_report(document)).text)
    assert "52 of 53 layers, 99 % of multiply-adds on integers" in text
    assert "head/MatMul" in text and "1,280,000" in text


def test_plots_tell_their_figures_to_those_who_do_not_see_them(document: BuildDocument) -> None:
    text = html_report(document)
    ids = [attributes["id"] for _, attributes in checked(text).elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for part in text.split("<svg")[1:]:
        svg = ElementTree.fromstring("<svg" + part.split("</svg>")[0] + "</svg>")
        labelled = (svg.get("aria-labelledby") or "").split()
        assert svg.get("role") == "img" and set(labelled) <= set(ids)
        title, says = svg.find("title"), svg.find("desc")
        assert title is not None and title.text
        assert says is not None and says.text and ": " in says.text


def test_the_same_document_gives_the_same_bytes_everywhere(
    document: BuildDocument, tmp_path: Path
) -> None:
    path = tmp_path / "build.json"
    path.write_text(document.text())
    script = (
        "import sys, pathlib; from edgedeploy.report.document import read_document;"
        "from edgedeploy.report.page import html_report;"
        "sys.stdout.buffer.write(html_report(read_document(pathlib.Path(sys.argv[1]))).encode())"
    )
    made = set()
    for seed, zone, locale in (("0", "UTC", "C.UTF-8"), ("77", "Asia/Tokyo", "C")):
        env = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": locale}
        command = [sys.executable, "-c", script, str(path)]
        made.add(subprocess.run(command, env=env, check=True, capture_output=True).stdout)
    assert made == {html_report(document).encode()}


def test_an_empty_build_has_a_page() -> None:
    empty = BuildDocument(profile="p", created="2026-11-24T10:00:00+00:00", version="0.1.0")
    checked(html_report(empty))


def test_rendering_needs_nothing_heavy() -> None:
    script = (
        "import sys, edgedeploy.report.page, edgedeploy.report.terminal,"
        " edgedeploy.report.markdown,"
        " edgedeploy.report.compare, edgedeploy.report.summary, edgedeploy.bench.measure\n"
        "heavy = {'numpy', 'onnx', 'onnxruntime', 'openvino', 'rich'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("low", "high"), [(3.3, 10.2), (0.01, 900), (1, 1.05), (5, 5), (0.2, 0.31), (7, 9000)]
)
def test_ticks_lie_within_the_axis(low: float, high: float) -> None:
    ticks = log_ticks(low, high)
    assert ticks == sorted(set(ticks)) and 1 <= len(ticks) <= 8
    assert low * 0.99 <= ticks[0] <= ticks[-1] <= high * 1.01


@pytest.mark.parametrize("value", [0.0, 1e-5, 4.0])
def test_a_flat_distribution_is_drawn(value: float) -> None:
    curve = Curve(label="flat", quantiles_ms=(value,) * 101, series=1)
    ElementTree.fromstring(distribution("d", "t", [curve]))


def test_the_rest_of_many_layers_is_summed_up() -> None:
    items = [LayerReport(name=f"n{i}", op="Conv", provider="CPU", mean_ms=1.0) for i in range(40)]
    drawn = layers("l", "t", items, 1)
    assert "25 other layers" in drawn and "25.0 ms, 62%" in drawn
