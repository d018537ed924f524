"""The shortcut of a build that finds nothing changed never answers otherwise than the long way.

After every kind of change a build that may take the shortcut is compared with one that may not.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgedeploy.config.bundled import bundled_folder
from tests.proof.small import ORT, SOURCE, Project

pytestmark = pytest.mark.slow

PUBLISHED = f"out/small/main/{ORT}"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("shortcut"))
    (project.root / "targets").mkdir()
    first = project.build()
    assert (first.status, first.shortcut) == (0, False), first.err
    return project


@pytest.fixture
def project(built: Project) -> Iterator[Project]:
    """Give the built project with a snapshot of it; undo what a test changed."""
    kept = {path: path.read_bytes() for path in built.root.rglob("*") if path.is_file()}
    fresh = built.build()
    if not fresh.shortcut:  # it saw that the change was undone
        fresh = built.build()
    assert fresh.shortcut, fresh.err
    yield built
    for path in built.root.rglob("*"):
        if path.is_file() and path not in kept:
            path.unlink()
    for path, content in kept.items():
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)


def edit(name: str, old: str, new: str) -> Callable[[Project], None]:
    def change(project: Project) -> None:
        path = project.root / name
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))

    change.__name__ = f"{new} in {name}"
    return change


def same_size_and_time(project: Project) -> None:
    path = project.root / "factors.txt"
    state = path.stat()
    path.write_text(path.read_text().replace("1.5", "1.7"))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (
        (state.st_size, state.st_mtime_ns, state.st_ino)
    )


def new_sample_in_an_empty_folder(project: Project) -> None:
    calibration = project.root / "calibration"
    shutil.copyfile(calibration / "0.npy", calibration / "empty" / "again.npy")


def new_target_file(project: Project) -> None:
    text = (bundled_folder() / "targets/runtimes/ort.yaml").read_text()
    (project.root / "targets" / "runtimes").mkdir(exist_ok=True)
    own = project.root / "targets" / "runtimes" / "ort.yaml"
    own.write_text(text.replace('versions: ">=1.17"', 'versions: ">=1.18"'))


def linked_targets(project: Project) -> None:
    """Edit a target file in a folder that is a link; the shortcut has seen it before."""
    text = (bundled_folder() / "targets/boards/linux-x86-64.yaml").read_text()
    elsewhere = project.base / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "linux-x86-64.yaml").write_text(text)
    (project.root / "targets" / "boards").symlink_to(elsewhere)
    project.build()
    assert project.build().shortcut
    (elsewhere / "linux-x86-64.yaml").write_text(text.replace("Linux on", "Linux at"))


def data_yaml(project: Project) -> None:
    (project.root / "data.yaml").write_text("calibrate: calibration\n")


def at(place: str, change: Callable[[Path], object], name: str) -> Callable[[Project], None]:
    def changed(project: Project) -> None:
        change(project.base / place)

    changed.__name__ = name
    return changed


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(b"")


CHANGES = [
    edit("factors.txt", "0.5", "0.7"),
    edit("helper_mod.py", "OFFSET = 0.0", "OFFSET = 0.2"),
    edit("data.py", "import helper_mod", "import helper_mod  # again"),
    edit("profile.yaml", "size: 1 MB", "size: 10 kB"),
    edit("profile.yaml", "name: small", "name: small  # a comment"),
    same_size_and_time,
    new_sample_in_an_empty_folder,
    new_target_file,
    linked_targets,
    data_yaml,
    at(f"{PUBLISHED}/model.ort", Path.touch, "touched artifact"),
    at(f"{PUBLISHED}/model.ort", Path.unlink, "removed artifact"),
    at(f"{PUBLISHED}/model.ort", flip, "damaged artifact"),
    at(f"{PUBLISHED}/more.txt", Path.touch, "foreign file beside an artifact"),
    at("out/small/build.json", Path.unlink, "removed build.json"),
    at("out/small/build.json", truncate, "emptied build.json"),
    at("out/small/report.txt", flip, "damaged report"),
    at("app/edgedeploy.lock", Path.unlink, "removed lock"),
    at("app/edgedeploy.lock", Path.touch, "touched lock"),
    at("app/model.onnx", Path.touch, "touched model"),
]


def agrees(project: Project, *more: str, **env: str) -> None:
    """Check that a build says and leaves what the long way does."""
    quick = project.build(*more, **env)
    left = project.published()
    lock = project.lock()
    slow = project.build_long(*more, **env)
    assert not slow.shortcut and slow.ran == set(), slow.states
    assert (quick.status, quick.out) == (slow.status, slow.out)
    assert (left, lock) == (project.published(), project.lock())
    reports = project.output / "small"
    assert json.loads((reports / "build.json").read_text())["profile"]
    assert (reports / "report.txt").read_text().rstrip() == slow.out.rstrip()


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_is_seen(project: Project, change: Callable[[Project], None]) -> None:
    right = project.published()
    change(project)
    first = project.build()
    assert not first.shortcut
    if "out/" in str(change) or "artifact" in change.__name__ or "lock" in change.__name__:
        assert project.published() == right
        assert first.status == 0 and project.lock()
    agrees(project)


def test_options_have_answers_of_their_own(project: Project) -> None:
    for more in (
        ("--set", "gates.size=10 kB"),
        ("-t", ORT),
        ("--no-bench",),
        ("--locked",),
        (),
    ):
        quick = project.build(*more)
        assert quick.status == ("--set" in more)
        assert ("linux" in quick.out, "openvino" in quick.out) == (True, "-t" not in more)
        agrees(project, *more)


def test_another_folder_has_an_answer_of_its_own(project: Project) -> None:
    elsewhere = project.base / "cwd"
    (elsewhere / "targets" / "boards").mkdir(parents=True)
    text = (bundled_folder() / "targets/boards/linux-x86-64.yaml").read_text()
    own = elsewhere / "targets" / "boards" / "linux-x86-64.yaml"
    own.write_text(text.replace("Linux on x86-64", "Our box"))
    done = project.run(project.arguments("build"), cwd=elsewhere)
    assert not done.shortcut
    own.write_text(text.replace("Linux on x86-64", "Our other box"))
    done = project.run(project.arguments("build"), cwd=elsewhere)
    assert not done.shortcut


def test_the_target_path_of_the_environment_counts(project: Project) -> None:
    own = project.base / "mine" / "runtimes" / "ort.yaml"
    own.parent.mkdir(parents=True)
    text = (bundled_folder() / "targets/runtimes/ort.yaml").read_text()
    own.write_text(text.replace('versions: ">=1.17"', 'versions: ">=1.19"'))
    done = project.build(EDGEDEPLOY_TARGET_PATH=str(own.parents[1]))
    assert not done.shortcut
    agrees(project, EDGEDEPLOY_TARGET_PATH=str(own.parents[1]))
    agrees(project)


def test_a_tool_version_counts(project: Project) -> None:
    first = project.base / "site"
    first.mkdir()
    env = {"PYTHONPATH": f"{first}:{SOURCE}"}
    project.build(**env)
    assert project.build(**env).shortcut
    (first / "flatbuffers-99.1.dist-info").mkdir()
    assert not project.build(**env).shortcut
    agrees(project, **env)


def test_a_cleaned_store_counts(project: Project) -> None:
    right = project.published()
    command = [*project.arguments("cache")[:4], "gc", "--store", str(project.store)]
    done = project.run(command)
    assert done.status == 0, done.err
    again = project.build()
    assert not again.shortcut and again.status == 0
    assert project.published() == right
    agrees(project)


def test_a_change_while_a_build_runs_is_seen(project: Project) -> None:
    """A file that changes after it was read, while the build runs, spoils the snapshot."""
    edit("factors.txt", "1.5", "1.25")(project)
    running = subprocess.Popen(
        project.arguments("build"),
        cwd=project.root,
        env=project.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert running.stderr is not None
    for line in running.stderr:
        if b"samples.evaluate" in line:
            break
    edit("factors.txt", "1.25", "1.75")(project)
    running.communicate()
    after = project.build()
    assert not after.shortcut
    agrees(project)
