"""The store alone: damage, poison, races, locks, cleaning, a full disk."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgedeploy import store_care
from edgedeploy.artifact import Tree
from edgedeploy.errors import EdgedeployError, StoreError
from edgedeploy.events import EventLog, StoreHealed
from edgedeploy.manifest import canonical, digest
from edgedeploy.places import default_store_path
from edgedeploy.store import ActionRecord, Store, action_key
from tests.unit.frame.conftest import names

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
LINUX_ROOT = pytest.mark.skipif(
    os.geteuid() != 0 or sys.platform != "linux", reason="needs root to mount a tmpfs"
)


def add(store: Store, **files: str) -> Tree:
    with store.work_folder() as folder:
        out = folder / "out"
        out.mkdir()
        for name, text in files.items():
            (out / name).write_text(text)
        return store.add_tree(out)


def record(store: Store, name: str, tree: Tree) -> ActionRecord:
    components = {"name": name}
    made = ActionRecord(
        key=action_key(components), kind="stub", components=components, outputs={"out": tree}
    )
    store.write_action(made)
    return made


def code_of(failure: pytest.ExceptionInfo[EdgedeployError]) -> str:
    return failure.value.diagnostics[0].code


@pytest.fixture
def healed() -> list[StoreHealed]:
    return []


@pytest.fixture
def store(tmp_path: Path, healed: list[StoreHealed]) -> Store:
    return Store(tmp_path / "store", EventLog(healed.append))


# -- opening ---------------------------------------------------------------------------------


def test_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / "thesis.txt").write_text("dear")
    with pytest.raises(StoreError) as failure:
        Store(tmp_path)
    assert code_of(failure) == "E605"
    assert (tmp_path / "tmp" / "thesis.txt").read_text() == "dear"
    assert names(tmp_path) == ["tmp"]


def test_rest_of_a_killed_creation_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".part.77.00").write_text("")
    (tmp_path / "making").write_text("")
    tmp_path.chmod(0o700)
    Store(tmp_path)
    assert not (tmp_path / "making").exists() and not (tmp_path / ".part.77.00").exists()


def test_other_format_is_refused(tmp_path: Path) -> None:
    Store(tmp_path / "s")
    (tmp_path / "s" / "format").write_text("99")
    with pytest.raises(StoreError) as failure:
        Store(tmp_path / "s")
    assert code_of(failure) == "E605"


def test_writable_by_others_is_refused(tmp_path: Path) -> None:
    Store(tmp_path / "s")
    (tmp_path / "s").chmod(0o770)
    with pytest.raises(StoreError) as failure:
        Store(tmp_path / "s")
    assert code_of(failure) == "E604"


@AS_ROOT
def test_store_of_another_user_is_refused_and_untouched(tmp_path: Path) -> None:
    place = tmp_path / "s"
    place.mkdir(mode=0o700)
    os.chown(place, 12345, 12345)
    with pytest.raises(StoreError) as failure:
        Store(place)
    assert code_of(failure) == "E604"
    assert names(place) == []


@AS_ROOT
def test_unreadable_store_is_a_typed_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    Store(tmp_path / "s")
    script = (
        "import os,sys; from pathlib import Path; from edgedeploy.store import Store\n"
        "from edgedeploy.errors import StoreError\n"
        "os.setegid(12345); os.seteuid(12345)\n"
        "try: Store(Path(sys.argv[1]))\n"
        "except StoreError as error: print(error.diagnostics[0].code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "s")], capture_output=True, text=True
    )
    assert done.stdout.strip() in ("E602", "E604"), done.stderr


def test_default_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEDEPLOY_STORE", "rel")
    assert default_store_path() == Path.cwd() / "rel"
    monkeypatch.delenv("EDGEDEPLOY_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_store_path() == tmp_path / "edgedeploy" / "store"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", "/somewhere")
    assert default_store_path() == Path("/somewhere/.cache/edgedeploy/store")


# -- trees -----------------------------------------------------------------------------------


def test_tree_is_immutable_and_deduplicated(store: Store) -> None:
    old = os.umask(0o077)
    try:
        one, two = add(store, a="1", b="2"), add(store, a="1", b="2")
    finally:
        os.umask(old)
    assert one == two
    place = store.check_tree(one)
    assert {path.stat().st_mode & 0o777 for path in place.iterdir()} == {0o444}
    assert place.stat().st_mode & 0o777 == 0o755
    assert len(list((store.root / "trees").glob("??/*"))) == 1


def damages() -> dict[str, object]:
    def flip(file: Path) -> None:
        data = bytearray(file.read_bytes())
        data[0] ^= 1
        times = file.stat()
        file.chmod(0o644)
        file.write_bytes(bytes(data))
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # ctime still tells

    def cut(file: Path) -> None:
        file.chmod(0o644)
        file.write_bytes(file.read_bytes()[:-1])

    def empty(file: Path) -> None:
        file.chmod(0o644)
        file.write_bytes(b"")

    def link(file: Path) -> None:
        file.rename(file.parents[3] / "elsewhere")
        file.symlink_to(file.parents[3] / "elsewhere")

    return {
        "flip": flip,
        "cut": cut,
        "empty": empty,
        "delete": Path.unlink,
        "link": link,
        "extra": lambda file: (file.parent / "extra").write_text("x"),
    }


@pytest.mark.parametrize("kind", list(damages()))
@pytest.mark.parametrize("remembered", [True, False])
def test_damage_is_found_on_read(
    store: Store, healed: list[StoreHealed], kind: str, remembered: bool
) -> None:
    tree = add(store, a="1" * 100, b="2")
    if remembered:
        time.sleep(0.12)
        store.check_tree(tree)
        assert list((store.root / "seen").glob("??/*"))
    damages()[kind](store.tree_path(tree.digest) / "a")  # type: ignore[operator]
    assert store_care.verify(store).damaged == (tree.digest,)
    with pytest.raises(KeyError):
        store.check_tree(tree)
    assert [event.what for event in healed] == [f"tree {tree.digest}"]
    assert not store.tree_path(tree.digest).exists()
    assert add(store, a="1" * 100, b="2") == tree
    assert store.check_tree(tree)


def test_whole_tree_gone(store: Store) -> None:
    tree = add(store, a="1")
    store.remove_tree(tree.digest)
    with pytest.raises(KeyError):
        store.check_tree(tree)


def test_damaged_tree_is_replaced_by_the_same_content(
    store: Store, healed: list[StoreHealed]
) -> None:
    tree = add(store, a="1")
    damages()["flip"](store.tree_path(tree.digest) / "a")  # type: ignore[operator]
    assert add(store, a="1") == tree
    assert (store.check_tree(tree) / "a").read_text() == "1"
    assert len(healed) == 1


def test_a_tree_in_use_is_never_taken_away(store: Store) -> None:
    """Many add and check the same trees at once: whoever opened one finds it whole."""
    tree = add(store, a="x")
    place = store.tree_path(tree.digest) / "a"
    inode = place.stat().st_ino
    failures: list[BaseException] = []

    def work(own: Store) -> None:
        try:
            for _ in range(20):
                assert add(own, a="x") == tree
                assert (own.check_tree(tree) / "a").read_text() == "x"
        except BaseException as error:
            failures.append(error)

    stores = [store, store, Store(store.root)]
    threads = [threading.Thread(target=work, args=(own,)) for own in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert place.stat().st_ino == inode


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b'{"marks": 3}', b"\xff\x00", b"[" * 9999])
def test_garbage_in_seen_costs_only_time(
    store: Store, healed: list[StoreHealed], garbage: bytes
) -> None:
    tree = add(store, a="1")
    time.sleep(0.12)
    store.check_tree(tree)
    (memory,) = (store.root / "seen").glob("??/*")
    memory.write_bytes(garbage)
    assert store.check_tree(tree)
    assert len(healed) == (0 if garbage == b'{"marks": 3}' else 1)


# -- records ---------------------------------------------------------------------------------


def test_record_reads_back(store: Store) -> None:
    made = record(store, "a", add(store, a="1"))
    assert store.read_action(made.key) == made
    assert [item.record for item in store_care.list_actions(store)] == [made]


def poison(made: ActionRecord, other: ActionRecord) -> dict[str, bytes]:
    good = made.to_json()
    body = {name: value for name, value in good.items() if name != "self"}

    def signed(**changes: object) -> bytes:
        changed = {**body, **changes}
        return canonical({**changed, "self": digest("record", changed)})

    return {
        "empty": b"",
        "cut": canonical(good)[:-20],
        "flip": canonical(good).replace(b"stub", b"stuc"),
        "garbage": b"\xff\xfe\x00",
        "deep": b"[" * 100_000,
        "no-record": b"[1]",
        "schema": signed(schema=2),
        "no-self": canonical(body),
        "other-key": canonical(other.to_json()),
        "other-components": signed(components=other.to_json()["components"]),
        "other-key-signed": signed(key=other.key),
        "shape": signed(outputs={"out": [{"path": 1}]}),
        "segments": signed(
            outputs={"out": [{"path": "a", "size": 1, "sha256": "", "segments": [[1]]}]}
        ),
    }


POISONS = ["empty", "cut", "flip", "garbage", "deep", "no-record", "schema", "no-self", "shape"]
POISONS += ["other-key", "other-components", "other-key-signed", "segments"]


@pytest.mark.parametrize("kind", POISONS)
def test_bad_record_is_dropped(store: Store, healed: list[StoreHealed], kind: str) -> None:
    made = record(store, "a", add(store, a="1"))
    other = record(store, "b", add(store, a="2"))
    place = store.root / "actions" / made.key[:2] / f"{made.key}.json"
    place.write_bytes(poison(made, other)[kind])
    assert store.read_action(made.key) is None
    assert not place.exists()
    assert [event.what for event in healed] == [f"record {made.key}"]
    assert store.read_action(other.key) == other


# -- the memory of user files ----------------------------------------------------------------


def test_big_file_is_hashed_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = tmp_path / "big"
    big.write_bytes(bytes(1 << 20))
    time.sleep(0.12)
    first = store.file_digests([big])
    monkeypatch.setattr("hashlib.file_digest", None)  # hashing again would fail
    assert store.file_digests([big]) == first
    assert Store(store.root).file_digests([big]) == first


def test_change_within_the_same_tick_is_seen(store: Store, tmp_path: Path) -> None:
    big = tmp_path / "big"
    old = bytes(1 << 17)
    big.write_bytes(old)
    before = big.stat()
    first = store.file_digests([big])[big]
    # The same stat values with another content, as a write within the tick leaves behind.
    with open(big, "r+b") as file:
        file.write(b"x")
    os.utime(big, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.file_digests([big])[big] != first


def test_stat_values_in_the_same_tick_are_never_trusted(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock of whole seconds nothing but the content tells; so the content is read."""
    big = tmp_path / "big"
    big.write_bytes(bytes(1 << 17))
    state = big.stat()
    mark = [state.st_dev, state.st_ino, state.st_size, 5_000_000_000, 5_000_000_000]
    monkeypatch.setattr("edgedeploy.filememory.stat_mark", lambda _: mark)
    now = 5_900_000_000  # long after a fine tick, but within a coarse one
    monkeypatch.setattr("time.time_ns", lambda: now)
    first = store.file_digests([big])[big]
    big.write_bytes(b"x" + bytes((1 << 17) - 1))
    assert store.file_digests([big])[big] != first


@pytest.mark.parametrize(
    "garbage", [b"", b"x", b"\xff" * 80, b"[" * 99_999, b'{"schema": 2}', "flip", "schema"]
)
def test_garbage_memory_is_healed(
    store: Store, tmp_path: Path, healed: list[StoreHealed], garbage: bytes | str
) -> None:
    import hashlib

    big = tmp_path / "big"
    big.write_bytes(bytes(1 << 17))
    time.sleep(0.12)
    right = store.file_digests([big])
    memory = store.root / "inputs.json"
    if garbage == "flip":
        content = memory.read_bytes()
        garbage = content.replace(right[big].encode(), right[big][::-1].encode())
        assert garbage != content
    elif garbage == "schema":
        body = b'{"files":{},"schema":7}'
        garbage = hashlib.sha256(body).hexdigest().encode() + b"\n" + body
    assert isinstance(garbage, bytes)
    memory.write_bytes(garbage)
    assert store.file_digests([big]) == right
    assert [event.what for event in healed] == ["memory inputs.json"]
    assert Store(store.root).file_digests([big]) == right
    assert len(healed) == 1


def test_memory_is_bounded(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgedeploy.filememory.MAX_ENTRIES", 10)
    monkeypatch.setattr("edgedeploy.filememory.SMALLEST_BYTES", 1)
    files = [tmp_path / f"f{index}" for index in range(25)]
    for file in files:
        file.write_text(file.name)
    time.sleep(0.12)
    for file in files:
        store.file_digests([file])
    data = json.loads((store.root / "inputs.json").read_bytes().partition(b"\n")[2])
    assert 0 < len(data["files"]) <= 10
    assert str(files[-1]) in data["files"]


def test_links_and_odd_names_are_followed(store: Store, tmp_path: Path) -> None:
    one, two = tmp_path / os.fsdecode(b"one\xff"), tmp_path / "two\n"
    one.write_bytes(bytes(1 << 17))
    two.write_bytes(b"x" * (1 << 17))
    link = tmp_path / "link"
    link.symlink_to(one)
    time.sleep(0.12)
    first = store.file_digests([link, one])
    assert first[link] == first[one]
    link.unlink()
    link.symlink_to(two)
    assert store.file_digests([link])[link] == store.file_digests([two])[two] != first[one]


def test_what_cannot_be_hashed_fails_at_once(store: Store, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "nothing", Path("/dev/zero")):
        with pytest.raises(OSError) as failure:
            store.file_digests([path])
        assert failure.value.filename == str(path) and failure.value.strerror


# -- locks, cleaning -------------------------------------------------------------------------


def test_lock_excludes_and_leaves_nothing(store: Store) -> None:
    inside, most = 0, 0
    mutex = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        for _ in range(25):
            with store.lock("k"):
                with mutex:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.0005)
                with mutex:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert names(store.root / "locks") == []


def test_waiting_can_be_given_up(store: Store) -> None:
    def give_up(waited_s: float) -> None:
        if waited_s > 0.05:
            raise TimeoutError

    before = len(names("/dev/fd"))
    with store.lock("k"), pytest.raises(TimeoutError), store.lock("k", waiting=give_up):
        pass
    assert len(names("/dev/fd")) == before


def test_sweep_leaves_the_living_alone(store: Store) -> None:
    other = Store(store.root)
    with other.work_folder() as folder:
        (folder / "file").write_text("x")
        assert store_care.sweep_work(store) == 0
        assert (folder / "file").exists()
    orphan = store.root / "tmp" / "dead"
    orphan.mkdir()
    (orphan / "x").write_text("x")
    (store.root / "tmp" / ".part.1.ab").write_text("x")
    (store.root / "locks" / ("0" * 64)).write_text("")
    assert store_care.sweep_work(store) == 2
    del other
    gc.collect()
    assert names(store.root / "tmp") == names(store.root / "locks") == []


def test_sweeping_does_not_race_with_starting(store: Store) -> None:
    """New scratch folders come while others sweep: none is ever taken from its owner."""
    done = threading.Event()
    failures: list[BaseException] = []

    def sweep() -> None:
        while not done.is_set():
            store_care.sweep_work(store)

    def start() -> None:
        try:
            for _ in range(100):
                with Store(store.root).work_folder() as folder:
                    (folder / "x").write_text("x")
                    assert (folder / "x").read_text() == "x"
        except BaseException as error:
            failures.append(error)

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    starters = [threading.Thread(target=start) for _ in range(2)]
    for thread in starters:
        thread.start()
    for thread in starters:
        thread.join()
    done.set()
    sweeper.join()
    assert not failures
    gc.collect()
    assert names(store.root / "tmp") == []


def test_fork_does_not_take_the_parents_scratch(store: Store) -> None:
    with store.work_folder() as folder:
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException), store.work_folder() as mine:
                os._exit(0 if mine.parent != folder.parent else 7)
            os._exit(8)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert folder.is_dir()


def test_collect_takes_the_longest_unused_first(store: Store) -> None:
    shared = add(store, a="s" * 1000)
    one = record(store, "one", add(store, a="1" * 1000))
    two = record(store, "two", shared)
    three = record(store, "three", shared)
    loose = add(store, a="loose")
    for age, made in ((3, one), (2, two), (1, three)):
        place = store.root / "actions" / made.key[:2] / f"{made.key}.json"
        os.utime(place, (time.time() - age * 86_400,) * 2)
    found = store_care.collect(store, keep_bytes=1000)
    assert (found.actions, found.trees, found.freed_bytes) == (1, 2, 1005)
    assert store.read_action(one.key) is None and store.read_action(two.key) == two
    assert not store.tree_path(loose.digest).exists()
    store.mark_used(two.key)
    assert store_care.collect(store, unused_days=0.5).actions == 1
    assert store.read_action(three.key) is None
    assert store.check_tree(two.outputs["out"])
    assert store_care.verify(store) == store_care.Verification(trees=1, damaged=(), dangling=())


def test_cleaning_waits_for_no_build(store: Store) -> None:
    with store.in_use(), store.in_use():
        for clean in (store_care.collect, lambda s: store_care.verify(s, repair=True)):
            with pytest.raises(StoreError) as failure:
                clean(store)
            assert code_of(failure) == "E606"
    store_care.collect(store)


def test_repair_drops_what_is_damaged(store: Store) -> None:
    good = record(store, "good", add(store, a="1"))
    bad = record(store, "bad", add(store, a="2"))
    gone = record(store, "gone", add(store, a="3"))
    damages()["cut"](store.tree_path(bad.outputs["out"].digest) / "a")  # type: ignore[operator]
    store.remove_tree(gone.outputs["out"].digest)
    found = store_care.verify(store, repair=True)
    assert found.damaged == (bad.outputs["out"].digest,)
    assert found.dangling == tuple(sorted((bad.key, gone.key)))
    assert store_care.verify(store) == store_care.Verification(trees=1, damaged=(), dangling=())
    assert store.read_action(good.key) == good


# -- the disk --------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", str(place)], check=True
    )
    try:
        yield place
    finally:
        gc.collect()
        subprocess.run(["umount", "-l", str(place)], check=True)


@contextlib.contextmanager
def disk_filled(place: Store | Path) -> Iterator[None]:
    ballast = (place.root.parent if isinstance(place, Store) else place) / "ballast"
    try:
        with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        yield
    finally:
        ballast.unlink()


@LINUX_ROOT
def test_full_disk_leaves_the_store_whole(small_disk: Path) -> None:
    store = Store(small_disk / "store")
    kept = record(store, "kept", add(store, a="k" * 100_000))
    tree = add(store, a="1")
    with disk_filled(store), pytest.raises(StoreError) as failure:
        record(store, "new", tree)
    assert code_of(failure) == "E601"
    assert [item.record for item in store_care.list_actions(store)] == [kept]
    assert store_care.verify(store) == store_care.Verification(trees=2, damaged=(), dangling=())
    made = record(store, "new", tree)
    assert store.read_action(made.key) == made


@LINUX_ROOT
def test_no_room_for_a_new_store(small_disk: Path) -> None:
    with disk_filled(small_disk), pytest.raises(StoreError) as failure:
        Store(small_disk / "store")
    assert code_of(failure) == "E601"
    Store(small_disk / "store")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_no_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(descriptor: int, mode: int) -> None:
        raise OSError(number, os.strerror(number))

    Store(tmp_path / "old")
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StoreError) as failure:
        Store(tmp_path / "new")
    assert code_of(failure) == "E603"
    before = len(names("/dev/fd"))
    with pytest.raises(StoreError) as failure, Store(tmp_path / "old").in_use():
        pass
    assert code_of(failure) == "E603"
    assert len(names("/dev/fd")) == before


def test_locks_that_do_not_exclude_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda descriptor, mode: None)
    with pytest.raises(StoreError) as failure:
        Store(tmp_path / "new")
    assert code_of(failure) == "E603"


def test_failing_sync_means_not_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreError) as failure:
        add(store, a="1")
    assert code_of(failure) == "E602"
    assert store_care.verify(store).trees == 0
