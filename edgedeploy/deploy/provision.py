"""Putting a runtime on a device that has none, without any internet on the device.

What is needed is chosen and fetched, or compiled, here. It travels as a version of a depot, so that
a push that was cut goes on where it stopped and nothing is sent twice; it is loaded on the device
before it becomes the one that counts; and the one before stays until the next.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from edgedeploy.artifact import FileEntry
from edgedeploy.deploy.compiler import BuiltRunner, build_runner
from edgedeploy.deploy.fleet import Answer, Link
from edgedeploy.deploy.locking import take_lock
from edgedeploy.deploy.push import Contents, Opener, Pushed, push_version
from edgedeploy.deploy.unit import Unit, short
from edgedeploy.deploy.wheels import Choice, choose_wheels, library_of
from edgedeploy.devices.depot import Depot
from edgedeploy.devices.platform import DevicePlatform, ask_platform
from edgedeploy.devices.runtimes import (
    MODULES,
    RECORD,
    RUNNER,
    Provisioned,
    RuntimeRecord,
    allowed_versions,
    in_range,
    load_check,
    runtime_depot,
    survey,
)
from edgedeploy.devices.version import Version
from edgedeploy.errors import DeviceError
from edgedeploy.events import EventLog
from edgedeploy.manifest import canonical, file_sha256
from edgedeploy.remote import Remote, printable
from edgedeploy.toolchain import PACKAGE

KEEP = 1
"""Runtimes that stay besides the one that counts and the one before it."""

UNPACK_S = 600.0
TRIAL_S = 60.0
_ANSWER_BYTES = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What shall be on the device.

    Attributes:
        family: ``coreml``, ``ort`` or ``openvino``.
        version: Of the runtime; None for what is there, or else for the newest that fits.
        native: The native runner also where there is a Python.
        upgrade: Choose anew, also where there is one already.
        wait_s: How long to wait for the lock when somebody else holds it.
    """

    family: str
    version: str | None = None
    native: bool = False
    upgrade: bool = False
    wait_s: float = 0.0


def provision_device(
    link: Link, unit: Unit, wish: Wish, *, opener: Opener, events: EventLog | None = None
) -> Answer:
    """Put a runtime on a device, or find that it is there.

    Args:
        link: The connected device.
        unit: What the inventory says of it.
        wish: What shall be there.
        opener: Opens a depot.
        events: Where the transfer is told.

    Raises:
        DeviceError: What it is cannot be told (E461), there is nothing for such a device (E464),
            it has no room or refuses (E423, E424, E466), what was put there does not load (E463),
            somebody else holds the lock (E421), or the connection is lost for good.
        ToolError: pip or a compiler is missing here (E510, E511).
        UsageError: Targets do not allow the version (E465).
        Interrupted: The run is being ended; what counted before counts still.
    """
    platform = ask_platform(link.remote, unit.python)
    native = wish.native or platform.python is None
    if native and wish.family != "ort":
        raise DeviceError(
            f"there is no native runner for {MODULES[wish.family]}, and the device has "
            f"{'a' if platform.python else 'no'} Python",
            code="E464",
            subject=unit.name,
            hint="leave --native out" if platform.python else "give the device a Python",
        )
    there = survey(link.remote, unit.root, wish.family, unit.python).provisioned
    if there is not None and _fits(there, wish, native):
        record = there.record
        text = f"{MODULES[wish.family]} {record.version} ({record.kind}) was there"
        return Answer(text=text, already=True, details=_details(there.name, record, platform))
    with tempfile.TemporaryDirectory(prefix="edgedeploy-provision-") as name:
        link.say(f"choosing {MODULES[wish.family]} for {platform.text}")
        made = (
            _native(wish, platform, Path(name)) if native else _python(wish, platform, Path(name))
        )
        return _put(link, unit, wish, made, platform, opener, events)


def _fits(there: Provisioned, wish: Wish, native: bool) -> bool:
    """Return whether what is there is what is wished for."""
    record = there.record
    good = there.broken is None and in_range(record.version, allowed_versions(wish.family))
    same = wish.version is None or wish.version == record.version
    return good and same and (record.kind == "native") == native and not wish.upgrade


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A runtime, here: its record and its files by their path in the version."""

    record: RuntimeRecord
    files: Mapping[str, Path]

    def contents(self, platform: DevicePlatform) -> Contents:
        entries, places = [], {}
        for path, place in sorted(self.files.items()):
            sha256 = file_sha256(place)
            entries.append(FileEntry(path=path, size=place.stat().st_size, sha256=sha256))
            places[sha256] = place
        version = Version(
            app=self.record.family, board=platform.machine, models=(), files=tuple(entries)
        )
        return Contents(version=version, places=places)


def _python(wish: Wish, platform: DevicePlatform, here: Path) -> _Made:
    """Return the wheels of a runtime for a device's Python."""
    choice = choose_wheels(wish.family, platform, version=wish.version, fresh=wish.upgrade)
    python = platform.python.version if platform.python else None
    record = _record(wish.family, "python", choice, python)
    return _made(record, {wheel.file: choice.path(wheel) for wheel in choice.wheels}, here)


def _native(wish: Wish, platform: DevicePlatform, here: Path) -> _Made:
    """Return the native runner with the runtime's C library."""
    runner = build_runner(platform)
    choice = choose_wheels(
        wish.family, platform, version=wish.version, native=True, fresh=wish.upgrade
    )
    (wheel,) = choice.wheels
    names = library_of(choice.path(wheel), here)
    record = _record(wish.family, "native", choice, None, runner)
    return _made(record, {RUNNER: runner.path, **{name: here / name for name in names}}, here)


def _record(
    family: str,
    kind: str,
    choice: Choice,
    python: str | None,
    runner: BuiltRunner | None = None,
) -> RuntimeRecord:
    parts: list[dict[str, Any]] = [asdict(wheel) for wheel in choice.wheels]
    runtime = next(wheel for wheel in choice.wheels if wheel.name == MODULES[family])
    if runner is not None:
        sha256 = file_sha256(runner.path)
        parts.append({"name": RUNNER, "compiler": runner.compiler, "sha256": sha256})
    return RuntimeRecord(
        family=family,
        kind="native" if kind == "native" else "python",
        version=runtime.version,
        python=python,
        parts=tuple(parts),
    )


def _made(record: RuntimeRecord, files: Mapping[str, Path], here: Path) -> _Made:
    path = here / RECORD
    path.write_bytes(canonical(record.to_json()))
    return _Made(record=record, files={**files, RECORD: path})


def _put(
    link: Link,
    unit: Unit,
    wish: Wish,
    made: _Made,
    platform: DevicePlatform,
    opener: Opener,
    events: EventLog | None,
) -> Answer:
    """Push a runtime, load it on the device and make it the one that counts."""
    contents = made.contents(platform)
    name, depot = contents.version.name, runtime_depot(unit.root, wish.family)
    pushed = push_version(
        link.reconnect, depot, contents, opener=opener, wait_s=wish.wait_s, python=unit.python,
        sleep=link.wait, events=events,
    )  # fmt: skip
    link.say("loading it there")
    root = pushed.root.rpartition("/")[0]
    locked = opener(link.remote, depot, python=unit.python)
    try:
        take_lock(locked, wish.wait_s, link.say)
        python = platform.python.command if platform.python else ""
        _ready(link.remote, root, name, made.record, python)
        trouble = load_check(link.remote, root, name, made.record, python)
        if trouble is not None:
            raise DeviceError(
                f"{MODULES[wish.family]} {made.record.version} is on it and does not load: "
                f"{trouble}",
                code="E463",
                subject=unit.name,
                hint="the runtime that counted before still does; try an older --version",
            )
        with link.settling():
            _activate(locked, name)
        _forget_trees(link.remote, root)
    finally:
        locked.close()
    text = f"{MODULES[wish.family]} {made.record.version} ({made.record.kind}), {short(name)}"
    return Answer(text=text, details=_details(name, made.record, platform, pushed))


def _ready(remote: Remote, root: str, name: str, record: RuntimeRecord, python: str) -> None:
    """Unpack wheels, or make the runner executable.

    Raises:
        DeviceError: The device cannot (E466).
    """
    if record.kind == "native":
        runner = f"{root}/{record.family}/versions/{name}/{RUNNER}"
        done = remote.run(f"chmod 0555 {quote(runner)}")
        failed = printable(done.stderr).strip() if done.status != 0 else ""
    else:
        words = [word for part in record.parts for word in (part["sha256"], part["file"])]
        arguments = " ".join(quote(word) for word in (root, name, record.family, *words))
        done = remote.run(
            f"{quote(python)} - {arguments}",
            stdin=(PACKAGE / "devices" / "unpack.py").read_bytes(),
            timeout_s=UNPACK_S,
            limit_bytes=_ANSWER_BYTES,
        )
        said = printable(done.stdout).strip().rpartition("\n")[2]
        failed = "" if said == "done" else said or printable(done.stderr).strip()
    if failed or done.status != 0:
        raise DeviceError(
            f"the runtime is on it and cannot be made ready: {failed[-300:] or 'it says nothing'}",
            code="E466",
            subject=remote.name,
            hint="unpacked wheels need about four times their size: make room and run it again",
        )


def _activate(depot: Depot, name: str) -> None:
    """Make a runtime the one that counts and remove those that nothing needs any more."""
    if depot.hello().current != name:
        depot.activate(name, TRIAL_S)
        depot.confirm()
    depot.collect(KEEP)
    depot.unlock()


def _forget_trees(remote: Remote, root: str) -> None:
    """Remove unpacked wheels whose version is in no depot any more."""
    remote.run(
        f"cd {quote(root)}/trees 2>/dev/null || exit 0\n"
        'for tree in *; do set -- ../*/versions/"$tree"; '
        '[ -e "$1" ] || rm -rf "./$tree"; done'
    )


def _details(
    name: str, record: RuntimeRecord, platform: DevicePlatform, pushed: Pushed | None = None
) -> dict[str, Any]:
    return {
        "runtime": name,
        **record.to_json(),
        "platform": {
            "machine": platform.machine,
            "libc": platform.libc,
            "libc_version": ".".join(str(number) for number in platform.libc_version),
            "python": platform.python.version if platform.python else None,
        },
        "sent_bytes": pushed.sent_bytes if pushed else 0,
    }
