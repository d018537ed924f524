"""What a device says of itself, as far as a record needs it, and whether it is real."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedeploy.bench.host import linux_facts
from edgedeploy.errors import DeviceError
from edgedeploy.remote import Remote, printable

_FILES = (
    "etc/os-release",
    "proc/cpuinfo",
    "proc/meminfo",
    "proc/sys/kernel/osrelease",
    "sys/class/dmi/id/product_name",
    "sys/class/dmi/id/sys_vendor",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
    "sys/firmware/devicetree/base/model",
)
_FILE_BYTES = 1 << 18
_TEXT = 200
_EMULATOR = re.compile(r"(?:^|/)(qemu-[a-z0-9_-]+|[a-z0-9_]+-binfmt(?:-[A-Z]+)?)$")
_X86 = ("x86_64", "i686", "i586", "i386")
_MACHINE = re.compile(r"[A-Za-z0-9_]{1,32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a device is.

    Attributes:
        facts: As :func:`edgedeploy.bench.host.host_facts`.
        machine: Architecture as ``uname -m`` names it.
        emulated: What computes instead of the hardware that it seems to be; empty where nothing
            of that kind was seen.
    """

    facts: Mapping[str, Any]
    machine: str
    emulated: str


def identify(remote: Remote) -> Identity:
    """Ask a device in one command what it is.

    Raises:
        DeviceError: The answer is none (E474), or the connection fails.
    """
    mark = f"edgedeploy-{os.urandom(6).hex()}"
    answer = remote.run(
        f"for file in {' '.join(_FILES)}; do\n"
        f'[ -r "/$file" ] || continue; printf "\\n{mark} %s\\n" "$file"; '
        f'head -c {_FILE_BYTES} "/$file" | tr "\\000" "\\n"; done\n'
        # An emulator that runs one program shows itself to every process but its own.
        f'printf "\\n{mark} emulator\\n"; tr "\\000" " " < /proc/$$/cmdline | head -c 400; '
        "echo; readlink /proc/$$/exe\n"
        f'printf "\\n{mark} machine\\n"; uname -m; printf "\\n{mark} end\\n"'
    )
    said: dict[str, str] = {}
    for part in answer.stdout.decode("utf-8", "replace").split(f"\n{mark} ")[1:]:
        name, _, content = part.partition("\n")
        said[name] = content.strip("\n")
    machine = said.get("machine", "").strip()
    if "end" not in said or not _MACHINE.fullmatch(machine):
        raise DeviceError(
            f"{remote.name} does not say what it is",
            code="E474",
            subject=remote.name,
            hint="see what its login shell prints; `sh` with `head`, `tr` and `uname` is needed",
        )
    with tempfile.TemporaryDirectory() as folder:
        for name in _FILES:
            if name in said:
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(said[name] + "\n", encoding="utf-8")
        facts = linux_facts(Path(folder), machine)
    facts = {
        key: printable(value[:_TEXT].encode()) if isinstance(value, str) else value
        for key, value in facts.items()
    }
    emulated = _emulated(said, machine)
    if not emulated and facts["virtual"] == "QEMU" and machine not in _X86:
        # With hardware help or without, it cannot be told; a board it is not.
        emulated = "QEMU virtual machine"
    return Identity(facts=facts, machine=machine, emulated=emulated)


def _emulated(said: Mapping[str, str], machine: str) -> str:
    """Return what emulates the processor, as far as it shows."""
    for line in said.get("emulator", "").splitlines():
        found = _EMULATOR.search(line.split(" ")[0])
        if found:
            return found[1]
    cpuinfo = said.get("proc/cpuinfo", "")
    if "QEMU TCG" in cpuinfo or "QEMU Virtual CPU" in cpuinfo:
        return "qemu (TCG)"
    if machine not in _X86 and re.search(r"^vendor_id\s*: (?:Genuine|Authentic)", cpuinfo, re.M):
        return f"an emulator of {machine} on x86"
    return ""
