"""A device that lies: whatever it answers is bounded, checked, and harmless to show."""

from __future__ import annotations

import json
import re
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from shlex import quote
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedeploy.devices import agent_depot, answers
from edgedeploy.devices.depot import Depot, Recipe
from edgedeploy.devices.local import LocalPipe, LocalRemote
from edgedeploy.devices.opening import open_depot
from edgedeploy.errors import DeviceError, EdgedeployError
from tests.unit.devices.depots import ABSENT, refused

STATE: dict[str, Any] = {
    "root": "/depot",
    "versions": [ABSENT],
    "current": ABSENT,
    "previous": None,
    "pending": None,
    "reverted": None,
    "free_bytes": 1000,
    "clock_s": 1.5,
    "codecs": ["zlib"],
}


def frame(header: Any, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack(">II", len(text), len(body)) + text + body


class Liar(LocalRemote):
    """A device that says what it was going to say, whatever it is asked."""

    def __init__(self, folder: Path, *said: bytes, then: str = "sys.stdin.read()") -> None:
        super().__init__()
        self._folder = folder
        self._said = b"".join(said)
        self._then = then

    def open(self, command: str) -> LocalPipe:
        nonce = re.search(r"edgedeploy-agent 1 ([0-9a-f]{16})", command)
        assert nonce is not None
        said = self._folder / "said"
        said.write_bytes(f"edgedeploy-agent 1 {nonce[1]}\n".encode() + self._said)
        code = f"import sys; o = sys.stdout.buffer; o.write(open({str(said)!r}, 'rb').read()); "
        return super().open(
            f"{quote(sys.executable)} -c {quote(f'{code} o.flush(); {self._then}')}"
        )


def state(**changed: Any) -> bytes:
    return frame({"ok": {**STATE, **changed}})


def test_the_liar_can_tell_the_truth(tmp_path: Path) -> None:
    """Else the tests below would pass for nothing."""
    depot = open_depot(Liar(tmp_path, state()), "/depot", python="x")
    found = depot.hello()
    assert (found.versions, found.current, found.clock_s) == ((ABSENT,), ABSENT, 1.5)
    depot.close()


@pytest.mark.parametrize(
    "changed",
    [
        {"root": "depot"},
        {"root": "/" + "x" * 5000},
        {"root": None},
        {"versions": ["../../etc/passwd"]},
        {"versions": [ABSENT + "\n"]},
        {"versions": [ABSENT.upper()]},
        {"versions": {"a": 1}},
        {"versions": None},
        {"current": "../x"},
        {"previous": 5},
        {"pending": ""},
        {"reverted": [ABSENT]},
        {"free_bytes": -1},
        {"free_bytes": True},
        {"free_bytes": 1 << 70},
        {"free_bytes": "9"},
        {"clock_s": float("nan")},
        {"clock_s": float("inf")},
        {"clock_s": "now"},
        {"codecs": ["zlib; rm -rf /"]},
        {"codecs": [["zlib"]]},
    ],
)
def test_a_state_that_is_none(tmp_path: Path, changed: dict[str, Any]) -> None:
    with refused("E420"):
        open_depot(Liar(tmp_path, state(**changed)), "/depot", python="x")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"\xff" * 64, "E405"),
        (struct.pack(">II", 1 << 30, 0), "E405"),
        (struct.pack(">II", 10, 1 << 30), "E405"),
        (frame(b"no json"), "E420"),
        (frame(b"\xff\xfe"), "E420"),
        (frame(b"[" * 100_000), "E420"),
        (frame([1]), "E420"),
        (frame(None), "E420"),
        (frame({}), "E420"),
        (frame({"alive": "x"}), "E420"),
        (frame({"error": "E420"}), "E420"),
        (frame({"error": "E999", "message": "x"}), "E420"),
        (frame({"error": ["E421"], "message": "x"}), "E420"),
        (frame({"error": "E421", "message": 5}), "E420"),
        (frame({"ended": 5}), "E420"),
        (frame({"ended": "lease"}), "E422"),
    ],
)
def test_an_answer_that_is_none(tmp_path: Path, said: bytes, code: str) -> None:
    with refused(code):
        open_depot(Liar(tmp_path, said), "/depot", python="x")


@pytest.mark.parametrize("said", [b"", state()[:5], state()[:-5]])
def test_a_device_that_ends_in_the_middle(tmp_path: Path, said: bytes) -> None:
    with refused("E420") as caught:
        then = "sys.stderr.write('out of \\x1b[31mmemory')"
        open_depot(Liar(tmp_path, said, then=then), "/depot", python="x")
    assert isinstance(caught.value, DeviceError) and caught.value.retryable
    assert "out of ?[31mmemory" in str(caught.value)


def test_what_it_says_cannot_steer_a_terminal(tmp_path: Path) -> None:
    message = "\x1b]0;owned\x07\x1b[2Jfull\r\u202e" + "x" * 10_000
    with refused("E423") as caught:
        open_depot(
            Liar(tmp_path, frame({"error": "E423", "message": message})), "/depot", python="x"
        )
    assert str(caught.value).isprintable() and len(str(caught.value)) <= 500
    with refused("E420") as caught:
        open_depot(Liar(tmp_path, state(root="x\x1b[31m")), "/depot", python="x")
    assert str(caught.value).isprintable()


LIES: dict[str, tuple[bytes, Callable[[Depot], object]]] = {
    "a manifest of another version": (
        frame({"ok": None}, b"{}"),
        lambda depot: depot.manifest(ABSENT),
    ),
    "objects that are no digests": (frame({"ok": ["x"]}), lambda depot: depot.have([ABSENT])),
    "frames without end": (
        frame({"ok": {"length": 5, "frames": "ab"}}),
        lambda depot: depot.incoming(ABSENT),
    ),
    "another version": (frame({"ok": ABSENT}), lambda depot: depot.stage(b"{}")),
    "no version": (frame({"ok": None}), lambda depot: depot.rollback()),
    "findings of no kind": (
        frame({"ok": [["x", "eaten", False]]}),
        lambda depot: depot.fsck(repair=False),
    ),
    "a journal of numbers": (frame({"ok": [1]}), lambda depot: depot.journal(5)),
    "less than nothing freed": (frame({"ok": -5}), lambda depot: depot.collect(1)),
    "more acknowledged than sent": (
        frame({"ok": "go"}) + frame({"ack": 1 << 40}),
        lambda depot: depot.receive(ABSENT, 0, [b"x"]),
    ),
    "nothing acknowledged": (
        frame({"ok": "go"}) + frame({"ack": 0}),
        lambda depot: depot.receive(ABSENT, 0, [b"x"]),
    ),
    "less than sent at the end": (
        frame({"ok": "go"}) + frame({"ack": 1}) + frame({"ok": 0}),
        lambda depot: depot.receive(ABSENT, 0, [b"x"]),
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_of_each_operation(tmp_path: Path, lie: str) -> None:
    said, operation = LIES[lie]
    depot = open_depot(Liar(tmp_path, state(), said), "/depot", python="x")
    with refused("E720" if "manifest" in lie else "E420"):
        operation(depot)
    depot.close()


def test_objects_that_were_not_asked_for_are_passed_over(tmp_path: Path) -> None:
    other = "cd" * 32
    depot = open_depot(Liar(tmp_path, state(), frame({"ok": [other]})), "/depot", python="x")
    assert depot.have([ABSENT]) == frozenset()
    depot.close()


def test_a_conversation_that_broke_off_is_not_gone_on_with(tmp_path: Path) -> None:
    said = frame({"ok": "go"}) + frame({"ack": 7})
    depot = open_depot(Liar(tmp_path, state(), said, frame({"ok": None})), "/depot", python="x")
    with refused("E420"):
        depot.receive(ABSENT, 0, [b"x"])
    with refused("E420") as caught:
        depot.assemble(Recipe(sha256=ABSENT, size=0, stream=None, parts=()))
    assert isinstance(caught.value, DeviceError) and caught.value.retryable
    depot.close()


def test_endless_output_after_the_end(tmp_path: Path) -> None:
    """Closing does not wait for a device that never stops to talk."""
    import time

    then = "\nwhile True: o.write(b'x' * 65536)"
    depot = open_depot(Liar(tmp_path, state(), then=then), "/depot", python="x")
    start = time.monotonic()
    depot.close()
    assert time.monotonic() - start < 9  # three times what it gives


def test_progress_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that says for ever that it gets on is not believed for ever."""
    monkeypatch.setattr(agent_depot, "LONGEST_S", 0.5)
    then = (
        "import json, struct, time\n"
        "for n in range(400):\n"
        "  t = json.dumps({'alive': n}).encode()\n"
        "  o.write(struct.pack('>II', len(t), 0) + t); o.flush(); time.sleep(0.05)"
    )
    depot = open_depot(Liar(tmp_path, state(), then=then), "/depot", python="x")
    with refused("E404"):
        depot.collect(1)
    depot.close()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from([*STATE]), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    "check",
    [
        answers.state_of,
        answers.incoming_of,
        answers.damages_of,
        answers.digests_of,
        answers.texts_of,
        answers.count_of,
    ],
)
def test_no_json_at_all_passes_unchecked(check: Callable[[Any], Any]) -> None:
    @settings(max_examples=60)
    @given(
        JSON
        | st.builds(
            lambda changed: {**STATE, **changed}, st.dictionaries(st.sampled_from([*STATE]), JSON)
        )
    )
    def law(value: Any) -> None:
        try:
            found = check(value)
        except EdgedeployError as error:
            assert error.diagnostics[0].code == "E420"
        else:
            assert all(text.isprintable() for text in texts(found))

    law()


def texts(value: Any) -> Iterator[str]:
    """Yield every text within an answer."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from texts(item)
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from texts(getattr(value, name))
