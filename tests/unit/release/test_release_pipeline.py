"""What a release says of a pipeline: read back, checked, and held against an older one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgedeploy.comparing import PIPELINE, compare_releases
from edgedeploy.errors import IntegrityError
from edgedeploy.release.bundle import Figure, Gate, Release, ReleasePipeline, parse_release
from edgedeploy.release.keys import new_key
from tests.unit.release.described import described_file, described_release, written_release

CER = Figure(
    name="cer",
    value=0.02,
    low=0.018,
    high=0.022,
    samples=500,
    evidence="host-runtime",
    higher_is_better=False,
    fraction=True,
)
WHOLE = ReleasePipeline(
    function="files/reading.py:read",
    files=("files/reading.py",),
    requires={"numpy": "2.4.0"},
    size_bytes=5,
    figures=(CER,),
    gates=(Gate(gate="metric", state="passed", limit="+1 pt", evidence="host-runtime", reason=""),),
)
CONTENTS = {"files/reading.py": b"def read(inputs, models): ...\n", "rpi5/ort/main/model.ort": b"m"}


def release(version: str = "1.0.0", **changes: Any) -> Release:
    """Return a release with a pipeline, any field of that changed."""
    made = described_release(version=version)
    (target,) = made.targets
    files = tuple(
        described_file(path, content, role="file" if path.startswith("files/") else "model")
        for path, content in sorted(CONTENTS.items())
    )
    target = replace(target, pipeline=replace(WHOLE, **changes))
    return replace(made, targets=(target,), files=files)


def test_it_is_read_back_as_it_was_written() -> None:
    found = parse_release(release().manifest)
    assert found == release() and found.targets[0].pipeline == WHOLE


@pytest.mark.parametrize(
    "changes",
    [
        {"function": "files/other.py:read"},
        {"files": ("files/reading.py", "files/geometry.py")},
        {"function": "files/reading.py:read\nmore"},
        {"requires": {"numpy": "2\n"}},
    ],
)
def test_what_points_at_nothing_or_has_two_lines_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError) as error:
        parse_release(release(**changes).manifest)
    assert error.value.diagnostics[0].code == "E734"


def test_the_whole_is_compared_and_held_by_its_gate(tmp_path: Path) -> None:
    """An older release's value is what the gate counts from; each model has its own row."""
    key = new_key(tmp_path / "key")
    worse = replace(CER, value=0.035, low=0.033, high=0.037)
    old = written_release(tmp_path, release(), CONTENTS, key)
    for version, figure, regressed in (("1.1.0", CER, []), ("1.2.0", worse, [PIPELINE])):
        new = written_release(tmp_path, release(version, figures=(figure,)), CONTENTS, key)
        found = compare_releases(old, new, (tmp_path / "key.pub",))
        assert {change.model for change in found.changes.changes} == {"main", PIPELINE}
        assert [item.model for item in found.regressions] == regressed
