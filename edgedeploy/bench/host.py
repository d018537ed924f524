"""Facts about the machine that measures: what a figure means nothing without."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Sysctl = Callable[[str], str | None]


def host_facts() -> dict[str, Any]:
    """Return the facts of this machine as JSON data; a fact that cannot be read is None.

    Keys: ``system`` (OS name and version), ``kernel``, ``machine`` (architecture), ``cpu``
    (model), ``cores`` (logical CPUs), ``memory_bytes``, ``governor``, ``virtual`` (name of the
    hypervisor or container host, ``""`` on bare metal, None when unknown). No host or user name.
    """
    if sys.platform == "darwin":
        return darwin_facts(_sysctl)
    return linux_facts(Path("/"))


def linux_facts(root: Path) -> dict[str, Any]:
    """Return the facts of this machine, which runs Linux, from the files under ``root``."""
    cpuinfo = _text(root / "proc/cpuinfo") or ""
    memory = re.search(r"^MemTotal:\s+([0-9]{1,15}) kB", _text(root / "proc/meminfo") or "", re.M)
    governor = _text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {
        "system": _os_release(_text(root / "etc/os-release") or ""),
        "kernel": _text(root / "proc/sys/kernel/osrelease"),
        "machine": platform.machine(),
        "cpu": _linux_cpu(root, cpuinfo),
        "cores": len(re.findall(r"^processor\s*:", cpuinfo, re.M)) or os.cpu_count(),
        "memory_bytes": int(memory[1]) * 1024 if memory else None,
        "governor": governor,
        "virtual": _linux_virtual(root, cpuinfo),
    }


def darwin_facts(sysctl: Sysctl) -> dict[str, Any]:
    """Return the facts of a macOS machine from ``sysctl -n NAME``."""
    version = sysctl("kern.osproductversion")
    cores, memory = sysctl("hw.logicalcpu"), sysctl("hw.memsize")
    hypervisor = sysctl("kern.hv_vmm_present")
    return {
        "system": f"macOS {version}" if version else "macOS",
        "kernel": sysctl("kern.osrelease"),
        "machine": sysctl("hw.machine"),
        "cpu": sysctl("machdep.cpu.brand_string"),
        "cores": int(cores) if cores else None,
        "memory_bytes": int(memory) if memory else None,
        "governor": None,
        "virtual": None if hypervisor is None else "hypervisor" if hypervisor == "1" else "",
    }


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return None


def _os_release(text: str) -> str | None:
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)"?', text, re.M)
    return found[1] if found else None


def _linux_cpu(root: Path, cpuinfo: str) -> str | None:
    # x86 names the model; ARM boards name the board in the device tree and the cores by number.
    for pattern in (r"^model name\s*:\s*(.+)$", r"^Model\s*:\s*(.+)$", r"^Hardware\s*:\s*(.+)$"):
        found = re.search(pattern, cpuinfo, re.M)
        if found:
            return found[1].strip()
    return _text(root / "sys/firmware/devicetree/base/model")


def _linux_virtual(root: Path, cpuinfo: str) -> str | None:
    if (root / ".dockerenv").exists():
        return "docker"
    # QEMU's board for arm, with KVM or without.
    if "dummy-virt" in (_text(root / "sys/firmware/devicetree/base/model") or ""):
        return "QEMU"
    product = _text(root / "sys/class/dmi/id/product_name") or ""
    vendor = _text(root / "sys/class/dmi/id/sys_vendor") or ""
    for word in ("KVM", "QEMU", "VMware", "VirtualBox", "Xen", "Amazon EC2", "Google Compute"):
        if word.lower() in f"{vendor} {product}".lower():
            return word
    if re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.M):
        return "hypervisor"
    return "" if cpuinfo else None


def _sysctl(name: str) -> str | None:
    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
