"""Taking the lock of a depot, also after an earlier run of ours that was cut off."""

from __future__ import annotations

from collections.abc import Callable

from edgedeploy.devices.depot import LEASE_S, Depot
from edgedeploy.devices.holder import left_behind
from edgedeploy.errors import DeviceError

GHOST_S = LEASE_S + 5.0
"""The longest that the lock of a lost connection of ours can outlive it."""

_BUSY = "E421"


def take_lock(depot: Depot, wait_s: float, told: Callable[[str], None]) -> None:
    """Take the lock of a depot.

    Args:
        depot: Open.
        wait_s: How long to wait while somebody else holds it. What a run of this user here left
            behind when its link was cut is waited for in any case, so that the same command
            succeeds without anybody's doing.
        told: Called with a few words when it waits for that.

    Raises:
        DeviceError: Somebody else holds it (E421), or the connection fails.
    """
    try:
        depot.lock(wait_s)
    except DeviceError as error:
        if error.diagnostics[0].code != _BUSY or not left_behind(error):
            raise
        told("waiting until the device lets go of an earlier run that was cut off")
        depot.lock(GHOST_S)
