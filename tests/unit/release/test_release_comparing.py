"""Two releases held against each other: what is worse, what a gate allows, what is claimed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgedeploy.cli.main import main
from edgedeploy.comparing import ReleaseComparison, compare_releases
from edgedeploy.errors import EdgedeployError
from edgedeploy.measured import (
    Measured,
    Measurements,
    measured_path,
    signature_path,
    write_measurements,
)
from edgedeploy.release.bundle import Gate, parse_release
from edgedeploy.release.keys import SigningKey, new_key
from edgedeploy.release.opening import open_bundle
from edgedeploy.report.document import BenchSummary, Interval
from tests.unit.release.described import (
    METRIC,
    SIZE,
    TOP1,
    described_model,
    described_release,
    written_release,
)

P50 = Gate(gate="latency_p50", state="passed", limit="<= 20 ms", evidence="device", reason="")
NOT_SLOWER = replace(P50, gate="not_slower", limit="<= 1.02 x float")


def bench(p50_ms: float, **changes: Any) -> BenchSummary:
    """Return a measurement of a board, its interval 1 % to either side."""
    found = BenchSummary(
        created="2026-11-28T05:00:00+00:00",
        evidence="device",
        mode="full",
        threads=1,
        runtime="ort 1.32.0",
        cpu="Cortex-A76",
        n=4000,
        mean_ms=p50_ms,
        p50_ms=Interval(value=p50_ms, low=p50_ms * 0.99, high=p50_ms * 1.01),
        p90_ms=None,
        p99_ms=None,
        load_cold_ms=None,
        load_warm_ms=1.0,
        first_inference_ms=p50_ms,
        peak_bytes=2,
        baseline_bytes=1,
        validity="valid",
    )
    return replace(found, **changes)


class Pair:
    """An old release and a new one, each with a key, a model and perhaps a measurement."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = new_key(folder / "key")
        self.public = folder / "key.pub"

    def write(
        self,
        version: str,
        *,
        measured: BenchSummary | None = None,
        by: SigningKey | None = None,
        content: bytes = b"weights" * 100,
        **model: Any,
    ) -> Path:
        """Write a release of one model with any field changed, and what was measured of it."""
        release = described_release(described_model(**model), version=version)
        contents = {"rpi5/ort/main/model.ort": content, "files/words.txt": b"ding"}
        path = written_release(self.folder, release, contents, self.key)
        if measured is not None:
            self.measure(path, measured, by or self.key)
        return path

    def measure(self, bundle: Path, found: BenchSummary, by: SigningKey) -> None:
        """Put a measurement beside a bundle."""
        with open_bundle(bundle, {self.key.id: self.key.public}) as opened:
            release = opened.release
        item = Measured(model="main", target="rpi5/ort", artifact="d" * 64, bench=found)
        write_measurements(
            Measurements(
                release=release.digest,
                name=release.name,
                version=release.version,
                measured=(item,),
            ),
            bundle,
            by,
        )

    def compare(self, old: Path, new: Path) -> ReleaseComparison:
        """Compare two bundles."""
        return compare_releases(old, new, (self.public,))


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """Return a folder with a key."""
    return Pair(tmp_path)


def regressed(found: ReleaseComparison) -> list[str]:
    """Return the quantities that are worse past a gate."""
    return [item.quantity for item in found.regressions]


@pytest.mark.parametrize(
    ("value", "limit", "worse"),
    [
        (0.895, "-1 pt", False),
        (0.89, "-1 pt", False),  # exactly what is allowed
        (0.889, "-1 pt", True),
        (0.95, "-1 pt", False),
        (0.8955, "-0.5 %", False),
        (0.8954, "-0.5 %", True),
        (0.89, "-0.02", False),
        (0.87, "-0.02", True),
    ],
)
def test_a_metric_may_fall_as_far_as_its_gate_says(
    pair: Pair, value: float, limit: str, worse: bool
) -> None:
    gates = (replace(METRIC, limit=limit),)
    old = pair.write("1.0.0", gates=gates)
    new = pair.write("1.1.0", gates=gates, figures=(replace(TOP1, value=value),))
    assert regressed(pair.compare(old, new)) == ["metric"] * worse


def test_an_error_rate_is_worse_when_it_rises(pair: Pair) -> None:
    rate = replace(TOP1, name="cer", value=0.02, low=0.01, high=0.03, higher_is_better=False)
    gates = (replace(METRIC, limit="+1 pt"),)
    old = pair.write("1.0.0", gates=gates, figures=(rate,))
    falls = pair.write("1.1.0", gates=gates, figures=(replace(rate, value=0.001),))
    rises = pair.write("1.2.0", gates=gates, figures=(replace(rate, value=0.031),))
    assert regressed(pair.compare(old, falls)) == []
    (item,) = pair.compare(old, rises).regressions
    assert "uncertain" in item.why
    assert "+1.1 pt" in item.why


def test_without_a_gate_only_what_is_shown_to_be_worse_counts(pair: Pair) -> None:
    old = pair.write("1.0.0", gates=())
    close = pair.write("1.1.0", gates=(), figures=(replace(TOP1, value=0.87, low=0.85, high=0.89),))
    apart = pair.write("1.2.0", gates=(), figures=(replace(TOP1, value=0.8, low=0.78, high=0.82),))
    assert regressed(pair.compare(old, close)) == []
    assert regressed(pair.compare(old, apart)) == ["metric"]


@pytest.mark.parametrize(
    ("gates", "size", "worse"),
    [((SIZE,), 4000, False), ((SIZE,), 4001, True), ((), 6, True), ((), 5, False), ((), 4, False)],
)
def test_a_size_may_grow_to_its_gate(
    pair: Pair, gates: tuple[Gate, ...], size: int, worse: bool
) -> None:
    old, new = pair.write("1.0.0", gates=gates), pair.write("1.1.0", gates=gates, size_bytes=size)
    assert regressed(pair.compare(old, new)) == ["size"] * worse


@pytest.mark.parametrize(
    ("gates", "now_ms", "worse"),
    [
        ((P50,), 19.0, False),  # slower, and fast enough
        ((P50,), 21.0, True),
        ((NOT_SLOWER,), 10.1, False),
        ((NOT_SLOWER,), 12.0, True),
        ((P50, NOT_SLOWER), 12.0, True),
        ((), 12.0, True),
        ((), 9.0, False),
    ],
)
def test_a_latency_is_held_against_its_gates(
    pair: Pair, gates: tuple[Gate, ...], now_ms: float, worse: bool
) -> None:
    old = pair.write("1.0.0", gates=gates, measured=bench(10.0))
    new = pair.write("1.1.0", gates=gates, measured=bench(now_ms))
    assert regressed(pair.compare(old, new)) == ["latency"] * worse


@pytest.mark.parametrize(
    "changes", [{"validity": "unreliable"}, {"evidence": "simulated"}, {"cpu": "Cortex-A72"}]
)
def test_latencies_that_prove_nothing_are_not_compared(pair: Pair, changes: dict[str, Any]) -> None:
    old = pair.write("1.0.0", gates=(P50,), measured=bench(10.0))
    new = pair.write("1.1.0", gates=(P50,), measured=bench(90.0, **changes))
    found = pair.compare(old, new)
    assert regressed(found) == []
    (latency,) = [item for item in found.changes.changes if item.quantity == "latency"]
    assert latency.finding == "not comparable"


def test_releases_without_measurements_are_compared_by_the_rest(pair: Pair) -> None:
    old, new = pair.write("1.0.0"), pair.write("1.1.0", measured=bench(10.0))
    (latency,) = [
        item for item in pair.compare(old, new).changes.changes if item.quantity == "latency"
    ]
    assert (latency.finding, latency.reason) == ("not comparable", "not measured in both")


def test_what_was_accepted_and_is_no_longer_is_a_regression(pair: Pair) -> None:
    refused = replace(METRIC, state="refused")
    old, new = pair.write("1.0.0"), pair.write("1.1.0", gates=(refused,))
    assert regressed(pair.compare(old, new)) == ["verdict"]


def test_files_and_the_delta_are_told(pair: Pair) -> None:
    old = pair.write("1.0.0")
    new = pair.write("1.1.0", content=b"weights" * 99 + b"changed")
    found = pair.compare(old, new)
    assert [(item.what, item.path) for item in found.files] == [
        ("changed", "rpi5/ort/main/model.ort")
    ]
    assert found.delta_bytes is not None
    assert 0 < found.delta_bytes < found.bundle_bytes == new.stat().st_size
    assert pair.compare(new, new).delta_bytes is None
    assert pair.compare(new, new).files == ()


def code(error: pytest.ExceptionInfo[EdgedeployError]) -> str:
    """Return the code of an error."""
    return error.value.diagnostics[0].code


def test_measurements_that_nobody_vouches_for_are_refused(pair: Pair, tmp_path: Path) -> None:
    stranger = new_key(tmp_path / "stranger")
    old = pair.write("1.0.0", measured=bench(10.0))
    new = pair.write("1.1.0", measured=bench(1.0), by=stranger)
    with pytest.raises(EdgedeployError) as error:
        pair.compare(old, new)
    assert code(error) == "E736"
    pair.measure(new, bench(1.0), pair.key)
    pair.compare(old, new)
    path = measured_path(new)
    path.write_bytes(path.read_bytes().replace(b"4000", b"5000"))
    with pytest.raises(EdgedeployError) as error:
        pair.compare(old, new)
    assert code(error) == "E735"
    path.unlink()
    path.mkdir()
    with pytest.raises(EdgedeployError) as error:
        pair.compare(old, new)
    assert code(error) == "E762"


def test_measurements_of_another_release_are_refused(pair: Pair) -> None:
    old = pair.write("1.0.0", measured=bench(10.0))
    new = pair.write("1.1.0")
    for place in (measured_path, lambda path: signature_path(measured_path(path))):
        place(new).write_bytes(place(old).read_bytes())
    with pytest.raises(EdgedeployError) as error:
        pair.compare(old, new)
    assert code(error) == "E762"


def test_a_signature_over_measurements_vouches_for_no_release(pair: Pair) -> None:
    """The types differ, so that what signs one can never be shown as the other."""
    bundle = pair.write("1.0.0", measured=bench(10.0))
    signed = json.loads(signature_path(measured_path(bundle)).read_bytes())
    with open_bundle(bundle, {pair.key.id: pair.key.public}) as opened:
        release = json.loads(opened.envelope)
    assert signed["payloadType"] != release["payloadType"]
    assert parse_release(opened.release.manifest) == opened.release


def test_the_command_answers_with_its_status(
    pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    old = pair.write("1.0.0", measured=bench(10.0), gates=(METRIC, NOT_SLOWER))
    good = pair.write("1.1.0", measured=bench(8.0), gates=(METRIC, NOT_SLOWER))
    slow = pair.write("1.2.0", measured=bench(12.0), gates=(METRIC, NOT_SLOWER))

    def run(*arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["compare", *map(str, arguments)])
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out + printed.err

    status, text = run(old, good, "--key", pair.public)
    assert status == 0, text
    assert "latency: 10.0 ms [9.9, 10.1], n=4000 -> 8.00 ms" in text
    assert "no regression" in text
    status, text = run(old, slow, "--key", pair.public)
    assert status == 1
    assert "regression: main rpi5/ort: latency:" in text
    status, text = run(old, pair.folder, "--key", pair.public)
    assert status == 2
    assert "E859" in text  # a folder stands for the profile in it
