"""What of a device's failure a report may keep."""

from __future__ import annotations

from edgedeploy.errors import DeviceError, Diagnostic
from edgedeploy.events import EventLog, Note

ADDRESSED = frozenset({"E401", "E402", "E403", *(f"E{number}" for number in range(408, 416))})
"""Codes of failures that may name hosts, users or files of keys."""


def without_address(device: str, error: DeviceError, events: EventLog | None) -> DeviceError:
    """Return a failure on a device as the report of the build may keep it.

    Hosts and users are the operator's: they are told to who runs this, and to nobody else.
    """
    if not ADDRESSED.intersection(item.code for item in error.diagnostics):
        return error
    if events is not None:
        for item in error.diagnostics:
            hint = f" ({item.hint})" if item.hint else ""
            events.emit(Note(text=f"{device}: {item.message}{hint}"))
    shown = DeviceError(
        Diagnostic(
            code=item.code,
            message=f"{device} was not reached, or was lost",
            subject=device,
            hint=f"see `edgedeploy devices show {device}`, and `edgedeploy check "
            f"--explain {item.code}`",
        )
        for item in error.diagnostics
    )
    shown.retryable = error.retryable
    return shown
