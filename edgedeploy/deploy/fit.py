"""Whether a device is what a target says, told before anything is sent to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgedeploy.errors import DeviceError, Diagnostic, UsageError

if TYPE_CHECKING:
    from edgedeploy.devices.facts import DeviceFacts
    from edgedeploy.target.types import Target

LEAST_MEMORY_RATIO = 0.85
"""Of the board's memory; firmware and graphics take some of it before Linux counts."""

# Features that Linux names otherwise in 32-bit programs, or that an architecture implies. Source:
# Linux, arch/arm64/kernel/cpuinfo.c (compat_hwcap_str and hwcap_str).
_SAME: Mapping[str, str] = {"asimd": "neon"}


def check_device(facts: DeviceFacts, target: Target, name: str) -> None:
    """Let a device pass that is what the target's board says.

    Args:
        facts: From a probe of the device.
        target: One that the device shall serve.
        name: The device's.

    Raises:
        DeviceError: It is another system or architecture (E451), its macOS is older (E491), its
            processor lacks what the board promises (E452), or its memory does (E453); all that is
            wrong at once.
    """
    found = [
        *check_system(facts, target.get("board.os"), target.get("board.os_version")),
        *_machine(facts, target),
        *_processor(facts, target),
        *_memory(facts, target),
    ]
    if found:
        raise DeviceError(
            Diagnostic(
                code=code,
                message=f"{name} does not fit {target.id}: {what}",
                subject=name,
                hint="name its own board in devices.yaml, or choose a target that fits",
            )
            for code, what in found
        )


def check_reachable(target: Target, name: str) -> None:
    """Refuse a device that nobody can log in to, before anything is tried.

    Args:
        target: One that the device shall serve.
        name: The device's.

    Raises:
        UsageError: Its board runs iOS (E490).
    """
    if target.get("board.os") == "ios":
        raise UsageError(
            f"{name} is said to be for {target.id}, and iOS lets nobody in over SSH",
            code="E490",
            subject=name,
            hint="give the package that was built to Xcode; to measure one, build it for a macOS "
            "board such as macos14 and take a Mac",
        )


def check_system(
    facts: DeviceFacts, system: str | None, least: int | None
) -> list[tuple[str, str]]:
    """Return code and text of what is wrong with a device's operating system.

    Args:
        facts: From a probe of the device.
        system: The board's, as targets name it.
        least: Its oldest major version; only a Mac says its own in a form that compares.
    """
    wanted = "darwin" if system == "macos" else system
    if facts.system != wanted:
        return [("E451", f"the system must be {system}, and is {facts.system}")]
    version = re.match(r"macOS ([0-9]{1,3})\b", facts.distribution or "")
    if version and least is not None and int(version[1]) < least:
        return [("E491", f"macOS must be {least} or later, and is {facts.distribution}")]
    return []


def _machine(facts: DeviceFacts, target: Target) -> list[tuple[str, str]]:
    found = []
    if facts.arch != target.get("board.arch"):
        must = target.get("board.arch")
        found.append(("E451", f"the architecture must be {must}, and is {facts.arch}"))
    return found


def _processor(facts: DeviceFacts, target: Target) -> list[tuple[str, str]]:
    found = []
    vendor = target.get("board.cpu_vendor")
    if vendor is not None and facts.cpu_vendor != vendor:
        is_by = facts.cpu_vendor or "unknown"
        found.append(("E452", f"the processor's vendor must be {vendor}, and is {is_by}"))
    has = set(facts.cpu_features)
    needed = target.get("board.features") or ()
    lacking = [item for item in needed if item not in has and _SAME.get(item) not in has]
    if has and lacking:
        found.append(("E452", f"the processor lacks {', '.join(lacking)}"))
    return found


def _memory(facts: DeviceFacts, target: Target) -> list[tuple[str, str]]:
    promised = target.get("board.ram_bytes")
    has = facts.memory_bytes
    if promised is None or has is None or has >= LEAST_MEMORY_RATIO * promised:
        return []
    return [("E453", f"memory must be {promised / 1e9:.1f} GB, and is {has / 1e9:.1f} GB")]
