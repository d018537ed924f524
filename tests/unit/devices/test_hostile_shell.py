"""A device without Python that lies: what it answers is bounded, checked, harmless to show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgedeploy.devices.depot import FRAME_BYTES
from edgedeploy.devices.local import LocalPipe, LocalRemote
from edgedeploy.devices.shell_depot import ShellDepot
from tests.unit.devices.depots import refused

DIGEST = "ab" * 32
STATE = f"root /d\nversion {DIGEST}\ncurrent {DIGEST}\nfree_kib 7\nclock 9\ncodec gzip\nsync sync\n"


class Liar(LocalRemote):
    """A device that answers the first command with a state and the others with what it is told."""

    def __init__(self, folder: Path, *said: bytes, status: int = 0) -> None:
        super().__init__()
        self._folder = folder
        self._said = [f"edgedeploy-sh 1\n{STATE}".encode(), *said]
        self._status = [0, *[status] * len(said)]

    def open(self, command: str) -> LocalPipe:
        path = self._folder / f"said-{len(self._said)}"
        path.write_bytes(self._said.pop(0))
        return super().open(f"cat {path}; cat >/dev/null; exit {self._status.pop(0)}")


def lie(folder: Path, text: bytes, status: int = 0, holds: bool = False) -> ShellDepot:
    """Return an open depot whose next answer, after taking the lock if it ``holds``, is a lie."""
    said = (b"edgedeploy-sh 1\nlocked\n",) if holds else ()
    return ShellDepot(Liar(folder, *said, text, status=status), "/d")


def test_the_liar_can_tell_the_truth(tmp_path: Path) -> None:
    state = lie(tmp_path, b"").hello()
    assert (state.versions, state.free_bytes, state.codecs) == ((DIGEST,), 7168, ("gzip",))


class Full(Liar):
    """A device whose disk fills in the middle of a frame, and that is slow to say why it stops."""

    def open(self, command: str) -> LocalPipe:
        if self._said:
            return super().open(command)
        said = "edgedeploy-sh 1\\nready\\n"
        end = "exec <&-; echo at 6291456; sleep 1; echo '! E423 no space is left'; exit 1"
        return LocalRemote.open(self, f"printf '{said}'; head -c 100 >/dev/null; {end}")


def test_a_frame_that_came_in_part_hides_no_refusal(tmp_path: Path) -> None:
    """What the device has is more than the frames that were sent to their end."""
    depot = ShellDepot(Full(tmp_path, b"edgedeploy-sh 1\nlocked\n"), "/d")
    depot.lock()
    with refused("E423"):
        depot.receive(DIGEST, 0, [bytes(FRAME_BYTES)] * 3)
    depot.close()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"no greeting\n",
        b"edgedeploy-sh 1\n",
        b"edgedeploy-sh 1\n" + STATE.replace(DIGEST, "../../etc/passwd").encode(),
        b"edgedeploy-sh 1\n" + STATE.replace("free_kib 7", "free_kib -7").encode(),
        b"edgedeploy-sh 1\n" + STATE.replace("clock 9", "clock \xb2").encode(),
        b"edgedeploy-sh 1\n" + STATE.replace("root /d", "root d").encode(),
        b"edgedeploy-sh 1\n" + STATE.replace("gzip", "$(reboot)").encode(),
        b"edgedeploy-sh 1\ncurrent x\n" + STATE.encode(),
    ],
)
def test_a_state_that_is_none(tmp_path: Path, text: bytes) -> None:
    depot = lie(tmp_path, text)
    depot.hello()
    with refused("E420"):
        depot.hello()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"! E421 \x1b[2J{", "E421"),
        (b'! E421 {"who":"\x1b[31m","since":1e400}', "E421"),
        (b"! E999 what", "E420"),
        (b"! ", "E420"),
        (b"\xff\x00", "E420"),
    ],
)
def test_a_refusal_that_is_none(tmp_path: Path, text: bytes, code: str) -> None:
    depot = lie(tmp_path, b"edgedeploy-sh 1\n" + text + b"\n", status=1)
    with refused(code) as caught:
        depot.lock()
    assert str(caught.value).isprintable()


OPERATIONS: dict[str, tuple[bytes, Callable[[ShellDepot], object]]] = {
    "another manifest": (b"{}", lambda depot: depot.manifest(DIGEST)),
    "no frames": (b"length 5\n", lambda depot: depot.incoming(DIGEST)),
    "endless frames": (
        f"frame {DIGEST}\n".encode() * 300_000,
        lambda depot: depot.incoming(DIGEST),
    ),
    "a long line": (b"x" * 100_000, lambda depot: depot.incoming(DIGEST)),
    "no findings": (b"lost x\n", lambda depot: depot.fsck(repair=False)),
    "findings of no kind": (b"found eaten 1 x\n", lambda depot: depot.fsck(repair=False)),
    "freed less than nothing": (b"freed -5\n", lambda depot: depot.collect(1)),
    "no version": (b"current x\n", lambda depot: depot.rollback()),
    "not ready": (b"no\n", lambda depot: depot.receive(DIGEST, 0, [b"x"])),
    "received too much": (b"ready\nat 99\n", lambda depot: depot.receive(DIGEST, 0, [b"x"])),
    "received nothing": (b"ready\n", lambda depot: depot.receive(DIGEST, 0, [b"x"])),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_lies_of_each_operation(tmp_path: Path, name: str) -> None:
    text, operation = OPERATIONS[name]
    code = {"another manifest": "E720", "endless frames": "E405", "a long line": "E405"}
    holds = "manifest" not in name and "frames" not in name and "line" not in name
    depot = lie(tmp_path, b"edgedeploy-sh 1\n" + text, holds=holds)
    if holds:
        depot.lock()
    with refused(code.get(name, "E420")):
        operation(depot)
    depot.close()
