"""The data of the profile: texts to calibrate on, pairs of texts with a similarity to evaluate."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from wordpiece import WordPiece

HERE = Path(__file__).parent
CALIBRATION_TEXTS = 64
# Of 1225 pairs; what a build can run in seconds.
PAIRS = 200
MOST_TOKENS = 256


def lines(name: str) -> list[str]:
    """Return the lines of a file beside this one."""
    return (HERE / name).read_text(encoding="latin-1").splitlines()


def batch(texts: list[str]) -> dict[str, np.ndarray]:
    """Return the model's inputs for texts, int64 [N, S], padded to the longest."""
    tokenizer = WordPiece(HERE / "tokenizer.json")
    rows = [tokenizer.encode(text)[:MOST_TOKENS] for text in texts]
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for row, tokens in zip(ids, rows, strict=True):
        row[: len(tokens)] = tokens
    return {"ids": ids, "mask": (ids != 0).astype(np.int64), "types": np.zeros_like(ids)}


def calibration() -> Iterator[dict[str, np.ndarray]]:
    """Yield texts of the background corpus, one at a time."""
    for text in lines("lee_background.cor")[:CALIBRATION_TEXTS]:
        yield batch([text])


def evaluation() -> Iterator[tuple[dict[str, np.ndarray], float, str]]:
    """Yield pairs of documents as batches of two, with the similarity that people gave them."""
    texts = lines("lee.cor")
    scores = np.array([line.split() for line in lines("similarities0-1.txt")], float)
    every = [(a, b) for b in range(len(texts)) for a in range(b)]  # the file's upper half
    chosen = np.random.default_rng(0).permutation(len(every))[:PAIRS]
    for first, second in (every[number] for number in sorted(chosen)):
        inputs = batch([texts[first], texts[second]])
        yield inputs, float(scores[first, second]), f"{first}-{second}"
