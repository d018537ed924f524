"""What a device's build may answer: read bounded, checked, and built anew."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedeploy.backends.trt import onboard
from edgedeploy.backends.trt.onboard_build import STATUSES

_SHA = "ab" * 32
RIGHT: dict[str, Any] = {
    "build": 1,
    "python": "3.10.12",
    "tensorrt": "10.3.0",
    "simulated": False,
    "typed": "strong",
    "cuda_runtime": "12.6",
    "cuda_driver": "12.6",
    "gpu": {"name": "Orin", "compute_capability": "8.7"},
    "build_s": 12.5,
    "timing_cache": {"taken": True, "sha256_before": _SHA, "sha256_after": None},
    "layers": {"written": True, "size_bytes": 10},
    "engine": {"sha256": _SHA, "size_bytes": 1000},
    "signature": {
        "inputs": [
            {"name": "x", "dtype": "FLOAT", "shape": [-1, 3], "profiles": [[[1], [2], [4]]]}
        ],
        "outputs": [{"name": "y", "dtype": "HALF", "shape": [1, 4]}],
    },
}


def changed(path: str, value: Any) -> bytes:
    """Return the right answer with another value in one place."""
    data = json.loads(json.dumps(RIGHT))
    *outer, last = path.split(".")
    inner = data
    for name in outer:
        inner = inner[int(name) if name.isdecimal() else name]
    inner[last] = value
    return json.dumps(data).encode()


def test_what_the_program_writes_is_read() -> None:
    answer = onboard.read_answer(json.dumps(RIGHT).encode())
    assert (answer.tensorrt, answer.sha256, answer.size_bytes) == ("10.3.0", _SHA, 1000)
    assert answer.layers and answer.failure is None and not answer.simulated
    assert answer.signature == RIGHT["signature"]
    names = ("python", "cuda_runtime", "cuda_driver", "typed", "gpu", "build_s", "timing_cache")
    assert answer.facts == {name: RIGHT[name] for name in names}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("build", 2),
        ("engine", None),
        ("engine.sha256", "AB" * 32),
        ("engine.size_bytes", -1),
        ("engine.size_bytes", True),
        ("build_s", float("nan")),
        ("build_s", -1),
        ("gpu", []),
        ("gpu.name", 7),
        ("timing_cache.sha256_before", "x"),
        ("signature", None),
        ("signature.inputs.0.shape", [-2]),
        ("signature.inputs.0.shape", [1.5]),
        ("signature.inputs.0.shape", list(range(1001))),
        ("signature.inputs.0.profiles", [[3]]),
        ("signature.outputs.0.name", None),
        ("failed", {"kind": "parse"}),
        ("tensorrt", None),
    ],
)
def test_what_it_never_writes_is_refused(path: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        onboard.read_answer(changed(path, value))


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"[" * 100_000, b" " * (onboard.RESULT_BYTES + 1)]
)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="result"):
        onboard.read_answer(data)


@pytest.mark.parametrize("kind", sorted(STATUSES))
def test_failures_are_read_in_printable_text(kind: str) -> None:
    failed = {
        "kind": kind,
        "message": "\x1b[31mno\x07",
        "errors": [{"node": 2, "name": None, "op": "Conv", "code": "X", "message": "y" * 9000}],
        "log": ["a"],
    }
    data = {"build": 1, "tensorrt": "8.6.1", "failed": failed}
    failure = onboard.read_answer(json.dumps(data).encode()).failure
    assert failure is not None
    assert (failure.kind, failure.message) == (kind, "?[31mno?")
    (complaint,) = failure.complaints
    assert (complaint.name, complaint.op, len(complaint.message)) == (None, "Conv", 2000)


def test_an_unknown_kind_of_failure_is_refused() -> None:
    data = {"build": 1, "failed": {"kind": "tired", "message": ""}}
    with pytest.raises(ValueError, match="kind"):
        onboard.read_answer(json.dumps(data).encode())


@pytest.mark.parametrize(
    ("line", "step"),
    [
        (b'{"event": "phase", "phase": "parse"}', onboard.Step(phase="parse")),
        (
            b'{"event": "progress", "phase": "B", "inner": "i", "done": 1, "fraction": 0.5}',
            onboard.Step(phase="B", inner="i", fraction=0.5),
        ),
        (b'{"event": "progress", "phase": "B", "fraction": 7}', onboard.Step(phase="B")),
        (b'{"event": "progress", "phase": "B", "fraction": NaN}', onboard.Step(phase="B")),
        (b'{"event": "ended", "kind": "done"}', onboard.Step(phase="ended")),
        (b'{"event": "other"}', None),
        (b'{"event": "phase", "phase": 3}', None),
        (b"[1]", None),
        (b"noise", None),
    ],
)
def test_lines_of_progress(line: bytes, step: onboard.Step | None) -> None:
    assert onboard.read_event(line) == step


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(sorted({*RIGHT, "kind", "errors", "log"})), inner, max_size=4
        )
    ),
    max_leaves=15,
)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(RIGHT)), _ANY)
def test_any_value_anywhere_is_read_or_refused_in_words(name: str, value: Any) -> None:
    for data in (changed(name, value), json.dumps({"build": 1, "failed": value}).encode()):
        try:
            answer = onboard.read_answer(data)
        except ValueError:
            continue
        assert answer.tensorrt.isprintable() or not answer.tensorrt
