"""The long form over real builds: every point, random moments, cold builds, a crowd."""

from __future__ import annotations

import signal
from datetime import date
from pathlib import Path

from tests.soak.kill import campaign
from tests.soak.realbuild import PUBLISHING, RUNNING, RealBuild

COLD_BUILDS = 10
KILLS = 30
BUILDERS = 8


def test_real_builds_survive_kills(tmp_path: Path) -> None:
    real = RealBuild(tmp_path)
    done = []
    for points, prepare in ((PUBLISHING, real.switch), (RUNNING, real.lose)):
        done += campaign(real.command, real.env, real.check, prepare=prepare, points=points)
    missed = [item.at for item in done if not item.hit and "worker" not in str(item.at)]
    assert missed == []
    for prepare, kills in ((real.start_anew, COLD_BUILDS), (real.lose, KILLS)):
        done += campaign(
            real.command, real.env, real.check, prepare=prepare, kills=kills, seed=20261124
        )
    hit = sum(item.hit for item in done)
    print(f"\n{date.today()}: {len(done)} real builds killed ({hit} while they ran), all healed")


def test_real_builds_end_when_told(tmp_path: Path) -> None:
    real = RealBuild(tmp_path)
    slowest = 0.0
    warm = [(real.lose, after) for after in (0.4, 0.8, "calibrate", "compile")]
    cold = [(real.start_anew, after) for after in ("normalise", "quantize", "evaluate")]
    for prepare, after in (*warm, *cold):
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            prepare()
            ended, seconds, said = real.interrupt(after, number)
            assert ended == status and "Traceback" not in said, (after, ended, said)
            assert real.left() == []
            slowest = max(slowest, seconds)
            real.check(after)
    print(f"\n{date.today()}: interrupted {2 * len(warm + cold)} times, within {slowest:.1f} s")


def test_eight_real_builds_share_a_store(tmp_path: Path) -> None:
    real = RealBuild(tmp_path)
    real.crowd(BUILDERS)
    print(f"\n{date.today()}: {BUILDERS} real builds at once, each action run once")
