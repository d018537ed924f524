"""Bad profiles and targets, each with the text that the user sees.

A case is a folder: ``profile.yaml`` (with ``sets.txt``, one ``--set`` per line, or ``locate.txt``,
a data role to look up) or ``target.txt`` with a target id, and ``expected.txt``. Cases that are
large or no plain file are made here. ``EDGEDEPLOY_UPDATE_GOLDEN=1`` rewrites what is expected:
review it.
"""

import os
import re
import shutil
from pathlib import Path

import pytest

from edgedeploy.errors import Diagnostic, EdgedeployError, ExitCode
from edgedeploy.errors.codes import catalogue
from edgedeploy.errors.codes.profile import CODES
from edgedeploy.errors.render import render
from edgedeploy.profile.check import cross_check
from edgedeploy.profile.load import load_profile
from edgedeploy.profile.private import locate
from edgedeploy.target.library import TargetLibrary

FOLDER = Path(__file__).parent / "diagnostics"
CASES = sorted(path.name for path in FOLDER.iterdir())

HEAD = "edgedeploy: 1\nname: p\nmodel: {source: m.onnx}\ntargets: [linux-x86-64/ort]\n"
MADE = {
    "too-large": HEAD + "#" * (1 << 20),
    "deep-nesting": HEAD + "files: " + "[" * 20_000,
    "many-aliases": HEAD + "files: [&a x" + ", *a" * 101 + "]\n",
    "alias-bomb": HEAD
    + "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)),
    "long-number": HEAD + "bench: {threads: " + "1" * 300_000 + "}\n",
    "many-faults": HEAD + "".join(f"key{n}: 1\n" for n in range(103)),
}


def diagnostics(case: str) -> list[Diagnostic]:
    """Return what the case in the current folder is refused with."""
    target = Path("target.txt")
    try:
        if target.exists():
            TargetLibrary(project=Path()).load(target.read_text().strip())
            return []
        sets = Path("sets.txt").read_text().splitlines() if Path("sets.txt").exists() else []
        profile = load_profile(Path("profile.yaml"), sets=sets)
        if Path("locate.txt").exists():
            role = profile.models["main"].data[Path("locate.txt").read_text().strip()]
            locate(profile, "main", role)
        library = TargetLibrary(project=Path())
        return cross_check(
            profile, {use.target: library.load(use.target) for use in profile.targets}
        )
    except EdgedeployError as error:
        assert error.exit_code is ExitCode.USAGE
        return list(error.diagnostics)


@pytest.mark.parametrize("case", CASES)
def test_text(case, tmp_path, monkeypatch):
    shutil.copytree(FOLDER / case, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("EDGEDEPLOY_TARGET_PATH", raising=False)
    if case in MADE:
        Path("profile.yaml").write_text(MADE[case])
    if case == "a-directory":
        Path("profile.yaml").mkdir()
    text = "\n\n".join(render(item) for item in diagnostics(case)) + "\n"
    expected = FOLDER / case / "expected.txt"
    if os.environ.get("EDGEDEPLOY_UPDATE_GOLDEN"):
        expected.write_text(text)
    assert text == expected.read_text()
    assert str(tmp_path) not in text


def test_there_are_at_least_sixty():
    assert len(CASES) >= 60


def test_every_code_is_shown_and_every_shown_code_is_explained():
    shown = set()
    for case in CASES:
        text = (FOLDER / case / "expected.txt").read_text()
        shown |= set(re.findall(r"^(?:error|note)\[(E\d+)\]", text, re.MULTILINE))
        assert shown, case
    assert shown >= set(CODES)
    assert shown <= set(catalogue())


def test_every_error_says_the_way_out():
    for case in CASES:
        text = (FOLDER / case / "expected.txt").read_text()
        for block in text.strip().split("\n\n"):
            assert "\nhint: " in block, (case, block)
            assert "\n --> " in block, (case, block)
