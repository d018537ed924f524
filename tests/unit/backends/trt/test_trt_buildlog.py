"""Logs of trtexec read as they come: what they say, how far it is, and that memory has an end.

The logs are composed for these tests; each names the source of its form in its first line.
"""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedeploy.backends.trt.buildlog import (
    LINE_BYTES,
    MOST_MESSAGES,
    TAIL_LINES,
    BuildLog,
    LogSummary,
    banner_version,
)

LOGS = {path.stem: path.read_bytes() for path in (Path(__file__).parent / "logs").glob("*.log")}


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def read(name: str, log: BuildLog | None = None) -> LogSummary:
    log = log or BuildLog(clock=Clock())
    log.feed(LOGS[name])
    return log.close()


def test_a_build_that_went_well() -> None:
    found = read("built-10.16")
    assert found.version == "10.16.0.72" and found.passed is True and found.note is None
    assert found.engine_bytes == round(6.37628 * 1024 * 1024)
    assert found.build_s == 3.10201
    assert (found.cache_loaded_bytes, found.cache_saved_bytes) == (4096, 107484)
    assert (found.timed, found.cached) == (2, 1)
    assert [item.text for item in found.warnings] == [
        "ModelImporter.cpp:994: Make sure output z has Int64 binding."
    ]
    assert found.errors == () and found.more == 0


def test_an_older_one_that_says_less() -> None:
    found = read("built-8.6")
    assert (found.version, found.passed, found.build_s) == ("8.6.1", True, 35.5)
    assert found.engine_bytes is None and found.cache_saved_bytes is None


@pytest.mark.parametrize(
    ("name", "node", "reason"),
    [
        ("parser-10.3", "/Tile", "/OneHot: an IIOneHotLayer cannot be used"),
        (
            "builder-8.6",
            "{ForeignNode[(Unnamed Layer* 56) [Constant].../MatMul]}",
            "Could not find any implementation",
        ),
        ("types-11.2", "/Sub", "must have same input types"),
        ("option-10.3", "model.onnx", "Unknown option: --buildOnly"),
    ],
)
def test_a_refusal_names_the_node_and_the_reason(name: str, node: str, reason: str) -> None:
    log = BuildLog(clock=Clock())
    assert read(name, log).passed is False
    items = log.failure("model.onnx").diagnostics
    assert [(item.code, item.subject) for item in items] == [("E339", node)]
    assert reason in items[0].message and items[0].hint
    assert log.progress.phase == "failed"


def test_a_cut_log_has_not_passed() -> None:
    log = BuildLog(clock=Clock())
    log.feed(LOGS["built-10.16"][:1500])
    assert log.close().passed is None
    assert "without saying why" in log.failure("m").diagnostics[0].message


def test_memory_that_ran_out_has_another_way_out() -> None:
    log = BuildLog(clock=Clock())
    log.feed(b"[01/02/2026-03:04:06] [E] Error[2]: [virtualMemoryBuffer.cpp::resizePhysical::140] ")
    log.feed(b"Error Code 2: OutOfMemory (Requested size was 2147483648 bytes.)\n")
    assert "workspace" in log.failure("m").diagnostics[0].hint


def test_a_stand_in_names_itself() -> None:
    line = (
        b"&&&& RUNNING TensorRT.trtexec [TensorRT v100300] [b30] [edgedeploy stand-in] # trtexec\n"
    )
    log = BuildLog(clock=Clock())
    log.feed(line)
    assert log.summary.note == "[edgedeploy stand-in]"
    assert log.summary.version == "10.3.0.30"


@pytest.mark.parametrize(
    ("number", "version"),
    [("8601", "8.6.1"), ("8503", "8.5.3"), ("100300", "10.3.0"), ("101602", "10.16.2"),
     ("110401", "11.4.1"), ("11.1.0.106", "11.1.0.106")],
)  # fmt: skip
def test_versions_of_banners(number: str, version: str) -> None:
    """NV_TENSORRT_VERSION has two digits for minor and patch from 10 on, one and two before."""
    assert banner_version(f"&&&& RUNNING TensorRT.trtexec [TensorRT v{number}] # x") == version


def test_no_banner_no_version() -> None:
    assert banner_version("bash: trtexec: command not found") is None
    assert banner_version("&&&& RUNNING TensorRT.trtexec # trtexec") is None


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(LOGS)), st.lists(st.integers(0, 4000), max_size=12))
def test_where_it_is_cut_makes_no_difference(name: str, cuts: list[int]) -> None:
    data, log = LOGS[name], BuildLog(clock=Clock())
    places = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    for start, end in itertools.pairwise(places):
        log.feed(data[start:end])
    whole = BuildLog(clock=Clock())
    assert log.close() == read(name, whole)
    assert log.tail == whole.tail


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_nothing_that_a_device_prints_breaks_it(data: bytes) -> None:
    log = BuildLog(clock=Clock())
    log.feed(b"[E] first\n" + data)
    log.close()
    text = log.tail + "".join(item.text for item in log.summary.errors)
    assert text.replace("\n", "").isprintable()


def test_memory_has_an_end() -> None:
    """A hostile device prints without line ends, and errors without number."""
    log = BuildLog(clock=Clock())
    for _ in range(64):
        log.feed(b"x" * 65536)
    log.feed(b"\n")
    for _ in range(500):
        log.feed(b"[01/02/2026-03:04:06] [E] " + b"y" * LINE_BYTES + b"\n")
        log.feed(b"[01/02/2026-03:04:06] [V] [TRT] Tactic Name: z\n" * 10)
    found = log.close()
    assert len(found.errors) == MOST_MESSAGES and found.more == 500 - MOST_MESSAGES
    assert max(len(item.text) for item in found.errors) <= 400
    assert len(log.tail.splitlines()) <= TAIL_LINES and len(log.tail) <= TAIL_LINES * 401


def test_phases_and_layers_as_they_come() -> None:
    log, phases = BuildLog(clock=Clock()), []
    for line in LOGS["built-10.16"].splitlines(keepends=True):
        log.feed(line)
        now = log.progress
        state = (now.phase, now.layers, now.of)
        if not phases or phases[-1] != state:
            phases.append(state)
    assert phases == [
        ("starting", 0, None),
        ("parsing", 0, None),
        ("timing", 0, None),
        ("timing", 0, 6),
        ("timing", 0, 4),
        ("timing", 1, 4),
        ("timing", 2, 4),
        ("finishing", 2, 4),
        ("done", 2, 4),
    ]


def test_the_rest_is_estimated_from_the_layers_that_were_timed() -> None:
    """Two of four layers in 60 seconds: 60 more."""
    clock = Clock()
    log = BuildLog(clock=clock)
    clock.now = 10.0
    log.feed(b"[I] Finished parsing network model. Parse time: 0.1\n")
    log.feed(b"[V] [TRT] After concat removal: 4 layers\n")
    assert log.progress.eta_s is None
    log.feed(b"[V] [TRT] =============== Computing costs for a\n")
    clock.now = 70.0
    log.feed(b"[V] [TRT] =============== Computing costs for b\n")
    found = log.progress
    assert (found.elapsed_s, found.eta_s, found.basis) == (70.0, 60.0, "layers timed")
    log.feed(b"[I] [TRT] Total Weights Memory: 1 bytes\n")
    assert log.progress.eta_s is None


def test_a_build_before_is_the_better_measure() -> None:
    clock = Clock()
    log = BuildLog(previous_s=100.0, clock=clock)
    clock.now = 30.0
    assert (log.progress.eta_s, log.progress.basis) == (70.0, "previous build")
    clock.now = 130.0
    assert (log.progress.eta_s, log.progress.basis) == (None, None)


def test_a_clock_of_a_device_that_jumps_changes_nothing() -> None:
    moved = LOGS["built-10.16"].replace(b"[01/02/2026-03:04:08]", b"[01/01/1970-00:00:00]")
    log = BuildLog(clock=Clock())
    log.feed(moved)
    assert log.close() == read("built-10.16")
