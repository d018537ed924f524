"""Packages that bring a check refuse what was changed in them: 200 mutations of each.

Those of npm are in test_npm_package.py, with the browser.
"""

import functools
import importlib
import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import packed
import pytest

from edgedeploy.release import verify_file
from edgedeploy.release.packages import write_packages
from tests.packages import oci, wheels
from tests.unit.release.treemutations import Tree, TreeMutator

COUNT = 200


def tree_of(folder: Path) -> Tree:
    """Return the content of every file below a folder, by path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def change(folder: Path, before: Tree, after: Tree) -> None:
    """Turn the files of a folder into others, and touch none that stays as it is."""
    for path in before.keys() - after.keys():
        (folder / path).unlink()
    for path, content in after.items():
        if before.get(path) != content:
            (folder / path).write_bytes(content)


def later(folder: Path) -> Path:
    """Write the release after it, by the same key: what its models compute is swapped."""
    folder.mkdir()
    targets = {
        name: replace(
            target,
            models=tuple(
                replace(model, inputs=other.inputs)
                for model, other in zip(target.models, target.models[::-1], strict=True)
            ),
        )
        for name, target in packed.TARGETS.items()
    }
    return packed.write(folder, targets, version="1.3.0", counter=4)


def package(bundle: Path, kind: str, folder: Path) -> Path:
    (made,) = write_packages(bundle, packed.TRUSTED, [kind], folder)
    return made.paths[0]


def remember(checker: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute each signature once: most mutations leave the manifest as it is."""
    monkeypatch.setattr(checker, "is_signature", functools.cache(checker.is_signature))


def hold(check: Callable[[], object], folder: Path, other: Tree, refused: type[Exception]) -> None:
    """Let a check refuse every mutation of a folder, and take the folder as it was."""
    good = tree_of(folder)
    check()
    for mutation in itertools.islice(TreeMutator(good, other, 11), COUNT):
        change(folder, good, mutation.files)
        with pytest.raises(refused):
            check()
            pytest.fail(f"taken: {mutation.what}")
        change(folder, mutation.files, good)
    check()


def test_what_is_pulled_from_a_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By verify_file.py, for which the whole release is there."""
    remember(verify_file, monkeypatch)
    for name, bundle in (("good", packed.write(tmp_path)), ("other", later(tmp_path / "later"))):
        oci.pull(package(bundle, "oci", tmp_path / f"{name}-packages"), tmp_path / name)
    hold(
        lambda: verify_file.verify(str(tmp_path / "good"), [packed.KEY.public]),
        tmp_path / "good",
        tree_of(tmp_path / "other"),
        verify_file.VerifyError,
    )


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[ModuleType]:
    """The module of a wheel that pip installed."""
    wheels.install(tmp_path / "good", package(packed.write(tmp_path), "wheel", tmp_path / "one"))
    sys.path.insert(0, str(tmp_path / "good"))
    try:
        yield importlib.import_module("doorbell")
    finally:
        sys.path.remove(str(tmp_path / "good"))
        for name in [name for name in sys.modules if name.partition(".")[0] == "doorbell"]:
            del sys.modules[name]


def test_what_pip_installed(
    installed: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the package's own ``verify``, of the files that the release signed."""
    checker = importlib.import_module("doorbell._verify")
    remember(checker, monkeypatch)
    other = package(later(tmp_path / "later"), "wheel", tmp_path / "two")
    wheels.install(tmp_path / "other", other)
    key = str(wheels.written_key(packed.KEY.public, tmp_path / "key.pub"))
    hold(
        lambda: installed.verify(key),
        tmp_path / "good/doorbell/release",
        tree_of(tmp_path / "other/doorbell/release"),
        checker.VerifyError,
    )
