"""Real builds that are killed, interrupted and crowded: whole results, the same, nothing left."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.soak.kill import campaign, wait_until_gone
from tests.soak.realbuild import PUBLISHING, RUNNING, RealBuild

pytestmark = pytest.mark.slow

INTERRUPTED_WITHIN_S = 3.0


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> RealBuild:
    return RealBuild(tmp_path_factory.mktemp("killed"))


def killed(real: RealBuild, prepare: Callable[[int], None], point: str) -> int:
    (done,) = campaign(real.command, real.env, real.check, prepare=prepare, points=[point])
    return done.status


@pytest.mark.parametrize("point", PUBLISHING)
def test_kill_while_results_are_put_in_place(real: RealBuild, point: str) -> None:
    assert killed(real, real.switch, point) == -signal.SIGKILL


# The other points are passed by stub builds too; `make soak` takes all of them.
@pytest.mark.parametrize("point", ["worker.started", "store.tree-renamed", "executor.after-run"])
def test_kill_while_stages_run(real: RealBuild, point: str) -> None:
    assert point in {name.partition(":")[0] for name in RUNNING}
    # A worker's death is the build's typed failure; the builder's own is its end.
    expected = 3 if point.startswith("worker.") else -signal.SIGKILL
    assert killed(real, real.lose, point) == expected


def test_kill_at_random_moments(real: RealBuild) -> None:
    done = campaign(real.command, real.env, real.check, prepare=real.lose, kills=2, seed=11)
    assert sum(kill.hit for kill in done) == 2


@pytest.mark.parametrize(
    ("after", "signals", "status"),
    [
        ("calibrate", [signal.SIGINT], 130),
        ("compile", [signal.SIGINT], 130),
        ("compile", [signal.SIGINT, signal.SIGINT], 130),
        ("compile", [signal.SIGTERM], 143),
    ],
)
def test_interruption(real: RealBuild, after: str, signals: list[int], status: int) -> None:
    real.lose()
    ended, seconds, said = real.interrupt(after, *signals)
    assert ended == status, said
    assert seconds < 3 * INTERRUPTED_WITHIN_S  # three times: the machine may be busy
    assert "Traceback" not in said and "interrupted" in said
    wait_until_gone(real.project.store)
    if len(signals) == 1:
        # A thread that is cut off leaves a lock file that nobody holds; the next build takes it.
        assert [name for name in real.left() if not name.startswith("locks/")] == []
    real.check(after)


def test_four_builds_share_a_store(real: RealBuild) -> None:
    real.crowd(4)
