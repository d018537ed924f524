"""Kills and crowds over the diamond of stub stages, in any number."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from edgedeploy import store_care
from edgedeploy.store import Store
from tests.soak import kill

# What a stub build passes; ``publish.*`` and ``lock.written`` need a real build, and SEEN one
# that finds things as they were.
SEEN = "store.seen-written"
POINTS = (
    "worker.started",
    "worker.before-result",
    "store.tree-hashed",
    "store.tree-synced:2",
    "store.tree-renamed",
    "store.record-written:3",
    "executor.before-run:2",
    "executor.after-run",
)
RIGHT = "bottomlefttophelloright" + "tophello"


class Diamond:
    """A project and a store in a folder, and the command that builds one from the other."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.project = base / "project"
        self.project.mkdir()
        (self.project / "input.txt").write_text("hello")
        self.store = base / "store"
        self.trace = base / "trace"
        self.home = base / "home"
        self.home.mkdir()
        self.env = {**os.environ, "HOME": str(self.home), "PYTHONDONTWRITEBYTECODE": "1"}

    @property
    def command(self) -> list[str]:
        places = [str(self.store), str(self.project), str(self.trace)]
        return [sys.executable, "-m", "tests.stubs.builder", *places]

    def prepare(self, index: int) -> None:
        """Take a new store at every other kill; else undo a part of the work in the old one."""
        if index % 2 == 0:
            shutil.rmtree(self.store, ignore_errors=True)
            return
        store = Store(self.store)
        for item in store_care.list_actions(store)[: 1 + index // 2 % 4]:
            store.drop_action(item.record.key)
            for tree in item.record.outputs.values():
                store.remove_tree(tree.digest)

    def prepare_settled(self, index: int = 0) -> None:
        """Have everything built for long enough that a check of it is worth remembering."""
        self.prepare(0)
        self.build_right()
        for memory in (self.store / "seen").glob("??/*"):
            memory.unlink()
        time.sleep(0.15)

    def check(self, done: kill.Kill) -> None:
        """Look at the store after a kill, build again, and look once more."""
        kill.wait_until_gone(self.store)
        if (self.store / "format").exists():
            found = store_care.verify(Store(self.store))
            assert (found.damaged, found.dangling) == ((), ()), done
        self.build_right(done)
        assert kill.left_behind(self.store) == [], done
        assert kill.processes_of(self.store) == [], done
        found = store_care.verify(Store(self.store))
        assert (found.trees, found.damaged, found.dangling) == (4, (), ()), done
        assert list(self.home.iterdir()) == [], done

    def build_right(self, done: object = None) -> None:
        result = kill.run(self.command, self.env)
        assert result.returncode == 0, (done, result.stderr)
        assert result.stdout.split()[1] == RIGHT, (done, result.stdout)

    def crowd(self, builders: int) -> None:
        """Start builders together on a new store; each action runs once, all see the same."""
        self.prepare(0)
        self.trace.unlink(missing_ok=True)
        gate_r, gate_w = os.pipe()
        script = "import os,sys; os.read(int(sys.argv.pop(1)),1); " + (
            "from tests.stubs.builder import main; sys.exit(main())"
        )
        command = [sys.executable, "-c", script, str(gate_r), *self.command[3:]]
        crowd = [
            subprocess.Popen(
                command, env=self.env, pass_fds=(gate_r,), stdout=subprocess.PIPE, text=True
            )
            for _ in range(builders)
        ]
        os.write(gate_w, b"x" * builders)
        said = {process.communicate()[0] for process in crowd}
        os.close(gate_r)
        os.close(gate_w)
        assert [process.returncode for process in crowd] == [0] * builders
        assert len(said) == 1 and said.pop().split()[1] == RIGHT
        started = Counter(
            line.split()[0]
            for line in self.trace.read_text().splitlines()
            if line.split()[1] == "start"
        )
        assert started == {"top": 1, "left": 1, "right": 1, "bottom": 1}
        assert kill.left_behind(self.store) == []
