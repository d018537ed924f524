"""Whom devices believe: the trust file in an application's depot.

The file is that of ``edgedeploy keys`` (:mod:`edgedeploy.release.trust`). It is read from the
device, checked as a stranger's, changed here, and put back in one step under the depot's lock: a
device needs to know nothing of statements.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from edgedeploy.deploy.depots import find_depots
from edgedeploy.deploy.fleet import Answer, Fleet, Link, Result
from edgedeploy.deploy.locking import take_lock
from edgedeploy.deploy.push import Opener
from edgedeploy.deploy.unit import Unit, depot_folder, pretended
from edgedeploy.devices.depot import Depot
from edgedeploy.devices.inventory import Device
from edgedeploy.devices.opening import open_depot
from edgedeploy.errors import IntegrityError
from edgedeploy.manifest import canonical
from edgedeploy.plaindata import to_plain
from edgedeploy.release.trust import Trust, parse_trust


def change_trust_on(
    app: str, fleet: Fleet[Device], change: Callable[[Trust], Trust], *, wait_s: float = 0.0
) -> Result:
    """Change whom every device of a fleet believes for an application.

    Args:
        app: Application; its depot is made where there is none.
        fleet: The devices.
        change: From what a device's trust file says to what it shall say.
        wait_s: How long to wait for the lock when somebody else holds it.
    """

    def work(device: Device, link: Link) -> Answer:
        return change_trust(link, device, app, change, opener=open_depot, wait_s=wait_s)

    return fleet.run(work)


def trust_on(app: str, fleet: Fleet[Device]) -> Result:
    """Return whom every device of a fleet believes for an application."""

    def work(device: Device, link: Link) -> Answer:
        return read_trust(link, device, app, opener=open_depot)

    return fleet.run(work)


def change_trust(
    link: Link,
    unit: Unit,
    app: str,
    change: Callable[[Trust], Trust],
    *,
    opener: Opener,
    wait_s: float = 0.0,
) -> Answer:
    """Change whom one device believes for an application.

    Raises:
        IntegrityError: What lies there is no trust file (E743), or as ``change`` raises it.
        DeviceError: Somebody else holds the lock (E421), or the connection fails.
    """
    depot = opener(link.remote, depot_folder(unit, app), python=unit.python)
    try:
        state = depot.hello()
        with link.settling():
            take_lock(depot, wait_s, link.say)
            before = _read(depot, unit)
            after = change(before or Trust())
            if after != before:
                content = canonical(to_plain(after))
                parse_trust(content)
                depot.entrust(content)
        if state.agent == "sh":
            link.say("it has no Python: without the native runner nothing becomes active there")
    finally:
        depot.close()
    return _answer(link, app, after, already=after == before)


def read_trust(link: Link, unit: Unit, app: str, *, opener: Opener) -> Answer:
    """Return whom one device believes for an application; no depot is made.

    Raises:
        IntegrityError: What lies there is no trust file (E743).
        DeviceError: The connection fails.
    """
    trust = None
    if app in find_depots(link.remote, unit.root):
        depot = opener(link.remote, depot_folder(unit, app), python=unit.python)
        try:
            trust = _read(depot, unit)
        finally:
            depot.close()
    return _answer(link, app, trust)


def _read(depot: Depot, unit: Unit) -> Trust | None:
    content = depot.trust()
    if content is None:
        return None
    try:
        return parse_trust(content)
    except (ValueError, RecursionError) as error:
        why = "it is not JSON" if isinstance(error, json.JSONDecodeError) else str(error)
        raise IntegrityError(
            f"the trust file on {unit.name} cannot be believed: {why}",
            code="E743",
            subject=unit.name,
            hint="bring trust.json in the depot back, or remove it there by hand and enrol anew",
        ) from error


def _answer(link: Link, app: str, trust: Trust | None, *, already: bool = False) -> Answer:
    if trust is None:
        text = f"{app} believes nobody, and takes what it is given"
    else:
        text = f"{app} believes {len(trust.believed)} of {len(trust.keys)} keys"
    keys = [] if trust is None else [key.to_json() for key in trust.keys]
    return Answer(
        text=text + pretended(link),
        already=already,
        details={"app": app, "trusts": trust is not None, "keys": keys},
    )
