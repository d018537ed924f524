"""Codes of connections to devices (E401-E419)."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E404": Explanation(
        "The device did not answer in time",
        "The connection stands, but a command neither took input, printed anything nor ended for "
        "longer than it may. The device may be overloaded or out of memory; try again.",
    ),
    "E405": Explanation(
        "The device sent too much",
        "A line or an output was longer than any that a healthy device sends, and was cut off. See "
        "what the login shell prints on the device.",
    ),
    "E407": Explanation(
        "A file cannot be copied",
        "The device could not read or write a file; the message holds what it said. Check the "
        "path, its permissions and the free space on the device.",
    ),
}
