"""What an app measured is of the build that it is imported to, or is refused."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgedeploy.bench.app_bench import AppBench, read_app_bench
from edgedeploy.errors import DataError, UsageError
from edgedeploy.importing import _check_conditions, _read
from tests.phone import content


def app(**change: Any) -> AppBench:
    return read_app_bench(content(**change), datetime(2026, 11, 28, tzinfo=UTC))


def session(runtime: str, mode: str = "quick", threads: int = 1, **options: str) -> Any:
    """Return what of a session is looked at."""
    bench = SimpleNamespace(mode=mode, threads=threads)
    return SimpleNamespace(
        runtime=runtime, system="ios", os_version=17, bench=bench, options=options
    )


@pytest.mark.parametrize(
    ("given", "change"),
    [
        (session("coreml", compute_units="ALL"), {}),
        (session("coreml", compute_units="CPU_AND_NE", threads=4), {"units": "CPU_AND_NE"}),
        (session("ort", threads=2), {"threads": 2, "units": "CPU_ONLY"}),
        (session("ort", mode="off"), {}),
    ],
)
def test_what_was_measured_as_the_profile_says_is_taken(given: Any, change: dict[str, Any]) -> None:
    """Units are Core ML's and threads ONNX Runtime's: the other is no condition."""
    _check_conditions(given, app(**change))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (session("coreml", mode="full", compute_units="ALL"), "`bench: full` takes nothing less"),
        (session("coreml", compute_units="CPU_ONLY"), "`compute_units: CPU_ONLY`, and ALL was"),
        (session("ort", threads=4), "`threads: 4`, and 1 were"),
    ],
)
def test_what_was_measured_otherwise_is_refused(given: Any, why: str) -> None:
    """With the condition that differs."""
    with pytest.raises(UsageError, match=why) as caught:
        _check_conditions(given, app())
    assert caught.value.diagnostics[0].code == "E766"


def test_a_file_that_is_none_is_not_waited_for(tmp_path: Path) -> None:
    """A pipe would never end; what steers terminals is shown as text."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="it is no file") as caught:
        _read(tmp_path / "pipe")
    assert caught.value.diagnostics[0].code == "E765"
    bad = tmp_path / "bench.json"
    bad.write_bytes(content(**{"\x1b[2J": 1}))
    with pytest.raises(DataError, match=r"'\?\[2J', which such a document has not"):
        _read(bad)
