"""WordPiece as BERT does it, from a ``tokenizer.json``. Standard library only: profiles use it."""

import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path


def clean(text: str) -> str:
    """Return lower-case text without accents and control characters."""
    decomposed = unicodedata.normalize("NFD", text.lower())
    spaced = (" " if c.isspace() else c for c in decomposed if unicodedata.category(c) != "Mn")
    return "".join(
        c for c in spaced if unicodedata.category(c) not in ("Cc", "Cf") and c != "\ufffd"
    )


def is_punctuation(character: str) -> bool:
    """Every ASCII symbol counts, ``$`` and ``+`` as well."""
    plain = "!" <= character <= "~" and not character.isalnum()
    return plain or unicodedata.category(character).startswith("P")


def words(text: str) -> Iterator[str]:
    """Yield runs of letters, and each punctuation mark and ideograph by itself."""
    alone = (f" {c} " if is_punctuation(c) or "\u4e00" <= c <= "\u9fff" else c for c in clean(text))
    yield from "".join(alone).split()


class WordPiece:
    """Greedy longest match first."""

    def __init__(self, file: Path) -> None:
        model = json.loads(file.read_text(encoding="utf-8"))["model"]
        self.vocabulary: dict[str, int] = model["vocab"]
        self.unknown, self.prefix = model["unk_token"], model["continuing_subword_prefix"]
        self.longest: int = model["max_input_chars_per_word"]

    def pieces(self, word: str) -> list[str]:
        """Return the parts of a word, or the unknown token alone."""
        found: list[str] = []
        start = 0
        while start < len(word) <= self.longest:
            head = self.prefix if start else ""
            ends = range(len(word), start, -1)
            end = next((e for e in ends if head + word[start:e] in self.vocabulary), None)
            if end is None:
                return [self.unknown]
            found.append(head + word[start:end])
            start = end
        return found or [self.unknown]

    def encode(self, text: str) -> list[int]:
        """Return the token ids between the start and the end mark."""
        parts = [piece for word in words(text) for piece in self.pieces(word)]
        return [self.vocabulary[part] for part in ("[CLS]", *parts, "[SEP]")]
