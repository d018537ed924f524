"""The evaluation data: frames of the recordings in order, each with whether it is speech."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from framing import FRAME, frames, read

HERE = Path(__file__).parent


def labelled() -> Iterator[tuple[dict[str, np.ndarray], int, str, str]]:
    """Yield ``(inputs, 0 or 1, name, sequence)``; a recording is one sequence of frames."""
    with open(HERE / "speech.csv", newline="", encoding="utf-8") as file:
        spans = list(csv.DictReader(file))
    for path in sorted((HERE / "recordings/evaluate").glob("*.wav")):
        sound = read(path)
        speech = np.zeros(len(sound), bool)
        for span in spans:
            if span["file"] == path.name:
                speech[int(span["start"]) : int(span["end"])] = True
        for number, frame in enumerate(frames(sound)):
            share = speech[number * FRAME : (number + 1) * FRAME].mean()
            yield {"input": frame}, int(share > 0.5), f"{path.name}#{number}", path.name
