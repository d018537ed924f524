"""WAV files through the input's declared ``audio:`` preprocessing.

PCM of 8 bits (unsigned), 16, 24 or 32 bits becomes ``value / 2**(bits - 1)`` in [-1, 1); channels
are averaged; another sample rate is converted by :func:`resample`; then comes ``scale``. With
``frame_samples`` a file is a sequence of frames, the last one filled with zeros; otherwise it is
one sample ``[1, n]``.
"""

from __future__ import annotations

import math
import wave
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from edgedeploy.data.readers import RawSample, Request, broken, declared_input

FILTER_ZERO_CROSSINGS = 16
FILTER_BETA = 9.0


def read(request: Request) -> Iterator[RawSample]:
    """Yield whole files, or their frames in order as a sequence named after the file.

    Raises:
        DataError: A file cannot be decoded (E259); no input declares ``audio:`` (E288).
    """
    spec, words = declared_input(request, "audio")
    audio = words.audio
    if audio is None:  # declared_input found one; this tells the type checker
        return
    for name in request.selection.names:
        samples, rate_hz = decode(request.selection.root / name, name)
        samples = resample(samples, rate_hz, audio.rate_hz) * np.float32(audio.scale)
        truth = request.truth(name)
        if audio.frame_samples is None:
            yield RawSample(id=name, tensors={spec.name: samples[None]}, truth=truth)
            continue
        hop = audio.hop_samples or audio.frame_samples
        for number, frame in enumerate(frames(samples, audio.frame_samples, hop)):
            yield RawSample(
                id=f"{name}#{number}", tensors={spec.name: frame[None]}, truth=truth, sequence=name
            )


def frames(samples: np.ndarray, frame_samples: int, hop_samples: int) -> Iterator[np.ndarray]:
    """Yield frames ``[frame_samples]`` until all of ``samples`` ``[n]`` are covered.

    The last frame is filled with zeros.
    """
    count = 1 + max(0, -(-(len(samples) - frame_samples) // hop_samples))
    for number in range(count):
        frame = samples[number * hop_samples : number * hop_samples + frame_samples]
        yield np.pad(frame, (0, frame_samples - len(frame)))


def decode(file: Path, name: str) -> tuple[np.ndarray, int]:
    """Return the samples of a PCM WAV file, float32 ``[n]`` in [-1, 1), and its rate in hertz.

    Raises:
        DataError: Not a PCM WAV file, cut off, or empty (E259).
    """
    try:
        with wave.open(str(file), "rb") as stream:
            channels, width = stream.getnchannels(), stream.getsampwidth()
            rate_hz, count = stream.getframerate(), stream.getnframes()
            raw = stream.readframes(count)
    except (OSError, EOFError, RuntimeError, wave.Error) as error:
        raise broken(name, str(error) or "the file is cut off") from error
    if count == 0 or rate_hz == 0:
        raise broken(name, "it holds no sound")
    if len(raw) != count * channels * width:
        raise broken(name, "the file is cut off")
    if width not in (1, 2, 3, 4):
        raise broken(name, f"{8 * width}-bit samples are not supported")
    return _mono(raw, width, channels), rate_hz


def _mono(raw: bytes, width: int, channels: int) -> np.ndarray:
    if width == 1:
        values = np.frombuffer(raw, np.uint8).astype(np.int32) - 128
    elif width == 3:
        three = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        four = np.zeros((len(three), 4), np.uint8)
        four[:, 1:] = three  # the low byte stays zero: a 32-bit value 256 times as large
        values = four.view("<i4").reshape(-1) >> 8
    else:
        values = np.frombuffer(raw, f"<i{width}")
    scaled = values.astype(np.float64) / (1 << (8 * width - 1))
    mono: np.ndarray = scaled.reshape(-1, channels).mean(axis=1)
    return mono.astype(np.float32)


@lru_cache(maxsize=8)
def resampling_filter(up: int, down: int) -> np.ndarray:
    """Return the low-pass filter for a rate change by ``up / down``, float64, odd length.

    A windowed sinc with cut-off at the lower Nyquist frequency, 16 zero crossings to each side
    and a Kaiser window with beta 9 (Oppenheim & Schafer, Discrete-Time Signal Processing, 7.6),
    scaled so that the coefficients sum to ``up``.
    """
    widest = max(up, down)
    half = FILTER_ZERO_CROSSINGS * widest
    taps = np.sinc(np.arange(-half, half + 1) / widest) * np.kaiser(2 * half + 1, FILTER_BETA)
    return np.asarray(taps * (up / taps.sum()))


def resample(samples: np.ndarray, rate_hz: int, goal_hz: int) -> np.ndarray:
    """Return ``samples`` at another rate by polyphase filtering (:func:`resampling_filter`).

    Args:
        samples: float32 ``[n]``.
        rate_hz: Their rate.
        goal_hz: The wanted rate.

    Returns:
        float32 ``[ceil(n * goal_hz / rate_hz)]``, in time with the input; silence is assumed
        beyond both ends.
    """
    if rate_hz == goal_hz:
        return samples
    divisor = math.gcd(rate_hz, goal_hz)
    up, down = goal_hz // divisor, rate_hz // divisor
    taps = resampling_filter(up, down)
    half = len(taps) // 2
    count = -(-len(samples) * up // down)
    # Output k sits at position k * down of the signal stretched by `up`; taps that meet a
    # stretched-in zero are left out, so each output has its own phase of the filter.
    position = np.arange(count, dtype=np.int64) * down + half
    newest = position // up
    phase = position % up
    per_phase = -(-len(taps) // up)
    padded = np.pad(taps, (0, per_phase * up - len(taps))).reshape(per_phase, up)
    source = np.pad(samples.astype(np.float64), (per_phase, per_phase + half // up + 1))
    total = np.zeros(count)
    for tap in range(per_phase):
        total += padded[tap, phase] * source[newest - tap + per_phase]
    return total.astype(np.float32)
