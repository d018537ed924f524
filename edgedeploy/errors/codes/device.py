"""Codes of devices (E4xx)."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E400": Explanation(
        "A device failed",
        "A device could not be reached or refused what was asked of it; the message says which "
        "and why. Nothing on this machine was changed; try again when the device is back.",
    ),
}
