"""What the build and the application share: from a WAV file to the frames that the model takes.

The model takes 512 new samples at 16 kHz behind the 64 before them. Without those 64 it runs as
well, and hears nothing.
"""

import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np

RATE_HZ, FRAME, CONTEXT = 16000, 512, 64


def read(path: Path) -> np.ndarray:
    """Return the samples of a 16-bit WAV file of 16 kHz, float32 in [-1, 1)."""
    with wave.open(str(path), "rb") as stream:
        form = stream.getframerate(), stream.getnchannels(), stream.getsampwidth()
        if form != (RATE_HZ, 1, 2):
            raise SystemExit(f"{path} is not 16 kHz, one channel, 16 bits")
        content = stream.readframes(stream.getnframes())
    return np.frombuffer(content, "<i2").astype(np.float32) / 32768


def frames(sound: np.ndarray) -> Iterator[np.ndarray]:
    """Yield float32 ``[1, 576]``; silence stands before the first frame, a cut-off last is left."""
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), sound])
    for start in range(0, len(sound) - FRAME + 1, FRAME):
        yield padded[None, start : start + CONTEXT + FRAME]
