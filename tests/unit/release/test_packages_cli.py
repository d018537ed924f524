"""``edgedeploy package``: what is printed, written and refused."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import made
import packed
import pytest

from edgedeploy.cli.main import main
from edgedeploy.plaindata import to_plain
from edgedeploy.release.formats import FITTING, FORMATS, load_format
from edgedeploy.release.keys import new_key
from edgedeploy.target.library import TargetLibrary
from tests.packages.wheels import written_key


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """The public key that signed the releases of ``packed``."""
    return written_key(packed.KEY.public, tmp_path / "key.pub")


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    """Run the command line; return its status and JSON document."""
    with pytest.raises(SystemExit) as ended:
        main(["package", "--json", *map(str, words)])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return int(ended.value.code or 0), document


def test_formats_are_written_side_by_side(
    key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order of their table, whatever was asked first; each says what it is for."""
    bundle, folder = packed.write(tmp_path), tmp_path / "out"
    words = (bundle, "--key", key, "--format", "wheel, oci", "--format", "oci", "-o", folder)
    status, document = run(capsys, *words)
    assert status == 0
    assert [item["format"] for item in document["packages"]] == ["oci", "wheel"]
    for item in document["packages"]:
        assert item["targets"] and all(Path(path).exists() for path in item["paths"])
    assert sorted(path.name for path in folder.iterdir()) == ["oci", "wheel"]


@pytest.mark.parametrize(
    ("formats", "status", "code"), [("wheel,cobol", 2, "E761"), ("", 2, "E761")]
)
def test_unknown_formats_are_refused_before_anything_is_written(
    key: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    formats: str,
    status: int,
    code: str,
) -> None:
    """With the list of those that there are."""
    bundle = packed.write(tmp_path)
    found = run(capsys, bundle, "--key", key, "--format", formats, "-o", tmp_path / "out")
    (diagnostic,) = found[1]["diagnostics"]
    assert (found[0], diagnostic["code"]) == (status, code)
    assert "wheel" in diagnostic["hint"]
    assert not (tmp_path / "out").exists()


def test_a_bundle_by_a_stranger_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is packaged that no key vouches for."""
    new_key(tmp_path / "stranger")
    bundle = packed.write(tmp_path)
    words = (bundle, "--key", tmp_path / "stranger.pub", "--format", "oci", "-o", tmp_path / "out")
    status, document = run(capsys, *words)
    assert (status, document["diagnostics"][0]["code"]) == (7, "E736")
    assert not (tmp_path / "out").exists()


TARGET: Any = to_plain(made.release_of().targets[0])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"made_by": "x\nName: y"}, "one printable line"),
        ({"licences": [{"part": "a", "spdx": "MIT\nX: y", "file": None}]}, "one printable line"),
        ({"targets": [{**TARGET, "runtime_versions": ">=1\nX: y"}]}, "one printable line"),
        ({"targets": [{**TARGET, "target": "../../etc/ort"}]}, "is no target"),
    ],
)
def test_texts_that_would_be_fields_of_a_package_are_refused(
    tmp_path: Path,
    key: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    why: str,
) -> None:
    """A signature makes them no better: nothing in a manifest becomes a line of metadata."""
    bundle = made.spoiled(tmp_path, change)
    words = (bundle, "--key", key, "--format", "oci", "-o", tmp_path / "out")
    status, document = run(capsys, *words)
    (diagnostic,) = document["diagnostics"]
    assert (status, diagnostic["code"]) == (7, "E734") and why in diagnostic["message"]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_of_the_table_is_there(name: str) -> None:
    """Under its name."""
    assert load_format(name).name == name


@pytest.mark.parametrize("name", FORMATS)
def test_the_target_that_is_named_suits(name: str) -> None:
    """It is one that can be built, and the format takes it; what a hint says has to be so."""
    found = TargetLibrary().load(FITTING[name])
    released = replace(
        packed.TARGETS["linux-x86-64/ort"],
        target=found.id,
        os=str(found.get("board.os")),
        arch=str(found.get("board.arch")),
        runtime=found.runtime,
    )
    release = replace(made.release_of(), targets=(released,))
    assert load_format(name).suits(release) == (released,)


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of every file below a folder, and what every link says."""
    return {
        path.relative_to(folder).as_posix(): str(path.readlink())
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def test_every_format_is_the_same_bytes_elsewhere(key: Path, tmp_path: Path) -> None:
    """Another seed of hashes, language, time zone, umask and folder; and nothing else appears."""
    found = []
    for number, surroundings in enumerate(
        (
            {"PYTHONHASHSEED": "1", "TZ": "Pacific/Kiritimati", "LC_ALL": "C"},
            {"PYTHONHASHSEED": "77", "TZ": "America/St_Johns", "LC_ALL": "C.UTF-8"},
        )
    ):
        place = tmp_path / ("another folder" * number or "one")
        place.mkdir()
        bundle = packed.write(place, {**packed.TARGETS, packed.WEB.target: packed.WEB})
        words = ["package", str(bundle), "--key", str(key), "--format", "all", "-o", "out"]
        subprocess.run(
            [sys.executable, "-m", "edgedeploy", *words],
            check=True,
            cwd=place,
            env={**os.environ, **surroundings},
            umask=(0o022, 0o077)[number],
            capture_output=True,
            timeout=120,
        )
        assert {path.name for path in place.iterdir()} == {bundle.name, "out"}
        assert {path.name for path in (place / "out").iterdir()} <= set(FORMATS)
        found.append(digests(place / "out"))
    assert found[0] == found[1]
    assert {name.partition("/")[0] for name in found[0]} >= {"cmake", "debian", "oci", "wheel"}
