"""Running arm64 programs on another processor: qemu's user mode behind binfmt_misc.

The kernel is told once that arm64 programs are run by qemu. The flag F makes it open qemu at that
moment, so that it also works behind chroot, where no qemu lies.
"""

import contextlib
import os
import platform
import shutil
import struct
import subprocess
from pathlib import Path

from tests.lab.place import PREFIX, RUN, LabError, call

BINFMT = Path("/proc/sys/fs/binfmt_misc")

_OURS = f"{PREFIX}-aarch64"
_MAGIC = r"\x7fELF\x02\x01\x01\x00" + r"\x00" * 8 + r"\x02\x00\xb7\x00"
_MASK = r"\xff" * 7 + r"\x00" + r"\xff" * 8 + r"\xfe\xff\xff\xff"

# What Linux calls the features, and the part number of the core (Arm's technical reference
# manuals, MIDR_EL1), for each CPU model of qemu that the lab offers.
_ARMV8 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_ARMV82 = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop"
)
CPUS = {
    "cortex-a53": (0xD03, 4, _ARMV8),
    "cortex-a72": (0xD08, 3, _ARMV8),
    "neoverse-n1": (0xD0C, 1, f"{_ARMV82} asimddp"),
}
"""CPU models: part number, revision, features. Under qemu's default, `max`, runtimes go wrong."""


def cpuinfo(cpu: str, cores: int) -> str:
    """Return what /proc/cpuinfo says on a board with such a CPU; qemu shows the host's own."""
    part, revision, features = CPUS[cpu]
    core = (
        "processor\t: {number}\nBogoMIPS\t: 108.00\n"
        f"Features\t: {features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        f"CPU variant\t: 0x0\nCPU part\t: 0x{part:03x}\nCPU revision\t: {revision}\n\n"
    )
    return "".join(core.format(number=number) for number in range(cores))


def find_qemu() -> str | None:
    """Return the path of the emulator, which must be the one that needs no libraries."""
    return shutil.which("qemu-aarch64-static")


def is_native(architecture: str) -> bool:
    """Return whether this machine's processor runs programs of a Debian architecture itself."""
    return {"amd64": "x86_64", "arm64": "aarch64"}[architecture] == platform.machine()


def register() -> None:
    """Make the kernel run arm64 programs, if it does not yet. Call it under the lab's lock.

    Raises:
        LabError: There is no emulator, or the kernel does not let us.
    """
    if runs_arm64():
        return
    qemu = find_qemu()
    if qemu is None:
        raise LabError("qemu-aarch64-static is missing; it is in Debian's qemu-user-static")
    if not (BINFMT / "register").exists():
        call(["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT])
        (RUN / "binfmt-mounted").touch()
    with contextlib.suppress(OSError):
        (BINFMT / _OURS).write_text("-1")  # one of ours that does not work
    try:
        (BINFMT / "register").write_text(f":{_OURS}:M::{_MAGIC}:{_MASK}:{qemu}:OPF")
    except OSError as error:
        raise LabError(f"the kernel refuses a binfmt_misc entry: {error}") from None
    if not runs_arm64():
        raise LabError("arm64 programs do not run, though qemu is registered with binfmt_misc")


def unregister() -> None:
    """Take away what :func:`register` made, and nothing else. Call it under the lab's lock."""
    with contextlib.suppress(OSError):
        (BINFMT / _OURS).write_text("-1")
    if (RUN / "binfmt-mounted").exists():
        with contextlib.suppress(LabError):
            call(["umount", BINFMT])
        (RUN / "binfmt-mounted").unlink()


def runs_arm64() -> bool:
    """Return whether an arm64 program runs here behind chroot: really runs one."""
    RUN.mkdir(exist_ok=True)
    program = RUN / f"arm64-{os.getpid()}"
    program.write_bytes(_tiny_program())
    program.chmod(0o755)
    try:
        done = subprocess.run(["chroot", RUN, f"/{program.name}"], capture_output=True, timeout=20)
        return done.returncode == 42
    except (OSError, subprocess.TimeoutExpired):
        return False
    finally:
        program.unlink()


def _tiny_program() -> bytes:
    """Return a static arm64 program that ends with status 42: `mov x0, 42; mov x8, 93; svc 0`."""
    code = struct.pack("<3I", 0xD2800540, 0xD2800BA8, 0xD4000001)
    base, headers = 0x400000, 64 + 56
    elf = b"\x7fELF\x02\x01\x01" + bytes(9)
    elf += struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, base + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    size = headers + len(code)
    return elf + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000) + code
