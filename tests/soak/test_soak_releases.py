"""Releases in their long form: mutations by the thousand, and kills of whoever counts or applies.

Not one mutation is taken and nothing is written. After every kill there is the old or the new,
and the same work then succeeds.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable, MutableSequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from edgedeploy.manifest import sweep_parts
from edgedeploy.release import apply_file
from edgedeploy.release.counters import NAME, counter_for, holding, keep_counted, read_counted
from edgedeploy.release.delta import write_delta
from edgedeploy.release.verify_file import VerifyError
from edgedeploy.release.verify_file import verify as verify_alone
from tests.soak.kill import Kill, campaign, run
from tests.unit.release import made
from tests.unit.release.described import described_release
from tests.unit.release.test_release_mutations import public
from tests.unit.release.test_release_mutations import run as mutate

COUNT = int(os.environ.get("SOAK_MUTATIONS", "1000"))
KILLS = int(os.environ.get("SOAK_KILLS", "200"))
PARTS = 5
WORKERS = 4
_FORK = multiprocessing.get_context("fork")
Told = MutableSequence[int]
"""The last counter that each worker was told of; no lock, which would die with its holder."""


@pytest.mark.parametrize("seed", range(3))
def test_thousands_of_mutations(tmp_path: Path, seed: int) -> None:
    """Three seeds; SOAK_MUTATIONS says how many each."""
    codes = mutate(tmp_path / "box", seed=100 + seed, count=COUNT)
    print(
        f"\n{date.today()}, seed {100 + seed}: {codes.total()} mutations refused, "
        f"{dict(codes.most_common())}"
    )
    assert codes.total() == COUNT


def strike(work: Callable[[Told, int], None], wait_s: float) -> tuple[int, int]:
    """Let processes work at once and kill them in the midst of it.

    Returns:
        How many died of that, and the greatest counter that any of them was told of.
    """
    told = _FORK.RawArray("q", WORKERS)
    workers = [_FORK.Process(target=work, args=(told, number)) for number in range(WORKERS)]
    for worker in workers:
        worker.start()
    time.sleep(wait_s)
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.join()
    return sum(worker.exitcode == -9 for worker in workers), max(told)


def test_counters_under_kills(tmp_path: Path) -> None:
    """Processes that count releases of one profile: no counter twice, none forgotten, no gap."""
    moments, base, killed, counted = random.Random(1), described_release(), 0, 0

    def count(told: Told, worker: int) -> None:
        for number in range(100_000):
            version = f"1.{os.getpid()}.{number}"
            with holding(tmp_path):
                counter = counter_for(read_counted(tmp_path, base.name), version, None)
                keep_counted(tmp_path, replace(base, version=version, counter=counter))
            told[worker] = counter

    while killed < KILLS:
        if killed % 5 == 0:
            (tmp_path / NAME).unlink(missing_ok=True)  # or it takes ever longer
        more, last = strike(count, moments.uniform(0.01, 0.2))
        killed += more
        found = [item.counter for item in read_counted(tmp_path, base.name)]
        assert found == [*range(1, len(found) + 1)] and len(found) >= last
        counted = max(counted, len(found))
    sweep_parts(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= {NAME}
    print(f"\n{date.today()}: {killed} kills of processes that count, at most {counted} releases")


def test_memory_under_kills(tmp_path: Path) -> None:
    """Processes that take releases of growing counters: what one was told is never forgotten."""
    public(tmp_path)
    moments, killed, most = random.Random(2), 0, 40
    paths = [made.write(tmp_path, made.release_of(counter=at)) for at in range(1, most + 1)]
    state = tmp_path / "state.json"

    def take(told: Told, worker: int) -> None:
        for counter in sorted(random.Random(os.getpid()).sample(range(1, most), most // 2)):
            try:
                verify_alone(str(paths[counter - 1]), [made.KEY.public], str(state))
            except VerifyError as error:
                if error.code != "E738":
                    raise
            else:
                told[worker] = counter

    while killed < KILLS:
        more, last = strike(take, moments.uniform(0.01, 0.15))
        killed += more
        known = json.loads(state.read_bytes())["counters"] if state.exists() else {}
        kept = known.get(made.KEY.id, {}).get("doorbell", {}).get("counter", 0)
        assert kept >= last
        verify_alone(str(paths[-1]), [made.KEY.public], str(state))
        state.unlink()
        assert not (tmp_path / "state.json.part").exists()
    print(f"\n{date.today()}: {killed} kills of processes that take releases")


@pytest.fixture(scope="module", params=["zstd", "lzma"])
def update(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, Path]:
    """Two bundles and the delta between them, with the public key in their folder."""
    folder = tmp_path_factory.mktemp(f"update-{request.param}")
    public(folder)
    numbers = np.random.default_rng(5)
    old = numbers.integers(-90, 90, 1 << 20).astype(np.int8)
    new = old + numbers.choice([0, 1, 7], old.size, p=[0.8, 0.19, 0.01]).astype(np.int8)
    paths = []
    for counter, array in enumerate((old, new), 1):
        contents = {"model": array.tobytes(), "notes.txt": b"%d" % counter}
        release = made.release_of(contents, counter=counter, version=f"1.{counter}")
        paths.append(made.write(folder, release, contents=contents))
    return paths[0], paths[1], write_delta(*paths, folder, request.param).path


# In parts, so that a test that hangs is told from one that is long.
@pytest.mark.parametrize("part", range(PARTS))
def test_apply_under_kills(part: int, update: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """The program for devices, with a key: what was at the goal or the new bundle, nothing else."""
    old, new, delta = update
    goal = tmp_path / "goal"
    command = [sys.executable, str(apply_file.__file__), str(delta), "--to", str(old)]
    command += ["-o", str(goal), "--key", str(old.with_name("key.pub"))]
    before, after = b"what was there", new.read_bytes()
    left = {"old": 0, "new": 0, "parts": 0}

    def prepare(_: int) -> None:
        goal.write_bytes(before)

    def check(kill: Kill) -> None:
        content = goal.read_bytes()
        assert content in (before, after)
        parts = [path for path in tmp_path.iterdir() if path != goal]
        if kill.hit:
            left["new" if content == after else "old"] += 1
            left["parts"] += len(parts)
        assert len(parts) <= kill.hit
        done = run(command, os.environ)
        assert done.returncode == 0, done.stderr
        assert goal.read_bytes() == after and list(tmp_path.iterdir()) == [goal]

    kills = campaign(
        command, os.environ, check, prepare=prepare, kills=KILLS // PARTS // 2, seed=part
    )
    hit = sum(kill.hit for kill in kills)
    print(f"\n{date.today()}: {hit} kills of a running apply, {left}")
