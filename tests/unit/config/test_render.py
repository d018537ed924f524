"""Diagnostics as text."""

from edgedeploy.config.nearest import nearest
from edgedeploy.errors import Diagnostic, Place
from edgedeploy.errors.render import render


def at(snippet: str, column: int) -> list[str]:
    place = Place(file="p.yaml", line=12, column=column)
    text = render(Diagnostic(code="E104", message="m", place=place, snippet=snippet, hint="h"))
    lines = text.split("\n")
    assert lines[0] == "error[E104]: m"
    assert lines[1] == f" --> p.yaml:12:{column}"
    assert lines[-1] == "hint: h"
    return lines[2:-1]


def test_the_caret_stands_below_the_column():
    assert at("abc: d", 6) == ["12 | abc: d", "   |      ^"]


def test_wide_and_combining_characters_keep_the_caret_in_place():
    assert at("名前: x", 5) == ["12 | 名前: x", "   | " + " " * 6 + "^"]
    assert at("e\u0301: x", 5) == ["12 | e\u0301: x", "   | " + " " * 3 + "^"]


def test_a_tab_takes_one_column():
    assert at("a:\tb", 4) == ["12 | a: b", "   |    ^"]


def test_a_long_line_is_cut_around_the_column():
    shown, caret = at("x" * 5000 + "!" + "y" * 5000, 5001)
    assert len(shown) < 120
    assert shown[caret.index("^")] == "!"


def test_a_column_past_the_end():
    assert at("abc", 99)[1] == "   |    ^"


def test_nothing_drives_the_terminal():
    text = render(
        Diagnostic(code="E1", message="a\x1b[31m\n", subject="b\x07", hint="\u202ec", snippet="x")
    )
    assert text.isascii()
    assert "\x1b" not in text
    assert text.count("\n") == 2


def test_nearest_is_bounded():
    assert nearest("Quantise", ["quantize", "bench"]) == "quantize"
    assert nearest("x" * 81, ["x" * 80]) is None
    assert nearest("a", [f"a{n}" for n in range(201)]) is None
