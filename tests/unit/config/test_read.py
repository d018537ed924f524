"""The strict loader: data, marks, limits, counted work."""

import codecs
import json
import os
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.config.document import Limits, Work
from edgedeploy.config.read import read_bytes, read_document, read_text
from edgedeploy.errors import ProfileError

LIMITS = Limits()
PRINTABLE = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xD7FF, exclude_categories=["Cc", "Zl", "Zp"]),
    max_size=20,
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | PRINTABLE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PRINTABLE, inner, max_size=4),
    max_leaves=12,
)


def refused(text: str, work: Work | None = None) -> list[str]:
    with pytest.raises(ProfileError) as caught:
        read_text(text, label="p.yaml", work=work)
    return [item.code for item in caught.value.diagnostics]


@given(JSON)
def test_json_is_yaml(value):
    text = json.dumps(value, ensure_ascii=False)
    assert read_text(text, label="p").data == value


@given(JSON)
def test_every_value_has_a_mark_where_it_stands(value):
    text = json.dumps({"top": value}, ensure_ascii=False, indent=1)
    document = read_text(text, label="p")
    lines = text.split("\n")

    def check(item, path):
        mark = document.values[path]
        shown = json.dumps(item, ensure_ascii=False, indent=1).split("\n")[0]
        assert lines[mark.line - 1][mark.column - 1 :].startswith(shown)
        if isinstance(item, dict):
            for key, inner in item.items():
                at = document.keys[(*path, key)]
                quoted = json.dumps(key, ensure_ascii=False)
                assert lines[at.line - 1][at.column - 1 :].startswith(quoted)
                check(inner, (*path, key))
        elif isinstance(item, list):
            for place, inner in enumerate(item):
                check(inner, (*path, place))

    check({"top": value}, ())


def test_text_of_scalars_that_are_no_text_is_kept():
    document = read_text('a: 1.10\nb: "1.10"\nc: x\n', label="p")
    assert document.data == {"a": 1.1, "b": "1.10", "c": "x"}
    assert document.texts == {("a",): "1.10"}


def test_keys_are_text():
    assert read_text("1: a\non: b\nnull: c\n22:22: d\n", label="p").data == {
        "1": "a",
        "on": "b",
        "null": "c",
        "22:22": "d",
    }
    assert refused('1: a\n"1": b\n') == ["E113"]


def test_an_alias_is_a_copy_with_marks():
    document = read_text("a: &x {c: [1.0, 2]}\nb: *x\n", label="p")
    assert document.data["b"] == document.data["a"]
    assert document.data["b"] is not document.data["a"]
    assert document.data["b"]["c"] is not document.data["a"]["c"]
    assert (document.values["b",].line, document.values["b",].column) == (2, 4)
    assert document.values["b", "c"].line == 1
    assert document.texts["b", "c", 0] == "1.0"


@pytest.mark.parametrize("text", ["[" * 20_000, "{a: " * 20_000, "- " * 20_000, "? " * 20_000])
def test_nesting_stops_at_the_limit(text):
    work = Work()
    assert refused(text, work)[-1] == "E117"
    assert work.depth == LIMITS.depth
    assert work.events <= 4 * LIMITS.depth


def test_nesting_through_aliases_counts():
    layers = "".join(f"a{n}: &a{n} [[[[[[*a{n - 1}]]]]]]\n" for n in range(1, 12))
    assert refused("a0: &a0 x\n" + layers) == ["E117"]
    inside = "[" * 49
    assert read_text(inside + "]" * 49, label="p").work.depth == 49


def bomb(width: int, levels: int) -> str:
    lines = ["a0: &a0 [" + ", ".join("x" * 1 for _ in range(width)) + "]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [" + ", ".join([f"*a{level - 1}"] * width) + "]")
    return "\n".join(lines) + "\n"


def test_an_alias_bomb_stops_at_the_limit():
    work = Work()
    assert refused(bomb(9, 12), work) == ["E118"]  # 9^12 values when expanded
    assert work.nodes <= LIMITS.nodes
    assert work.aliases <= LIMITS.aliases


def test_a_map_bomb_without_merge_keys_stops_as_well():
    lines = ["a0: &a0 {k: v}"]
    lines += [f"a{n}: &a{n} {{l: *a{n - 1}, r: *a{n - 1}}}" for n in range(1, 45)]
    work = Work()
    assert refused("\n".join(lines), work)[0] in ("E117", "E118")
    assert work.nodes <= LIMITS.nodes


def test_a_merge_key_bomb_is_refused_key_by_key():
    lines = ["a0: &a0 {k: v}"]
    lines += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 12)]
    work = Work()
    codes = refused("\n".join(lines), work)
    assert set(codes) <= {"E114", "E117", "E118"}
    assert "E114" in codes
    assert work.nodes <= LIMITS.nodes


def test_aliases_are_counted():
    hundred = "a: &a x\nb: [" + ", ".join(["*a"] * 100) + "]"
    assert read_text(hundred, label="p").work.aliases == 100
    work = Work()
    assert refused(hundred.replace("]", ", *a]"), work) == ["E118"]
    assert work.aliases == LIMITS.aliases


def test_values_are_counted():
    work = Work()
    assert refused("- a\n" * (LIMITS.nodes + 1), work) == ["E118"]
    assert work.nodes == LIMITS.nodes
    assert work.events <= LIMITS.nodes + 5


def test_findings_are_bounded():
    assert len(refused("- !x a\n" * 10_000)) == 101


def test_a_skipped_duplicate_still_counts():
    work = Work()
    assert refused("a: 1\na: " + "[" * 20_000, work)[-1] == "E117"
    assert work.depth == LIMITS.depth


def test_a_huge_number_is_not_converted():
    work = Work()
    assert refused("a: " + "1" * 300_000, work) == ["E119"]
    assert refused("a: 1." + "1" * 300_000, work) == ["E119"]


def test_bytes_are_counted_before_anything_is_decoded(tmp_path):
    path = tmp_path / "big.yaml"
    path.write_bytes(b"\xff" * (LIMITS.bytes + 10_000))
    work = Work()
    with pytest.raises(ProfileError) as caught:
        read_document(path, work=work)
    assert caught.value.diagnostics[0].code == "E103"
    assert work.bytes == LIMITS.bytes + 1
    assert work.events == 0


def test_a_byte_order_mark_is_no_part_of_the_first_key():
    document = read_bytes("\ufeffa: 1\n".encode(), label="p")
    assert document.data == {"a": 1}
    assert document.keys["a",].column == 1


@pytest.mark.parametrize("break_", ["\n", "\r\n", "\r"])
def test_line_ends(break_):
    document = read_bytes(f"a: 1{break_}b: 2{break_}".encode(), label="p")
    assert document.values["b",].line == 2
    assert document.values["b",].source.lines[1] == "b: 2"


@pytest.fixture
def ordinary_user():
    """Give up root's right to read everything, in case we have it."""
    codecs.lookup("utf-8-sig")  # Python's own files may lie where only root may go
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


def test_a_file_without_permission(ordinary_user):
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = Path(folder, "p.yaml")
        path.write_text("a: 1")
        path.chmod(0)
        with pytest.raises(ProfileError) as caught:
            read_document(path)
        path.chmod(0o600)
        assert read_document(path).data == {"a": 1}
    assert caught.value.diagnostics[0].code == "E101"


def test_a_named_pipe_does_not_block(tmp_path):
    path = tmp_path / "p.yaml"
    os.mkfifo(path)
    with pytest.raises(ProfileError) as caught:
        read_document(path)
    assert caught.value.diagnostics[0].code == "E101"


SAMPLES = [
    "a: &x {b: [1, 'two', \"three\"]}\nc: *x\nd: |\n  text\n  more\n",
    "a: 1\na: 2\n",
    "<<: {a: 1}\n",
    "- !!python/object:x y\n",
    "a: 1\n---\nb: 2\n",
    "[" * 20_000,
    "? [a]\n: b\n",
    "a: [1\n",
    "a: b: c\n",
    "",
]


@pytest.mark.parametrize("text", SAMPLES)
def test_the_pure_parser_gives_the_same(text, monkeypatch):
    def outcome():
        try:
            document = read_text(text, label="p")
        except ProfileError as error:
            return [(item.code, item.place) for item in error.diagnostics]
        return document.data, document.values, document.keys, document.texts

    fast = outcome()
    monkeypatch.delattr(yaml, "CSafeLoader")
    assert outcome() == fast
