# Syntax and library held to Python 3.6.
# ruff: noqa: UP006, UP031, UP035, UP045
"""What NVIDIA's driver tells of a graphics card: clock, what holds it back, energy and power.

Travels to devices beside ``loop.py``. Source: NVIDIA, NVML API reference; the library
``libnvidia-ml.so.1`` comes with the driver. A Jetson's GPU is looked at through the kernel instead
(``environment.py``, ``power.py``): NVML tells little of it.
"""

import ctypes
from typing import Any, List, Optional, Tuple

LIBRARY = "libnvidia-ml.so.1"
_SM_CLOCK = 1  # NVML_CLOCK_SM
_NAME_BYTES = 96
# nvmlClocksThrottleReason*: what slows a busy GPU down. The others are idling, clocks that somebody
# set, and keeping several cards in step.
_REASONS = (
    (0x04, "power cap"),
    (0x08, "hardware slowdown"),
    (0x20, "temperature"),
    (0x40, "temperature, by hardware"),
    (0x80, "power brake"),
)


class Card:
    """The one graphics card of a machine; None for what it does not tell."""

    def __init__(self, library: Any, handle: Any) -> None:
        self._library = library
        self._handle = handle
        text = ctypes.create_string_buffer(_NAME_BYTES)
        told = library.nvmlDeviceGetName(handle, text, ctypes.c_uint(_NAME_BYTES)) == 0
        self.name = text.value.decode("utf-8", "replace") if told else "NVIDIA GPU"

    def _number(self, function: str, kind: Any, *arguments: Any) -> Optional[int]:
        found = kind()
        call = getattr(self._library, function, None)
        if call is None or call(self._handle, *arguments, ctypes.byref(found)) != 0:
            return None
        return int(found.value)

    def _khz(self, function: str) -> Optional[int]:
        mhz = self._number(function, ctypes.c_uint, ctypes.c_int(_SM_CLOCK))
        return None if mhz is None else 1000 * mhz

    def khz(self) -> Optional[int]:
        """Return the clock of its multiprocessors."""
        return self._khz("nvmlDeviceGetClockInfo")

    def max_khz(self) -> Optional[int]:
        """Return the highest clock; a card seldom reaches it under load."""
        return self._khz("nvmlDeviceGetMaxClockInfo")

    def reasons(self) -> List[str]:
        """Return what slows it down now."""
        found = self._number("nvmlDeviceGetCurrentClocksThrottleReasons", ctypes.c_ulonglong) or 0
        return [word for bit, word in _REASONS if found & bit]

    def energy_j(self) -> Optional[float]:
        """Return the energy since the driver was loaded; cards before Volta do not count it."""
        found = self._number("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong)
        return None if found is None else found / 1e3

    def watts(self) -> Optional[float]:
        """Return the power of card and memory."""
        found = self._number("nvmlDeviceGetPowerUsage", ctypes.c_uint)
        return None if found is None else found / 1e3


def find_card(library: str = LIBRARY) -> Tuple[Optional[Card], str]:
    """Return the graphics card, or None and why it cannot be looked at."""
    try:
        nvml = ctypes.CDLL(library)
        if nvml.nvmlInit_v2() != 0:
            return None, "the NVIDIA driver does not answer"
        count = ctypes.c_uint()
        if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0 or count.value == 0:
            return None, "the NVIDIA driver shows no card"
        if count.value > 1:
            return None, "there are several NVIDIA cards, and NVML counts them in its own order"
        handle = ctypes.c_void_p()
        if nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(0), ctypes.byref(handle)) != 0:
            return None, "the NVIDIA driver refuses to show its card"
        return Card(nvml, handle), ""
    except (OSError, AttributeError) as error:
        return None, "no NVML: %s" % error
