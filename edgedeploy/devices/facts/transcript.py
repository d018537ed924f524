"""The commands of a probe, and the transcript of what they print."""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Mapping

from edgedeploy.errors import DeviceError
from edgedeploy.remote import Remote, printable

SECTION_BYTES = 16 << 10
_LIMIT_BYTES = 1 << 20
TIMEOUT_S = 60.0

# Name of a section -> shell command. They run in one POSIX shell; what is missing prints nothing.
COMMANDS: Mapping[str, str] = {
    "uname": "uname -s; uname -r; uname -m",
    "os-release": "cat /etc/os-release || cat /usr/lib/os-release",
    "sw_vers": "sw_vers -productName; sw_vers -productVersion",
    "getprop": "for p in ro.build.version.release ro.build.id ro.product.model ro.soc.manufacturer "
    'ro.soc.model ro.board.platform ro.product.cpu.abi; do echo "$p=$(getprop $p)"; done',
    "libc": "getconf GNU_LIBC_VERSION || ldd --version 2>&1",
    "bits": "getconf LONG_BIT",
    "cpuinfo": "cat /proc/cpuinfo",
    "cores": "grep -c '^processor' /proc/cpuinfo",
    "sysctl": "sysctl -n machdep.cpu.brand_string hw.logicalcpu hw.memsize",
    "mac": "sysctl hw.model kern.hv_vmm_present; sw_vers -buildVersion",
    "pmset": "pmset -g; pmset -g batt; pmset -g therm",
    "meminfo": "grep MemTotal /proc/meminfo",
    "disk": 'f=$root; while [ ! -d "$f" ] && [ "$f" != / ]; do f=$(dirname "$f"); done; '
    'df -kP "$f"',
    "model": "cat /proc/device-tree/model",
    "compatible": "cat /proc/device-tree/compatible",
    "dmi": "cat /sys/class/dmi/id/sys_vendor /sys/class/dmi/id/product_name",
    "l4t": "head -n 1 /etc/nv_tegra_release",
    "nvidia-smi": "nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total "
    "--format=csv,noheader,nounits",
    "drm": "for d in /sys/class/drm/card[0-9]/device; do "
    'echo "$(cat $d/vendor) $(cat $d/device) $(basename $(readlink $d/driver))"; done',
    "governors": "cat /sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor",
    "zones": "cat /sys/class/thermal/thermal_zone[0-9]*/type",
    "rails": "cat /sys/class/hwmon/hwmon*/in[0-9]*_label /sys/class/hwmon/hwmon*/power*_label; "
    "for z in /sys/class/powercap/intel-rapl:[0-9]*; do "
    '[ -r $z/energy_uj ] && echo "rapl:$(cat $z/name)"; done; '
    "for b in /sys/class/power_supply/*; do "
    '[ "$(cat $b/type)" = Battery ] && echo "battery:$(basename $b)"; done',
    "python": '$python -c \'import os, sys, sysconfig; print("%d.%d.%d" % sys.version_info[:3]); '
    'print(sysconfig.get_config_var("SOABI") or ""); print(os.uname()[4])\'',
    "runtimes": "$python -c '"
    "import importlib.metadata as m\n"
    'for n in ("onnxruntime", "onnxruntime-gpu", "openvino", "coremltools", "tensorrt", "numpy"):\n'
    "  try: print(n, m.version(n))\n"
    "  except m.PackageNotFoundError: pass'",
    "nvinfer": "ls /usr/lib/*/libnvinfer.so.[0-9]* /usr/lib/libnvinfer.so.[0-9]*",
    "tools": "for t in awk busybox bash dd df flock gzip head mv nvpmodel python3 readlink setsid "
    "sha256sum sync tail taskset tegrastats timeout vcgencmd wget curl xz zstd; do "
    "command -v $t > /dev/null && echo $t; done",
    "container": "[ -e /.dockerenv ] && echo docker; [ -e /run/.containerenv ] && echo podman; "
    "cat /run/systemd/container",
    # Under user-mode emulation the command line or the program of a process is the emulator, and
    # the kernel names the machine that it runs on (/proc/sys/kernel/arch, since Linux 6.1).
    "emulator": "for p in $$ $PPID 1; do "
    "tr '\\000' '\\n' < /proc/$p/cmdline | head -n 1; readlink /proc/$p/exe; done",
    "kernel-arch": "cat /proc/sys/kernel/arch",
}

_NAME = re.compile(r"[a-z0-9_-]{1,32}")


def script(
    nonce: str, root: str, python: str | None, commands: Mapping[str, str] = COMMANDS
) -> str:
    """Return the shell script of a probe; every section starts with ``@nonce name``."""
    home = f'"$HOME"/{shlex.quote(root[2:])}' if root.startswith("~/") else shlex.quote(root)
    lines = [
        "LC_ALL=C; export LC_ALL; PATH=$PATH:/usr/sbin:/sbin:/opt/vc/bin; export PATH",
        f"root={'$HOME' if root == '~' else home}; python={shlex.quote(python or 'python3')}",
    ]
    for name, command in commands.items():
        lines.append(f"echo; echo '@{nonce} {name}'")
        # NUL bytes end device-tree texts and command lines; as line ends they are readable.
        lines.append(
            f"{{ {command}\n}} 2>/dev/null </dev/null | head -c {SECTION_BYTES} | tr '\\000' '\\n'"
        )
    lines.append(f"echo; echo '@{nonce} end'")
    return "\n".join(lines)


def record(
    remote: Remote,
    root: str = "~",
    python: str | None = None,
    *,
    commands: Mapping[str, str] = COMMANDS,
    timeout_s: float = TIMEOUT_S,
) -> dict[str, str]:
    """Run a probe and return what each command printed, by section.

    Args:
        remote: The device.
        root: ``$root`` of the commands.
        python: ``$python`` of the commands; None takes ``python3``.
        commands: Name of a section -> shell command; ``uname`` among them.
        timeout_s: For all of them.

    Raises:
        DeviceError: The connection fails (E403-E406), or the answer is no transcript (E450).
    """
    nonce = secrets.token_hex(8)
    # By standard input: dropbear takes no command of this length.
    done = remote.run(
        "exec /bin/sh -s",
        stdin=script(nonce, root, python, commands).encode(),
        timeout_s=timeout_s,
        limit_bytes=_LIMIT_BYTES,
    )
    sections = split(done.stdout.decode("utf-8", "replace"), nonce)
    if "end" not in sections or not sections.get("uname", "").strip():
        said = printable(done.stderr or done.stdout)[-200:].strip()
        raise DeviceError(
            f"the probe of {remote.name} ended early (status {done.status}): {said or 'no output'}",
            code="E450",
            subject=remote.name,
            hint="log in by hand and see whether `sh` runs commands there",
        )
    return sections


def split(text: str, nonce: str) -> dict[str, str]:
    """Return the sections of a transcript; what stands before the first one is noise."""
    sections: dict[str, str] = {}
    for part in text.split(f"\n@{nonce} ")[1:]:
        name, _, content = part.partition("\n")
        if _NAME.fullmatch(name) and name not in sections:
            sections[name] = printable(content.expandtabs(1).encode()[: 2 * SECTION_BYTES])
    return sections
