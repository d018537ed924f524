"""Did-you-mean: the legal word that a mistyped one is closest to."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

LONGEST_WORD = 80
MOST_WORDS = 200


def nearest(word: str, legal: Iterable[str]) -> str | None:
    """Return the legal word most like ``word``, None when nothing is near.

    A difference in case alone counts as equal; the work is bounded, whatever ``word`` is.
    """
    by_lower = {item.lower(): item for item in legal}
    if len(word) > LONGEST_WORD or len(by_lower) > MOST_WORDS:
        return None
    found = difflib.get_close_matches(word.lower(), sorted(by_lower), n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def advice(word: str, legal: Sequence[str]) -> str:
    """Return a hint: the nearest legal word, or the list of them."""
    guess = nearest(word, legal)
    listed = ", ".join(f"`{item}`" for item in legal)
    if guess is not None:
        return f"did you mean `{guess}`?"
    return f"use one of {listed}" if legal else "remove it"


def shorten(value: object, limit: int = 60) -> str:
    """Return ``value`` as text of at most ``limit`` characters, for use in a message."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
