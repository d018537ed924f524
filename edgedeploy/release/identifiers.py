"""Names of tensors and models as valid identifiers of the languages that packages are in."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Literal

Style = Literal["snake", "camel", "pascal"]
Language = Literal["python", "java", "kotlin", "swift", "typescript", "cpp"]

_WORD = re.compile(r"[A-Za-z]+|[0-9]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_MOST = 60
"""Characters of an identifier before what tells it from another."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words that no identifier may be; contextual ones are left out where they are legal names.
# Sources: Python language reference 2.3.1; Java SE 21 specification 3.9; Kotlin documentation,
# "Keywords and operators" (hard keywords); The Swift Programming Language, "Lexical Structure";
# ECMAScript 2024 12.7.2 with the strict mode words, TypeScript handbook; ISO C++20 [lex.key].
_RESERVED: Mapping[Language, frozenset[str]] = {
    "python": frozenset(keyword.kwlist) | {"self"},
    "java": _words(
        "abstract assert boolean break byte case catch char class const continue "
        "default do double else enum extends final finally float for goto if implements "
        "import instanceof int interface long native new package private protected "
        "public return short static strictfp super switch synchronized this throw "
        "throws transient try void volatile while true false null _ var record yield "
        "sealed permits Object String"
    ),
    "kotlin": _words(
        "as break class continue do else false for fun if in interface is null object "
        "package return super this throw true try typealias typeof val var when while"
    ),
    "swift": _words(
        "associatedtype class deinit enum extension fileprivate func import init inout "
        "internal let open operator private precedencegroup protocol public rethrows "
        "static struct subscript typealias var break case catch continue default defer "
        "do else fallthrough for guard if in repeat return throw switch where while Any "
        "as await false is nil self Self super throws true try Type Protocol"
    ),
    "typescript": _words(
        "break case catch class const continue debugger default delete do else enum "
        "export extends false finally for function if import in instanceof new null "
        "return super switch this throw true try typeof var void while with yield let "
        "static implements interface package private protected public await arguments "
        "eval constructor"
    ),
    "cpp": _words(
        "alignas alignof and and_eq asm auto bitand bitor bool break case catch char "
        "char8_t char16_t char32_t class compl concept const consteval constexpr "
        "constinit const_cast continue co_await co_return co_yield decltype default "
        "delete do double dynamic_cast else enum explicit export extern false float for "
        "friend goto if inline int long mutable namespace new noexcept not not_eq "
        "nullptr operator or or_eq private protected public register reinterpret_cast "
        "requires return short signed sizeof static static_assert static_cast struct "
        "switch template this thread_local throw true try typedef typeid typename union "
        "unsigned using virtual void volatile wchar_t while xor xor_eq main std"
    ),
}


def words_of(name: str) -> tuple[str, ...]:
    """Return the words of a name in lower case: letters without accents, and digits."""
    plain = unicodedata.normalize("NFKD", _HUMP.sub(" ", name))
    ascii_only = plain.encode("ascii", "ignore").decode()
    return tuple(word.lower() for word in _WORD.findall(ascii_only))


def identifiers(
    names: Iterable[str], style: Style, language: Language, *, kind: str = "value"
) -> dict[str, str]:
    """Return an identifier for each name; different names get different ones, in any order.

    Args:
        names: Such as names of tensors in a graph: any text.
        style: How words are joined.
        language: Whose reserved words are avoided.
        kind: What a name without any usable letter is called, such as ``input``.
    """
    wanted = sorted(set(names))
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(wanted, key=lambda name: (_joined(name, style, kind) != name, name)):
        base = _joined(name, style, kind)
        if base in _RESERVED[language]:
            base += "_"
        candidate, number = base, 2
        while candidate.lower() in taken:
            candidate, number = f"{base}_{number}", number + 1
        taken.add(candidate.lower())
        found[name] = candidate
    return {name: found[name] for name in wanted}


def _joined(name: str, style: Style, kind: str) -> str:
    words = list(words_of(name))
    if not words or words[0][0].isdigit():
        words = [kind, *words]
    if style == "snake":
        return "_".join(words)[:_MOST].rstrip("_")
    joined = "".join(word.capitalize() for word in words)[:_MOST]
    return joined if style == "pascal" else joined[0].lower() + joined[1:]
