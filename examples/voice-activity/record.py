"""Makes "recordings": vowels and consonants from a source-filter model, pauses, and noise.

Writes `recordings/calibrate` and `recordings/evaluate` beside this file, 16 kHz WAV files of 12
seconds, and `speech.csv` with the start and end of each utterance in samples. No speaker is
needed, and it is known exactly where there is speech. A model that ships deserves real recordings.
"""

import csv
import sys
import wave
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
RATE_HZ = 16000
SAMPLES = 12 * RATE_HZ
# Formants of vowels in hertz (Peterson and Barney, Control Methods Used in a Study of the Vowels,
# 1952, men's averages).
VOWELS_HZ = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480))


def vowel(source: np.random.Generator, pitch_hz: float) -> np.ndarray:
    """Return 90 to 250 ms of harmonics under the envelope of a vowel's formants."""
    samples = int(source.uniform(0.09, 0.25) * RATE_HZ)
    time_s = np.arange(samples) / RATE_HZ
    wobble = 0.15 * np.sin(2 * np.pi * source.uniform(1, 4) * time_s + source.uniform(0, 6))
    pitch = pitch_hz * (1 + wobble) * np.linspace(1.1, 0.9, samples)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE_HZ
    formants = VOWELS_HZ[source.integers(len(VOWELS_HZ))]
    sound = np.zeros(samples)
    for harmonic in range(1, int(7000 / pitch_hz)):
        frequency = harmonic * pitch_hz
        gain = 0.01 + sum(
            share / (1 + ((frequency - centre) / (60 + centre / 20)) ** 2)
            for share, centre in zip((1, 0.6, 0.3), formants, strict=True)
        )
        sound += gain / harmonic**0.3 * np.sin(harmonic * phase + source.uniform(0, 6))
    return sound * np.sin(np.pi * np.linspace(0, 1, samples)) ** 0.5


def consonant(source: np.random.Generator) -> np.ndarray:
    """Return 30 to 70 ms of high-pass noise."""
    samples = int(source.uniform(0.03, 0.07) * RATE_HZ)
    noise = np.diff(source.standard_normal(samples + 1))
    return 0.3 * noise * np.sin(np.pi * np.linspace(0, 1, samples))


def recording(source: np.random.Generator) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Return a recording, float64 ``[SAMPLES]``, and where its utterances start and end."""
    sound, spans = np.zeros(SAMPLES), []
    start = int(source.uniform(0.3, 0.8) * RATE_HZ)
    while start < SAMPLES - RATE_HZ:
        pitch_hz = source.uniform(90, 240)
        syllables = [
            part
            for _ in range(source.integers(3, 9))
            for part in (consonant(source), vowel(source, pitch_hz))
        ]
        utterance = np.concatenate(syllables)[: SAMPLES - start]
        sound[start : start + len(utterance)] = 0.2 * utterance
        spans.append((start, start + len(utterance)))
        start = spans[-1][1] + int(source.uniform(0.5, 1.5) * RATE_HZ)
    sound += source.standard_normal(SAMPLES) * 10 ** source.uniform(-3, -1.8)
    return 0.9 * sound / np.abs(sound).max(), spans


def write(file: Path, sound: np.ndarray) -> None:
    """Write a WAV file of 16 bits."""
    with wave.open(str(file), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(RATE_HZ)
        stream.writeframes(np.round(sound * 32767).astype("<i2").tobytes())


def main() -> None:
    """Write both roles; the first argument is the number of evaluation recordings."""
    evaluate = int(sys.argv[1]) if sys.argv[1:] else 12
    rows = []
    for number in range(2 + evaluate):
        role = "calibrate" if number < 2 else "evaluate"
        folder = HERE / "recordings" / role
        folder.mkdir(parents=True, exist_ok=True)
        sound, spans = recording(np.random.default_rng(number))
        write(folder / f"{number:02}.wav", sound)
        rows += [(f"{number:02}.wav", *span) for span in spans if role == "evaluate"]
    with open(HERE / "speech.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "start", "end"])
        writer.writerows(rows)


if __name__ == "__main__":
    main()
