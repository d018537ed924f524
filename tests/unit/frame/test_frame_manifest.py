"""Laws of canonical JSON and of trees."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.artifact import FileEntry, Tree, UnfitTreeError, scan_tree, settle_tree
from edgedeploy.manifest import PART, canonical, digest, sweep_parts, write_atomic
from tests.unit.frame.conftest import names

NAMES = st.text(st.characters(), max_size=6)  # surrogates too: odd file names are data
DATA = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | NAMES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


def shuffled(data: object, order: random.Random) -> object:
    if isinstance(data, dict):
        names = list(data)
        order.shuffle(names)
        return {name: shuffled(data[name], order) for name in names}
    return [shuffled(item, order) for item in data] if isinstance(data, list) else data


@given(DATA, st.randoms(use_true_random=False))
def test_key_order_does_not_matter(data: object, order: random.Random) -> None:
    assert canonical(shuffled(data, order)) == canonical(data)


@given(DATA)
def test_canonical_json_reads_back(data: object) -> None:
    assert json.loads(canonical(data)) == data
    assert canonical(json.loads(canonical(data))) == canonical(data)


@given(DATA, DATA)
def test_different_data_have_different_bytes(one: object, other: object) -> None:
    # repr tells 1, 1.0 and True apart, as the digests must.
    if repr(shuffled(one, random.Random(0))) == repr(shuffled(other, random.Random(0))):
        assert digest("x", one) == digest("x", other)
    elif one != other:
        assert digest("x", one) != digest("x", other)


def test_known_digest() -> None:
    body = b'action\n{"a":[1,2.5,true,null],"b":"\xc3\xa9"}'
    assert digest("action", {"b": "é", "a": [1, 2.5, True, None]}) == (
        hashlib.sha256(body).hexdigest()
    )
    assert digest("other", {}) != digest("action", {})


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_no_json_is_refused(bad: float) -> None:
    with pytest.raises(ValueError):
        canonical([bad])
    with pytest.raises(TypeError):
        canonical({"x": object()})


def test_failed_write_keeps_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "file"
    write_atomic(place, b"old")

    def refuse(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError):
        write_atomic(place, b"new")
    assert place.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_device_or_a_pipe_is_never_replaced(tmp_path: Path) -> None:
    """As root, `-o /dev/null` would leave the machine without one."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for place in (tmp_path / "pipe", tmp_path / "link"):
        with pytest.raises(OSError, match="no regular file"):
            write_atomic(place, b"new")
    assert (tmp_path / "pipe").is_fifo() and names(tmp_path) == ["link", "pipe"]


def test_what_the_dead_left_is_swept(tmp_path: Path) -> None:
    """Files, and folders such as a release that was being extracted; the living keep theirs."""
    ended = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True)
    dead, alive = int(ended.stdout), os.getpid()
    for pid in (dead, alive):
        (tmp_path / f"{PART}{pid}.a").write_bytes(b"half")
        (tmp_path / f"{PART}{pid}.b/inner").mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_bytes(b"")
    (tmp_path / f"{PART}{dead}.c").symlink_to(elsewhere)
    sweep_parts(tmp_path)
    assert names(tmp_path) == [f"{PART}{alive}.a", f"{PART}{alive}.b", "elsewhere"]
    assert names(elsewhere) == ["file"]


ENTRIES = st.lists(
    st.tuples(NAMES.filter(bool), st.integers(0, 2**40), st.binary(min_size=1, max_size=3)),
    unique_by=lambda item: item[0],
    max_size=5,
)


def make_tree(entries: list[tuple[str, int, bytes]]) -> Tree:
    files = [
        FileEntry(path=path, size=size, sha256=hashlib.sha256(data).hexdigest())
        for path, size, data in entries
    ]
    return Tree(files=tuple(sorted(files, key=lambda file: file.path)))


@given(ENTRIES)
def test_tree_reads_back(entries: list[tuple[str, int, bytes]]) -> None:
    tree = make_tree(entries)
    again = Tree.from_json(json.loads(canonical(tree.to_json())))
    assert again == tree
    assert again.digest == tree.digest
    assert tree.size_bytes == sum(size for _, size, _ in entries)


@given(ENTRIES, ENTRIES)
def test_tree_digest_is_its_content(one: list, other: list) -> None:
    assert (make_tree(one).digest == make_tree(other).digest) == (
        make_tree(one) == make_tree(other)
    )


@given(
    content=st.binary(max_size=200),
    cuts=st.lists(st.tuples(st.integers(-5, 220), st.integers(-5, 220)), max_size=6),
)
def test_segments_cover_the_file(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, cuts: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    (folder / "file").write_bytes(content)
    tree = scan_tree(folder, {"file": cuts})
    entry = tree.file("file")
    assert entry.sha256 == hashlib.sha256(content).hexdigest()
    assert tree.digest == scan_tree(folder).digest  # segments are an index, not identity
    at = 0
    for part in entry.segments:
        assert part.offset == at and part.length > 0
        at += part.length
        assert part.sha256 == hashlib.sha256(content[part.offset : at]).hexdigest()
    assert not entry.segments or at == len(content)


def test_odd_but_legal_names(tmp_path: Path) -> None:
    names = ["a b", "new\nline", "ünïcode", "-dash", ".hidden.part", "x" * 255, "back\\slash"]
    for name in names:
        (tmp_path / name).write_text(name)
    settle_tree(tmp_path)
    assert [file.path for file in scan_tree(tmp_path).files] == sorted(names)


@pytest.mark.parametrize("kind", ["link", "folder-link", "pipe", "hard-link", "name", "deep"])
def test_what_is_no_tree_is_refused(tmp_path: Path, kind: str) -> None:
    inside, outside = tmp_path / "tree", tmp_path / "outside"
    inside.mkdir()
    outside.write_text("mine")
    if kind == "link":
        (inside / "x").symlink_to(outside)
    elif kind == "folder-link":
        (inside / "x").symlink_to(tmp_path)
    elif kind == "pipe":
        os.mkfifo(inside / "x")
    elif kind == "hard-link":
        (inside / "x").hardlink_to(outside)
    elif kind == "name":
        (inside / os.fsdecode(b"\xff")).write_text("x")
    else:
        (inside / "/".join("d" * 70)).mkdir(parents=True)
    mode = outside.stat().st_mode
    with pytest.raises(UnfitTreeError):
        settle_tree(inside)
    assert outside.read_text() == "mine" and outside.stat().st_mode == mode
    if kind in ("link", "folder-link", "pipe"):
        with pytest.raises(UnfitTreeError):
            scan_tree(inside)


def test_unlisted_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        scan_tree(tmp_path / "nothing")
