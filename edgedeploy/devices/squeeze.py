"""Whether a frame travels compressed: when that saves more time on the way than it takes here."""

from __future__ import annotations

import time
import zlib

SAMPLE_BYTES = 64 << 10
_LEVEL = 1
_WORTH_RATIO = 0.9


class Squeeze:
    """Decides for each frame of a transfer from a sample of it and from the link's speed so far.

    Attributes:
        codec: ``zlib``, or ``raw`` when the device cannot undo it.
    """

    def __init__(self, codecs: tuple[str, ...]) -> None:
        self.codec = "zlib" if "zlib" in codecs else "raw"
        self._sent_bytes = 0
        self._sent_s = 0.0

    def pack(self, frame: bytes | memoryview) -> tuple[str, bytes | memoryview]:
        """Return the codec of a frame and its bytes as they travel."""
        if self.codec == "raw" or not self._pays(frame):
            return "raw", frame
        packed = zlib.compress(frame, _LEVEL)
        return ("zlib", packed) if len(packed) < len(frame) else ("raw", frame)

    def sent(self, count: int, seconds: float) -> None:
        """Learn how long the link took for ``count`` bytes."""
        self._sent_bytes += count
        self._sent_s += seconds

    def _pays(self, frame: bytes | memoryview) -> bool:
        middle = max(0, (len(frame) - SAMPLE_BYTES) // 2)
        sample = bytes(frame[middle : middle + SAMPLE_BYTES])
        if not sample:
            return False
        start = time.perf_counter()
        ratio = len(zlib.compress(sample, _LEVEL)) / len(sample)
        seconds = time.perf_counter() - start
        if ratio > _WORTH_RATIO:
            return False
        if not self._sent_bytes:
            return ratio <= 0.5
        link_s = len(sample) * self._sent_s / self._sent_bytes
        return (1 - ratio) * link_s > seconds
