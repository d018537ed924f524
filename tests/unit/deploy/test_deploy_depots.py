"""Finding, checking, repairing and cleaning depots; and several at one depot at once."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgedeploy.deploy.depots import Care, app_name, care_for, expect_depot, find_depots
from edgedeploy.deploy.fleet import Answer
from edgedeploy.deploy.push import push_version
from edgedeploy.devices.local import LocalRemote
from edgedeploy.devices.opening import open_depot
from edgedeploy.errors import DeviceError, ExitCode, UsageError
from tests.unit.deploy.robot import APP, Robot

ROOT = Path(__file__).parents[3]


@pytest.fixture
def robot(tmp_path: Path) -> Robot:
    return Robot(tmp_path / "device")


def care(robot: Robot, app: str | None = None, **words: object) -> Answer:
    return care_for(robot.link(), robot.unit, app, Care(**words), opener=open_depot)


def spoil(robot: Robot, version: str, path: str) -> None:
    """Change a byte of a file of a version, as a failing disk does."""
    file = robot.depot / "versions" / version / path
    os.chmod(file, 0o644)  # noqa: PTH101 - an object, whatever its name
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)
    os.chmod(file, 0o444)  # noqa: PTH101


def test_depots_are_found_whatever_else_lies_there(robot):
    robot.push("one")
    root = robot.depot.parent
    for name in (".runtimes/ort", "other", "-rf", "a b", "x;y", "..hidden", "empty"):
        (root / name).mkdir(parents=True)
        if name != "empty":
            (root / name / "format").write_text("1\n")
    (root / "line\nedgedeploy-depot fake").mkdir()
    found = find_depots(LocalRemote(), str(root))
    assert found == ("other", APP, ".runtimes/ort")
    assert find_depots(LocalRemote(), str(root / "nowhere")) == ()


def test_no_depot_is_made_for_a_mistyped_name(robot):
    robot.push("one")
    root = robot.depot.parent
    expect_depot(LocalRemote(), str(root), APP)
    with pytest.raises(DeviceError, match="nothing was pushed for `dorbell`") as caught:
        expect_depot(LocalRemote(), str(root), "dorbell")
    assert caught.value.diagnostics[0].code == "E443" and APP in caught.value.diagnostics[0].hint
    assert [path.name for path in root.iterdir()] == [APP]


def test_what_is_sound_is_shown(robot):
    first, second = robot.push("one"), robot.push("two")
    robot.activate(first)
    robot.activate(second)
    answer = care(robot, journal=True)
    (depot,) = answer.details["depots"]
    assert answer.exit_code == ExitCode.DONE
    assert (depot["current"], depot["previous"], depot["damage"]) == (second, first, [])
    assert set(depot["versions"]) == {first, second} and depot["freed_bytes"] is None
    assert [json.loads(line)["event"] for line in depot["journal"]].count("confirm") == 2
    assert care(robot, "another").already
    json.dumps(answer.details)


def test_damage_is_found_repaired_and_healed_by_a_push(robot):
    """Row 24: nothing but the damaged object travels again."""
    version = robot.push("one")
    robot.activate(version)
    spoil(robot, version, "main/model.ort")
    answer = care(robot)
    assert answer.exit_code == ExitCode.INTEGRITY and answer.diagnostics[0].code == "E449"
    assert {item["what"] for item in answer.details["depots"][0]["damage"]} >= {"bad-object"}
    mended = care(robot, repair=True)
    assert mended.exit_code == ExitCode.INTEGRITY and "1 repaired" in mended.text
    assert "push" in str(mended.diagnostics[0].hint)
    assert robot.active() == version  # what is active is never taken away
    contents = robot.contents("one")
    pushed = push_version(LocalRemote, str(robot.depot), contents, opener=open_depot)
    model = next(file for file in contents.version.files if file.path == "main/model.ort")
    assert (pushed.version, pushed.sent_bytes) == (version, model.size)
    assert care(robot).exit_code == ExitCode.DONE
    robot.check()


def test_cleaning_keeps_what_is_needed(robot):
    names = [robot.push(f"v{number}") for number in range(5)]
    robot.activate(names[0])
    robot.activate(names[1])
    answer = care(robot, keep=1)
    (depot,) = answer.details["depots"]
    assert set(depot["versions"]) == {names[0], names[1], names[4]}
    assert depot["freed_bytes"] > 0
    robot.check()


def test_which_application_is_meant(tmp_path):
    profile = tmp_path / "broken.yaml"
    profile.write_text("name: doorbell\nnonsense: [1, 2\n".replace("[1, 2", "[1, 2]"))
    assert app_name(str(profile)) == "doorbell"
    assert app_name("doorbell") == "doorbell"
    for wrong in ("../etc", "-rf", "", "a/b", "x\ny", "nosuch.yaml"):
        with pytest.raises(UsageError):
            app_name(wrong)


_PUSHER = """
import sys
from pathlib import Path
from edgedeploy.deploy.push import push_version
from edgedeploy.devices.local import LocalRemote
from edgedeploy.devices.opening import open_depot
from edgedeploy.errors import DeviceError
from tests.unit.deploy.robot import Robot

robot = Robot(Path(sys.argv[1]))
contents = robot.contents(sys.argv[2])
try:
    push_version(LocalRemote, str(robot.depot), contents, opener=open_depot)
except DeviceError as error:
    sys.exit(11 if error.diagnostics[0].code == "E421" else 4)
"""


def push_two_at_once(robot: Robot) -> list[int]:
    """Push two versions by two processes at once, check all, push again; return their statuses."""
    script = [sys.executable, "-c", _PUSHER, str(robot.folder)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"}
    both = [subprocess.Popen([*script, name], cwd=ROOT, env=environment) for name in ("one", "two")]
    statuses = sorted(process.wait(60) for process in both)
    robot.check()
    for name in ("one", "two"):  # and the same commands then succeed
        robot.push(name)
    robot.check()
    return statuses


def test_two_pushes_at_once(robot):
    """Row 15: the second is told at once who holds the lock; nothing is mixed."""
    statuses = push_two_at_once(robot)
    assert statuses[0] == 0 and statuses[1] in (0, 11)


def test_who_holds_the_lock_is_told_and_may_be_waited_for(robot):
    version = robot.push("one")
    holder = open_depot(LocalRemote(), str(robot.depot))
    holder.lock()
    with pytest.raises(DeviceError) as caught:
        robot.activate(version)
    assert caught.value.diagnostics[0].code == "E421" and caught.value.retryable
    assert robot.active() is None
    threading.Timer(1.0, holder.close).start()
    robot.activate(version, wait_s=60)
    assert robot.active() == version


def triples_at_once(robot: Robot, turns: int) -> None:
    """Push, roll back and clean at once, in a random order of starts, so many times."""
    generator = random.Random(16)
    first, second = robot.push("one"), robot.push("two")
    robot.activate(first)
    robot.activate(second)

    def push(number: int) -> None:
        robot.push(f"v{number}")

    def back(_: int) -> None:
        robot.roll_back(wait_s=60)

    def clean(_: int) -> None:
        care(robot, keep=0, wait_s=60)

    for turn in range(turns):
        work = [push, back, clean]
        generator.shuffle(work)
        with ThreadPoolExecutor(3) as pool:
            for future in [pool.submit(one, turn) for one in work]:
                future.result(120)
        assert {robot.active(), robot.before()} == {first, second}
        robot.check()


def test_push_roll_back_and_cleaning_at_once(robot):
    """Row 16: all wait for one another, and cleaning takes nothing that is referred to."""
    triples_at_once(robot, 3)
