"""Plain scalars by the YAML 1.2 core schema (https://yaml.org/spec/1.2.2/#103-core-schema).

Stock PyYAML follows YAML 1.1, where ``1e-3`` is text, ``on`` is True, ``22:22`` is 1342 and ``010``
is 8. Here they are 0.001, ``"on"``, ``"22:22"`` and 10.
"""

from __future__ import annotations

import math
import re

MAX_NUMBER_CHARACTERS = 64
"""A longer number is refused before it is converted (conversion is quadratic)."""

Scalar = str | int | float | bool | None

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


class NumberError(ValueError):
    """A number that cannot be held: too many characters, or not finite."""


def resolve(text: str) -> Scalar:
    """Return the value of a plain (unquoted) scalar.

    Raises:
        NumberError: It is a number of more than 64 characters, overflows, or is not finite.
    """
    if text in _NULLS:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if not (text[0] in "-+." or text[0].isdigit()):
        return text
    if _NOT_FINITE.fullmatch(text):
        raise NumberError(f"`{text}` is no finite number")
    whole = _DECIMAL.fullmatch(text) or _OCTAL.fullmatch(text) or _HEXADECIMAL.fullmatch(text)
    if not whole and not _FLOAT.fullmatch(text):
        return text
    if len(text) > MAX_NUMBER_CHARACTERS:
        raise NumberError(f"a number of {len(text)} characters (at most {MAX_NUMBER_CHARACTERS})")
    if whole:
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text, base)
    value = float(text)
    if math.isinf(value):
        raise NumberError(f"`{text}` does not fit into a double")
    return value
