"""GitHub's expressions, the part that action.yml uses; anything else is an error, not a guess.

Source: "Evaluate expressions in workflows and actions" in GitHub's documentation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<name>[A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*)*)"
    r"|(?P<sign>==|!=|&&|\|\||!|\(|\)))"
)
STATUS = ("success", "failure", "always")


class Unknown(Exception):
    """An expression that this interpreter does not know."""


def tokens(text: str) -> list[tuple[str, str]]:
    """Return the kind and text of each token."""
    found, at = [], 0
    while text[at:].strip():
        match = TOKEN.match(text, at)
        if match is None:
            raise Unknown(f"{text!r} at {text[at:]!r}")
        found.append((str(match.lastgroup), match[str(match.lastgroup)]))
        at = match.end()
    return found


class _Parser:
    """Recursive descent over one expression; the operands of && and || are values, as at GitHub."""

    def __init__(self, text: str, contexts: Mapping[str, Any], failed: bool) -> None:
        self.text, self.contexts, self.failed = text, contexts, failed
        self.left = tokens(text)

    def take(self, *signs: str) -> str | None:
        if self.left and self.left[0][0] == "sign" and self.left[0][1] in signs:
            return self.left.pop(0)[1]
        return None

    def either(self) -> Any:
        value = self.both()
        while self.take("||"):
            other = self.both()
            value = value or other
        return value

    def both(self) -> Any:
        value = self.equal()
        while self.take("&&"):
            other = self.equal()
            value = value and other
        return value

    def equal(self) -> Any:
        value = self.one()
        while sign := self.take("==", "!="):
            other = self.one()
            if not (isinstance(value, str) and isinstance(other, str)):
                raise Unknown(f"{self.text!r} compares what is not text")
            same = value.casefold() == other.casefold()  # GitHub ignores the case
            value = same if sign == "==" else not same
        return value

    def one(self) -> Any:
        if self.take("!"):
            return not self.one()
        if self.take("("):
            value = self.either()
            if not self.take(")"):
                raise Unknown(self.text)
            return value
        if not self.left:
            raise Unknown(f"{self.text!r} ends too early")
        kind, word = self.left.pop(0)
        if kind == "text":
            return word[1:-1].replace("''", "'")
        if kind == "name" and self.take("("):
            if word not in STATUS or not self.take(")"):
                raise Unknown(f"{self.text!r} calls {word}")
            return {"success": not self.failed, "failure": self.failed, "always": True}[word]
        if kind == "name":
            return looked_up(word, self.contexts)
        raise Unknown(self.text)


def looked_up(name: str, contexts: Mapping[str, Any]) -> str:
    """Return a value of a context; of a step's outputs, what it did not write is empty."""
    value: Any = contexts
    parts = name.split(".")
    for depth, part in enumerate(parts):
        if part not in value:
            if parts[0] == "steps" and depth == 3 and parts[2] == "outputs":
                return ""
            raise Unknown(f"there is no {name}")
        value = value[part]
    if not isinstance(value, str):
        raise Unknown(f"{name} is no text")
    return value


def evaluated(text: str, contexts: Mapping[str, Any], *, failed: bool = False) -> Any:
    """Return the value of one expression.

    Raises:
        Unknown: It is none, or uses what is not known here.
    """
    parser = _Parser(text, contexts, failed)
    value = parser.either()
    if parser.left:
        raise Unknown(f"{text!r}: {parser.left[0][1]!r} is left over")
    return value


def substituted(text: str, contexts: Mapping[str, Any]) -> str:
    """Return text with every ``${{ ... }}`` replaced by its value."""

    def value(match: re.Match[str]) -> str:
        found = evaluated(match[1], contexts)
        return str(found).lower() if isinstance(found, bool) else str(found)

    return re.sub(r"\$\{\{(.*?)\}\}", value, text, flags=re.S)


def holds(condition: str | None, contexts: Mapping[str, Any], *, failed: bool) -> bool:
    """Whether a step runs: without a status function, only while nothing has failed."""
    if condition is None:
        return not failed
    value = evaluated(condition, contexts, failed=failed)
    asks = any(f"{name}(" in condition for name in STATUS)
    return bool(value) and (asks or not failed)
