"""Documents of apps: what they say becomes a record, and what they lie about is refused."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedeploy.bench.app_bench import DOCUMENT_BYTES, app_record, read_app_bench
from edgedeploy.bench.record import read_samples
from tests.phone import content, document

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def record_of(folder: Path, **change: Any) -> dict[str, Any]:
    """Return the record of a document."""
    app = read_app_bench(content(**change), NOW)
    return app_record(app, "w8a8", "coreml", {"compute_units": "ALL"}, folder)


def test_the_record_says_what_the_document_says(tmp_path: Path) -> None:
    """Figures by NumPy; evidence, device and conditions as they were; nothing that was not told."""
    record = record_of(tmp_path)
    samples = np.array([ns for window in document()["windows"] for ns in window["samples_ns"]])
    assert record["latency"]["n"] == len(samples) == 45 * 48
    assert record["latency"]["mean_ms"] == pytest.approx(samples.mean() / 1e6)
    assert record["latency"]["p50_ms"]["value"] == pytest.approx(np.median(samples) / 1e6, rel=1e-3)
    assert (
        read_samples(tmp_path / record["latency"]["samples_file"])[0]
        == (document()["windows"][0]["samples_ns"])
    )
    assert record["evidence"] == "device" and record["imported"] is True
    assert record["validity"] == {"verdict": "valid", "reasons": []}
    assert record["created"] == "2026-11-20T10:00:00+00:00"
    assert record["artifact"] == "2" * 64 and record["target"] == "ios17/coreml"
    device = record["device"]
    assert (device["kind"], device["name"], device["board"]) == ("phone", "iPhone16,1", "ios17")
    assert device["system"] == "ios 17.5.1" and device["emulated"] == ""
    assert record["conditions"]["mode"] == "quick"
    assert record["conditions"]["runtime_version"] == "of ios 17.5.1"
    assert record["conditions"]["inputs"]["source"] == "golden"
    assert record["app"]["load_ms"] == 900 and record["app"]["release"] == "1" * 64
    assert record["first_inference_ms"] == 20
    assert record["load_ms"] == {"cold": None, "warm": None}
    assert record["memory"]["peak_bytes"] is record["energy"]["per_inference_j"] is None
    assert "comparison" not in record and record["layers"] == []


def test_a_simulator_is_no_phone(tmp_path: Path) -> None:
    """Its figures are a Mac's."""
    told = {**document()["device"], "simulator": True}
    record = record_of(tmp_path, device=told)
    assert record["evidence"] == "simulated"
    assert record["device"]["emulated"] == "simulator of ios"


def windows(**change: Any) -> list[dict[str, Any]]:
    """Return windows of which the tenth is different."""
    found = document()["windows"]
    found[9] |= change
    return list(found)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"optimised": False}, "debug build: its figures say little"),
        (
            {"windows": windows(thermal="serious")},
            "throttled: the system's thermal state was serious",
        ),
        ({"windows": windows(low_power=True)}, "throttled: the device was in low power mode"),
        (
            {"cosines": {"class": 0.5, "box": 1}},
            "outputs: class has a cosine of 0.500000, and 0.99 is asked for",
        ),
        (
            {"warm_up": {**document()["warm_up"], "stable": False}},
            "warm-up: the latency had not settled when it ended",
        ),
        ({"windows": windows()[:20]}, "too short: 960 inferences in 4.8 s of at least 64 and 10 s"),
    ],
)
def test_what_proves_nothing_is_unreliable(
    change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    """Each for its reason; the gates do not take such records."""
    assert record_of(tmp_path, **change)["validity"] == {
        "verdict": "unreliable",
        "reasons": [reason],
    }


def test_no_limit_of_the_profile_leaves_cosines_to_the_reader(tmp_path: Path) -> None:
    """A document leaves out what there is none of, as Swift's encoder does."""
    data = document(cosines={"class": 0.5})
    del data["least_cosine"]
    app = read_app_bench(json.dumps(data).encode(), NOW)
    assert list(app.own_reasons()) == [] and app.cosines == {"class": 0.5}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"schema": 2}, "no bench of an app, of schema 1"),
        ({"kind": "bench"}, "no bench of an app"),
        ({"evidence": "device"}, "'evidence', which such a document has not"),
        ({"artifact": "2" * 63}, "artifact is no digest"),
        ({"artifact": None}, "artifact is no digest"),
        ({"created": "2026-11-30T10:00:00Z"}, "in the future"),
        ({"created": "2026-13-01T10:00:00Z"}, "month"),
        ({"created": "../../x"}, "created is no time"),
        ({"device": {**document()["device"], "os": "android"}}, "os is none of ios, macos"),
        ({"device": {**document()["device"], "simulator": 0}}, "neither true nor false"),
        ({"device": {**document()["device"], "os_version": "17;rm"}}, "os_version is no version"),
        ({"load_ns": 0}, "load_ns is no whole number"),
        ({"load_ns": True}, "load_ns is no whole number"),
        ({"threads": 1e9}, "threads is no whole number"),
        ({"units": "GPU"}, "units is none of"),
        ({"cosines": {"class": 2}}, "cosines is no cosine"),
        ({"windows": []}, "nothing was measured"),
        ({"windows": windows(begin_ns=1)}, "begins before the last one ended"),
        ({"windows": windows(samples_ns=[300_000_000])}, "longer than the window"),
        ({"windows": windows(samples_ns=[-5])}, "no durations"),
        ({"windows": windows(samples_ns="many")}, "no list of durations"),
        ({"windows": windows(thermal="cold")}, "thermal is none of"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], why: str, tmp_path: Path) -> None:
    """With the part that is wrong."""
    with pytest.raises(ValueError, match=why):
        record_of(tmp_path, **change)


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        content()[:-1],
        content().replace(b"900000000", b"NaN"),
        content().replace(b"900000000", b"9" * 5000),
        b" " * (DOCUMENT_BYTES + 1),
    ],
    ids=["empty", "list", "nothing", "bytes", "deep", "cut", "nan", "digits", "large"],
)
def test_what_is_no_document_is_refused(wrong: bytes) -> None:
    """Whatever the file is."""
    with pytest.raises(ValueError, match=r"\S"):
        read_app_bench(wrong, NOW)


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values, of a list the first alone."""
    found = [path] if path else []
    if isinstance(data, dict):
        for name, value in data.items():
            found += places(value, (*path, name))
    elif isinstance(data, list):
        found += places(data[0], (*path, 0))
    return found


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(place=st.sampled_from(places(document())), value=VALUES)
def test_any_value_anywhere_is_taken_or_refused(
    place: tuple[Any, ...], value: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nothing but a refusal or a record that says that it was imported comes of it."""
    data = document()
    holder = data
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = value
    try:
        app = read_app_bench(json.dumps(data).encode(), NOW)
        record = app_record(app, "w8a8", "coreml", {}, tmp_path_factory.mktemp("app"))
    except ValueError:
        return
    assert record["imported"] is True and record["evidence"] in ("device", "simulated")
    json.dumps(record, allow_nan=False)
