"""Host facts from recorded text."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgedeploy.bench.host import darwin_facts, host_facts, linux_facts


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_virtual_x86_machine(tmp_path: Path) -> None:
    cpu = "processor\t: {}\nmodel name\t: Intel(R) Xeon(R) CPU @ 2.20GHz\n"
    cpu += "flags\t\t: fpu hypervisor\n\n"
    files = {
        "proc/cpuinfo": cpu.format(0) + cpu.format(1),
        "proc/meminfo": "MemTotal:       24696040 kB\nMemFree:  1 kB\n",
        "proc/sys/kernel/osrelease": "6.1.0-13-amd64\n",
        "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    }
    facts = linux_facts(tree(tmp_path, files))
    assert facts["cpu"] == "Intel(R) Xeon(R) CPU @ 2.20GHz"
    assert facts["cores"] == 2 and facts["memory_bytes"] == 24696040 * 1024
    assert facts["system"] == "Debian GNU/Linux 12 (bookworm)"
    assert facts["kernel"] == "6.1.0-13-amd64" and facts["governor"] is None
    assert facts["virtual"] == "hypervisor"


def test_a_board_names_itself_in_the_device_tree(tmp_path: Path) -> None:
    files = {
        "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd\n\nprocessor\t: 1\n",
        "sys/firmware/devicetree/base/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    }
    facts = linux_facts(tree(tmp_path, files))
    assert facts["cpu"] == "Raspberry Pi 5 Model B Rev 1.0"
    assert facts["governor"] == "ondemand" and facts["virtual"] == ""


@pytest.mark.parametrize(
    ("files", "virtual"),
    [
        ({"sys/class/dmi/id/sys_vendor": "QEMU\n"}, "QEMU"),
        ({"sys/class/dmi/id/product_name": "VMware7,1\n"}, "VMware"),
        ({".dockerenv": ""}, "docker"),
        ({}, None),
    ],
)
def test_virtual_machines(tmp_path: Path, files: dict[str, str], virtual: str | None) -> None:
    assert linux_facts(tree(tmp_path, files))["virtual"] == virtual


def test_a_mac() -> None:
    recorded = {
        "kern.osproductversion": "14.5",
        "kern.osrelease": "23.5.0",
        "hw.machine": "arm64",
        "machdep.cpu.brand_string": "Apple M2",
        "hw.logicalcpu": "8",
        "hw.memsize": "17179869184",
        "kern.hv_vmm_present": "0",
    }
    assert darwin_facts(recorded.get) == {
        "system": "macOS 14.5",
        "kernel": "23.5.0",
        "machine": "arm64",
        "cpu": "Apple M2",
        "cores": 8,
        "memory_bytes": 16 << 30,
        "governor": None,
        "virtual": "",
    }


def test_a_mac_that_answers_nothing() -> None:
    assert set(darwin_facts({}.get).values()) == {"macOS", None}


def test_this_machine_has_facts() -> None:
    facts = host_facts()
    assert facts["cores"] and facts["machine"]
    if sys.platform == "linux":
        assert facts["memory_bytes"] and facts["kernel"]
