# Runs on devices: Python 3.6, standard library alone.
"""What ``current`` leads to: activation on trial, its end, and going back.

``pending`` is one line of JSON that a shell can take apart: ``before`` (null when nothing was
active), ``boot``, ``deadline`` (device's clock), ``kind`` (``trial`` or ``swap``), ``token`` of the
lock's holder, ``version``. ``pending.back`` is the link to the version before, made in advance, so
that going back needs no space.
"""

import contextlib
import os
import time
from typing import Any, Dict, Optional

from edgedeploy.devices.ondevice import disk, layout
from edgedeploy.devices.ondevice.admission import Admitted, Allowed, admit
from edgedeploy.devices.ondevice.disk import RefusalError
from edgedeploy.devices.ondevice.lock import Lock, boot_id, try_journal


class Switch:
    """The switch of one depot, in the hands of one connection."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._end: Optional[float] = None
        self._admitted: Optional[Admitted] = None  # the release on trial

    def activate(self, version: str, trial_s: float, settle: bytes, allowed: Allowed) -> None:
        """Switch to a version on trial; ``settle`` is the script that ends one at start.

        Raises:
            RefusalError: The lock is not held (E422), there is no such version (E425), or
                ``current`` is something else than a link (E429); or as :func:`.admission.admit`.
        """
        self._lock.check()
        if layout.whole(version) is None:
            raise RefusalError("E425", "there is no complete version %s" % version)
        if disk.kind("current") not in ("", "link"):
            raise RefusalError("E429", "current is a %s" % disk.kind("current"))
        self.end_trial()
        self._admitted = admit(layout.read_manifest(version), allowed)
        disk.sync_folder("versions")
        before = layout.link("current")
        if before is not None and layout.goal_of("previous") == before:
            os.unlink("previous")  # else a trial would look like one whose confirmation began
        if disk.kind("settle.sh") != "file" or disk.read_file("settle.sh", 1 << 16) != settle:
            disk.replace("settle.sh", settle, 0o755, self._lock.check)
        with contextlib.suppress(FileNotFoundError):
            os.unlink("pending.back")
        if before is not None:
            os.symlink("versions/" + before, "pending.back")
        try:
            self._announce("trial", version, before, trial_s)
            disk.point("current", "versions/" + version, self._lock.check)
        except (OSError, RefusalError):
            with contextlib.suppress(OSError, RefusalError):
                self.settle()
            raise
        self._end = time.monotonic() + trial_s
        try_journal("activate", version=version, before=before, trial_s=trial_s)

    def confirm(self) -> None:
        """Let the version on trial stay.

        Raises:
            RefusalError: None is on trial any more (E426), or the lock is not held (E422).
        """
        self._lock.check()
        self.expire()
        record = read_pending()
        if record is None or record.get("token") != self._lock.token or self._end is None:
            raise RefusalError("E426", "no version is on trial")
        version, before = record["version"], record.get("before")
        if self._admitted is not None:
            self._admitted.keep()  # first: what is confirmed is never forgotten
        if before not in (None, version):
            disk.point("previous", "versions/" + before, self._lock.check)
        self._end = None
        _forget()
        try_journal("confirm", version=version, before=before)

    def revert(self) -> None:
        """Switch back; nothing to do when no version is on trial."""
        self._lock.check()
        self.end_trial()

    def rollback(self) -> str:
        """Exchange ``current`` and ``previous``; return the new current.

        What was active here may be again, however old, and though nobody signed it. A release is
        checked for the rest: its key may have been revoked since.

        Raises:
            RefusalError: There is no complete version to go back to (E427), or the lock is not
                held (E422); or as :func:`.admission.admit`.
        """
        self._lock.check()
        self.end_trial()
        goal, before = layout.link("previous"), layout.link("current")
        if goal is None:
            raise RefusalError("E427", "no version was active before")
        if layout.whole(goal) is None:
            raise RefusalError("E427", "the version before, %s, is not complete" % goal)
        if disk.kind("current") not in ("", "link"):
            raise RefusalError("E429", "current is a %s" % disk.kind("current"))
        admit(layout.read_manifest(goal), Allowed(development=True, downgrade=True))
        self._announce("swap", goal, before, 0.0)
        self.settle()
        return goal

    def expire(self) -> None:
        """Switch back if this connection's trial is over."""
        if self._end is not None and time.monotonic() >= self._end:
            self.end_trial()

    def left_s(self) -> Optional[float]:
        """Return the seconds to the end of this connection's trial, None when it has none."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def end_trial(self) -> None:
        """Switch back if this connection has a trial."""
        if self._end is not None:
            self.settle()
            self._end = None

    def settle(self) -> Optional[str]:
        """Bring what was begun to its end; the lock must be held, by whatever name.

        Returns:
            The version whose trial was reverted, None when none was.
        """
        record = read_pending()
        if record is None:
            disk.remove("pending.back")
            return None
        version, before = record["version"], record.get("before")
        allowed = self._lock.check if self._lock.token else _anybody
        if record["kind"] == "swap":
            if layout.goal_of("current") != version:
                disk.point("current", "versions/" + version, allowed)
            if before is not None and layout.goal_of("previous") != before:
                disk.point("previous", "versions/" + before, allowed)
            _forget()
            try_journal("rollback", version=version, before=before)
            return None
        if before is not None and before != version and layout.goal_of("previous") == before:
            _forget()  # the confirmation had begun
            try_journal("confirm", version=version, before=before)
            return None
        _back(before, allowed)
        _forget()
        try_journal("revert", version=version, before=before)
        return str(version)

    def _announce(self, kind: str, version: str, before: Optional[str], trial_s: float) -> None:
        record = {
            "before": before,
            "boot": boot_id(),
            "deadline": int(time.time() + trial_s),
            "kind": kind,
            "token": self._lock.token,
            "version": version,
        }
        disk.replace("pending", disk.one_line(record), 0o644, self._lock.check)
        disk.sync_folder(".")


def read_pending() -> Optional[Dict[str, Any]]:
    """Return what is going on, None when nothing is or when it says nothing that can be used."""
    if disk.kind("pending") != "file":
        return None
    record = disk.parsed(disk.read_file("pending", 1 << 14)) or {}
    version, before = record.get("version"), record.get("before")
    names = [version] if before is None else [version, before]
    good = all(isinstance(name, str) and layout.HEX.match(name) for name in names)
    return record if good and record.get("kind") in ("trial", "swap") else None


def _anybody() -> None:
    """Allow a change by who holds the flock without a name: the settling of a trial left over."""


def _back(before: Optional[str], allowed: Any) -> None:
    if before is None:
        if disk.kind("current") == "link":
            os.unlink("current")
            disk.sync_folder(".")
    elif layout.goal_of("current") != before:
        if layout.goal_of("pending.back") == before:
            allowed()
            os.rename("pending.back", "current")
            disk.sync_folder(".")
        else:
            disk.point("current", "versions/" + before, allowed)


def _forget() -> None:
    for name in ("pending.back", "pending"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
    disk.sync_folder(".")
