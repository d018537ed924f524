"""An ``apply`` that dies at any moment leaves the goal as it was, and nothing that stays."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from bundles import a_bundle, a_key

from edgedeploy.release import apply_file
from edgedeploy.release.delta import write_delta

# The program for devices, which ends itself by SIGKILL the moment before it calls a function.
DYING = """
import os, signal, sys
sys.path.insert(0, {folder!r})
import apply_file
where, name = {module}, {name!r}
setattr(where, name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
apply_file.main(sys.argv[1:])
"""
MOMENTS = [
    ("apply_file", "_new_part"),
    ("apply_file", "_write_own"),
    ("apply_file", "_rebuild"),
    ("apply_file", "undo"),
    ("apply_file.os", "fsync"),
    ("apply_file.os", "replace"),
    ("apply_file", "_sync_folder"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Two bundles and the delta between them, for Python alone."""
    folder = tmp_path_factory.mktemp("made")
    key, numbers = a_key(folder), np.random.default_rng(1)
    old = numbers.integers(-90, 90, 20_000).astype(np.int8)
    new = old + numbers.choice([0, 1, 7], old.size, p=[0.8, 0.19, 0.01]).astype(np.int8)
    cuts = {"model": [(0, old.size)]}
    paths = [
        a_bundle(folder, version, {"model": array.tobytes()}, key, cuts=cuts)
        for version, array in (("1", old), ("2", new))
    ]
    return paths[0], paths[1], write_delta(*paths, folder, "lzma").path


def left(goal: Path) -> list[str]:
    """Return what lies beside a goal."""
    return sorted(path.name for path in goal.parent.iterdir() if path != goal)


@pytest.mark.parametrize(("module", "name"), MOMENTS)
def test_a_death_leaves_the_old_or_the_new(
    module: str, name: str, made: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """Killed before each step; the same command then does it and takes away what lay there."""
    old, new, delta = made
    goal = tmp_path / "goal [1].edpkg"
    goal.write_bytes(b"what was there")
    program = DYING.format(folder=str(Path(apply_file.__file__).parent), module=module, name=name)
    words = [str(delta), "--to", str(old), "-o", str(goal)]
    done = subprocess.run([sys.executable, "-c", program, *words], check=False)
    assert done.returncode == -signal.SIGKILL
    replaced = name == "_sync_folder"
    assert goal.read_bytes() == (new.read_bytes() if replaced else b"what was there")
    assert len(left(goal)) == (0 if replaced or name == "_new_part" else 1)

    apply_file.apply(str(delta), str(old), str(goal))
    assert goal.read_bytes() == new.read_bytes()
    assert left(goal) == []


def test_a_device_or_a_pipe_is_never_replaced(
    made: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """As root, `-o /dev/null` left a machine without one."""
    old, _, delta = made
    goal = tmp_path / "pipe"
    os.mkfifo(goal)
    with pytest.raises(OSError, match="no regular file"):
        apply_file.apply(str(delta), str(old), str(goal))
    assert goal.is_fifo() and left(goal) == []


def test_two_at_once_do_not_take_each_other_s_work(
    made: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """One begins and ends while another is about to give its file its name."""
    old, new, delta = made
    goal = tmp_path / "goal"

    def meanwhile(part: str) -> None:
        apply_file.apply(str(delta), str(old), str(goal))
        assert left(goal) == [Path(part).name]
        goal.unlink()

    apply_file.apply(str(delta), str(old), str(goal), approve=meanwhile)
    assert goal.read_bytes() == new.read_bytes() and left(goal) == []


def test_a_file_that_is_swept_before_it_is_locked_is_made_anew(
    made: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, delta = made
    goal, flock = tmp_path / "goal", apply_file.fcntl.flock
    swept = []

    def late(file: object, how: int) -> None:
        if not swept and how == apply_file.fcntl.LOCK_EX:
            swept.extend(left(goal))
            other = threading.Thread(target=apply_file._sweep, args=(str(goal),))
            other.start()
            other.join()
        flock(file, how)

    monkeypatch.setattr(apply_file.fcntl, "flock", late)
    apply_file.apply(str(delta), str(old), str(goal))
    assert len(swept) == 1 and left(goal) == []
    assert goal.read_bytes() == new.read_bytes()


def test_what_only_looks_like_it_is_left(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Names of another form, files of other goals, and what is no file at all."""
    old, _, delta = made
    goal, ours = tmp_path / "goal", "goal.part." + "0a" * 6
    kept = ["goal.part.1", "goal.partition", "other.part." + "0" * 12, ours + ".md", "goal.pipe"]
    for name in kept:
        (tmp_path / name).write_bytes(b"")
    os.mkfifo(tmp_path / ("goal.part." + "b" * 12))
    (tmp_path / ("goal.part." + "c" * 12)).symlink_to(tmp_path / "goal.pipe")
    (tmp_path / ("goal.part." + "d" * 12)).mkdir()
    (tmp_path / ours).write_bytes(b"half")
    apply_file.apply(str(delta), str(old), str(goal))
    found = set(left(goal))
    assert {*kept, "goal.part." + "c" * 12, "goal.part." + "d" * 12} <= found
    assert ours not in found
