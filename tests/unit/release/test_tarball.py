"""Tar archives: one form for one content, and other programs read them."""

import gzip
import io
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.release.content import Stream
from edgedeploy.release.tarball import (
    DATE,
    Entry,
    folders_to,
    gzip_parts,
    tar_parts,
    write_tar,
)

LONG = "/".join(["a-folder-with-a-name"] * 9) + "/file"


def entries(extra: Path) -> list[Entry]:
    """Return one entry of every kind, in no order."""
    files = [
        Entry(path="app/run", content=b"#!/bin/sh\necho ran\n", executable=True),
        Entry(path="app/empty", content=b""),
        Entry(path="app/block", content=bytes(512)),
        Entry(path="app/Ünïcode", content=extra),
        Entry(path=LONG, content=Stream(size=5, parts=lambda: iter([b"12", b"345"]))),
        Entry(path="app/current", link="versions/" + "1" * 120),
    ]
    return files + folders_to(item.path for item in files)


@pytest.fixture
def extra(tmp_path: Path) -> Path:
    """A file whose content goes into an archive."""
    path = tmp_path / "extra"
    path.write_bytes(b"extra" * 1000)
    return path


def test_python_reads_what_was_written(extra: Path, tmp_path: Path) -> None:
    """Every kind of member, its mode, owner and date."""
    write_tar(tmp_path / "a.tar", entries(extra))
    with tarfile.open(tmp_path / "a.tar") as archive:
        members = {member.name: member for member in archive}
        assert list(members) == sorted(item.path for item in entries(extra))
        assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members.values()} == {
            (0, 0, "root", "root", DATE)
        }
        read = {name: archive.extractfile(m).read() for name, m in members.items() if m.isreg()}  # type: ignore[union-attr]
    assert read["app/Ünïcode"] == b"extra" * 1000
    assert (read[LONG], read["app/empty"], read["app/block"]) == (b"12345", b"", bytes(512))
    assert members["app/current"].linkname == "versions/" + "1" * 120
    modes = {members[name].mode for name in ("app", "app/run")}, members["app/empty"].mode
    assert modes == ({0o755}, 0o644)


@pytest.mark.parametrize("packed", [False, True])
def test_tar_of_the_system_extracts_without_a_word(
    extra: Path, tmp_path: Path, packed: bool
) -> None:
    """The program that most people extract with, and no warning of an odd date or end."""
    write_tar(tmp_path / "a.tar", entries(extra), gzip=packed)
    goal = tmp_path / "goal"
    goal.mkdir()
    ran = subprocess.run(
        ["tar", "-xf", tmp_path / "a.tar", "-C", goal], capture_output=True, text=True, check=True
    )
    assert ran.stderr == ""
    assert subprocess.check_output([goal / "app/run"]) == b"ran\n"
    assert (goal / LONG).read_bytes() == b"12345"
    assert (goal / "app/current").readlink() == Path("versions/" + "1" * 120)


def test_order_does_not_matter(extra: Path) -> None:
    """The same entries give the same bytes."""
    made = [b"".join(tar_parts(order)) for order in (entries(extra), entries(extra)[::-1])]
    assert made[0] == made[1]


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    """Its size stands in the header already."""
    short = Entry(path="a", content=Stream(size=5, parts=lambda: iter([b"1234"])))
    with pytest.raises(OSError, match="a changed while it was read"):
        write_tar(tmp_path / "a.tar", [short])


@given(st.lists(st.binary(max_size=70_000), max_size=4), st.integers(min_value=1, max_value=9))
def test_gzip_files_hold_what_was_put_in(parts: list[bytes], pieces: int) -> None:
    """Python's zlib reads them back; how the content was cut does not show."""
    content = b"".join(parts)
    made = b"".join(gzip_parts(parts))
    assert gzip.decompress(made) == content
    step = max(1, len(content) // pieces)
    cut = (content[at : at + step] for at in range(0, len(content), step))
    assert b"".join(gzip_parts(cut)) == made


def test_the_gzip_program_reads_them() -> None:
    """An empty archive, one byte, and a content of exactly one block."""
    for content in (b"", b"1", bytes(65535), bytes(65536)):
        with tempfile.TemporaryFile() as file:
            file.writelines(gzip_parts([content]))
            file.seek(0)
            assert subprocess.check_output(["gzip", "-dc"], stdin=file) == content


def test_a_file_of_more_than_eight_gibibytes_has_a_header() -> None:
    """Its size needs an extended header, which Python reads back."""
    size = (8 << 30) + 1
    head = next(tar_parts([Entry(path="big", content=Stream(size=size, parts=lambda: iter([])))]))
    found = tarfile.TarInfo.frombuf(head[1024:1536], "utf-8", "strict")
    assert (len(head), found.name) == (1536, "big")
    with tarfile.open(fileobj=io.BytesIO(head)) as archive:
        member = archive.next()
    assert member is not None and member.size == size
