"""The archive's one form, and what a hostile one costs."""

import hashlib
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedeploy.errors import IntegrityError
from edgedeploy.manifest import canonical
from edgedeploy.release import archive
from edgedeploy.release.archive import read_members, write_archive
from edgedeploy.release.bundle import parse_release
from edgedeploy.release.opening import open_bundle
from edgedeploy.release.verify_file import VerifyError
from edgedeploy.release.verify_file import verify as verify_alone
from tests.unit.release import made

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


@settings(max_examples=40)
@given(st.dictionaries(NAMES, st.binary(max_size=300), max_size=8))
def test_what_is_written_is_read_back(contents: dict[str, bytes]) -> None:
    """By us, by Python's zipfile and, to the same bytes, whatever the order they come in."""
    with tempfile.TemporaryDirectory() as folder:
        one, other = Path(folder, "one"), Path(folder, "other")
        write_archive(one, contents)
        write_archive(other, dict(reversed(contents.items())))
        content = one.read_bytes()
        assert content == other.read_bytes()
    members = read_members(io.BytesIO(content))
    assert {
        path: content[item.offset : item.offset + item.size] for path, item in members.items()
    } == contents
    with zipfile.ZipFile(io.BytesIO(content)) as shown:
        assert shown.testzip() is None
        plain = [name for name in shown.namelist() if "\\" not in name]
        assert plain == sorted(name for name in contents if "\\" not in name)


def test_more_than_four_gigabytes(tmp_path: Path) -> None:
    """Sizes and offsets in Zip64; read by both of ours and by zipfile, hashing left out."""
    size = (1 << 32) + 5
    goal = tmp_path / "sparse.edpkg"
    local = archive._local
    with open(goal, "wb") as file:
        extra = archive._sizes64(size)
        file.write(local(b"a-big", size, 0, extra))
        at = file.tell()
        file.truncate(at + size)
        file.seek(at + size)
        behind = file.tell()
        file.write(local(b"b-behind", 1, 0x8CDC1683, b"") + b"x")
        members = [
            archive.Member(path="a-big", size=size, crc=0, offset=at),
            archive.Member(path="b-behind", size=1, crc=0x8CDC1683, offset=behind + 38),
        ]
        archive._write_directory(file, members)
    with open(goal, "rb") as file:
        assert list(read_members(file).values()) == members
    with zipfile.ZipFile(goal) as shown:
        assert [(item.filename, item.file_size) for item in shown.infolist()] == [
            ("a-big", size),
            ("b-behind", 1),
        ]
        assert shown.read("b-behind") == b"x"
    with pytest.raises(VerifyError) as caught:  # read well, and then no bundle
        verify_alone(str(goal), [made.KEY.public])
    assert caught.value.code == "E735" and caught.value.subject == "SHA256SUMS"
    with pytest.raises(IntegrityError, match="SHA256SUMS"), open_bundle(goal, made.TRUSTED):
        pass


PATHS = (
    *("../evil", "/evil", "a/../b", "a//b", "a/", ".", "..", "", "-rf", "a/-b", "a\\b", "C:\\b"),
    *("a\nb", "a\0b", "\u202eb", "manifest.json", "MANIFEST.JSON", "sha256sums", "\ud800"),
    *("manifest.json/x", "Manifest.DSSE.json", "x" * 256, "/".join("a" * 65), "a/" * 600 + "a"),
)


@pytest.mark.parametrize("path", PATHS)
def test_a_signed_path_that_leads_out_is_refused(tmp_path: Path, path: str) -> None:
    """A publisher's mistake, or a stolen key: both readers say E734, and nothing is written."""
    held = {"path": path, "size": 0, "sha256": "0" * 64, "role": "file", "segments": []}
    assert refused(tmp_path, {"files": [held]}) == "E734"


def item(path: str, **change: Any) -> dict[str, Any]:
    """Return a file of a manifest."""
    empty = hashlib.sha256().hexdigest()
    return {"path": path, "size": 0, "sha256": empty, "role": "file", "segments": [], **change}


@pytest.mark.parametrize(
    "change",
    [
        {"counter": 0},
        {"counter": -1},
        {"counter": 1 << 53},
        {"counter": 1.0},
        {"counter": True},
        {"counter": "1"},
        {"schema": 2},
        {"schema": True},
        {"name": "../x"},
        {"name": ""},
        {"name": None},
        {"version": "1/0"},
        {"version": "1 0"},
        {"files": None},
        {"files": [item("b"), item("a")]},
        {"files": [item("a"), item("a")]},
        {"files": [item("A"), item("a")]},
        {"files": [item("a"), item("a/b")]},
        {"files": [item("stra\u00dfe"), item("strasse")]},
        {"files": [item("a", sha256="0" * 63)]},
        {"files": [item("a", sha256="A" * 64)]},
        {"files": [item("a", size=-1)]},
        {"files": [item("a", size=1.0)]},
        {"files": [item("a"), item("b", size=1)]},
        {"files": [item(f"{at:05}", size=1 << 40, sha256=f"{at:064}") for at in range(2)]},
        {"files": [item(f"{at:05}") for at in range(10_001)]},
        {"files": [item(f"{at:05}", sha256="1" * 64, size=1 << 35) for at in range(3)]},
    ],
)
def test_a_signed_manifest_that_cannot_be_is_refused(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    """By both readers, with the same code."""
    assert refused(tmp_path, change) == "E734"


def refused(folder: Path, change: dict[str, Any]) -> str:
    """Return the code with which both readers refuse a signed manifest."""
    path = made.spoiled(folder, {"targets": [], **change})
    with pytest.raises(IntegrityError) as caught, open_bundle(path, made.TRUSTED):
        pass
    with pytest.raises(VerifyError) as alone:
        verify_alone(str(path), [made.KEY.public])
    assert alone.value.code == caught.value.diagnostics[0].code
    return alone.value.code


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"entry": "nothing"}, "the entry"),
        ({"labels": "nothing"}, "labels"),
        ({"golden": {"inputs": "a", "outputs": "b", "cosine": 1.0}}, "golden"),
        ({"golden": {"inputs": "a", "outputs": "b", "cosine": 1}}, "of another kind"),
        ({"more": 1}, "unknown fields"),
    ],
)
def test_what_points_at_nothing_is_refused(change: dict[str, Any], why: str) -> None:
    """Where all of the manifest is used, all of it is checked."""
    data = json.loads(made.release_of().manifest)
    data["targets"][0]["models"][0].update(change)
    with pytest.raises(IntegrityError, match=why):
        parse_release(canonical(data))


def test_segments_have_to_cover_their_file() -> None:
    """In order, without a gap, each with a digest."""
    data = json.loads(made.release_of().manifest)
    a = "a" * 64
    (model,) = (file for file in data["files"] if file["path"].endswith(".ort"))
    model["segments"] = [[0, 5000, a], [5000, 120, a]]
    assert parse_release(canonical(data)).file(model["path"]).segments[1] == (5000, 120, a)
    for wrong in (
        [[0, 5000, a]],
        [[0, 5000, a], [5001, 119, a]],
        [[0, 5000, a], [5000, 121, a]],
        [[0, 5000, a], [5000, 120, "a"]],
        [[0, 5000, a], [5000, 120]],
        [[0, 5120, a], [5120, 0, a]],
        [[0, 5120.0, a]],
        [["", 1, a]],
    ):
        model["segments"] = wrong
        with pytest.raises(IntegrityError, match="segment"):
            parse_release(canonical(data))


HOSTILE = """
import resource, sys, time
from edgedeploy.release.opening import open_bundle
from edgedeploy.release.verify_file import verify
from edgedeploy.errors import IntegrityError
from edgedeploy.release.verify_file import VerifyError
from pathlib import Path
import edgedeploy.release.bundle
key = bytes.fromhex(sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
resource.setrlimit(resource.RLIMIT_CPU, (40, 40))
for read in (
    lambda: verify(sys.argv[1], [key]),
    lambda: open_bundle(Path(sys.argv[1]), {"": key}).__enter__(),
):
    try:
        read()
    except (VerifyError, IntegrityError) as error:
        print(getattr(error, "code", None) or error.diagnostics[0].code)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("kind", ["members", "numbers", "claims"])
def test_what_nobody_signed_costs_little(tmp_path: Path, kind: str) -> None:
    """No JSON reader sees it: at most the members' names and twice the largest manifest."""
    path = tmp_path / "hostile.edpkg"
    most = 16 << 20
    held = made.members(made.release_of())
    if kind == "members":
        held = {f"{at:06}" + "x" * 1000: b"" for at in range(20_001)}
    elif kind == "numbers":
        held["manifest.json"] = b'{"schema":' + b"9" * (most - 20) + b"}"
    else:
        held["manifest.json"] = b"{" * 9
        held["manifest.dsse.json"] = b'{"payload":"' + b"A" * most + b"=" * most
    write_archive(path, held)
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE, str(path), made.KEY.public.hex()],
        capture_output=True,
        text=True,
        check=True,
    )
    one, other, grown_mb = done.stdout.split()
    assert one == other and one in ("E731", "E732", "E735")
    assert int(grown_mb) < 150, kind
