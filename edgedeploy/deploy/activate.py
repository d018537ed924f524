"""Switching a device to a staged version, and back.

The order is such that the device never stays with a version that nobody vouched for: the staged
version is run first; then it becomes active *on trial*; the operator's hooks are asked; then it is
confirmed. Whatever happens in between, the version before is active again: this side reverts, or,
when it is never heard of again, the device does so itself.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgedeploy.deploy.fleet import ROLLED_BACK, Answer, Interrupted, Link
from edgedeploy.deploy.health import Check, Health, Runs, check_running, check_staged
from edgedeploy.deploy.hooks import run_command, start_command
from edgedeploy.deploy.locking import GHOST_S, take_lock
from edgedeploy.deploy.push import Opener
from edgedeploy.deploy.unit import Unit, depot_folder, pretended, short
from edgedeploy.devices.depot import NOTHING, Allowed, Depot, DepotState
from edgedeploy.devices.version import Version, parse_version
from edgedeploy.errors import (
    DeviceError,
    Diagnostic,
    EdgedeployError,
    ExitCode,
    IntegrityError,
    RefusedError,
    UsageError,
)
from edgedeploy.remote import Remote

SPARE_S = 30.0
"""What a trial lasts beyond the times that restart and health may take."""

BACK_S = 5.0
"""How long a device may be away after it closed the connection ..."""

AWAY_S = 14.0
"""... and after the last that was heard of it, where it fell silent."""

LEAST_S = 0.5
PAUSE_S = 0.5

_NO_TRIAL = "E426"
_BUSY = "E421"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What shall become active.

    Attributes:
        app: Application.
        version: The version's name, or the start of it.
        ceilings_ms: Largest median latency by model and target, milliseconds.
        golden: Run the staged version first; without, the operator's hooks alone vouch for it.
        allowed: What the operator allows on a device that trusts keys.
        wait_s: How long to wait for the lock when somebody else holds it.
    """

    app: str
    version: str
    ceilings_ms: Mapping[tuple[str, str], float] = field(default_factory=dict)
    golden: bool = True
    allowed: Allowed = NOTHING
    wait_s: float = 0.0


def resolve(state: DepotState, version: str) -> str:
    """Return the full name of the one version on a device that begins so.

    Raises:
        DeviceError: There is none, or more than one (E443).
    """
    found = [name for name in state.versions if name.startswith(version)]
    if len(found) == 1:
        return found[0]
    if found:
        many = ", ".join(name[: len(version) + 4] for name in found[:5])
        raise DeviceError(
            f"{len(found)} versions begin with {version}: {many}",
            code="E443",
            hint="give more digits of the one that you mean",
        )
    raise DeviceError(
        f"version {short(version)} is not on the device",
        code="E443",
        hint="push it first: `edgedeploy push`; `edgedeploy devices fsck` lists what is there",
    )


def activate_version(
    link: Link,
    unit: Unit,
    wanted: Wanted,
    *,
    opener: Opener,
    runs: Runs,
    fits: Callable[[Version], None] = lambda _: None,
) -> Answer:
    """Switch a device to a staged version, or leave it as it was.

    Args:
        link: The connected device.
        unit: What the inventory says of it.
        wanted: Which version of what.
        opener: Opens the depot.
        runs: Runs models on the device.
        fits: Lets a version pass whose engines the device loads, before any is.

    Raises:
        RefusedError: The version does not load or answers wrong and was not activated (E003), or
            was on trial and is rolled back (E002).
        DeviceError: There is no such version (E443), the device loads not all of its engines
            (E487, or as ``fits`` says) or has no runtime for it, somebody
            else holds the lock (E421), or the connection was lost during the trial and did not
            come back (E445).
        IntegrityError: The device trusts keys, and refuses the version before any of it is loaded
            (as :class:`edgedeploy.devices.depot.Depot` says).
        UsageError: Nothing would vouch for the version (E100).
        Interrupted: The run is being ended; the version before is active.
    """
    if not wanted.golden and not (unit.hooks.health or unit.hooks.health_url):
        raise UsageError(
            f"without golden samples nothing checks the version on {unit.name}",
            code="E100",
            subject=unit.name,
            hint="give the device a `health:` command or URL in devices.yaml",
        )
    return _Activation(link, unit, wanted, opener).run(runs, fits)


def is_lost(error: DeviceError) -> bool:
    """Whether another connection may go on where an error ended one."""
    return error.retryable and error.diagnostics[0].code != _BUSY


class _Device:
    """A device whose depot is opened again after a loss."""

    def __init__(self, link: Link, unit: Unit, app: str, opener: Opener) -> None:
        self.link = link
        self.unit = unit
        self.folder = depot_folder(unit, app)
        self._opener = opener

    def open(self, remote: Remote | None = None) -> Depot:
        return self._opener(remote or self.link.remote, self.folder, python=self.unit.python)

    def reopened(self, loss: DeviceError) -> tuple[Depot, DepotState]:
        """Return the depot after a loss, locked: what the lost connection held is let go.

        Raises:
            DeviceError: The device does not come back in time, or somebody else is there.
        """
        deadline = time.monotonic() + min(BACK_S, max(LEAST_S, AWAY_S - loss.silent_s))
        while True:
            try:
                left_s = max(LEAST_S, deadline - time.monotonic())
                depot = self.open(self.link.reconnect(left_s))
                self.link.say("connected again; waiting until it lets go of the lost connection")
                try:
                    depot.hello()  # reverts what nobody holds any more
                    depot.lock(GHOST_S)
                    return depot, depot.hello()
                except BaseException:
                    depot.close()
                    raise
            except DeviceError as again:
                if not is_lost(again) or time.monotonic() >= deadline:
                    raise
            self.link.wait(PAUSE_S)

    def restart_again(self) -> Diagnostic | None:
        """Let the application load what is active now; return what went wrong, if anything."""
        command, why = self.unit.hooks.restart, ""
        if command is None:
            return None
        try:
            if self.link.interrupted:
                start_command(self.link, command)
                return None
            ended = run_command(
                self.link, command, self.unit.hooks.timeout_s, until_interrupted=False
            )
            why = "" if ended.status == 0 else str(ended)
        except DeviceError as error:
            why = error.diagnostics[0].message
        if not why:
            return None
        return Diagnostic(
            code="E448",
            severity="warning",
            message=f"the operator's `restart`, run again for the version before: {why}",
            subject=self.unit.name,
            hint="restart the application on the device by hand",
        )


class _Activation(_Device):
    """One activation on one device."""

    def __init__(self, link: Link, unit: Unit, wanted: Wanted, opener: Opener) -> None:
        super().__init__(link, unit, wanted.app, opener)
        self._wanted = wanted
        self._version = wanted.version
        self._before: str | None = None
        self._health = Health()
        self._switched = False

    def run(self, runs: Runs, fits: Callable[[Version], None]) -> Answer:
        depot = self.open()
        try:
            state = depot.hello()
            self._before = state.current
            self._version = resolve(state, self._wanted.version)
            if state.current == self._version and state.pending is None:
                return self._answer("active already", already=True)
            version = parse_version(depot.manifest(self._version))
            fits(version)
            depot.admit(self._version, self._wanted.allowed)
            if self._wanted.golden:
                folder = f"{state.root}/versions/{self._version}"
                ceilings = self._wanted.ceilings_ms
                self._health += check_staged(self.link, version, folder, runs, ceilings)
                if self._health.faults:
                    raise self._refusal()
            with self.link.settling():
                take_lock(depot, self._wanted.wait_s, self.link.say)
                self._before = depot.hello().current  # nobody changes it from here on
                return self._on_trial(depot)
        finally:
            depot.close()

    # -- the trial -------------------------------------------------------------------------

    def _on_trial(self, depot: Depot) -> Answer:
        self.link.say(f"activating {short(self._version)} on trial")
        hooks = self.unit.hooks
        try:
            trial_s = 2 * hooks.timeout_s + SPARE_S
            depot.activate(self._version, trial_s, self._wanted.allowed)
            self._switched = True
            self._health += check_running(self.link, hooks, self.unit.python)
            if not self._health.faults:
                depot.confirm()
        except (DeviceError, IntegrityError) as error:
            if isinstance(error, DeviceError) and is_lost(error):
                return self._after_loss(depot, error)
            if not self._switched:  # it was never switched, or not in a way that is sure to last
                with contextlib.suppress(DeviceError):
                    depot.revert()
                raise
            self._revert(depot)
            raise self._rolled_back(error.diagnostics[0].message, error.diagnostics) from error
        except BaseException:
            self._revert(depot)
            self.restart_again()
            raise
        if self._health.faults:
            self._revert(depot)
            raise self._rolled_back(self._health.faults[0].message, self._health.faults)
        self._note(depot, "vouched")
        return self._answer(f"{short(self._version)} is active")

    def _revert(self, depot: Depot) -> None:
        """Make the version before active again, over the open connection or a new one.

        Raises:
            DeviceError: The connection was lost for good (E445).
        """
        try:
            depot.revert()
        except DeviceError as error:
            if is_lost(error):
                self._settled(depot, error)
            elif error.diagnostics[0].code != _NO_TRIAL:  # else the device did it by itself
                raise self._unknown(error) from error
        self._note(depot, "reverted")

    def _after_loss(self, depot: Depot, error: DeviceError) -> Answer:
        """Find out what became of the trial after the connection was lost in it."""
        state = self._settled(depot, error)
        if state.current == self._version:
            return self._answer(f"{short(self._version)} is active, confirmed as the link broke")
        raise self._rolled_back("the connection was lost during the trial", error.diagnostics)

    def _settled(self, lost: Depot, loss: DeviceError) -> DepotState:
        """Return the state after a loss, with no trial going on.

        Raises:
            DeviceError: The connection was lost for good (E445).
        """
        lost.close()  # else its heartbeats might keep the lock
        try:
            depot, state = self.reopened(loss)
            try:
                if state.pending == self._version:
                    depot.revert()
                    state = depot.hello()
                return state
            finally:
                depot.close()
        except DeviceError as last:
            raise self._unknown(last) from last

    def _unknown(self, error: DeviceError) -> DeviceError:
        found = DeviceError(
            f"lost {self.unit.name} while {short(self._version)} was active on trial "
            f"({error.diagnostics[0].message}); the device goes back to "
            f"{short(self._before)} by itself, at the latest when it is next reached or started",
            code="E445",
            subject=self.unit.name,
            hint=f"see what is active with `edgedeploy devices fsck -d {self.unit.name}`; what had "
            "loaded the version keeps it until it is restarted",
        )
        found.retryable = True
        return found

    def _rolled_back(self, why: str, details: tuple[Diagnostic, ...]) -> RefusedError:
        more = self.restart_again() if self._switched else None
        first = Diagnostic(
            code=ROLLED_BACK,
            message=f"{short(self._version)} was rolled back to {short(self._before)}: {why}",
            subject=self.unit.name,
            hint="the version stays on the device, staged; mend what is wrong and activate again",
        )
        return RefusedError((first, *details, *([more] if more else [])))

    def _refusal(self) -> RefusedError:
        first = Diagnostic(
            code="E003",
            message=f"{short(self._version)} was not activated: {self._health.faults[0].message}",
            subject=self.unit.name,
            hint=f"{short(self._before)} is active as before; the version stays staged",
        )
        return RefusedError((first, *self._health.faults))

    # -- words -----------------------------------------------------------------------------

    def _note(self, depot: Depot, event: str) -> None:
        """Leave the checks in the device's journal; what is decided stands without it."""
        checks = [f"{check.name} {check.state}" for check in self._health.checks]
        details = json.dumps({"version": self._version, "checks": checks}, sort_keys=True)
        with contextlib.suppress(DeviceError):
            depot.note(event, details)

    def _answer(self, text: str, already: bool = False) -> Answer:
        words = f"{short(self._version)} was {text}" if already else text
        return Answer(
            text=words + pretended(self.link),
            already=already,
            details={
                "app": self._wanted.app,
                "pretended": self.link.remote.pretended,
                "version": self._version,
                "before": self._before,
                "checks": [check.to_json() for check in self._health.checks],
            },
        )


def roll_back(
    link: Link, unit: Unit, app: str, *, opener: Opener, source: str = "", wait_s: float = 0.0
) -> Answer:
    """Switch a device to the version that was active before, and ask whether it is well.

    Args:
        link: The connected device.
        unit: What the inventory says of it.
        app: Application.
        opener: Opens the depot.
        source: Only where the active version begins so; else there is nothing to do. This makes
            a roll-back of many devices one that can be repeated.
        wait_s: How long to wait for the lock when somebody else holds it.

    Raises:
        DeviceError: There is nothing to roll back to (E427), somebody else holds the lock (E421),
            or the connection was lost and did not come back (E445).
        Interrupted: The run is being ended; the roll-back, if it began, stands.
    """
    return _Rollback(link, unit, app, opener).run(source, wait_s)


class _Rollback(_Device):
    """One roll-back on one device."""

    def run(self, source: str, wait_s: float) -> Answer:
        depot = self.open()
        try:
            with self.link.settling():
                take_lock(depot, wait_s, self.link.say)
                state = depot.hello()
                if state.current is not None and not state.current.startswith(source):
                    text = f"{short(state.current)} is active, nothing to roll back"
                    return Answer(text=text, already=True, details=_versions(state.current, None))
                current = self._swap(depot, state)
                health = self._ask()
                with contextlib.suppress(DeviceError):
                    depot.note("rolled back", json.dumps({"version": current, "by": "operator"}))
        finally:
            depot.close()
        text = f"{short(current)} is active, was {short(state.current)}{pretended(self.link)}"
        code = ExitCode.REFUSED if health.faults else ExitCode.DONE
        if any(check.state == "not judged" for check in health.checks):
            code = ExitCode.DEVICE
        return Answer(
            text=text if not health.faults else f"{text}; it is not well",
            details={
                **_versions(current, state.current),
                "pretended": self.link.remote.pretended,
                "checks": [check.to_json() for check in health.checks],
            },
            exit_code=code,
            diagnostics=health.faults,
        )

    def _swap(self, depot: Depot, before: DepotState) -> str:
        try:
            return depot.rollback()
        except DeviceError as error:
            if not is_lost(error):
                raise
            depot.close()
            return self._after_loss(error, before)

    def _after_loss(self, error: DeviceError, before: DepotState) -> str:
        """Return the active version when the roll-back had come through.

        Raises:
            DeviceError: It had not, or the device is away (E445).
        """
        try:
            depot, state = self.reopened(error)
            depot.close()
        except DeviceError as last:
            found = DeviceError(
                f"lost {self.unit.name} during the roll-back ({last.diagnostics[0].message})",
                code="E445",
                subject=self.unit.name,
                hint="see which version is active (`edgedeploy devices fsck`) before you try "
                "again: a second roll-back would undo the first",
            )
            raise found from last
        if state.current is None or state.current != before.previous:
            raise error
        return state.current

    def _ask(self) -> Health:
        try:
            return check_running(self.link, self.unit.hooks, self.unit.python)
        except Interrupted:
            self.restart_again()
            raise
        except EdgedeployError as error:
            text = error.diagnostics[0].message
            check = Check(name="health", state="not judged", text=text)
            return Health(checks=(check,), faults=error.diagnostics)


def _versions(current: str | None, before: str | None) -> dict[str, Any]:
    return {"version": current, "before": before}
