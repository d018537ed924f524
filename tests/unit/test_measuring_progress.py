"""What a measurement tells while it goes on: lines where there is no terminal."""

from __future__ import annotations

import io
import sys

import pytest

from edgedeploy.cli.output import Output
from edgedeploy.cli.progress import Lines
from edgedeploy.events import StageFinished, StagePart, StageProgress
from edgedeploy.sessions import _how_far


def test_lines_for_each_part_and_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(Output())
    lines(StagePart(time_s=0, node="bench on pi", what="warming w8a8 up"))
    for second in range(31):
        lines(
            StageProgress(
                time_s=second, node="bench on pi", done=second, total=64, what="inferences measured"
            )
        )
    lines(StageFinished(time_s=31, node="bench on pi", state="ran", seconds=31, detail="why"))
    assert capsys.readouterr().err.splitlines() == [
        "bench on pi: warming w8a8 up",
        "bench on pi: 10 of 64 inferences measured",
        "bench on pi: 20 of 64 inferences measured",
        "bench on pi: 30 of 64 inferences measured",
        "ran      31.0 s  bench on pi  (why)",
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"done_s": 5.5, "of_s": 10, "n": 32, "of_n": 64}, (32, 64, "inferences measured")),
        ({"done_s": 5.5, "of_s": 10, "n": 60, "of_n": 64}, (5, 10, "s measured")),
        ({"done_s": 12.0, "of_s": 10, "n": 9, "of_n": 64}, (9, 64, "inferences measured")),
        ({"event": "outputs", "done": 3}, (3, 0, "samples answered")),
        ({"event": "warm", "stable": True}, None),
    ],
)
def test_what_is_farther_off_is_told(line: dict, said: tuple[int, int, str] | None) -> None:
    """A quick plan wants 10 s and 64 inferences; a slow device reaches the former first."""
    assert _how_far(line) == said


def test_a_line_is_written_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices tell of themselves at once: their lines must not mix."""
    pieces: list[str] = []
    stream = io.StringIO()
    monkeypatch.setattr(stream, "write", lambda text: pieces.append(text))
    monkeypatch.setattr(sys, "stderr", stream)
    Output().say("a: connecting")
    assert pieces == ["a: connecting\n"]
