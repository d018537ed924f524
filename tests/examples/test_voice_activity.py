"""Voice activity: a model with a state, from a WAV file to where speech is, here and on devices."""

from __future__ import annotations

import csv
import json
import subprocess
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.examples.test_examples import ROOT, Example, value
from tests.lab.device import LabDevice, write_inventory
from tests.lab.lab import Lab

pytestmark = pytest.mark.slow

NAME = "voice-activity"
TARGET = "linux-x86-64/ort"
FRAMES = 12 * 16000 // 512


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """The example with two recordings to evaluate on, built."""
    made = Example(NAME, tmp_path_factory.mktemp("examples"))
    made.python("record.py", "2")
    made.build()
    return made


def targets(example: Example, output: str = "build") -> dict[str, dict[str, Any]]:
    """Return what the last build found, by target."""
    document = json.loads((example.folder / output / NAME / "build.json").read_text())
    (model,) = document["models"]
    return {target["target"]: target for target in model["targets"]}


def test_whole_recordings_are_heard_as_by_the_float_model(example: Example) -> None:
    """Frame F1 with the state carried is within .02 of the float model's, and 80 % is integer."""
    found = targets(example)
    assert set(found) == {"linux-x86-64/ort", "android-arm64/ort", "linux-x86-64/openvino"}
    for target in found.values():
        evaluated = target["evaluation"]
        assert target["chosen"] == "w8a8" and evaluated["n"] == 2 * FRAMES
        assert abs(value(target) - evaluated["float_value"]) < 0.02
        assert evaluated["float_value"] > 0.9
        arithmetic = target["arithmetic"]
        assert arithmetic["integer_macs"] >= 0.8 * arithmetic["macs"]


def test_the_report_shows_the_error_along_recordings(example: Example) -> None:
    """Of the probability and of the state, which starts at zero, where nothing is wrong yet."""
    for target in targets(example).values():
        drift = {item["output"]: item for item in target["evaluation"]["drift"]}
        assert drift.keys() == {"output", "stateN"}
        for item in drift.values():
            assert (item["sequences"], item["steps"], len(item["parts"])) == (2, FRAMES, 12)
            assert item["growth"]["value"] > 0 and item["growth"]["low"] is None
    folder = example.folder / "build" / NAME
    assert "drift of stateN (2 sequences, 375 steps)" in (folder / "report.txt").read_text()
    assert "Error along sequences" in (folder / "report.html").read_text()


def test_the_application_says_what_the_build_scored(example: Example) -> None:
    """F1 of the frames in the stretches that it prints is the metric's value."""
    files = sorted((example.folder / "recordings/evaluate").iterdir())
    for name, target in targets(example).items():
        assert f1(example, example.app(name, files)) == pytest.approx(value(target))


def test_a_device_says_where_speech_is(example: Example, lab: Lab, tmp_path: Path) -> None:
    """All frames of both recordings are asked there; then the application runs there on the files.

    Its stretches are those that it prints here, and what it runs is the version that was activated.
    """
    device = lab.device("amd64-python", runtime=True)
    inventory = write_inventory(tmp_path, [device])
    run(example, inventory, device, "bench", "--mode", "quick", "--parity", "all")
    target = targets(example, "there")[TARGET]
    assert target["bench"]["state"] == "carried"
    gates = {gate["gate"]: (gate["state"], gate["evidence"]) for gate in target["gates"]}
    assert gates["parity_on_device"] == gates["metric_on_device"] == ("passed", "device")
    run(example, inventory, device, "push")
    run(example, inventory, device, "activate")

    files = sorted((example.folder / "recordings/evaluate").iterdir())
    place = device.home / "app"
    place.mkdir()
    for path in (example.folder / "app.py", example.folder / "framing.py", *files):
        (place / path.name).write_bytes(path.read_bytes())
    model = f".edgedeploy/{NAME}/current/main/model.ort"
    command = ["python3", "app/app.py", model, *(f"app/{path.name}" for path in files)]
    done = subprocess.run(
        [*device.ssh(), *command], capture_output=True, text=True, timeout=120, check=True
    )
    here = example.app(TARGET, files)
    assert len(here) == 2
    for path in files:
        lines = [line for line in done.stdout.splitlines() if f"{path.name}: " in line]
        assert [line.rpartition(": ")[2] for line in lines] == here[path.name]


def test_recordings_are_made_of_prompts(tmp_path: Path) -> None:
    """Labels follow from where a prompt is loud; what is calibrated on is in no evaluation.

    A prompt here is half a second of silence, a tone with a gap of 0.1 s in it, and silence: the
    gap belongs to the speech.
    """
    made = Example(NAME, tmp_path)
    (tmp_path / "prompts").mkdir()
    for number in range(12):
        time_s = np.arange(int(2.6 * 8000)) / 8000
        on = (time_s >= 0.5) & (time_s < 2.1) & ~((time_s >= 1.5) & (time_s < 1.6))
        tone = 0.3 * on * np.sin(2 * np.pi * (300 + 40 * number) * time_s)
        with wave.open(str(tmp_path / f"prompts/{number:02}.wav"), "wb") as stream:
            stream.setparams((1, 2, 8000, 0, "NONE", ""))
            stream.writeframes(np.round(tone * 32767).astype("<i2").tobytes())
    made.python("prompts.py", tmp_path / "prompts", "2")
    with open(made.folder / "speech.csv", newline="") as file:
        spans = [(int(row["start"]), int(row["end"])) for row in csv.DictReader(file)]
    assert len(spans) >= 4
    for start, end in spans:
        assert abs(end - start - 1.6 * 16000) <= 2 * 320
    heard = {role: pitches(made.folder / "recordings" / role) for role in ("calibrate", "evaluate")}
    assert heard["calibrate"] <= set(range(6)) and heard["evaluate"] <= set(range(6, 12))
    assert heard["calibrate"] and heard["evaluate"]


def pitches(folder: Path) -> set[int]:
    """Return which tones stand out in the recordings of a folder, by number."""
    found = set()
    for path in folder.glob("*.wav"):
        with wave.open(str(path), "rb") as stream:
            sound = np.frombuffer(stream.readframes(stream.getnframes()), "<i2").astype(float)
        level = np.abs(np.fft.rfft(sound))
        step_hz = 16000 / len(sound)
        for number in range(12):
            at = round((300 + 40 * number) / step_hz)
            around = level[at - 120 : at + 120]
            if level[at - 3 : at + 4].max() > 20 * np.median(around):
                found.add(number)
    return found


def run(example: Example, inventory: Path, device: LabDevice, verb: str, *words: str) -> None:
    """Run a verb for the device; measurements are short."""
    example.python(
        *("-m", "tests.device.shortly", verb, "profile.yaml", "-t", TARGET),
        *(
            "-o",
            "there",
            "--store",
            "store",
            "--devices",
            inventory,
            "--no-input",
            "-d",
            device.name,
            *words,
        ),
        env={"PYTHONPATH": str(ROOT)},
    )


def f1(example: Example, answers: dict[str, list[str]]) -> float:
    """Return the F1 of what the application printed, by the labels."""
    with open(example.folder / "speech.csv", newline="") as file:
        spans = list(csv.DictReader(file))
    names = sorted(path.name for path in (example.folder / "recordings/evaluate").iterdir())
    counts = [frame_counts(answers[name], spans, name) for name in names]
    both, said, real = (sum(column) for column in zip(*counts, strict=True))
    return 2 * both / (said + real)


def frame_counts(lines: list[str], spans: list[dict], name: str) -> tuple[int, int, int]:
    """Return how many of a recording's frames are speech in both, in ``lines``, in ``spans``."""
    said: set[int] = set()
    for line in lines:
        start, end = (round(float(seconds) * 16000 / 512) for seconds in line.split())
        said |= set(range(start, end))
    samples = {
        sample
        for span in spans
        if span["file"] == name
        for sample in range(int(span["start"]), int(span["end"]))
    }
    frames = range(FRAMES)
    real = {k for k in frames if sum(i in samples for i in range(512 * k, 512 * (k + 1))) > 256}
    return len(said & real), len(said), len(real)
