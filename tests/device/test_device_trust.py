"""Signed releases on devices that trust keys, from the command line, over real SSH.

A device with Python and one with a shell and the native runner, at once.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgedeploy.cli.main import main
from edgedeploy.release.archive import write_archive
from edgedeploy.release.bundle import Release
from edgedeploy.release.keys import SigningKey, new_key
from tests.device.labapp import Pair, depot
from tests.lab import capabilities
from tests.lab.device import LabDevice, write_inventory
from tests.lab.sshd import running
from tests.unit.devices.trusting import build_runner, give_runner
from tests.unit.release import made

APP, TARGET = "doorbell", "linux-x86-64/ort"
ROOT = Path(__file__).parents[2]
KILLS = 2

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler"),
]


class Publisher:
    """Makes bundles for this machine's board, and runs the command line in a folder of its own."""

    def __init__(self, folder: Path, inventory: Path) -> None:
        self.folder = folder
        self.inventory = inventory
        self.key = new_key(folder / "key")
        self.other = new_key(folder / "other")

    def bundle(self, counter: int, key: SigningKey | None = None) -> Path:
        """Write a release; its model is another for each counter."""
        contents = {
            "files/words.txt": b"ding\n",
            f"{TARGET}/main/model.ort": random.Random(counter).randbytes(300_000),
        }
        release = self._release(counter, contents)
        goal = self.folder / f"{counter}-{os.urandom(4).hex()}.edpkg"
        write_archive(goal, made.members(release, contents, [key or self.key]))
        return goal

    @staticmethod
    def _release(counter: int, contents: dict[str, bytes]) -> Release:
        plain = made.release_of(contents, version=f"1.{counter}.0", counter=counter)
        (target,) = made.release_of().targets
        model = replace(
            target.models[0], entry=f"{TARGET}/main/model.ort", labels=None, golden=None
        )
        changed = replace(target, target=TARGET, arch="x86-64", models=(model,))
        return replace(plain, targets=(changed,))

    def words(self, *words: object) -> list[str]:
        """Return a command line."""
        places = ["--devices", str(self.inventory), "--no-input", "--json"]
        return [*map(str, words), *places]

    def run(self, *words: object, status: int = 0) -> dict[str, Any]:
        """Run a verb for every device; return its document."""
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            main(self.words(*words, "-d", "*"))
        assert ended.value.code == status, out.getvalue() + err.getvalue()
        found: dict[str, Any] = json.loads(out.getvalue())
        return found

    def release(self, verb: str, bundle: Path, *words: object, status: int = 0) -> dict[str, Any]:
        """Push or activate a bundle; the machine that does it believes both keys."""
        believed = ["--key", "key.pub", "--key", "other.pub", "--state", f"state-{verb}.json"]
        more = ["--no-golden"] if verb == "activate" else []
        return self.run(verb, "--release", bundle, *believed, *more, *words, status=status)


def codes(document: dict[str, Any]) -> list[set[str]]:
    """Return the codes of each device's row."""
    return [{item["code"] for item in row["diagnostics"]} for row in document["devices"]]


def active(device: LabDevice) -> str:
    """Return the words of the model that is active, shortened."""
    return (depot(device) / "current/main/model.ort").read_bytes()[:8].hex()


def model_of(counter: int) -> str:
    return random.Random(counter).randbytes(300_000)[:8].hex()


@pytest.fixture
def publisher(devices: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publisher:
    monkeypatch.setenv("EDGEDEPLOY_STORE", str(tmp_path / "store"))
    hooks = {"health": {"command": "true", "timeout": "20 s"}, "board": "linux-x86-64"}
    return Publisher(tmp_path, write_inventory(tmp_path, devices, hooks))


def test_devices_take_what_their_publisher_signed(publisher: Publisher, devices: Pair) -> None:
    """Rows F275 to F279: enrolment, and every refusal by the device itself."""
    on = ("--app", APP)
    assert not publisher.run("keys", "list", *on)["devices"][0]["details"]["trusts"]
    publisher.run("keys", "enrol", "key.pub", "--name", "acme", *on)
    again = publisher.run("keys", "enrol", "key.pub", "--name", "acme", *on)
    assert [row["already"] for row in again["devices"]] == [True, True]
    listed = publisher.run("keys", "list", *on)["devices"]
    ids = [[key["id"] for key in row["details"]["keys"]] for row in listed]
    assert ids == [[publisher.key.id]] * 2

    first = publisher.bundle(5)
    refused = publisher.release("push", first, status=4)  # the shell has no runner yet
    assert codes(refused) == [set(), {"E754"}]
    give_runner(devices[1].home / ".edgedeploy", build_runner(publisher.folder))
    publisher.release("push", first)
    publisher.release("activate", first)
    assert [active(device) for device in devices] == [model_of(5)] * 2

    foreign = publisher.bundle(6, publisher.other)
    assert codes(publisher.release("push", foreign, status=7)) == [{"E736"}] * 2
    older = publisher.bundle(4)
    apart = ("--state", publisher.folder / "new.json")  # a machine that took nothing so far
    assert codes(publisher.release("push", older, *apart, status=7)) == [{"E738"}] * 2

    second = publisher.bundle(7)
    publisher.release("push", second)
    for device in devices:
        (version,) = (
            path for path in depot(device).glob("versions/*") if not _is_current(device, path)
        )
        place = version / "main/model.ort"
        place.chmod(0o644)
        with open(place, "r+b") as file:
            file.seek(1000)
            file.write(b"tampered")
    assert codes(publisher.release("activate", second, status=7)) == [{"E735"}] * 2
    assert [active(device) for device in devices] == [model_of(5)] * 2
    publisher.run("devices", "fsck", *on, "--repair")
    publisher.release("push", second)
    publisher.release("activate", second)
    assert [active(device) for device in devices] == [model_of(7)] * 2

    publisher.run("rollback", APP)  # it was active here
    assert [active(device) for device in devices] == [model_of(5)] * 2
    publisher.run("rollback", APP)
    statement = publisher.folder / "rotated"
    with contextlib.chdir(publisher.folder), pytest.raises(SystemExit):
        main(["keys", "rotate", "key", "other.pub", "-o", str(statement)])
    publisher.run("keys", "enrol", statement, *on)
    publisher.run("keys", "revoke", publisher.key.id, "--reason", "stolen", *on)
    third = publisher.bundle(8)
    assert codes(publisher.release("push", third, status=7)) == [{"E746"}] * 2
    assert codes(publisher.run("rollback", APP, status=7)) == [{"E746"}] * 2
    fourth = publisher.bundle(9, publisher.other)
    publisher.release("push", fourth)
    publisher.release("activate", fourth)
    assert [active(device) for device in devices] == [model_of(9)] * 2
    (checked,) = {row["state"] for row in publisher.run("devices", "fsck", *on)["devices"]}
    assert checked == "done"


def _is_current(device: LabDevice, version: Path) -> bool:
    return (depot(device) / "current").readlink().name == version.name


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Publisher, Path]]:
    """A device behind an OpenSSH server of this machine, and its depot."""
    capabilities.require("sshd")
    monkeypatch.setenv("EDGEDEPLOY_STORE", str(tmp_path / "store"))
    with running(tmp_path / "sshd") as server:
        entry = {
            "host": "127.0.0.1",
            "port": server.port,
            "user": server.user,
            "board": "linux-x86-64",
            "python": sys.executable,
            "health": {"command": "sleep 0.2", "timeout": "20 s"},
        }
        inventory = tmp_path / "devices.yaml"
        inventory.write_text(
            json.dumps({"ssh_config": str(server.client), "devices": {"board": entry}})
        )
        yield Publisher(tmp_path, inventory), server.home / ".edgedeploy" / APP


def test_a_kill_at_any_moment(board: tuple[Publisher, Path]) -> None:
    """Row F279: the old release or the new one, never one that is forgotten or was not checked."""
    publisher, folder = board
    publisher.run("keys", "enrol", "key.pub", "--name", "acme", "--app", APP)
    publisher.release("push", publisher.bundle(1))
    chosen, whole_s = random.Random(11), 0.0
    for counter in range(1, KILLS + 2):
        bundle = publisher.bundle(counter)
        publisher.release("push", bundle)
        before = _active_counter(folder, counter)
        words = ["--release", bundle, "--key", "key.pub", "--no-golden", "-d", "board"]
        command = [sys.executable, "-m", "edgedeploy", *publisher.words("activate", *words)]
        started = time.monotonic()
        process = subprocess.Popen(
            [*command, "--state", "killed.json"],
            cwd=publisher.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if whole_s:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(chosen.uniform(0.3, 1.0) * whole_s)
            process.send_signal(signal.SIGKILL)
        process.wait()
        whole_s = whole_s or time.monotonic() - started
        assert _active_counter(folder, counter) in (before, counter)
        publisher.release("activate", bundle, "--wait", "60")
        assert _active_counter(folder, counter) == _remembered(folder) == counter


def _active_counter(folder: Path, most: int) -> int:
    place = folder / "current/main/model.ort"
    if not place.exists():
        return 0
    found = place.read_bytes()[:8].hex()
    return next(counter for counter in range(most + 1) if model_of(counter) == found)


def _remembered(folder: Path) -> int:
    (names,) = json.loads((folder / "releases.json").read_bytes())["counters"].values()
    counter: int = names[APP]["counter"]
    return counter
