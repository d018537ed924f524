"""Refused gates as findings at the lines of the profile."""

from pathlib import Path

from edgedeploy.config.read import read_document
from edgedeploy.profile.load import places_of_targets
from edgedeploy.report.document import (
    BuildDocument,
    GateReport,
    ModelReport,
    PipelineReport,
    TargetReport,
)
from edgedeploy.report.refusals import refusals

PROFILE = """\
edgedeploy: 1
name: p
model: {source: m.onnx}
targets:
  rpi4/ort: {}
  rpi5/ort:
"""


def test_each_refused_target_is_found_at_its_line(tmp_path: Path) -> None:
    """The figure, the limit and the reason; what passed or failed otherwise is left to others."""
    file = tmp_path / "p.yaml"
    file.write_text(PROFILE)
    places = places_of_targets(read_document(file))
    gates = (
        GateReport(gate="size", state="refused", value="5 MB", limit="<= 4 MB", reason="the files"),
        GateReport(gate="cosine", state="passed", value="1", limit=">= 0.9"),
        GateReport(gate="latency", state="not judged"),
    )
    targets = (
        TargetReport(target="rpi4/ort", verdict="accepted"),
        TargetReport(target="rpi5/ort", verdict="refused", gates=gates),
        TargetReport(target="other/ort", verdict="refused", gates=gates[:1]),
        TargetReport(target="rpi4/ort", verdict="failed"),
    )
    document = BuildDocument(
        profile="p",
        version="0",
        created="2026-01-01T00:00:00+00:00",
        host={},
        models=(ModelReport(name="main", source_sha256="0", targets=targets),),
        pipeline=PipelineReport(function="p.py:pages", targets=targets[:2]),
    )
    found = refusals(document, places)
    assert [item.code for item in found] == ["E001"] * 3
    assert found[0].message == (
        "main for rpi5/ort is refused: gate size refused: 5 MB, limit <= 4 MB: the files"
    )
    assert found[0].place is not None and (found[0].place.line, found[0].place.column) == (6, 3)
    assert found[1].place is None
    assert found[2].message.startswith("the pipeline for rpi5/ort is refused: gate size")
    assert found[2].place == found[0].place
