"""Keys, hits, healing, concurrency: what runs, what does not, and what is said about it."""

from __future__ import annotations

import concurrent.futures
import gc
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import edgedeploy.executor as executor
from edgedeploy import store_care
from edgedeploy.errors import BuildError, EdgedeployError, IntegrityError, StoreError
from edgedeploy.events import Note, StoreHealed
from edgedeploy.executor import Builder, FilesRef, Node
from edgedeploy.store import Store
from tests.soak.kill import left_behind
from tests.unit.frame.conftest import Bench, join, names


@pytest.fixture
def given(bench: Bench) -> Path:
    path = bench.project / "given"
    path.write_text("hello")
    return path


def chain(given: Path, **middle: Any) -> Node:
    return join("bottom", join("middle", join("top", given), **middle))


# -- keys ------------------------------------------------------------------------------------


def test_second_build_is_all_hits(bench: Bench, given: Path) -> None:
    assert bench.text(chain(given)) == "bottommiddletophello"
    assert bench.ran() == ["bottom", "middle", "top"]
    assert bench.text(chain(given)) == "bottommiddletophello"
    assert bench.ran() == []
    assert bench.explain(chain(given)) == "hit"


def test_changed_input_reruns_what_needs_it(bench: Bench, given: Path) -> None:
    other = join("other")
    bench.text(join("last", chain(given), other))
    bench.ran()
    given.write_text("hellO")
    assert bench.explain(join("top", given)) == "input given changed"
    assert bench.explain(chain(given)) == "unknown until top"
    assert bench.text(join("last", chain(given), other)) == "lastbottommiddletophellOother"
    assert bench.ran() == ["bottom", "last", "middle", "top"]


def test_changed_parameter(bench: Bench, given: Path) -> None:
    bench.text(chain(given))
    bench.ran()
    changed = chain(given, text="other", extra=[1])
    assert bench.explain(changed) == "unknown until middle"
    (middle,) = (ref.node for ref in changed.inputs.values())
    assert bench.explain(middle) == "extra None -> [1], text middle -> other"
    bench.text(changed)
    assert bench.ran() == ["bottom", "middle"]


def test_unchanged_output_stops_the_rebuild(bench: Bench, given: Path) -> None:
    bench.text(chain(given, constant="same"))
    bench.ran()
    given.write_text("other")
    bench.text(chain(given, constant="same"))
    assert bench.ran() == ["middle", "top"]


def test_changed_tool_field_and_code(
    bench: Bench, given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = replace(join("n", given), fields={"board.arch": "arm64"}, tools=("click",))
    version = executor.tool_version
    monkeypatch.setattr(executor, "tool_version", lambda name: {"click": "1"}.get(name, "0"))
    bench.text(node)
    monkeypatch.setattr(executor, "tool_version", lambda name: {"click": "2"}.get(name, "0"))
    assert bench.explain(node) == "tool click 1 -> 2"
    bench.text(node)
    node = replace(node, fields={"board.arch": "x86_64"})
    assert bench.explain(node) == "target field board.arch arm64 -> x86_64"
    bench.text(node)
    monkeypatch.setattr(executor, "code_digest", lambda parts, file: "other")
    assert bench.explain(node) == "edgedeploy's own code changed"
    bench.ran()
    bench.text(node)
    assert bench.ran() == ["n"]
    assert version("click")


def test_never_built_and_no_longer_stored(bench: Bench, given: Path) -> None:
    node = join("n", given)
    assert bench.explain(node) == "not built before"
    bench.text(node)
    for item in store_care.list_actions(bench.store):
        bench.store.drop_action(item.record.key)
    assert bench.explain(node) == "its result is no longer stored"


def test_name_of_a_node_is_not_in_its_key(bench: Bench) -> None:
    one, two = (replace(join("same"), id=name) for name in ("one", "two"))
    with bench.builder() as builder:
        builder.build_all([one, two])
    assert len(bench.ran()) == 1


def test_order_and_content_of_files_are_in_the_key(bench: Bench) -> None:
    for name in ("a", "b"):
        (bench.project / name).write_text(name)

    def key(*names: str) -> str:
        node = Node(id="n", kind="tests.stubs.join")
        node = replace(node, inputs={"x": FilesRef(folder=bench.project, names=names)})
        with bench.builder() as builder:
            builder.hit(node)
            return str(builder.components["n"]["inputs"]["x"])

    keys = [key("a", "b"), key("b", "a"), key("a")]
    (bench.project / "b").write_text("c")
    assert len({*keys, key("a", "b")}) == 4


def test_missing_or_unfit_input_is_a_typed_error(bench: Bench) -> None:
    os.mkfifo(bench.project / "pipe")
    for name in ("nothing", "pipe", "."):
        with bench.builder() as builder, pytest.raises(EdgedeployError) as failure:
            builder.build(join("n", bench.project / name))
        assert failure.value.diagnostics[0].code == "E188"


def test_relative_places_work(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bench.project)
    Path("given").write_text("hello")
    store = Store(Path("store"))
    with Builder(store, Path()) as builder:
        record = builder.build(join("n", Path("given")))
    assert record.summary["length"] == len("nhello")
    assert (names(Path())) == ["given", "store"]


# -- inputs that change under the feet ---------------------------------------------------------


def test_input_that_changes_meanwhile_is_read_again(bench: Bench, given: Path) -> None:
    flag = bench.base / "flag"
    node = join("n", given, rewrite=[str(given), "world", str(flag)])
    # The stage wrote another input after it had read the first: the key must be the second's.
    assert bench.text(node) == "nworld"
    bench.ran()
    assert bench.text(node) == "nworld" and bench.ran() == []
    given.write_text("hello")
    assert bench.text(node) == "nhello"  # nothing wrong was kept under the first one's key


def test_input_that_never_rests_is_an_error(bench: Bench, given: Path) -> None:
    flag = bench.base / "flag"
    flag.write_text("always")
    with bench.builder() as builder, pytest.raises(BuildError) as failure:
        builder.build(join("n", given, rewrite=[str(given), "x", str(flag)]))
    assert failure.value.diagnostics[0].code == "E388"
    assert store_care.list_actions(bench.store) == []


# -- healing -----------------------------------------------------------------------------------


def damage(store: Store, node_text: str) -> Path:
    """Flip a bit in the stored text that is ``node_text``."""
    for file in (store.root / "trees").glob("??/*/text"):
        if file.read_text() == node_text:
            file.chmod(0o644)
            file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
            return file
    raise AssertionError(node_text)


def test_damaged_result_is_made_again(bench: Bench, given: Path) -> None:
    bench.text(chain(given))
    bench.ran()
    damage(bench.store, "bottommiddletophello")
    assert bench.text(chain(given)) == "bottommiddletophello"
    assert len(bench.of(StoreHealed)) == 1
    assert bench.ran() == ["bottom"]


def test_damaged_input_of_a_stage_is_made_again(bench: Bench, given: Path) -> None:
    bench.text(chain(given))
    bench.ran()
    damage(bench.store, "middletophello")
    bench.store.remove_tree(store_tree(bench.store, "tophello"))
    node = join("new", join("middle", join("top", given)))
    assert bench.text(node) == "newmiddletophello"
    assert bench.ran() == ["middle", "new", "top"]
    assert store_care.verify(bench.store).damaged == ()


def store_tree(store: Store, text: str) -> str:
    for file in (store.root / "trees").glob("??/*/text"):
        if file.read_text() == text:
            return file.parent.name
    raise AssertionError(text)


def test_damage_that_the_stat_memory_hides_is_found_when_a_stage_fails(
    bench: Bench, given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bits that rot on the disk change no stat value; a failing stage is reason to look."""
    top = join("top", given)
    bench.text(top)
    bench.ran()
    file = damage(bench.store, "tophello")
    file.write_bytes(b"\xff\xfe")  # no UTF-8: the stage below fails on it
    monkeypatch.setattr(Store, "_seen", lambda self, tree: True)
    assert bench.text(join("below", top)) == "belowtophello"
    assert bench.ran() == ["below", "top"]


@pytest.mark.parametrize("garbage", [b"", b"{", b"\xff", b'{"schema": 99}'])
def test_damaged_records_and_memories_are_made_again(
    bench: Bench, given: Path, garbage: bytes
) -> None:
    bench.text(chain(given))
    bench.ran()
    for folder in ("actions", "seen"):
        for file in (bench.store.root / folder).glob("??/*"):
            file.write_bytes(garbage)
    assert bench.text(chain(given)) == "bottommiddletophello"
    assert len(bench.of(StoreHealed)) >= 3
    assert bench.ran() == ["bottom", "middle", "top"]
    assert bench.text(chain(given)) and bench.ran() == []


def test_loss_found_by_two_at_once_runs_the_node_once(bench: Bench, given: Path) -> None:
    top = join("top", given, trace=str(bench.trace))
    bench.text(top)
    for _ in range(3):
        bench.trace.unlink()
        bench.store.remove_tree(store_tree(bench.store, "tophello"))
        with bench.builder() as builder:
            results = builder.build_all(
                [join(f"n{time.monotonic_ns()}{index}", top) for index in range(4)]
            )
        assert not [result for result in results if isinstance(result, EdgedeployError)]
        assert bench.trace.read_text().count("start") == 1


def test_store_that_keeps_losing_is_an_error(
    bench: Bench, given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(self: Store, tree: Any, **_: Any) -> Path:
        raise KeyError(tree.digest)

    monkeypatch.setattr(Store, "check_tree", lost)
    for action in (
        lambda builder: builder.folder(join("top", given).output("text")),
        lambda builder: builder.build(chain(given)),
    ):
        with bench.builder() as builder, pytest.raises(IntegrityError) as failure:
            action(builder)
        assert failure.value.diagnostics[0].code == "E701"


# -- concurrency -------------------------------------------------------------------------------


def spans(trace: Path) -> dict[str, tuple[int, int]]:
    found: dict[str, dict[str, int]] = {}
    for line in trace.read_text().splitlines():
        name, what, at_ns = line.split()
        assert what not in found.setdefault(name, {}), f"{name} ran twice"
        found[name][what] = int(at_ns)
    return {name: (times["start"], times["end"]) for name, times in found.items()}


def test_independent_stages_run_at_once_and_each_once(bench: Bench, given: Path) -> None:
    shared = {"trace": str(bench.trace)}
    top = join("top", given, **shared)
    left, right = (join(name, top, sleep_s=0.6, **shared) for name in ("left", "right"))
    last = join("last", left, right, top, **shared)
    pool = concurrent.futures.ThreadPoolExecutor(2)
    with Builder(bench.store, bench.project, workers=pool) as builder:
        callers = [threading.Thread(target=builder.build, args=(last,)) for _ in range(4)]
        for thread in callers:
            thread.start()
        for thread in callers:
            thread.join()
    pool.shutdown()
    found = spans(bench.trace)
    assert set(found) == {"top", "left", "right", "last"}
    assert max(found["left"][0], found["right"][0]) < min(found["left"][1], found["right"][1])
    assert found["top"][1] < found["left"][0] and found["right"][1] < found["last"][0]


def test_one_worker_does_not_deadlock(bench: Bench, given: Path) -> None:
    pool = concurrent.futures.ThreadPoolExecutor(1)
    top = join("top", given)
    nodes = [join("last", *(join(f"n{index}", top) for index in range(4)))]
    with Builder(bench.store, bench.project, workers=pool) as builder:
        builder.build_all([*nodes, *nodes, top])
    pool.shutdown()
    assert builder.states["last"].state == "ran"


def test_builders_in_one_process_share_work(bench: Bench) -> None:
    node = join("n", sleep_s=0.3, trace=str(bench.trace))
    builders = [Builder(Store(bench.store.root), bench.project) for _ in range(3)]
    threads = [threading.Thread(target=builder.build, args=(node,)) for builder in builders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(spans(bench.trace)) == {"n"}
    assert Counter(builder.states["n"].state for builder in builders) == {"ran": 1, "hit": 2}


def test_waiting_for_another_build_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "TELL_WAITING_S", 0.1)
    node = join("n", sleep_s=0.6)
    other = Builder(Store(bench.store.root), bench.project)
    thread = threading.Thread(target=other.build, args=(node,))
    thread.start()
    time.sleep(0.2)
    bench.text(node)
    thread.join()
    assert [event.text for event in bench.of(Note)] == [
        "n: waiting for another build that makes it"
    ]


def test_a_hit_found_late_is_noticed(bench: Bench, given: Path) -> None:
    """What was no hit when the builder looked first may be one later."""
    top, other = join("top", given), join("other")
    with bench.builder() as builder:
        assert builder.hit(top) is None and builder.explain(top) == "not built before"
        assert bench.text(top) == "tophello"  # by another builder
        builder.build(other)
        assert builder.hit(top) is not None
        assert builder.explain(top) == "hit"


def test_deep_and_wide_graphs_are_resolved_fast(bench: Bench, given: Path) -> None:
    """A ladder of diamonds has 2**40 paths; each node must be looked at once."""
    node = join("n", given)
    for level in range(40):
        node = join(f"j{level}", join(f"l{level}", node), join(f"r{level}", node))
    with bench.builder() as builder:
        started = time.monotonic()
        assert builder.explain(node) == "unknown until n"
        assert builder.hit(node) is None
        assert time.monotonic() - started < 5


def test_cleaning_is_refused_while_a_builder_lives(bench: Bench, given: Path) -> None:
    builder = bench.builder()
    builder.build(join("top", given))
    with pytest.raises(StoreError) as failure:
        store_care.collect(bench.store)
    assert failure.value.diagnostics[0].code == "E606"
    builder.close()
    builder.close()
    assert store_care.collect(bench.store).actions == 1
    forgotten = bench.builder()
    del forgotten
    gc.collect()
    store_care.collect(bench.store)


def test_nothing_is_left_after_a_build(bench: Bench, given: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.stubs.builder", str(bench.base / "s2"), str(bench.project)],
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0  # the project has no input.txt
    assert "E188" in done.stderr and "Traceback" not in done.stderr
    assert left_behind(bench.base / "s2") == []


# -- user code ---------------------------------------------------------------------------------


@pytest.fixture
def user(bench: Bench) -> Iterator[Node]:
    (bench.project / "sub").mkdir()
    (bench.project / "calib").mkdir()
    (bench.project / "calib" / "1.txt").write_text("one")
    (bench.project / "score.py").write_text(
        "import pathlib, deeper\n"
        "HERE = pathlib.Path(__file__).parent\n"
        "def read():\n"
        "    import click\n"
        "    data = [p.read_text() for p in sorted((HERE / 'calib').glob('*.txt'))]\n"
        "    try: data.append(open(HERE / 'extra.txt').read())\n"
        "    except FileNotFoundError: pass\n"
        "    return deeper.mark() + ' '.join(data)\n"
    )
    (bench.project / "deeper.py").write_text("def mark(): return 'A'\n")
    (bench.project / "unrelated.txt").write_text("u")
    yield Node(id="u", kind="tests.stubs.user", params={"function": "score.py:read"})


def edits(project: Path) -> dict[str, tuple[Any, str, str]]:
    """Return by name: the edit, the new output, and what is said."""
    score, deeper = project / "score.py", project / "deeper.py"
    return {
        "function": (
            lambda: score.write_text(score.read_text().replace("' '", "'+'")),
            "Aone",
            "score.py changed",
        ),
        "imported": (
            lambda: deeper.write_text("def mark(): return 'B'\n"),
            "Bone",
            "deeper.py changed",
        ),
        "data": (
            lambda: (project / "calib" / "1.txt").write_text("two"),
            "Atwo",
            "1.txt changed",
        ),
        "new-file": (
            lambda: (project / "calib" / "2.txt").write_text("2"),
            "Aone 2",
            "the files in calib changed",
        ),
        "was-absent": (
            lambda: (project / "extra.txt").write_text("x"),
            "Aone x",
            "extra.txt changed",
        ),
        "gone": (lambda: (project / "calib" / "1.txt").unlink(), "A", "1.txt is gone"),
    }


@pytest.mark.parametrize("edit", list(edits(Path())))
def test_user_code_and_what_it_reads_are_observed(bench: Bench, user: Node, edit: str) -> None:
    # Compiled code that Python would take for fresh: same second, same size.
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(bench.project)], check=True)
    assert bench.text(user) == "Aone"
    assert bench.text(user) == "Aone"
    assert bench.ran() == ["u"]
    change, output, said = edits(bench.project)[edit]
    change()
    assert bench.explain(user) == said
    assert bench.text(user) == output
    assert bench.text(user) == output
    assert bench.ran() == ["u"]


def test_unrelated_files_do_not_matter(bench: Bench, user: Node) -> None:
    bench.text(user)
    (bench.project / "unrelated.txt").write_text("other")
    (bench.project / "new.txt").write_text("new")
    bench.ran()
    bench.text(user)
    assert bench.ran() == []


def test_distributions_are_observed(
    bench: Bench, user: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.text(user)
    with bench.builder() as builder:
        observed = builder.build(user).observed
    versions = {
        item["distribution"]: item["version"] for item in observed if "distribution" in item
    }
    assert versions["click"] == executor.tool_version("click")
    known = executor.tool_version
    monkeypatch.setattr(
        executor, "tool_version", lambda name: "99" if name == "click" else known(name)
    )
    assert bench.explain(user) == f"click {versions['click']} -> 99"


def test_edit_while_the_function_runs_is_not_lost(bench: Bench) -> None:
    """The run used the old text; the next build must not believe that it used the new one."""
    (bench.project / "data.txt").write_text("old")
    (bench.project / "slow.py").write_text(
        "import pathlib, subprocess\n"
        "HERE = pathlib.Path(__file__).parent\n"
        "def read():\n"
        "    text = (HERE / 'data.txt').read_text()\n"
        "    subprocess.run(['sh', '-c', 'echo new > data.txt'], cwd=HERE)\n"
        "    return text.strip()\n"
    )
    node = Node(id="u", kind="tests.stubs.user", params={"function": "slow.py:read"})
    assert bench.text(node) == "old"
    assert bench.explain(node) == "data.txt changed"
    assert bench.text(node) == "new"


def test_file_that_user_code_keeps_for_itself(bench: Bench) -> None:
    """What it writes and reads again does not make it run for ever."""
    (bench.project / "own.py").write_text(
        "import json, pathlib\n"
        "CACHE = pathlib.Path(__file__).parent / 'cache.json'\n"
        "def read():\n"
        "    known = json.loads(CACHE.read_text()) if CACHE.exists() else {}\n"
        "    CACHE.write_text(json.dumps({**known, 'n': 1}))\n"
        "    return CACHE.read_text()\n"
    )
    node = Node(id="u", kind="tests.stubs.user", params={"function": "own.py:read"})
    bench.text(node)
    bench.ran()
    bench.text(node)
    assert bench.ran() == []


def test_files_read_by_a_c_library_are_observed_through_their_folder(bench: Bench) -> None:
    (bench.project / "calib").mkdir()
    image = bench.project / "calib" / "1.bin"
    image.write_bytes(b"\x01")
    (bench.project / "native.py").write_text(
        "import ctypes, os, pathlib\n"
        "FOLDER = pathlib.Path(__file__).parent / 'calib'\n"
        "libc = ctypes.CDLL(None)\n"
        "def read():\n"
        "    total = 0\n"
        "    for name in sorted(os.listdir(FOLDER)):\n"
        "        number = libc.open(str(FOLDER / name).encode(), 0)\n"
        "        buffer = ctypes.create_string_buffer(8)\n"
        "        libc.read(number, buffer, 8)\n"
        "        total += buffer.raw[0]\n"
        "    return total\n"
    )
    node = Node(id="u", kind="tests.stubs.user", params={"function": "native.py:read"})
    assert bench.text(node) == "1"
    image.write_bytes(b"\x02")
    assert bench.text(node) == "2"


# -- the disk ----------------------------------------------------------------------------------


@pytest.mark.skipif(
    os.geteuid() != 0 or sys.platform != "linux", reason="needs root to mount a tmpfs"
)
def test_disk_that_fills_while_a_stage_writes(bench: Bench, given: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "t", str(disk)], check=True)
    try:
        store = Store(disk / "store")
        with Builder(store, bench.project) as builder:
            good = builder.build(join("good", given))
            with pytest.raises(StoreError) as failure:
                builder.build(join("bad", fault="fill", kind="tests.stubs.busy"))
            assert failure.value.diagnostics[0].code == "E601"
            clean = store_care.Verification(trees=1, damaged=(), dangling=())
            assert store_care.verify(store) == clean
            assert [item.record for item in store_care.list_actions(store)] == [good]
        with Builder(store, bench.project) as builder:
            assert builder.build(join("more", given)).summary["length"] == len("morehello")
        del builder, store, failure
        gc.collect()
        assert left_behind(disk / "store") == []
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
