"""Sentences for calibration and pairs of sentences for evaluation: the data of a profile.

The scores, 0 (unrelated) to 5 (the same), are this project's own.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from wordpiece import WordPiece

PAIRS = (
    ("A man is slicing a loaf of bread.", "Someone cuts bread with a knife.", 4.2),
    ("The train to Leipzig is twenty minutes late.", "The Leipzig train has been delayed.", 4.3),
    ("She planted tomatoes behind the house.", "Tomatoes grow in her back garden.", 3.8),
    ("The cat sleeps on the warm windowsill.", "A dog is barking at the postman.", 1.0),
    ("Water boils at one hundred degrees Celsius.", "The boiling point of water is 100 °C.", 4.8),
    ("The committee rejected the proposal.", "The committee accepted the proposal.", 2.8),
    ("Turn off the lights before you leave.", "Switch the lamps off when you go out.", 4.5),
    ("Her flight lands at noon.", "The recipe calls for two eggs.", 0.0),
    ("He repaired the bicycle's rear brake.", "The back brake of the bike was fixed by him.", 4.7),
    ("Snow closed the mountain pass overnight.", "The road over the mountains is shut.", 3.4),
    ("The battery lasts about nine hours.", "You can use it for nine hours on one charge.", 4.2),
    ("Two children are playing chess in the park.", "Kids play a board game outdoors.", 3.5),
    ("The museum is free on Sundays.", "Sunday is my favourite day for baking.", 1.0),
    ("Please send the invoice by Friday.", "The invoice has to arrive before the weekend.", 3.6),
    ("A violinist tunes her instrument.", "The stock market fell sharply today.", 0.0),
    ("The patient has a high fever and a cough.", "He is ill, coughing, with a temperature.", 4.0),
)

CALIBRATION = (
    "The sensor reports temperature and humidity every ten seconds.",
    "Why does the kettle whistle?",
    "Our neighbours painted their fence bright green last summer.",
    "Install the update, restart the machine and log in again.",
    "The orchestra rehearsed until midnight; nobody complained.",
    "Prices rose by 3.5% in the second quarter, mostly because of energy.",
    "No.",
    "A ferry crosses the strait twice a day, weather permitting.",
    "He has read the whole manual, including the appendix about fuses and relays.",
    "The goalkeeper saved two penalties and was carried off the field on his team's shoulders.",
    "Mix flour, butter and sugar; add the egg; let the dough rest for an hour in the fridge.",
    "Is there a pharmacy near the station?",
    "The judge asked the witness to speak louder.",
    "Migrating birds follow the coast before they turn inland.",
    "This contract may be ended by either party with three months' notice in writing.",
    "Good morning!",
)


BUCKETS = (12, 24)


def batch(texts: tuple[str, ...], bucketed: bool = False) -> dict[str, np.ndarray]:
    """Return the model's inputs for texts, int64 [N, S].

    Args:
        texts: N of them.
        bucketed: Pad to the smallest bucket that holds the longest, rather than to the longest.
    """
    tokenizer = WordPiece(Path(__file__).with_name("tokenizer.json"))
    rows = [tokenizer.encode(text) for text in texts]
    size = max(map(len, rows))
    if bucketed:
        size = next(bucket for bucket in BUCKETS if bucket >= size)
    ids = np.zeros((len(rows), size), np.int64)
    for row, tokens in zip(ids, rows, strict=True):
        row[: len(tokens)] = tokens
    mask = (ids != 0).astype(np.int64)
    return {"ids": ids, "mask": mask, "types": np.zeros_like(ids)}


def calibration(bucketed: bool = False, together: int = 1) -> Iterator[dict[str, np.ndarray]]:
    """Yield sentences, by default one at a time, each at its own length."""
    for start in range(0, len(CALIBRATION), together):
        yield batch(CALIBRATION[start : start + together], bucketed)


def evaluation(bucketed: bool = False) -> Iterator[tuple[dict[str, np.ndarray], float, str]]:
    """Yield pairs as batches of two, with the score."""
    for number, (first, second, score) in enumerate(PAIRS):
        yield batch((first, second), bucketed), score, f"pair-{number:02d}"
