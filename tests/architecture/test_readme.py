"""The documents tell the truth: links resolve, commands exist, marked commands run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from source import PACKAGE, ROOT

DOCUMENTS = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/**/*.md")]
    if "node_modules" not in path.parts
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
FENCE = re.compile(r"(?P<mark><!-- run -->\n)?^```(?P<kind>\w*)\n(?P<body>.*?)^```$", re.M | re.S)
SHELL = {"sh", "bash", "shell", "console"}


def commands(text: str, *, marked: bool = False) -> list[str]:
    """Return the commands of a document's shell blocks, or those of blocks under `<!-- run -->`.

    In a `console` block a line with `$ ` is a command and the others are output.
    """
    found = []
    for match in FENCE.finditer(text):
        if match["kind"] not in SHELL or (marked and not match["mark"]):
            continue
        lines = match["body"].replace("\\\n", " ").splitlines()
        if match["kind"] == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        found += [line.partition(" #")[0].strip() for line in lines]
    return [line for line in found if line and not line.startswith("#")]


def anchors(path: Path) -> set[str]:
    """Return the anchors that headings make, as the common renderers derive them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_resolve(path: Path) -> None:
    """Relative ones, with their anchors; links to the network are not followed."""
    broken = []
    for target in LINK.findall(FENCE.sub("", path.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        place = (path.parent / file) if file else path
        if not place.exists() or (anchor and anchor not in anchors(place)):
            broken.append(target)
    assert not broken


def targets_of_make() -> set[str]:
    """Return the targets of the Makefile."""
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.M))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_exist(path: Path) -> None:
    """Every `make` target and every `edgedeploy` verb and option that a shell block names."""
    for line in commands(path.read_text(encoding="utf-8")):
        words = shlex.split(line)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if words[:1] == ["make"]:
            named = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
            assert set(named) <= targets_of_make(), line
        elif words[:1] == ["edgedeploy"] and (PACKAGE / "cli" / "build.py").exists():
            check_edgedeploy(words, line)


def check_edgedeploy(words: list[str], line: str) -> None:
    """Ask the command for its help and look for the options in it."""
    # Their actions have options of their own.
    groups = ("cache", "devices", "keys", "profiles", "targets")
    count = 3 if words[1:2] and words[1] in groups else 2
    verb = [word for word in words[1:count] if not word.startswith("-")]
    run = subprocess.run(
        [sys.executable, "-m", "edgedeploy", *verb, "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert run.returncode == 0, f"{line}\n{run.stderr}"
    for word in words[1:]:
        option = word.partition("=")[0]
        if option.startswith("--") and option != "--help":
            assert option in run.stdout, f"{line}: {option}"


@pytest.mark.slow
def test_marked_commands_run(tmp_path: Path) -> None:
    """Blocks under `<!-- run -->` are run line by line, in one empty folder per document."""
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for number, path in enumerate(DOCUMENTS):
        folder = tmp_path / str(number)
        folder.mkdir()
        for line in commands(path.read_text(encoding="utf-8"), marked=True):
            run = subprocess.run(
                ["bash", "-ec", line],
                cwd=folder,
                env={**os.environ, "PATH": binaries, "CHECKOUT": str(ROOT)},
                capture_output=True,
                text=True,
                timeout=600,
            )
            assert run.returncode == 0, f"{path}: {line}\n{run.stdout}\n{run.stderr}"


def test_the_documents_that_must_exist() -> None:
    """Once the product builds, a newcomer finds these."""
    wanted = {"CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"}
    wanted |= {"README.md", "docs/architecture.md", "docs/faults.md"}
    assert {name for name in wanted if not (ROOT / name).is_file()} == set()
