"""The facts of a device as frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from edgedeploy.manifest import digest

_VOLATILE = ("disk_free_bytes", "governors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A graphics processor.

    Attributes:
        name: As its driver calls it, or ``vendor:device`` in hexadecimal.
        driver: Version of the driver, None where it does not say.
        compute_capability: NVIDIA's, such as ``8.7``.
        memory_bytes: Its own memory; None where it shares the system's.
    """

    name: str
    driver: str | None = None
    compute_capability: str | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """What a probe found; None or empty is what the device does not say.

    Attributes:
        system: ``linux``, ``android``, ``darwin`` or what ``uname -s`` says.
        distribution: Such as ``Debian GNU/Linux 12 (bookworm)``.
        kernel: ``uname -r``.
        arch: ``x86-64``, ``arm64``, ``armv7`` or what ``uname -m`` says; that of the programs: a
            64-bit kernel may run 32-bit ones.
        libc: ``glibc 2.36``, ``musl 1.2.3`` or ``bionic``.
        cpu: Model of the processor.
        cpu_vendor: As x86 processors name it, such as ``GenuineIntel``.
        cpu_features: As ``/proc/cpuinfo`` names them, sorted.
        cores: Logical processors.
        memory_bytes: Main memory.
        disk_total_bytes, disk_free_bytes: Of the file system that holds the depots.
        board: Model of the board, such as ``Raspberry Pi 5 Model B Rev 1.0``.
        soc: System on chip, such as ``BCM2712``; ``soc_vendor``: who makes it.
        vendor_release: Of the vendor's system, such as L4T ``R36.4.3`` or a build of Android.
        gpus: Graphics processors.
        governors: Frequency governors in use.
        thermal_zones, power_rails: Names of what can be read.
        python: Version of its Python, None without one.
        python_abi: Such as ``cpython-311-aarch64-linux-gnu``.
        runtimes: Version of each runtime that is installed for that Python, and ``libnvinfer``.
        tools: Which of the tools that matter are there, sorted.
        virtual: Name of the hypervisor or container host, ``""`` when it looks like hardware.
        emulated: Whether its instructions are emulated, so that no time measured on it means
            anything.
    """

    system: str
    distribution: str | None = None
    kernel: str | None = None
    arch: str
    libc: str | None = None
    cpu: str | None = None
    cpu_vendor: str | None = None
    cpu_features: tuple[str, ...] = ()
    cores: int | None = None
    memory_bytes: int | None = None
    disk_total_bytes: int | None = None
    disk_free_bytes: int | None = None
    board: str | None = None
    soc: str | None = None
    soc_vendor: str | None = None
    vendor_release: str | None = None
    gpus: tuple[Gpu, ...] = ()
    governors: tuple[str, ...] = ()
    thermal_zones: tuple[str, ...] = ()
    power_rails: tuple[str, ...] = ()
    python: str | None = None
    python_abi: str | None = None
    runtimes: Mapping[str, str]
    tools: tuple[str, ...] = ()
    virtual: str = ""
    emulated: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 over the facts that stay (neither free space nor the governor of the moment)."""
        stable = {name: value for name, value in self.to_json().items() if name not in _VOLATILE}
        return digest("facts", stable)

    def to_json(self) -> dict[str, Any]:
        """Return the facts as JSON data."""
        data = asdict(self)
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in data.items()
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DeviceFacts:
        """Return the facts that :meth:`to_json` wrote, or that an inventory gives.

        Raises:
            ValueError: A name is none of the facts, or one that must be there is missing.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise ValueError(f"unknown facts: {', '.join(unknown)}")
        if missing := sorted({"system", "arch"} - set(data)):
            raise ValueError(f"missing facts: {', '.join(missing)}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        values["gpus"] = tuple(Gpu(**gpu) for gpu in data.get("gpus", ()))
        return cls(**{"runtimes": {}, **values})
