"""Unpacking wheels as the device does it: the program itself, with this Python."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgedeploy.devices import unpack

NAME = "ab" * 32


def wheel(root: Path, files: dict[str, str]) -> tuple[str, str]:
    """Put a wheel where the depot has it; return what the program is told."""
    folder = root / "ort/versions" / NAME
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "thing-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return unpack.file_sha256(str(path)), path.name


def run(root: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-", str(root), NAME, "ort", *words],
        input=Path(unpack.__file__).read_bytes(),
        capture_output=True,
        timeout=60,
    )
    return done.returncode, done.stdout.decode().strip()


def tree(root: Path) -> dict[str, str]:
    there = root / "trees" / NAME
    return {
        path.relative_to(there).as_posix(): path.read_text()
        for path in there.rglob("*")
        if path.is_file()
    }


def test_modules_are_unpacked_and_scripts_are_not(tmp_path: Path) -> None:
    """As the specification of wheels says; the second run starts from a clean tree."""
    told = wheel(
        tmp_path,
        {
            "thing/__init__.py": "a",
            "thing-1.data/purelib/pure.py": "b",
            "thing-1.data/platlib/deep/plat.py": "c",
            "thing-1.data/scripts/run": "d",
            "thing-1.data/headers/x.h": "e",
            "empty/": "",
        },
    )
    wanted = {"thing/__init__.py": "a", "pure.py": "b", "deep/plat.py": "c"}
    assert run(tmp_path, *told) == (0, "done")
    assert tree(tmp_path) == wanted
    (tmp_path / "trees" / NAME / "pure.py").unlink()
    (tmp_path / "trees/.part-ort").mkdir()  # left by a run that was cut
    (tmp_path / "compiled").mkdir()
    assert run(tmp_path, *told) == (0, "done")
    assert tree(tmp_path) == wanted
    assert {path.name for path in tmp_path.iterdir()} == {"ort", "trees"}
    assert [path.name for path in (tmp_path / "trees").iterdir()] == [NAME]


@pytest.mark.parametrize(
    "name", ["../out.py", "/out.py", "thing/../../out.py", "thing-1.data/purelib/../../../out.py"]
)
def test_a_path_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    status, said = run(root, *wheel(root, {"thing.py": "", name: "x"}))
    assert status == 1 and said.startswith("failed ValueError") and "leads out" in said
    assert not list(tmp_path.rglob("out.py"))
    assert not list((root / "trees").iterdir())


def test_a_damaged_wheel_is_refused(tmp_path: Path) -> None:
    digest, name = wheel(tmp_path, {"thing.py": "a"})
    path = tmp_path / "ort/versions" / NAME / name
    path.write_bytes(path.read_bytes() + b"\0")
    status, said = run(tmp_path, digest, name)
    assert status == 1 and "is damaged" in said
    assert not list((tmp_path / "trees").iterdir())
