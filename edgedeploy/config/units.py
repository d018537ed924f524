"""Quantities as people write them: ``20 ms``, ``4 MB``, ``30 %``, ``-1 pt``."""

from __future__ import annotations

import re
from collections.abc import Mapping

DURATIONS_MS: Mapping[str, float] = {
    "ns": 1e-6,
    "us": 1e-3,
    "ms": 1.0,
    "s": 1e3,
    "min": 60e3,
    "h": 3600e3,
}
SIZES_BYTES: Mapping[str, int] = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
FREQUENCIES_HZ: Mapping[str, int] = {"Hz": 1, "kHz": 10**3, "MHz": 10**6, "GHz": 10**9}
ENERGIES_J: Mapping[str, float] = {"uJ": 1e-6, "mJ": 1e-3, "J": 1.0}
DELTA_UNITS = ("pt", "%", "abs")

# Bounded repetition: a longer number is no quantity, and int() of it would be slow.
_QUANTITY = re.compile(r"([+-]?)([0-9]{1,18}(?:\.[0-9]{0,18})?)\s{0,4}([A-Za-z%]{0,4})")


class UnitError(ValueError):
    """A text that is no quantity of the wanted kind.

    Attributes:
        hint: The way out, one sentence in the imperative.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def duration_ms(text: object) -> float:
    """Return a duration such as ``20 ms`` or ``10 s`` in milliseconds.

    Raises:
        UnitError: It is no duration, has no unit, or is negative.
    """
    number, unit = _split(text, DURATIONS_MS, "a duration", "20 ms")
    return float(number) * DURATIONS_MS[unit]


def size_bytes(text: object) -> int:
    """Return a size such as ``4 MB`` (10^6) or ``4 MiB`` (2^20) in bytes.

    Raises:
        UnitError: It is no size, has no unit, is negative, or is no whole number of bytes.
    """
    number, unit = _split(text, SIZES_BYTES, "a size", "4 MB")
    return _whole(number, SIZES_BYTES[unit], f"{number} {unit}", "bytes")


def frequency_hz(text: object) -> int:
    """Return a frequency such as ``2.4 GHz`` in hertz.

    Raises:
        UnitError: It is no frequency, has no unit, or is negative.
    """
    number, unit = _split(text, FREQUENCIES_HZ, "a frequency", "2.4 GHz")
    return _whole(number, FREQUENCIES_HZ[unit], f"{number} {unit}", "hertz")


def energy_j(text: object) -> float:
    """Return an energy such as ``5 mJ`` in joules.

    Raises:
        UnitError: It is no energy, has no unit, or is negative.
    """
    number, unit = _split(text, ENERGIES_J, "an energy", "5 mJ")
    return float(number) * ENERGIES_J[unit]


def ratio(text: object) -> float:
    """Return a share such as ``30 %`` as a fraction (0.3).

    Raises:
        UnitError: It is no percentage between 0 and 100.
    """
    number, _ = _split(text, {"%": 1}, "a percentage", "30 %")
    if float(number) > 100:
        raise UnitError(f"`{number} %` is more than 100 %", "write a share between 0 % and 100 %")
    return float(number) / 100


def delta(text: object) -> tuple[float, str]:
    """Return a signed change as (amount, unit): ``-1 pt`` -> (-1.0, "pt").

    ``pt`` are percentage points, ``%`` is relative, ``abs`` is in the metric's own unit.

    Raises:
        UnitError: It has no sign, no unit, or is no number.
    """
    hint = "write a signed change such as `-1 pt`, `+0.3 %` or `-0.01 abs`"
    found = _QUANTITY.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise UnitError(f"`{_show(text)}` is no signed change", hint)
    sign, number, unit = found.groups()
    if unit not in DELTA_UNITS:
        raise UnitError(f"`{_show(text)}` has no known unit", hint)
    if not sign:
        raise UnitError(f"`{_show(text)}` has no sign", hint)
    return float(sign + number), unit


def _split(text: object, units: Mapping[str, float], kind: str, example: str) -> tuple[str, str]:
    """Return (number, unit) of an unsigned quantity."""
    listed = ", ".join(units)
    hint = f"write {kind} such as `{example}` (units: {listed})"
    found = _QUANTITY.fullmatch(text.strip()) if isinstance(text, str) else None
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        raise UnitError(f"`{_show(text)}` has no unit", hint)
    if found is None:
        raise UnitError(f"`{_show(text)}` is not {kind}", hint)
    sign, number, unit = found.groups()
    if not unit:
        raise UnitError(f"`{_show(text)}` has no unit", hint)
    if unit not in units:
        same = [item for item in units if item.lower() == unit.lower()]
        known = f"did you mean `{number} {same[0]}`?" if same else hint
        raise UnitError(f"`{unit}` is no unit of {kind}", known)
    if sign == "-":
        raise UnitError(f"`{_show(text)}` is negative", hint)
    return number, unit


def _whole(number: str, factor: int, shown: str, unit: str) -> int:
    """Return ``number * factor`` exactly, as an integer."""
    whole, _, fraction = number.partition(".")
    scaled = int(whole + fraction) * factor
    value, rest = divmod(scaled, int(10 ** len(fraction)))
    if rest:
        raise UnitError(f"`{shown}` is no whole number of {unit}", "write fewer decimals")
    return value


def _show(text: object) -> str:
    shown = str(text)
    return shown if len(shown) <= 40 else shown[:37] + "..."
