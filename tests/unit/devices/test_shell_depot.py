"""The shell agent itself: its shells and tools, its program, its lock, and its deaths."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import random
import re
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedeploy.devices import opening, shell_agent, shell_lock
from edgedeploy.devices.depot import FRAME_BYTES, Part, Recipe
from edgedeploy.devices.local import LocalPipe, LocalRemote
from edgedeploy.devices.opening import open_depot
from edgedeploy.devices.shell_depot import BLOCK_BYTES, ShellDepot, pieces
from edgedeploy.errors import DeviceError, EdgedeployError
from edgedeploy.manifest import canonical
from tests.unit.devices.depots import Box, content, manifest, push, put, refused, sha
from tests.unit.devices.shells import SHELL, SHELLS, TOOLS, ShellRemote, open_with, remote, tools_of
from tests.unit.devices.trials import FILES, OTHER, pid, trial, until


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path / "root" / "app", lambda folder: open_with(SHELL, folder))
    yield made
    made.close()


def box_of(folder: Path, tools: Path) -> Box:
    return Box(folder / "root" / "app", lambda path: ShellDepot(ShellRemote(tools), path))


def program_of(box: Box) -> Path:
    """Return where the agent's program lies."""
    found = list((box.folder.parent / ".agents").iterdir())
    assert len(found) == 1
    return found[0]


# --- shells and tools ----------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_every_operation_in_every_shell(tmp_path: Path, shell: str) -> None:
    box = Box(tmp_path / "a b" / "it's", lambda folder: open_with(shell, folder))
    source = content(3, 2 * BLOCK_BYTES + 77)
    parts = ((BLOCK_BYTES - 5, BLOCK_BYTES + 9), (3, 50), (0, 2 * BLOCK_BYTES))
    goal = b"".join(source[at : at + length] for at, length in parts)
    with box.locked() as depot:
        name = put(depot, source)
        ranges = tuple(Part(source=name, offset=at, length=length) for at, length in parts)
        depot.assemble(Recipe(sha256=sha(goal), size=len(goal), stream=None, parts=ranges))
        one = push(depot, {**FILES, "zeros": bytes(FRAME_BYTES + 5), "goal": goal})
        two = push(depot, {'a "q" \\ü$(x)': b"x", "b": b"y"})
        for version in (one, two):
            depot.activate(version, 60)
            depot.confirm()
        assert depot.rollback() == one
        depot.activate(two, 60)
        depot.revert()
        (box.folder / "versions" / two / "b").unlink()
        assert [(item.what, item.repaired) for item in depot.fsck(repair=True)] == [
            ("bad-version", True)
        ]
        assert depot.fsck(repair=False) == ()
        loose = put(depot, b"loose")
        assert depot.collect(0) == 5 + len(source)
        assert depot.have([loose, sha(goal)]) == {sha(goal)}
        depot.note("health", "well")
        assert [json.loads(line)["event"] for line in depot.journal(3)] == [
            "revert",
            "repair",
            "health",
        ]
        depot.activate(two, 60)
    state = box.open().hello()
    assert (state.agent, state.current, state.previous) == ("sh", one, two)
    box.check()
    box.close()


@pytest.mark.parametrize("tool", sorted(TOOLS - {"gzip"}))
def test_a_missing_tool_is_named(tmp_path: Path, tool: str) -> None:
    box = box_of(tmp_path, tools_of(SHELL, without=(tool,)))
    with refused("E480" if tool not in ("cat", "chmod", "mkdir", "mv") else "E424") as caught:
        box.open()
    assert tool in str(caught.value)
    assert not box.folder.exists()


def test_without_gzip_streams_travel_as_they_are(tmp_path: Path) -> None:
    box = box_of(tmp_path, tools_of(SHELL, without=("gzip",)))
    with box.locked() as depot:
        assert depot.hello().codecs == ()
        push(depot, {"f": bytes(10_000)})
    box.check()


def replace(tools: Path, name: str, text: str) -> None:
    (tools / name).unlink(missing_ok=True)
    (tools / name).write_text(f"#!/bin/sh\n{text}\n")
    (tools / name).chmod(0o755)


def test_a_move_that_follows_links_is_found_before_it_harms(tmp_path: Path) -> None:
    tools = tools_of(SHELL)
    box = box_of(tmp_path, tools)
    with box.locked() as depot:
        one, two = push(depot, FILES), push(depot, OTHER)
        depot.activate(one, 60)
        depot.confirm()
        follow = 'case $3 in */) exec /bin/mv -f "$2" "$3$(readlink "$3${2##*/}" || :)";; esac'
        replace(tools, "mv", f'{follow}\nexec /bin/mv "$@"')
        with refused("E481"):
            depot.activate(two, 60)
        with refused("E427"):
            depot.rollback()
        assert depot.hello().current == one
    box.check()


SYNCS = {
    "of single files": 'exec /bin/sync "$@"',
    "of everything": "exec /bin/sync",
    "that takes no names": '[ $# -eq 0 ] || { echo "usage: sync" >&2; exit 1; }\nexec /bin/sync',
}


@pytest.mark.parametrize("kind", SYNCS)
def test_each_kind_of_sync(tmp_path: Path, kind: str) -> None:
    tools = tools_of(SHELL)
    log = tmp_path / "log"
    replace(tools, "sync", f'echo "$@" >> {shlex.quote(str(log))}\n{SYNCS[kind]}')
    box = box_of(tmp_path, tools)
    with box.locked() as depot:
        depot.activate(push(depot, FILES), 60)
        depot.confirm()
    said = log.read_text().splitlines()
    assert ("" in said) == (kind != "of single files")
    assert ("versions" in said) == (kind == "of single files")
    box.check()


def test_a_sync_that_fails_means_not_written(tmp_path: Path) -> None:
    tools = tools_of(SHELL)
    box = box_of(tmp_path, tools)
    with box.locked() as depot:
        one, two = push(depot, FILES), push(depot, OTHER)
        depot.activate(one, 60)
        depot.confirm()
        replace(tools, "sync", 'echo "sync: error syncing $1: Input/output error" >&2; exit 1')
        for change in (
            lambda: put(depot, b"new"),
            lambda: depot.activate(two, 60),
            lambda: depot.note("a", "b"),
        ):
            with refused("E424") as caught:
                change()
            assert "Input/output error" in str(caught.value)
        assert not box.object(sha(b"new")).exists()
        replace(tools, "sync", 'exec /bin/sync "$@"')
        put(depot, b"new")
    state = box.open().hello()
    assert (state.current, state.pending) == (one, None)
    box.check()


def test_objects_are_synced_before_they_have_a_name(tmp_path: Path) -> None:
    """Each sync and rename in the order of docs/device-protocol.md."""
    tools = tools_of(SHELL)
    log = tmp_path / "log"
    for name in ("sync", "mv"):
        replace(tools, name, f'echo {name} "$@" >> {shlex.quote(str(log))}\nexec /bin/{name} "$@"')
    box = box_of(tmp_path, tools)
    data = content(5, 100)
    name = sha(data)
    with box.locked() as depot:
        depot.receive(name, 0, [data])
        log.write_text("")
        whole = (Part(source=None, offset=0, length=100),)
        depot.assemble(Recipe(sha256=name, size=100, stream=name, parts=whole))
        lines = [re.sub(r"tmp/sh\.\d+", "W", line) for line in log.read_text().splitlines()]
        folder = f"objects/{name[:2]}"
        assert lines == [
            f"mv -f incoming/{name}.part W/{name}",
            "sync objects",
            f"sync W/{name}",
            f"mv -f W/{name} {folder}/",
            f"sync {folder}",
        ]
        version = depot.stage(canonical({"schema": 1, "files": []}))
        log.write_text("")
        depot.activate(version, 60)
        lines = [re.sub(r"tmp/sh\.\d+", "W", line) for line in log.read_text().splitlines()]
        order = [lines.index(line) for line in ("mv -f W/pending ./", "mv -f W/current ./")]
        assert "sync W/pending" in lines[: order[0]]
        assert "sync ." in lines[order[0] : order[1]]
        assert "sync ." in lines[order[1] :]


# --- the program on the device -------------------------------------------------------------------


def test_the_program_lies_beside_the_depots(box: Box) -> None:
    box.open()
    program = program_of(box)
    assert hashlib.sha256(program.read_bytes()).hexdigest() == program.stem
    assert program.stat().st_mode & 0o777 == 0o500
    assert program.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("x")])
def test_a_damaged_program_is_sent_again(box: Box, damage: Callable[[Path], object]) -> None:
    box.open()
    program_of(box).chmod(0o700)
    damage(program_of(box))
    assert box.open().hello().versions == ()
    assert hashlib.sha256(program_of(box).read_bytes()).hexdigest() == program_of(box).stem


class Noted(ShellRemote):
    """A device whose commands are kept."""

    def __init__(self) -> None:
        super().__init__(remote(SHELL).tools)
        self.commands: list[str] = []

    def open(self, command: str) -> LocalPipe:
        self.commands.append(command)
        return super().open(command)


def test_commands_are_short_and_an_idle_push_takes_one(tmp_path: Path) -> None:
    """dropbear takes 9000 bytes; a long list travels on the input."""
    folder, device = str(tmp_path / "d"), Noted()
    depot = ShellDepot(device, folder)
    with depot:
        depot.lock()
        push(depot, {str(number): b"x" for number in range(300)})
        depot.have([sha(str(number).encode()) for number in range(300)])
    assert max(map(len, device.commands)) < 2000
    again = Noted()
    assert len(ShellDepot(again, folder).hello().versions) == 1
    assert len(again.commands) == 1


def test_a_device_without_python_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "CANDIDATES", ("python3",))
    depot = open_depot(remote(SHELL), str(tmp_path / "d"))
    assert depot.hello().agent == "sh"
    depot.close()


@pytest.mark.parametrize("noise", ["echo 'Welcome'", "printf '\\033[31m\\377\\000\\n'", "seq 2000"])
def test_what_the_login_shell_prints_is_passed_over(tmp_path: Path, noise: str) -> None:
    class Noisy(ShellRemote):
        def open(self, command: str) -> LocalPipe:
            return LocalRemote.open(self, f"{noise}\n{command}")

    box = Box(tmp_path / "d", lambda path: ShellDepot(Noisy(remote(SHELL).tools), path))
    with box.locked() as depot:
        version = push(depot, FILES)
        assert sha(depot.manifest(version)) == version


# --- laws ----------------------------------------------------------------------------------------

PATHS = st.lists(
    st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="/"), min_size=1)
    .filter(lambda part: part not in (".", "..") and len(part.encode()) < 200)
    .filter(str.isprintable),
    min_size=1,
    max_size=3,
).map("/".join)
SEGMENTS = st.lists(st.tuples(st.integers(0), st.integers(0), st.just("ab" * 32)), max_size=3)


@pytest.mark.parametrize("shell", [name for name in ("dash", "busybox") if name in SHELLS])
def test_the_shell_reads_manifests_as_python_does(shell: str) -> None:
    source = Path(shell_agent.__file__).parent / "ondevice" / "layout.sh"
    script = f". {shlex.quote(str(source))}; files_of /dev/stdin"

    @settings(max_examples=25)
    @given(st.dictionaries(PATHS, st.tuples(st.integers(0, 1 << 40), SEGMENTS), max_size=20))
    def law(files: dict[str, tuple[int, list[tuple[int, int, str]]]]) -> None:
        listed = []
        for path, (size, segments) in sorted(files.items()):
            entry = {"path": path, "size": size, "sha256": sha(path.encode())}
            listed.append(entry | ({"segments": segments} if segments else {}))
        text = canonical({"app": 'x","files":[', "schema": 1, "files": listed, "models": [{}]})
        run = remote(shell).run(script, stdin=text)
        expected = [f"{sha(path.encode())}/{files[path][0]}/{path}\n" for path in sorted(files)]
        assert run.stdout.decode() == "".join(expected)

    law()


@given(st.integers(0, 5 * BLOCK_BYTES), st.integers(0, 5 * BLOCK_BYTES))
def test_pieces_cover_a_range_exactly(offset: int, length: int) -> None:
    covered = []
    for block, start, count in pieces(Part(source=None, offset=offset, length=length)):
        at = block * BLOCK_BYTES + max(0, start - 1)
        size = count if start else count * BLOCK_BYTES
        if start:  # within one block, as `dd count=1 | tail -c +START | head -c COUNT` reads
            assert 0 < start + count - 1 <= BLOCK_BYTES
        covered.append((at, at + size))
    assert sum(end - at for at, end in covered) == length
    assert all(end > at for at, end in covered)
    if covered:
        assert (covered[0][0], covered[-1][1]) == (offset, offset + length)
        assert all(one[1] == two[0] for one, two in itertools.pairwise(covered))


# --- lock, lease, deaths -------------------------------------------------------------------------


@pytest.fixture
def short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the device give up a silent host after two seconds."""
    program = shell_agent.program().replace(b"\nLEASE=30\n", b"\nLEASE=2\n")
    assert program != shell_agent.program()
    monkeypatch.setattr(shell_agent, "program", lambda: program)


@pytest.mark.usefixtures("short_lease")
def test_a_silent_host_loses_lock_and_trial(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell_lock, "BEAT_S", 0.3)
    depot, one, _ = trial(box)
    # From here on the host is silent, however long a slow machine took for the trial.
    monkeypatch.setattr(shell_lock.ShellLock, "beat", lambda lock: None)
    until(lambda: box.current() == one)
    box.open().lock(wait_s=10)
    with refused("E422") as caught:
        depot.confirm()
    assert isinstance(caught.value, DeviceError) and caught.value.retryable
    box.check()


@pytest.mark.usefixtures("short_lease")
def test_heartbeats_keep_the_lock(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell_lock, "BEAT_S", 0.3)
    depot, _, two = trial(box)
    time.sleep(4)
    depot.confirm()
    assert box.current() == two


@pytest.mark.usefixtures("short_lease")
def test_a_transfer_ends_with_the_lease(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a host whose link is cut half would keep the lock through its copy."""
    monkeypatch.setattr(shell_lock, "BEAT_S", 1000)

    def slow() -> Iterator[bytes]:
        yield content(5, 100)
        box.open().lock(wait_s=20)
        yield content(6, 100)

    with box.locked() as depot, refused("E422"):
        depot.receive("cd" * 32, 0, slow())


def test_an_operation_keeps_the_lock_when_its_holder_dies(box: Box) -> None:
    """Nobody may change a depot while an operation of a holder that is gone still runs."""
    data = content(7, 100)

    def broken() -> Iterator[bytes]:
        yield data
        os.kill(pid(box), signal.SIGKILL)
        other = box.open()
        with refused("E421"):
            other.lock(wait_s=1.5)

    with box.locked() as depot:
        depot.receive(sha(data), 0, broken())
        with refused("E422"):
            depot.note("it is", "gone")
    box.open().lock()


def test_a_holder_that_dies_leaves_what_the_next_contact_settles(box: Box) -> None:
    depot, one, two = trial(box)
    os.kill(pid(box), signal.SIGKILL)
    with refused("E422"):
        depot.confirm()
    assert box.current() == two
    state = box.open().hello()
    assert (state.current, state.pending, state.reverted) == (one, None, two)
    box.check()


class Deadly(ShellRemote):
    """A device on which a command, after a while, dies with all that it started."""

    def __init__(self, tools: Path, source: random.Random) -> None:
        super().__init__(tools)
        self._source = source
        self.left = 0

    def open(self, command: str) -> LocalPipe:
        pipe = super().open(command)
        self.left -= 1
        if self.left == 0:
            # Fast and busy machines take from a few ms to over 100 ms for a command.
            after_s = self._source.uniform(0, self._source.choice((0.003, 0.01, 0.04, 0.15)))
            timer = threading.Timer(after_s, self._kill, (pipe._process.pid,))
            timer.daemon = True
            timer.start()
        return pipe

    @staticmethod
    def _kill(process: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)


def test_killed_at_any_moment_a_depot_is_old_or_new(tmp_path: Path) -> None:
    """I1, I2 and I3 of a push and activation in which one command dies, wherever that is."""
    source = random.Random(11)
    device = Deadly(tools_of(SHELL), source)
    box = Box(tmp_path / "d", lambda folder: ShellDepot(device, folder))
    names: list[str | None] = [None]
    died = 0
    for number in range(60):
        if number >= 8 and died >= 3:
            break
        files = {"f": content(100 + number, 3000), "same": b"same"}
        device.left = source.randrange(1, 12)
        try:
            work(box, files)
        except EdgedeployError as error:
            assert error.diagnostics[0].code in ("E420", "E422", "E424", "E426"), error
            died += 1
        device.left = 0
        names.append(sha(manifest(files)))
        box.open().hello()
        assert box.current() in names[-2:]
        box.check()
        assert work(box, files) == names[-1] == box.current()
        box.close()
    assert died >= 3
    with box.locked() as depot:
        assert [item.what for item in depot.fsck(repair=True)] == []


def work(box: Box, files: dict[str, bytes]) -> str:
    """Push and activate; the lock may be the one of a run that just died."""
    depot = box.open()
    try:
        depot.lock(wait_s=20)
        version = push(depot, files)
        if depot.hello().current != version:
            depot.activate(version, 60)
            depot.confirm()
        return version
    finally:
        depot.close()
