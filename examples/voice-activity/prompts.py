"""Makes recordings of real speech: prompts of one voice, joined with pauses, under noise.

`python prompts.py FOLDER [COUNT]` takes the WAV files below FOLDER and writes what record.py does:
`recordings/` and `speech.csv`. README.md names a package of prompts. Where there is speech follows
from the loudness of a prompt before noise is added.
"""

import csv
import sys
import wave
from pathlib import Path

import numpy as np
from record import HERE, RATE_HZ, SAMPLES, write

WINDOW = RATE_HZ // 50
QUIET_RATIO = 0.03  # of the loudest 20 ms of a prompt: 30 dB below
GAP = RATE_HZ // 4  # shorter silence within a prompt belongs to the speech
LONGEST = 6 * RATE_HZ


def read(path: Path) -> np.ndarray:
    """Return a prompt of 16 bits in one channel as float64, resampled by its spectrum."""
    with wave.open(str(path), "rb") as stream:
        rate_hz, count = stream.getframerate(), stream.getnframes()
        if (stream.getnchannels(), stream.getsampwidth()) != (1, 2):
            raise SystemExit(f"{path} is not of one channel and 16 bits")
        sound = np.frombuffer(stream.readframes(count), "<i2") / 32768
    goal = count * RATE_HZ // rate_hz
    return np.fft.irfft(np.fft.rfft(sound), goal) * (goal / max(1, count))


def loud(sound: np.ndarray) -> list[tuple[int, int]]:
    """Return where a prompt is loud, in samples."""
    windows = sound[: len(sound) // WINDOW * WINDOW].reshape(-1, WINDOW)
    level = np.sqrt(np.square(windows).mean(axis=1))
    spans: list[tuple[int, int]] = []
    for start in np.flatnonzero(level > QUIET_RATIO * level.max()) * WINDOW:
        if spans and start - spans[-1][1] < GAP:
            spans[-1] = (spans[-1][0], int(start) + WINDOW)
        else:
            spans.append((int(start), int(start) + WINDOW))
    return spans


def recording(
    source: np.random.Generator, prompts: list[np.ndarray]
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Return a recording, float64 ``[SAMPLES]``, and where its speech starts and ends."""
    sound, spans = np.zeros(SAMPLES), []
    start = int(source.uniform(0.3, 0.8) * RATE_HZ)
    while True:
        prompt = prompts[source.integers(len(prompts))]
        if start + len(prompt) > SAMPLES:
            break
        sound[start : start + len(prompt)] = prompt
        spans += [(start + first, start + last) for first, last in loud(prompt)]
        start += len(prompt) + int(source.uniform(0.5, 1.5) * RATE_HZ)
    # Noise that falls by 3 dB per octave, 5 to 25 dB below the speech.
    spectrum = np.fft.rfft(source.standard_normal(SAMPLES))
    noise = np.fft.irfft(spectrum / np.sqrt(np.arange(1, len(spectrum) + 1)), SAMPLES)
    speech_rms = np.sqrt(np.square(sound[sound != 0]).mean())
    sound += noise / noise.std() * speech_rms * 10 ** (-source.uniform(5, 25) / 20)
    return 0.9 * sound / np.abs(sound).max(), spans


def main() -> None:
    """Write both roles; the second argument is the number of evaluation recordings."""
    evaluate = int(sys.argv[2]) if sys.argv[2:] else 12
    files = sorted(Path(sys.argv[1]).rglob("*.wav"))
    prompts = [sound for sound in map(read, files) if RATE_HZ // 2 < len(sound) < LONGEST]
    if len(prompts) < 10:
        raise SystemExit(f"{sys.argv[1]} holds fewer than 10 prompts of 0.5 to 6 s")
    half = len(prompts) // 2  # what is calibrated on is not evaluated on
    rows = []
    for number in range(2 + evaluate):
        role = "calibrate" if number < 2 else "evaluate"
        folder = HERE / "recordings" / role
        folder.mkdir(parents=True, exist_ok=True)
        part = prompts[:half] if number < 2 else prompts[half:]
        sound, spans = recording(np.random.default_rng(number), part)
        write(folder / f"{number:02}.wav", sound)
        rows += [(f"{number:02}.wav", *span) for span in spans if role == "evaluate"]
    with open(HERE / "speech.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "start", "end"])
        writer.writerows(rows)


if __name__ == "__main__":
    main()
