"""Machines that the stand-ins play: a GPU, its software, and the files that tell of them.

The files have the form that NVIDIA's own have; their numbers are composed. What marks all of it as
no GPU is in the programs: each says `edgedeploy stand-in`.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
FLAGS = HERE / "flags"
PARTS = ("trtexec-log.sh", "trtexec-build.sh", "trtexec-run.sh")
PARTS += ("graph.awk", "layers.awk", "export.awk", "operators-refused.txt")

MODES = ("oom", "killed", "hang", "hang-run", "full", "empty", "nofile", "garbage")
"""Ways in which a stand-in trtexec fails, for `fail` of its settings."""

INSTALLED = "usr/lib/edgedeploy-stand-in"
"""Folder of the stand-ins on a device."""

TRTEXEC = "usr/src/tensorrt/bin"
"""Where NVIDIA's packages put trtexec."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One machine as a probe sees it.

    Attributes:
        flags: Name of its options in ``flags/``.
        release: TensorRT's version, `major.minor.patch`.
        build: Fourth part of that version.
        tag: Serialization version of its engines. 236 and 239 are those of 8.6 and of a 10.x
            (public logs: NVIDIA/TensorRT#3898, ComfyUI-Dwpose-Tensorrt#5); the others are made up.
        gpu: As CUDA names it.
        compute: Compute capability.
        sms: Multiprocessors.
        memory_mib: Memory, as CUDA tells it.
        clock_ghz: Highest clock.
        arch: What ``uname -m`` prints.
        cuda: CUDA's version.
        driver: The driver's version.
        jetson: Model in the device tree; None for a server.
        l4t: Jetson Linux, such as `36.4.3`; None for a server.
        smi: Whether it has nvidia-smi.
        power_mode: As nvpmodel names it.
    """

    flags: str
    release: str
    build: int
    tag: int
    gpu: str
    compute: str
    sms: int
    memory_mib: int
    clock_ghz: float
    arch: str
    cuda: str
    driver: str
    jetson: str | None = None
    l4t: str | None = None
    smi: bool = True
    power_mode: str = "15W"

    @property
    def number(self) -> int:
        """TensorRT's version as its banner has it: 8602, 100300."""
        major, minor, patch = map(int, self.release.split("."))
        return major * (1000 if major < 10 else 10000) + minor * 100 + patch

    def settings(self, **changes: object) -> str:
        """Return what the programs read.

        Args:
            changes: ``fail`` (one of :data:`MODES`), ``build_s`` (of a build without a timing
                cache), ``run_s`` (of an inference phase), ``infer_ms`` (which it reports).
        """
        nothing = "[N/A]"
        values: dict[str, Any] = {
            "version": self.number,
            "release": self.release,
            "build": self.build,
            "tag": self.tag,
            "gpu": self.gpu,
            "compute": self.compute,
            "sms": self.sms,
            "memory_mib": self.memory_mib,
            "clock_ghz": self.clock_ghz,
            "uuid": "GPU-00000000-edde-0000-0000-000000000000",
            "machine": self.arch,
            "cuda": ".".join(self.cuda.split(".")[:2]),
            "driver": self.driver,
            "model": self.jetson or "",
            "power_mode": self.power_mode,
            "power_mode_id": 0,
            "smi_name": f"{self.gpu} (nvgpu)" if self.jetson else self.gpu,
            "smi_memory": nothing if self.jetson else self.memory_mib,
            "smi_power": nothing if self.jetson else "31.20",
            "smi_limit": nothing if self.jetson else "72.00",
            "smi_clock": nothing if self.jetson else int(self.clock_ghz * 1000),
            "smi_heat": nothing if self.jetson else 41,
            "build_s": 0.5,
            "run_s": 0.05,
            "infer_ms": 1.5,
            "fail": "",
        }
        if unknown := set(changes) - set(values):
            raise ValueError(f"no such settings: {sorted(unknown)}")
        values.update(changes)
        return "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in values.items())


ORIN = Machine(
    flags="10.3",
    release="10.3.0",
    build=30,
    tag=239,
    gpu="Orin",
    compute="8.7",
    sms=8,
    memory_mib=7620,
    clock_ghz=0.625,
    arch="aarch64",
    cuda="12.6.68",
    driver="540.4.0",
    jetson="NVIDIA Jetson Orin Nano Developer Kit",
    l4t="36.4.3",
)
SERVER = Machine(
    flags="10.14",
    release="10.14.1",
    build=48,
    tag=242,
    gpu="NVIDIA L4",
    compute="8.9",
    sms=58,
    memory_mib=22563,
    clock_ghz=2.04,
    arch="x86_64",
    cuda="13.0.1",
    driver="580.95.05",
)

MACHINES = MappingProxyType(
    {
        # TensorRT 8.6.2 came with JetPack 6.0 (Jetson Linux 36.3); JetPack 5 stays at 8.5.2.
        "orin-trt8.6": replace(
            ORIN, flags="8.6", release="8.6.2", build=3, tag=236, cuda="12.2.140", l4t="36.3.0"
        ),
        "orin-trt10.3": ORIN,
        "server-trt10.14": SERVER,
        "server-trt11.1": replace(
            SERVER,
            flags="11.1",
            release="11.1.0",
            build=106,
            tag=250,
            gpu="NVIDIA H100 PCIe",
            compute="9.0",
            sms=114,
            memory_mib=81559,
            clock_ghz=1.755,
            cuda="13.1.0",
            driver="590.44.01",
        ),
    }
)
"""By name: one for each version of TensorRT that the product knows a command line of."""


def programs(machine: Machine) -> tuple[str, ...]:
    """Return the names of the programs that a machine has."""
    names = ["trtexec"]
    if machine.jetson:
        names += ["tegrastats", "nvpmodel", "jetson_clocks"]
    if machine.smi:
        names.append("nvidia-smi")
    return tuple(names)


def install(machine: Machine, root: Path, seen: str = "/", **changes: object) -> Path:
    """Write a machine's programs and files below a folder; return the folder of trtexec.

    Args:
        machine: Which.
        root: A device's root folder as this machine sees it, or any folder.
        seen: How the device itself calls that folder.
        changes: As for :meth:`Machine.settings`.
    """
    place = root / INSTALLED
    place.mkdir(parents=True, exist_ok=True)
    here = f"{seen.rstrip('/')}/{INSTALLED}"
    for name in PARTS:
        (place / name).write_text((PROGRAMS / name).read_text())
    (place / "flags.txt").write_text((FLAGS / f"{machine.flags}.txt").read_text())
    (place / "settings").write_text(machine.settings(**changes))
    folder = root / TRTEXEC
    for name in programs(machine):
        write_program(name, (folder if name == "trtexec" else root / "usr/bin") / name, here)
    for path, text in files(machine).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return folder


def change(machine: Machine, root: Path, **changes: object) -> None:
    """Write the settings of an installed machine anew, as for :meth:`Machine.settings`."""
    (root / INSTALLED / "settings").write_text(machine.settings(**changes))


def write_program(name: str, goal: Path, here: str, **words: str) -> None:
    """Write one of the programs.

    Args:
        name: Of its file in ``programs/``.
        goal: Where to.
        here: The folder of the stand-ins, as the program will see it.
        words: What stands for `@WORD@` in it.
    """
    text = (PROGRAMS / name).read_text().replace("@HERE@", here)
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    goal.parent.mkdir(parents=True, exist_ok=True)
    goal.unlink(missing_ok=True)  # never through a link, such as busybox's
    goal.write_text(text)
    goal.chmod(0o755)


def files(machine: Machine) -> dict[str, str]:
    """Return the files that tell of a machine, by their path below its root.

    Source of the forms: NvInferVersion.h of release 10.0.1 (362a6257) and 11.1.0 (d5883286);
    ``/etc/nv_tegra_release`` as edgedeploy's own probe reads it; CUDA's ``version.json``.
    """
    major, minor, patch = machine.release.split(".")
    parts = {"MAJOR": major, "MINOR": minor, "PATCH": patch, "BUILD": str(machine.build)}
    lines = ["// edgedeploy stand-in"]
    if int(major) >= 11:
        lines += [f"#define TRT_{name}_ENTERPRISE {value}" for name, value in parts.items()]
        parts = {name: f"TRT_{name}_ENTERPRISE" for name in parts}
    lines += [f"#define NV_TENSORRT_{name} {value} //!< TensorRT" for name, value in parts.items()]
    triple = "aarch64-linux-gnu" if machine.arch == "aarch64" else "x86_64-linux-gnu"
    found = {
        f"usr/include/{triple}/NvInferVersion.h": "\n".join(lines) + "\n",
        "usr/local/cuda/version.json": '{\n   "cuda" : {\n      "name" : "CUDA SDK",\n'
        f'      "version" : "{machine.cuda}"\n   }}\n}}\n',
    }
    if machine.l4t:
        release, _, revision = machine.l4t.partition(".")
        found["etc/nv_tegra_release"] = (
            f"# R{release} (release), REVISION: {revision}, GCID: 0, BOARD: generic, "
            "EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n"
        )
    if machine.jetson:
        tree = f"{INSTALLED}/firmware/devicetree/base"
        found[f"{tree}/model"] = machine.jetson + "\0"
        found[f"{tree}/compatible"] = (
            "nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0"
        )
    return found
