"""`settle.sh`, which ends a trial when the device starts again, in the shells that devices have."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.devices.depots import KINDS, Box
from tests.unit.devices.leftovers import LEFT, leave, versions

SCRIPT = Path(__file__).parents[3] / "edgedeploy/devices/settle.sh"
SHELLS: dict[str, list[str]] = {
    name: [path, *arguments]
    for name, arguments in (("dash", []), ("bash", ["--posix"]), ("busybox", ["sh"]))
    if (path := shutil.which(name))
}


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path / "a depot", KINDS["agent"])
    yield made
    made.close()


def settle(folder: Path, shell: str, path: str | None = None) -> int:
    return subprocess.run(
        [*SHELLS[shell], str(folder / "settle.sh")],
        env={**os.environ, "PATH": path or os.environ["PATH"]},
        timeout=60,
    ).returncode


@pytest.mark.parametrize("shell", SHELLS)
def test_it_settles_what_the_next_contact_would(box: Box, shell: str) -> None:
    names = dict(zip(("one", "two", "three"), versions(box, 3), strict=True))
    assert (box.folder / "settle.sh").read_bytes() == SCRIPT.read_bytes()
    for case, left in LEFT.items():
        leave(box, names, left, "another boot")
        assert settle(box.folder, shell) == 0, case
        assert box.current() == left.goal(names)[0], case
        assert sorted(path.name for path in box.folder.glob("pending*")) == [], case
        assert list((box.folder / "tmp").iterdir()) == [], case
        state = box.open().hello()
        found = (state.current, state.previous, state.pending, state.reverted)
        assert found == (*left.goal(names), None, None), case
        box.check()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "left",
    [
        b"",
        b"\0" * 300,
        b'{"before":null,"boot":"x","dead',
        b'{"before":null,"kind":"swap"}\n',
        b'{"before":"one","boot":"x","kind":"trial","version":"' + b"ab" * 32 + b'"}\n',
    ],
)
def test_what_says_nothing_changes_nothing(box: Box, shell: str, left: bytes) -> None:
    """A damaged `pending` is none; both agents see it so."""
    one, two = versions(box, 2)
    with box.locked() as depot:
        depot.activate(two, 60)
        depot.confirm()
    (box.folder / "pending").write_bytes(left)
    assert settle(box.folder, shell) == 0
    assert box.current() == two
    state = box.open().hello()
    assert (state.current, state.previous, state.pending) == (two, one, None)


@pytest.mark.parametrize("shell", SHELLS)
def test_it_leaves_a_living_trial_alone(box: Box, shell: str) -> None:
    _, two = versions(box, 2)
    with box.locked() as depot:
        depot.activate(two, 60)
        assert settle(box.folder, shell) == 0
        depot.confirm()
    assert (box.current(), settle(box.folder, shell)) == (two, 0)


@pytest.mark.parametrize(("same_boot", "expected"), [(True, "two"), (False, "one")])
def test_without_flock_the_boot_decides(
    box: Box, tmp_path: Path, same_boot: bool, expected: str
) -> None:
    """A holder of this boot may be alive; one of another cannot."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    names = dict(zip(("one", "two"), versions(box, 2), strict=True))
    leave(box, names, LEFT["switched"], boot if same_boot else "another boot")
    tools = tmp_path / "tools"
    tools.mkdir()
    names_of_tools = "cat dirname grep ln mkdir mv readlink rm rmdir sed sync"
    for name in names_of_tools.split():
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    assert settle(box.folder, "dash", str(tools)) == 0
    assert box.current() == names[expected]
