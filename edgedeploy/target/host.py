"""Whether the machine that builds may stand in for a board."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from edgedeploy.target.types import Target

_MACHINES = {"x86-64": ("x86_64", "AMD64"), "arm64": ("aarch64", "arm64"), "armv7": ("armv7l",)}
_SYSTEMS = {"linux": "Linux"}


def is_this_machine(target: Target) -> bool:
    """Return whether the board is a host class (``host: true``) that this machine belongs to.

    Only then may a measurement made here count as one of the board.
    """
    if not target.get("board.host") or target.get("board.processor") != "cpu":
        return False
    system = _SYSTEMS.get(str(target.get("board.os")))
    vendor = target.get("board.cpu_vendor")
    if vendor is not None and vendor != _cpu_vendor(Path("/proc/cpuinfo")):
        return False
    machines = _MACHINES.get(str(target.get("board.arch")), ())
    return platform.system() == system and platform.machine() in machines


def _cpu_vendor(cpuinfo: Path) -> str:
    """Return the vendor that an x86 CPU names (CPUID leaf 0), empty where that is unknown."""
    try:
        found = re.search(r"^vendor_id\s*: (\S+)", cpuinfo.read_text(encoding="utf-8"), re.M)
    except OSError:
        return ""
    return found[1] if found else ""
