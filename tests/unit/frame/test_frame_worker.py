"""How workers end, and what never survives them."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgedeploy import store_care
from edgedeploy.errors import BuildError, EdgedeployError
from edgedeploy.errors.codes import catalogue
from edgedeploy.events import StageProgress
from edgedeploy.executor import Builder
from edgedeploy.store import Store
from edgedeploy.worker.launch import Stopped
from edgedeploy.worker.limits import apply_limits, die_with_parent
from tests.soak.kill import left_behind, processes_of, wait_until_gone
from tests.unit.frame.conftest import Bench, join, names

ENDS = {
    "model": ("E200", "no good"),
    "segv": ("E383", "SIGSEGV"),
    "kill": ("E383", "SIGKILL"),
    "exit": ("E383", "status 9"),
    "bug": ("E900", "KeyError: 'oops'"),
    "no-json": ("E900", "TypeError"),
    "memory": ("E382", "8192 MiB"),
    "bad-alloc": ("E382", "std::bad_alloc"),
    "bigfile": ("E385", "wrote a file of more than 20971"),
    "symlink": ("E387", "link is not a regular file"),
    "folder-link": ("E387", "link is not a regular file"),
    "pipe": ("E387", "pipe is not a regular file"),
    "hard-link": ("E387", "hard link"),
    "no-output": ("E387", "removed or replaced"),
    "name": ("E387", "UTF-8"),
}


@pytest.mark.parametrize("fault", ENDS)
def test_ends_are_typed(bench: Bench, fault: str) -> None:
    given = bench.project / "given"
    given.write_text("mine")
    with bench.builder() as builder, pytest.raises(EdgedeployError) as failure:
        builder.build(join("n", given, fault=fault))
    (found,) = failure.value.diagnostics
    code, words = ENDS[fault]
    assert found.code == code
    assert words in found.message
    assert found.hint
    if code[:2] in ("E3", "E9"):
        assert "stage n" in found.message and found.subject == "n"
        assert code in catalogue()
    assert given.read_text() == "mine" and given.stat().st_mode & 0o200
    assert processes_of(bench.store.root) == []
    assert store_care.list_actions(bench.store) == []


def test_crash_shows_the_log_without_control_characters(bench: Bench) -> None:
    with bench.builder() as builder, pytest.raises(BuildError) as failure:
        builder.build(join("n", fault="segv"))
    assert "it said: converting node [31m/layer/Conv_7[0m" in str(failure.value)
    notes = "\n".join(failure.value.__notes__)
    assert "log.txt" in notes and "ctypes/__init__.py" in notes


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [("hang", "brief", "E386"), ("stubborn", "brief", "E386"), ("cpu", "busy", "E384")],
)
def test_time_limits(bench: Bench, fault: str, kind: str, code: str) -> None:
    started = time.monotonic()
    with bench.builder() as builder, pytest.raises(BuildError) as failure:
        builder.build(join("n", fault=fault, kind=f"tests.stubs.{kind}"))
    assert failure.value.diagnostics[0].code == code
    assert time.monotonic() - started < 30
    assert processes_of(bench.store.root) == []


def test_other_nodes_go_on(bench: Bench) -> None:
    bad = join("bad", fault="segv")
    nodes = [join("one"), bad, join("below", bad), join("two")]
    with bench.builder() as builder:
        results = builder.build_all(nodes)
    assert [isinstance(result, BuildError) for result in results] == [False, True, True, False]
    assert results[1] is results[2]
    assert bench.ran() == ["one", "two"]
    assert bench.text(join("one")) == "one"


@pytest.mark.parametrize("fault", ["linger", "daemon", "thread"])
def test_nothing_outlives_a_stage(bench: Bench, fault: str) -> None:
    with bench.builder() as builder:
        builder.build(join("n", fault=fault))
        assert processes_of(bench.store.root) == []


@pytest.mark.parametrize("fault", ["linger-hang", "daemon-hang", "hang"])
def test_nothing_outlives_a_killed_builder(bench: Bench, fault: str) -> None:
    script = (
        "import sys; from pathlib import Path; from edgedeploy.store import Store\n"
        "from edgedeploy.executor import Builder\n"
        "from tests.unit.frame.conftest import join\n"
        "Builder(Store(Path(sys.argv[1])), Path('.')).build(join('n', fault=sys.argv[2],\n"
        "  trace=sys.argv[3]))"
    )
    command = [sys.executable, "-c", script, str(bench.store.root), fault, str(bench.trace)]
    with subprocess.Popen(command) as process:
        wait_for(bench.trace.exists)
        time.sleep(0.2)
        assert len(processes_of(bench.store.root)) >= 3  # builder, supervisor, stage, its child
        process.kill()
    wait_until_gone(bench.store.root)
    with bench.builder():
        assert left_behind(bench.store.root) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_killed_supervisor_takes_its_stage_along(bench: Bench, number: signal.Signals) -> None:
    def kill() -> None:
        wait_for(bench.trace.exists)
        supervisor = min(int(line.split(":")[0]) for line in processes_of(bench.store.root))
        os.kill(supervisor, number)

    killer = threading.Thread(target=kill)
    killer.start()
    with bench.builder() as builder, pytest.raises(BuildError) as failure:
        builder.build(join("n", sleep_s=10, trace=str(bench.trace)))
    killer.join()
    assert number.name in str(failure.value)
    wait_until_gone(bench.store.root)


@pytest.mark.parametrize("fault", [None, "stubborn", "hang", "daemon-hang"])
def test_stop_ends_everything_at_once(bench: Bench, fault: str | None) -> None:
    with bench.builder() as builder:
        timer = threading.Timer(0.4, builder.stop)
        timer.start()
        with pytest.raises(Stopped):
            builder.build_all([join(f"n{index}", sleep_s=60, fault=fault) for index in range(3)])
        stopped_s = time.monotonic()
        timer.join()
        assert time.monotonic() - stopped_s < 3
        assert processes_of(bench.store.root) == []
    # Its own scratch folder and the lock of that, as long as the store is open.
    assert len(left_behind(bench.store.root)) == 2
    assert bench.text(join("n0")) == "n0"


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.08, 0.15, 0.25])
def test_stop_at_any_moment(bench: Bench, after_s: float) -> None:
    top = join("top")
    left, right = join("left", top, sleep_s=0.05), join("right", top, sleep_s=0.05)
    # Longer than any stop takes to come, so that no machine is fast enough to be done before it.
    last = join("last", left, right, sleep_s=2.0)
    with bench.builder() as builder:
        timer = threading.Timer(after_s, builder.stop)
        timer.start()
        started = time.monotonic()
        with pytest.raises(Stopped):
            builder.build(last)
        assert time.monotonic() - started < 3 + after_s
        assert processes_of(bench.store.root) == []
    assert store_care.verify(bench.store).damaged == ()
    assert bench.text(last) == "lastlefttoprighttop"


def test_stop_while_another_builder_has_the_lock(bench: Bench) -> None:
    node = join("n", sleep_s=1.0)
    other = Builder(Store(bench.store.root), bench.project)
    thread = threading.Thread(target=other.build, args=(node,))
    thread.start()
    time.sleep(0.2)
    with bench.builder() as builder:
        threading.Timer(0.1, builder.stop).start()
        with pytest.raises(Stopped):
            builder.build(node)
        assert thread.is_alive()
    thread.join()
    other.close()
    assert bench.text(node) == "n"
    assert bench.ran() == []


def test_ctrl_c_leaves_nothing_running(bench: Bench) -> None:
    """Without any handler: KeyboardInterrupt ends the workers before it is raised again."""
    script = (
        "import sys; from pathlib import Path; from edgedeploy.store import Store\n"
        "from edgedeploy.executor import Builder\n"
        "from tests.unit.frame.conftest import join\n"
        "Builder(Store(Path(sys.argv[1])), Path('.')).build_all([join(n, sleep_s=60,\n"
        "  trace=sys.argv[2]) for n in 'abc'])"
    )
    command = [sys.executable, "-c", script, str(bench.store.root), str(bench.trace)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_for(bench.trace.exists)
        said = None
        while said is None:
            # Python drops an interrupt that falls into a destructor; then a user presses again.
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                _, said = process.communicate(timeout=6)
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in said and "Exception in thread" not in said
    assert processes_of(bench.store.root) == []
    assert left_behind(bench.store.root) == []


def children() -> set[str]:
    """Return the ids of this process's children, the dead ones that nobody waited for included."""
    told = subprocess.run(
        ["ps", "-A", "-o", "ppid=,pid=,comm="], capture_output=True, text=True, check=True
    )
    rows = [line.split(None, 2) for line in told.stdout.splitlines()]
    return {pid for parent, pid, name in rows if parent == str(os.getpid()) and name != "ps"}


def test_no_descriptor_process_or_folder_leaks(bench: Bench) -> None:
    with bench.builder() as builder:
        builder.build(join("warm"))
        before, others = len(names("/dev/fd")), children()
        outcomes = builder.build_all([join(f"n{fault}", fault=fault) for fault in (None, "kill")])
        assert isinstance(outcomes[1], BuildError)
        assert len(names("/dev/fd")) <= before
        assert [len(list(path.iterdir())) for path in (bench.store.root / "tmp").iterdir()] == [0]
    assert children() <= others  # a test before this one may have left a process


def test_missing_interpreter_is_a_typed_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    import edgedeploy.making as making
    from edgedeploy.worker.launch import Job

    def job(**fields: object) -> Job:
        return Job(**{**fields, "interpreter": Path("/no/python")})  # type: ignore[arg-type]

    monkeypatch.setattr(making, "Job", job)
    before = len(names("/dev/fd"))
    with bench.builder() as builder, pytest.raises(EdgedeployError) as failure:
        builder.build(join("n"))
    assert failure.value.diagnostics[0].code == "E502"
    assert len(names("/dev/fd")) <= before + 1  # the scratch lock


def test_progress_is_passed_to_the_last_line(bench: Bench) -> None:
    bench.text(join("n"))
    assert [(event.done, event.total) for event in bench.of(StageProgress)] == [(0, 2), (2, 2)]


def test_the_users_environment_changes_nothing(tmp_path: Path) -> None:
    """Hash seed, locale, time zone, umask and the like: same digest; nothing outside the store."""
    said = set()
    worlds = [
        {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "Asia/Tokyo", "HOME": "h1", "umask": "0"},
        {
            **{"PYTHONHASHSEED": "2", "LANG": "tr_TR.UTF-8", "HOME": "h2", "umask": "077"},
            **{"PYTHONPATH": "", "PYTHONSTARTUP": "x", "OMP_NUM_THREADS": "7", "CUSTOM": "y"},
        },
    ]
    for number, world in enumerate(worlds):
        base = tmp_path / str(number)
        home = base / world["HOME"]
        home.mkdir(parents=True)
        (base / "project").mkdir()
        (base / "project" / "input.txt").write_text("hello")
        umask = int(world.pop("umask"), 8)
        env = {**os.environ, **world, "HOME": str(home), "TMPDIR": str(home)}
        done = subprocess.run(
            [sys.executable, "-m", "tests.stubs.builder", str(base / "s"), str(base / "project")],
            env=env,
            capture_output=True,
            text=True,
            preexec_fn=lambda umask=umask: os.umask(umask) and None,
        )
        assert done.returncode == 0, done.stderr
        said.add(done.stdout)
        assert list(home.iterdir()) == []
        assert (names(base)) == sorted([world["HOME"], "project", "s"])
        environs = {
            tuple(item.record.summary["environ"])
            for item in store_care.list_actions(Store(base / "s"))
        }
        (environ,) = environs
        assert not {"CUSTOM", "LANG", "PYTHONPATH", "PYTHONSTARTUP"} & set(environ)
        assert "ORT_DISABLE_TELEMETRY" in environ
    assert len(said) == 1


def test_worker_imports_stay_in_their_environment() -> None:
    """Neither the package's surroundings nor the working folder are on the worker's path."""
    boot = Path("edgedeploy/worker/boot.py").resolve()
    script = (
        "import runpy, sys; runpy.run_path(sys.argv[1], run_name='boot')['main'].__globals__;"
        "before = list(sys.path)\n"
        "import importlib.util\n"
        "from pathlib import Path\n"
        "g = runpy.run_path(sys.argv[1], run_name='boot')\n"
        "sys.argv[1] = '/nothing/job.json'\n"
        "try: g['main']()\n"
        "except FileNotFoundError: pass\n"
        "assert sys.path == before, sys.path\n"
        "assert 'edgedeploy.worker.supervise' in sys.modules\n"
        "print(sys.modules['edgedeploy'].__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, str(boot)],
        cwd="/",
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str(boot.parents[1] / "__init__.py"), done.stderr


# -- limits, by platform ---------------------------------------------------------------------


def in_child(work: object) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(int(bool(work())))  # type: ignore[operator]
        except BaseException:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


LIMITS = {"memory_bytes": 1 << 40, "cpu_s": 77, "file_bytes": 1 << 30}


@pytest.mark.parametrize(("platform", "unenforced"), [("linux", ()), ("darwin", ("memory_bytes",))])
def test_limits_of_a_platform(platform: str, unenforced: tuple[str, ...]) -> None:
    def work() -> bool:
        before = resource.getrlimit(resource.RLIMIT_DATA)
        said = apply_limits(LIMITS, platform)
        memory = resource.getrlimit(resource.RLIMIT_DATA)
        return (
            said == unenforced
            and resource.getrlimit(resource.RLIMIT_CPU) == (77, 82)
            and resource.getrlimit(resource.RLIMIT_FSIZE) == (1 << 30, 1 << 30)
            and memory == (before if unenforced else (1 << 40, 1 << 40))
            and resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
        )

    assert in_child(work) == 1


def test_limits_never_rise_above_the_systems() -> None:
    def work() -> bool:
        resource.setrlimit(resource.RLIMIT_CPU, (50, 60))
        apply_limits(LIMITS)
        return resource.getrlimit(resource.RLIMIT_CPU) == (60, 60)

    assert in_child(work) == 1


def test_die_with_parent_that_is_gone_already() -> None:
    assert in_child(lambda: die_with_parent(1)) == -signal.SIGKILL
    assert in_child(lambda: die_with_parent(1, "darwin")) == 0


def test_supervisor_without_linux_ends_by_standard_input() -> None:
    """On macOS nothing but the end of standard input tells of the builder's death."""
    script = (
        "import os, sys, time; sys.platform = 'darwin'\n"
        "from edgedeploy.worker.supervise import supervise\n"
        "def stage():\n"
        "    os.spawnlp(os.P_NOWAIT, 'sleep', 'sleep', '300'); print('up', flush=True)\n"
        "    time.sleep(300)\n"
        "supervise(os.getppid(), 2, stage)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout and process.stdin
        assert process.stdout.readline() == b"up\n"
        process.stdin.close()
        # The pipe ends only when the stage and its child are gone too.
        assert process.stdout.read() == b""
    assert process.returncode == -signal.SIGKILL


def wait_for(condition: object) -> None:
    deadline = time.monotonic() + 10
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)
