"""From the transcript of a probe to facts: pure functions of text."""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgedeploy.devices.facts.board import board_facts
from edgedeploy.devices.facts.types import DeviceFacts, Gpu

_ARCHES = {
    "x86_64": "x86-64",
    "amd64": "x86-64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "armv7l": "armv7",
    "armv8l": "armv7",  # 32-bit programs on a 64-bit kernel
}
# Names of hypervisors in SMBIOS texts.
_HYPERVISORS = ("KVM", "QEMU", "VMware", "VirtualBox", "Xen", "Amazon EC2", "Google Compute")

# Debian names the program after binfmt_misc's way of calling it. `qemu-system-*` holds machines.
_EMULATOR = re.compile(r"(?:^|/)(?:qemu-(?!system)[a-z0-9_-]+|[a-z0-9_]+-binfmt(?:-[A-Z]+)?)$")

Sections = Mapping[str, str]


def facts_of(sections: Sections) -> DeviceFacts:
    """Return the facts that a transcript holds.

    Args:
        sections: From :func:`edgedeploy.devices.facts.transcript.record`.
    """
    names = [*sections["uname"].split(), "", "", ""]
    system, kernel, machine = names[0].lower(), names[1], names[2]
    android = "ro.product.cpu.abi=arm" in sections.get("getprop", "")
    arch = arch_of(machine, sections.get("bits", "").strip())
    total, free = _disk(sections.get("disk", ""))
    python = sections.get("python", "").split()
    virtual, emulated = _virtual(sections, machine)
    board = board_facts(sections)
    return DeviceFacts(
        system="android" if android else system,
        distribution=_distribution(sections),
        kernel=kernel or None,
        arch=arch,
        libc="bionic" if android else _libc(sections.get("libc", "")),
        cpu=_cpu(sections),
        cpu_vendor=_cpuinfo(sections, "vendor_id"),
        cpu_features=tuple(sorted(set((_features(sections) or "").split()))),
        cores=_cores(sections),
        memory_bytes=_memory(sections),
        disk_total_bytes=total,
        disk_free_bytes=free,
        gpus=_gpus(sections),
        governors=_unique(sections, "governors") or _power_mode(sections),
        thermal_zones=_unique(sections, "zones"),
        power_rails=_unique(sections, "rails") or _batteries(sections),
        python=python[0] if python and re.fullmatch(r"\d+\.\d+\.\d+", python[0]) else None,
        python_abi=python[1] if len(python) > 1 and python[1] != machine else None,
        runtimes=_runtimes(sections),
        tools=_unique(sections, "tools"),
        virtual=virtual,
        emulated=emulated,
        board=board.board,
        soc=board.soc,
        soc_vendor=board.soc_vendor,
        vendor_release=board.vendor_release,
    )


def arch_of(machine: str, bits: str) -> str:
    """Return the architecture of a device's programs, as targets name it."""
    arch = _ARCHES.get(machine, machine or "unknown")
    return "armv7" if arch == "arm64" and bits == "32" else arch


def _distribution(sections: Sections) -> str | None:
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)"?', sections.get("os-release", ""), re.M)
    if found:
        return found[1].strip()
    release = re.search(r"^ro\.build\.version\.release=(.+)$", sections.get("getprop", ""), re.M)
    if release:
        return f"Android {release[1].strip()}"
    return " ".join(sections.get("sw_vers", "").split()) or None


def _libc(text: str) -> str | None:
    """Return the C library and its version.

    ``getconf GNU_LIBC_VERSION`` prints ``glibc 2.36``; musl's loader, asked as ``ldd``, prints
    ``musl libc (aarch64)`` and ``Version 1.2.3``.
    """
    found = re.search(r"\bglibc (\d+\.\d+)", text)
    if found:
        return f"glibc {found[1]}"
    found = re.search(r"musl libc.*?\bVersion (\d[\d.]*)", text, re.S)
    if found:
        return f"musl {found[1]}"
    found = re.search(r"^ldd \(.*\) (\d+\.\d+)$", text, re.M)
    return f"glibc {found[1]}" if found else None


def _cpuinfo(sections: Sections, key: str) -> str | None:
    found = re.search(rf"^{key}\s*:\s*(.+)$", sections.get("cpuinfo", ""), re.M)
    return found[1].strip() if found else None


# Part numbers of Arm's own cores. Source: Linux, arch/arm64/include/asm/cputype.h.
_ARM_PARTS = {
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd40": "Neoverse-V1",
    "0xd41": "Cortex-A78",
    "0xd42": "Cortex-A78AE",
    "0xd46": "Cortex-A510",
    "0xd49": "Neoverse-N2",
}


def _cpu(sections: Sections) -> str | None:
    """Return the model: x86 names it, Arm gives a part number for each core."""
    named = _cpuinfo(sections, "model name") or sections.get("sysctl", "").split("\n")[0].strip()
    if named:
        return named
    if _cpuinfo(sections, "CPU implementer") != "0x41":
        return _cpuinfo(sections, "Hardware")
    parts = re.findall(r"^CPU part\s*:\s*(0x[0-9a-f]+)$", sections["cpuinfo"], re.M)
    return " + ".join(dict.fromkeys(_ARM_PARTS.get(part, f"part {part}") for part in parts)) or None


def _features(sections: Sections) -> str | None:
    return _cpuinfo(sections, "flags") or _cpuinfo(sections, "Features")


def _cores(sections: Sections) -> int | None:
    lines = [sections.get("cores", "").strip(), *sections.get("sysctl", "").split("\n")[1:2]]
    return next((count for line in lines if (count := _count(line))), None)


def _count(text: str) -> int | None:
    """Return a number as a device may have it: not of as many digits as it likes."""
    return int(text) if re.fullmatch("[0-9]{1,15}", text) else None


def _memory(sections: Sections) -> int | None:
    found = re.search(r"^MemTotal:\s+([0-9]{1,15}) kB", sections.get("meminfo", ""), re.M)
    if found:
        return int(found[1]) * 1024
    lines = sections.get("sysctl", "").split("\n")
    return _count(lines[2]) if len(lines) > 2 else None


def _disk(text: str) -> tuple[int | None, int | None]:
    """Return total and free bytes from ``df -kP`` (columns: POSIX, utilities, df)."""
    found = re.search(r"^\S.*\s([0-9]{1,15})\s+\d+\s+([0-9]{1,15})\s+\d+%\s", text, re.M)
    return (int(found[1]) * 1024, int(found[2]) * 1024) if found else (None, None)


def _gpus(sections: Sections) -> tuple[Gpu, ...]:
    found = []
    for line in sections.get("nvidia-smi", "").splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 4:
            name, driver, capability, memory = parts
            # Where the memory is the system's (Jetson), the tool prints `[N/A]`.
            mib = _count(memory)
            size = None if mib is None else mib << 20
            found.append(
                Gpu(name=name, driver=driver, compute_capability=capability, memory_bytes=size)
            )
    if found:
        return tuple(found)
    for line in sections.get("drm", "").splitlines():
        parts = line.replace("0x", "").split()
        if len(parts) >= 2 and all(re.fullmatch(r"[0-9a-f]{4}", part) for part in parts[:2]):
            found.append(Gpu(name=":".join(parts[:2]), driver=parts[2] if parts[2:] else None))
    return tuple(found)


def _unique(sections: Sections, name: str) -> tuple[str, ...]:
    lines = (line.strip() for line in sections.get(name, "").splitlines())
    return tuple(sorted({line for line in lines if line}))


def _power_mode(sections: Sections) -> tuple[str, ...]:
    """Return the mode that slows a Mac down, when it is on (``pmset -g``)."""
    on = re.search(r"^\s*lowpowermode\s+1$", sections.get("pmset", ""), re.M)
    return ("low power mode",) if on else ()


def _batteries(sections: Sections) -> tuple[str, ...]:
    """Return the batteries of a Mac (``pmset -g batt``: `` -InternalBattery-0 (id=...)``)."""
    found = re.findall(r"^\s*-([A-Za-z0-9-]{1,40}) \(id=", sections.get("pmset", ""), re.M)
    return tuple(f"battery:{name}" for name in sorted(set(found)))


def _runtimes(sections: Sections) -> dict[str, str]:
    matches = re.finditer(r"^([\w-]+) (\d[\w.+-]*)$", sections.get("runtimes", ""), re.M)
    found = {match[1]: match[2] for match in matches}
    library = re.search(r"libnvinfer\.so\.(\d+\.\d+\.\d+)", sections.get("nvinfer", ""))
    return {**found, "libnvinfer": library[1]} if library else found


def _in_user_mode(sections: Sections, machine: str) -> bool:
    """Whether an emulator runs each program, on a kernel for another processor."""
    emulators = (_EMULATOR.search(line) for line in sections.get("emulator", "").splitlines())
    if any(emulators):
        return True
    runs_on = sections.get("kernel-arch", "").strip()
    if runs_on not in ("", machine) and _ARCHES.get(runs_on) != _ARCHES.get(machine):
        return True
    # Older kernels do not name the machine; the processors that they list do.
    is_x86 = (_cpuinfo(sections, "vendor_id") or "").startswith(("Genuine", "Authentic"))
    return is_x86 and _ARCHES.get(machine) in ("arm64", "armv7")


def _translated(sections: Sections, machine: str) -> bool:
    runs_as = sections.get("python", "").split()[-1:]
    return machine == "arm64" and runs_as == ["x86_64"]


def _virtual(sections: Sections, machine: str) -> tuple[str, bool]:
    """Return the hypervisor or container host, and whether instructions are emulated."""
    if _in_user_mode(sections, machine):
        return "qemu-user", True
    cpuinfo, dmi = sections.get("cpuinfo", ""), sections.get("dmi", "").lower()
    if "QEMU TCG" in cpuinfo or "QEMU Virtual CPU" in cpuinfo:
        return "QEMU (TCG)", True
    # QEMU does not say whether KVM or its own interpreter runs a machine; on x86 the name of the
    # processor tells, and any other machine of its is no board.
    if "linux,dummy-virt" in sections.get("compatible", "") or (
        "qemu" in dmi and _ARCHES.get(machine) != "x86-64"
    ):
        return "QEMU", True
    # Rosetta translates the programs of the other architecture: its Python is one of them.
    if sections["uname"].startswith("Darwin") and _translated(sections, machine):
        return "Rosetta 2", True
    if re.search(r"^kern\.hv_vmm_present: 1$", sections.get("mac", ""), re.M):
        return "hypervisor", False
    for word in _HYPERVISORS:
        if word.lower() in dmi:
            return word, False
    container = sections.get("container", "").split()
    if container:
        return container[0], False
    return "hypervisor" if "hypervisor" in (_features(sections) or "").split() else "", False
