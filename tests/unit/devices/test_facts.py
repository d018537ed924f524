"""Probes: parsers on transcripts, the script on real shells, and whether a device fits a target."""

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.deploy.fit import check_device
from edgedeploy.devices.facts import DeviceFacts, Gpu, probe
from edgedeploy.devices.facts.parse import facts_of
from edgedeploy.devices.facts.transcript import COMMANDS, record, script, split
from edgedeploy.devices.local import LocalRemote
from edgedeploy.errors import DeviceError
from edgedeploy.remote import Finished
from edgedeploy.target.library import TargetLibrary

TRANSCRIPTS = Path(__file__).parent / "transcripts"


def recorded(name: str) -> DeviceFacts:
    """Return the facts of a recorded transcript."""
    return facts_of(split((TRANSCRIPTS / f"{name}.txt").read_text(), "0"))


def test_a_virtual_x86_machine() -> None:
    """Recorded on a Debian 12 virtual machine."""
    facts = recorded("x86-64-vm")
    assert (facts.system, facts.arch, facts.libc) == ("linux", "x86-64", "glibc 2.36")
    assert facts.distribution == "Debian GNU/Linux 12 (bookworm)"
    assert (facts.cpu, facts.cpu_vendor, facts.cores) == ("AMD EPYC", "AuthenticAMD", 2)
    assert "avx512_vnni" in facts.cpu_features
    assert facts.memory_bytes == 24684084 * 1024
    assert facts.disk_free_bytes == 49612752 * 1024
    assert (facts.python, facts.python_abi) == ("3.11.7", "cpython-311-x86_64-linux-gnu")
    assert facts.runtimes == {"numpy": "2.4.6"}
    assert facts.virtual and not facts.emulated
    assert facts.board is None and facts.gpus == ()


ARM_FEATURES = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimddp"


def arm_cpuinfo(*parts: str) -> str:
    """Return what Linux prints for arm64 cores (format: arch/arm64/kernel/cpuinfo.c)."""
    return "\n\n".join(
        f"processor : {number}\nBogoMIPS : 108.00\nFeatures : {ARM_FEATURES}\n"
        f"CPU implementer : 0x41\nCPU architecture: 8\nCPU variant : 0x4\nCPU part : {part}"
        for number, part in enumerate(parts)
    )


# Composed, not recorded: model and compatible strings from the kernel's device trees
# (arch/arm64/boot/dts), other formats from the vendors' manuals.
BOARDS = {
    "bcm2712-rpi-5-b.dts": (
        {
            "model": "Raspberry Pi 5 Model B Rev 1.0\n",
            "compatible": "raspberrypi,5-model-b\nbrcm,bcm2712\n",
            "cpuinfo": arm_cpuinfo("0xd0b", "0xd0b", "0xd0b", "0xd0b"),
        },
        ("Raspberry Pi 5 Model B Rev 1.0", "BCM2712", "Broadcom", "Cortex-A76"),
    ),
    "tegra234-p3768-0000+p3767-0005.dts": (
        {
            "model": "NVIDIA Jetson Orin Nano Developer Kit\n",
            "compatible": "nvidia,p3768-0000+p3767-0005\nnvidia,p3767-0005\nnvidia,tegra234\n",
            "cpuinfo": arm_cpuinfo("0xd42"),
            "l4t": "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic, EABI: aarch64",
        },
        ("NVIDIA Jetson Orin Nano Developer Kit", "Orin (T234)", "NVIDIA", "Cortex-A78AE"),
    ),
    "rk3588-rock-5b.dts": (
        {
            "model": "Radxa ROCK 5B\n",
            "compatible": "radxa,rock-5b\nrockchip,rk3588\n",
            "cpuinfo": arm_cpuinfo("0xd05", "0xd05", "0xd0b"),
        },
        ("Radxa ROCK 5B", "RK3588", "Rockchip", "Cortex-A55 + Cortex-A76"),
    ),
    "imx8mp-evk.dts": (
        {
            "model": "NXP i.MX8MPlus EVK board\n",
            "compatible": "fsl,imx8mp-evk\nfsl,imx8mp\n",
            "cpuinfo": arm_cpuinfo("0xd03"),
        },
        ("NXP i.MX8MPlus EVK board", "IMX8MP", "NXP", "Cortex-A53"),
    ),
}


@pytest.mark.parametrize("name", BOARDS)
def test_boards_by_their_device_tree(name: str) -> None:
    sections, expected = BOARDS[name]
    facts = facts_of({"uname": "Linux\n6.6.20\naarch64\n", **sections})
    assert (facts.board, facts.soc, facts.soc_vendor, facts.cpu) == expected
    assert facts.arch == "arm64" and not facts.virtual and not facts.emulated
    assert "asimddp" in facts.cpu_features


def test_the_release_of_a_jetson() -> None:
    sections, _ = BOARDS["tegra234-p3768-0000+p3767-0005.dts"]
    facts = facts_of({"uname": "Linux\n5.15\naarch64", **sections})
    assert facts.vendor_release == "L4T R36.4.3"


def test_an_nvidia_gpu_with_and_without_its_own_memory() -> None:
    """Columns of ``nvidia-smi --query-gpu``; a Jetson prints [N/A] for memory."""
    text = "NVIDIA H100 80GB HBM3, 570.86, 9.0, 81559\nOrin (nvgpu), 540.4.0, 8.7, [N/A]\n"
    assert facts_of({"uname": "Linux\n6\nx86_64", "nvidia-smi": text}).gpus == (
        Gpu(
            name="NVIDIA H100 80GB HBM3",
            driver="570.86",
            compute_capability="9.0",
            memory_bytes=81559 << 20,
        ),
        Gpu(name="Orin (nvgpu)", driver="540.4.0", compute_capability="8.7", memory_bytes=None),
    )


def test_an_intel_gpu_by_its_ids() -> None:
    text = "0x8086 0x46a6 i915\n"
    facts = facts_of({"uname": "Linux\n6\nx86_64", "drm": text})
    assert facts.gpus == (Gpu(name="8086:46a6", driver="i915"),)


def test_an_android_shell() -> None:
    properties = (
        "ro.build.version.release=14\nro.build.id=UQ1A.240205.004\nro.product.model=Phone\n"
        "ro.soc.manufacturer=QTI\nro.soc.model=SM8550\nro.board.platform=kalama\n"
        "ro.product.cpu.abi=arm64-v8a\n"
    )
    facts = facts_of({"uname": "Linux\n5.15\naarch64", "getprop": properties})
    assert (facts.system, facts.libc, facts.soc) == ("android", "bionic", "SM8550")
    assert facts.distribution == "Android 14" and facts.vendor_release == "UQ1A.240205.004"


def test_an_apple_machine() -> None:
    facts = facts_of(
        {
            "uname": "Darwin\n23.1.0\narm64",
            "sw_vers": "macOS\n14.1\n",
            "sysctl": "Apple M2\n8\n17179869184\n",
        }
    )
    assert (facts.system, facts.arch, facts.cpu) == ("darwin", "arm64", "Apple M2")
    assert (facts.cores, facts.memory_bytes) == (8, 16 << 30)
    assert facts.distribution == "macOS 14.1"


@pytest.mark.parametrize(
    ("text", "libc"),
    [
        ("glibc 2.31\n", "glibc 2.31"),
        ("ldd (Debian GLIBC 2.36-9+deb12u14) 2.36\n", "glibc 2.36"),
        ("musl libc (aarch64)\nVersion 1.2.3\nDynamic Program Loader\n", "musl 1.2.3"),
        ("sh: ldd: not found\n", None),
    ],
)
def test_c_libraries(text: str, libc: str | None) -> None:
    assert facts_of({"uname": "Linux\n6\naarch64", "libc": text}).libc == libc


X86_CPUINFO = "processor : 0\nvendor_id : AuthenticAMD\nmodel name : AMD EPYC\nflags : hypervisor\n"
BINFMT = "/usr/libexec/qemu-binfmt/aarch64-binfmt-P"


@pytest.mark.parametrize(
    ("sections", "virtual", "emulated"),
    [
        ({"emulator": "/usr/bin/qemu-aarch64-static\n/usr/bin/dash\n"}, "qemu-user", True),
        ({"emulator": "sh\n/usr/bin/qemu-aarch64\n"}, "qemu-user", True),
        ({"emulator": f"{BINFMT}\n"}, "qemu-user", True),
        ({"emulator": "sh\n/opt/qemu-tools/bin/sh\n/usr/bin/qemu-system-x86_64\n"}, "", False),
        ({"cpuinfo": X86_CPUINFO}, "qemu-user", True),
        ({"kernel-arch": "x86_64\n"}, "qemu-user", True),
        ({"dmi": "QEMU\n"}, "QEMU", True),
        ({"kernel-arch": "aarch64\n"}, "", False),
        ({"compatible": "linux,dummy-virt\n"}, "QEMU", True),
        ({"dmi": "Amazon EC2\nm7g.large\n"}, "Amazon EC2", False),
        ({"container": "docker\n"}, "docker", False),
    ],
)
def test_what_is_no_hardware(sections: dict[str, str], virtual: str, emulated: bool) -> None:
    facts = facts_of({"uname": "Linux\n6\naarch64", **sections})
    assert (facts.virtual, facts.emulated) == (virtual, emulated)


def test_an_x86_machine_of_qemu_is_emulated_when_its_processor_is() -> None:
    """With KVM the processor is real, whoever made the machine."""
    by_qemu = {"uname": "Linux\n6\nx86_64", "dmi": "QEMU\nStandard PC\n"}
    facts = facts_of({**by_qemu, "cpuinfo": X86_CPUINFO})
    assert (facts.virtual, facts.emulated) == ("QEMU", False)
    tcg = X86_CPUINFO.replace("AMD EPYC", "QEMU TCG CPU version 2.5+")
    facts = facts_of({**by_qemu, "cpuinfo": tcg})
    assert (facts.virtual, facts.emulated) == ("QEMU (TCG)", True)


def test_a_shell_that_is_emulated_is_seen(tmp_path: Path) -> None:
    """What looks like an emulator's process is one, whichever program it runs."""
    emulator = tmp_path / "qemu-test"
    emulator.symlink_to("/bin/sh")
    done = subprocess.run([emulator], input=script("n0", "~", None).encode(), stdout=-1)
    assert facts_of(split(done.stdout.decode(), "n0")).virtual == "qemu-user"


def test_32_bit_programs_on_a_64_bit_kernel() -> None:
    facts = facts_of({"uname": "Linux\n6.6\naarch64", "bits": "32\n"})
    assert facts.arch == "armv7"


SHELLS = [
    shell
    for shell in ("sh", "dash", "bash --posix", "busybox sh")
    if shutil.which(shell.split()[0])
]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_runs_in_any_shell(shell: str) -> None:
    """Every section is there once, and facts of this machine are true."""
    done = subprocess.run(shell.split(), input=script("n0", "~", None).encode(), stdout=-1)
    text = done.stdout.decode()
    assert re.findall(r"^@n0 (.*)$", text, re.M) == [*COMMANDS, "end"]
    facts = facts_of(split(text, "n0"))
    assert facts.kernel == subprocess.check_output(["uname", "-r"], text=True).strip()


def test_a_probe_of_this_machine() -> None:
    facts = probe(LocalRemote(), "~/.edgedeploy")
    meminfo = Path("/proc/meminfo").read_text()
    assert facts.memory_bytes == int(re.search(r"MemTotal:\s+(\d+)", meminfo)[1]) * 1024
    assert facts.disk_free_bytes and facts.disk_total_bytes
    assert DeviceFacts.from_json(facts.to_json()) == facts
    assert "python3" in facts.tools


def test_a_root_with_odd_letters_is_a_root(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    assert probe(LocalRemote(), f"/tmp/$(touch {canary});'`touch {canary}`").disk_free_bytes
    assert not canary.exists()


def test_the_digest_leaves_out_what_changes_by_itself() -> None:
    facts = recorded("x86-64-vm")
    same = dataclasses.replace(facts, disk_free_bytes=1, governors=("powersave",))
    assert same.digest == facts.digest
    assert dataclasses.replace(facts, kernel="6.19").digest != facts.digest


class Lying:
    """A device that answers what it likes."""

    name = "liar"

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    def run(self, command: str, **_: object) -> Finished:
        return Finished(status=1, stdout=self.answer, stderr=b"\x1b[31mno shell\x07")


@pytest.mark.parametrize("answer", [b"", b"\n@x uname\nLinux", b"This account is closed.\n"])
def test_no_transcript_is_told(answer: bytes) -> None:
    with pytest.raises(DeviceError, match="status 1") as caught:
        record(Lying(answer))
    assert caught.value.diagnostics[0].code == "E450" and "\x1b" not in str(caught.value)


@given(st.dictionaries(st.sampled_from(list(COMMANDS)), st.text(max_size=300)))
def test_no_transcript_breaks_the_parsers(sections: dict[str, str]) -> None:
    facts = facts_of({"uname": "Linux\n6\naarch64", **sections})
    assert DeviceFacts.from_json(facts.to_json()) == facts


@pytest.mark.parametrize("number", ["9" * 5000, "\u00b2", "1" * 400, "\u0663"])
def test_no_number_of_a_device_breaks_anything(number: str) -> None:
    """Neither one of more digits than Python reads, nor one that no float holds, nor other digits.

    What is believed can be shown, as `devices probe` shows it.
    """
    facts = facts_of(
        {
            "uname": "Linux\n6\naarch64",
            "cores": number,
            "meminfo": f"MemTotal:  {number} kB",
            "sysctl": f"\n{number}\n{number}",
            "disk": f"Filesystem 1024-blocks Used Available Capacity Mounted on\n"
            f"/dev/sda {number} 1 {number} 3% /",
            "nvidia-smi": f"GPU, 1.0, 8.7, {number}",
        }
    )
    assert (facts.cores, facts.memory_bytes, facts.disk_free_bytes) == (None, None, None)
    assert facts.gpus[0].memory_bytes is None


RPI5 = {
    "system": "linux",
    "arch": "arm64",
    "cpu_features": ("asimd", "asimddp", "asimdhp"),
    "memory_bytes": 4_170_000_000,
    "runtimes": {},
}


@pytest.mark.parametrize(
    ("target", "change", "codes"),
    [
        ("rpi5/ort", {}, []),
        ("rpi5/ort", {"arch": "armv7"}, ["E451"]),
        ("rpi5/ort", {"system": "android"}, ["E451"]),
        ("rpi5/ort", {"cpu_features": ("asimd",)}, ["E452"]),  # a Raspberry Pi 4
        ("rpi5/ort", {"memory_bytes": 2_000_000_000}, ["E453"]),
        ("linux-x86-64/ort", {"memory_bytes": 1}, ["E451"]),
        ("intel-cpu/openvino", {"arch": "x86-64", "cpu_vendor": "AuthenticAMD"}, ["E452"]),
        ("armv7/ort", {"arch": "arm64", "system": "darwin"}, ["E451", "E451"]),
    ],
)
def test_what_does_not_fit_is_told_at_once(
    target: str, change: dict[str, object], codes: list[str]
) -> None:
    facts, found = DeviceFacts(**{**RPI5, **change}), []
    try:
        check_device(facts, TargetLibrary(project=None).load(target), "desk")
    except DeviceError as error:
        found = [item.code for item in error.diagnostics]
        assert all("desk" in item.message and item.hint for item in error.diagnostics)
    assert found == codes
