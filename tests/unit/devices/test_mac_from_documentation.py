"""Macs as their documentation says that they answer; nothing here was recorded on one.

Formats: the manuals of ``sysctl``, ``sw_vers``, ``pmset`` and ``uname`` of macOS, and examples in
Apple's support pages. Model names: https://support.apple.com/en-us/102869.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgedeploy.artifact import FileEntry
from edgedeploy.bench.environment import Environment
from edgedeploy.deploy.bench import check_boards
from edgedeploy.deploy.fit import check_device
from edgedeploy.devices.facts.parse import facts_of
from edgedeploy.devices.inventory import Device
from edgedeploy.devices.local import LocalRemote
from edgedeploy.devices.platform import ask_platform
from edgedeploy.devices.runtimes import allowed_versions, import_check, survey
from edgedeploy.devices.version import Version, VersionModel, parse_version
from edgedeploy.errors import DeviceError, IntegrityError, UsageError
from edgedeploy.target.library import TargetLibrary

SILICON = {
    "uname": "Darwin\n23.5.0\narm64\n",
    "sw_vers": "macOS\n14.5\n",
    "bits": "64\n",
    "sysctl": "Apple M2\n8\n17179869184\n",
    "mac": "hw.model: Mac14,2\nkern.hv_vmm_present: 0\n23F79\n",
    "pmset": "System-wide power settings:\nCurrently in use:\n standby              1\n"
    " lowpowermode         0\n sleep                1\n"
    "Now drawing from 'AC Power'\n"
    " -InternalBattery-0 (id=4653155)\t100%; charged; 0:00 remaining present: true\n"
    "Note: No thermal warning level has been recorded\n",
    "disk": "Filesystem 1024-blocks Used Available Capacity Mounted on\n"
    "/dev/disk3s5 482797652 201000000 260000000 44% /System/Volumes/Data\n",
    "python": "3.11.9\ncpython-311-darwin\narm64\n",
    "runtimes": "coremltools 9.0\nnumpy 2.2.0\n",
}
INTEL = {
    **SILICON,
    "uname": "Darwin\n22.6.0\nx86_64\n",
    "sw_vers": "macOS\n13.6.7\n",
    "sysctl": "Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz\n12\n34359738368\n",
    "mac": "hw.model: MacBookPro15,1\nkern.hv_vmm_present: 0\n22G720\n",
    "python": "3.11.9\ncpython-311-darwin\nx86_64\n",
}


def test_documented_facts_of_apple_silicon() -> None:
    facts = facts_of(SILICON)
    assert (facts.system, facts.arch, facts.distribution) == ("darwin", "arm64", "macOS 14.5")
    assert (facts.board, facts.soc, facts.soc_vendor) == ("Mac14,2", "Apple M2", "Apple")
    assert (facts.cpu, facts.cores, facts.memory_bytes) == ("Apple M2", 8, 16 << 30)
    assert (facts.vendor_release, facts.kernel) == ("23F79", "23.5.0")
    assert facts.disk_free_bytes == 260000000 * 1024
    assert (facts.python, facts.python_abi) == ("3.11.9", "cpython-311-darwin")
    assert facts.runtimes == {"coremltools": "9.0", "numpy": "2.2.0"}
    assert facts.power_rails == ("battery:InternalBattery-0",) and facts.governors == ()
    assert facts.virtual == "" and not facts.emulated


def test_documented_facts_of_an_intel_mac() -> None:
    facts = facts_of(INTEL)
    assert (facts.arch, facts.board, facts.soc) == ("x86-64", "MacBookPro15,1", None)
    assert facts.cpu == "Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz" and not facts.emulated


def test_documented_low_power_mode_is_a_governor() -> None:
    text = SILICON["pmset"].replace("lowpowermode         0", "lowpowermode         1")
    assert facts_of({**SILICON, "pmset": text}).governors == ("low power mode",)


def test_documented_virtual_macs_and_rosetta() -> None:
    """A Python for Intel on Apple silicon is translated: its times are no Mac's."""
    guest = {**SILICON, "mac": SILICON["mac"].replace("present: 0", "present: 1")}
    assert (facts_of(guest).virtual, facts_of(guest).emulated) == ("hypervisor", False)
    rosetta = facts_of({**SILICON, "python": INTEL["python"]})
    assert (rosetta.virtual, rosetta.emulated) == ("Rosetta 2", True)


@pytest.mark.parametrize(
    ("target", "sections", "codes"),
    [
        ("macos14/coreml", SILICON, []),
        ("macos13/coreml", SILICON, []),
        ("macos15/coreml", SILICON, ["E491"]),
        ("macos14/coreml", INTEL, ["E491", "E451"]),
        ("macos14/coreml", {"uname": "Linux\n6.6\naarch64\n"}, ["E451"]),
        ("linux-arm64/ort", SILICON, ["E451"]),
    ],
)
def test_documented_macs_fit_their_boards(
    target: str, sections: dict[str, str], codes: list[str]
) -> None:
    found = []
    try:
        check_device(facts_of(sections), TargetLibrary(project=None).load(target), "desk")
    except DeviceError as error:
        found = [item.code for item in error.diagnostics]
    assert found == codes


def test_an_iphone_is_refused_before_anything_is_tried() -> None:
    target = TargetLibrary(project=None).load("ios17/coreml")
    use = SimpleNamespace(target="ios17/coreml")
    plan: Any = SimpleNamespace(items=[SimpleNamespace(use=use)], targets={target.id: target})
    with pytest.raises(UsageError) as error:
        check_boards(plan, [Device(name="phone", kind="ssh", host="10.0.0.1", board="ios17")])
    (found,) = error.value.diagnostics
    assert found.code == "E490" and "Xcode" in str(found.hint)
    check_boards(plan, [Device(name="toy", kind="fake", board="ios17")])


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs that print what the manuals say, before the system's."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    program(folder / "uname", 'case "$1" in -m) echo arm64;; *) echo Darwin;; esac')
    program(folder / "sw_vers", "echo 14.5")
    python = "echo python3 cpython 3.11 cpython-311-darwin darwin-arm64"
    program(folder / "python3", python)
    return folder


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_documented_platform(mac: Path) -> None:
    found = ask_platform(LocalRemote("mini"))
    assert (found.machine, found.libc, found.libc_version) == ("arm64", "macos", (14, 5))
    assert found.python is not None and found.python.version == "3.11"
    assert found.text == "arm64, macos 14.5, Python 3.11"


@pytest.mark.parametrize("said", ["", "14", "fourteen", "14.5 beta", "9" * 40])
def test_a_mac_that_does_not_say_its_version(mac: Path, said: str) -> None:
    program(mac / "sw_vers", f"echo '{said}'")
    with pytest.raises(DeviceError) as error:
        ask_platform(LocalRemote("mini"))
    assert error.value.diagnostics[0].code == "E461"


def test_coremltools_without_core_ml_is_no_runtime(tmp_path: Path) -> None:
    """Its wheels for Linux load, and reach nothing."""
    package = tmp_path / "coremltools"
    package.mkdir()
    (package / "__init__.py").write_text("__version__ = '9.0'\n")
    python = tmp_path / "python"
    program(python, f'PYTHONPATH={tmp_path} exec python3 -S "$@"')
    found = survey(LocalRemote("mini"), str(tmp_path / "root"), "coreml", str(python))
    assert found.own_version is None and "libcoremlpython" in found.own_trouble
    (package / "libcoremlpython.py").write_text("")
    found = survey(LocalRemote("mini"), str(tmp_path / "root"), "coreml", str(python))
    assert found.own_version == "9.0"


def test_the_versions_of_coremltools_are_not_those_of_macos() -> None:
    assert allowed_versions("coreml") == ">=8.1,<10"
    assert import_check("ort").endswith("onnxruntime")


def version(entry: str) -> Version:
    files = ("main/interface.json", "main/model.mlpackage/Manifest.json", "other/x")
    model = VersionModel(
        name="main", target="macos14/coreml", runtime="coreml", entry=entry,
        artifact="ab" * 32, candidate="fp16",
    )  # fmt: skip
    entries = tuple(FileEntry(path=path, size=1, sha256="cd" * 32) for path in files)
    return Version(app="app", board="macos14", models=(model,), files=entries)


def test_an_entry_may_be_the_folder_of_a_package() -> None:
    wanted = version("main/model.mlpackage")
    assert parse_version(wanted.manifest) == wanted


@pytest.mark.parametrize("entry", ["main", "main/", "other", "main/model", "main/../other", "."])
def test_an_entry_that_is_no_folder_of_its_model_is_refused(entry: str) -> None:
    with pytest.raises(IntegrityError):
        parse_version(version(entry).manifest)


THERM = {
    "silicon": ("Note: No thermal warning level has been recorded\n", [0]),
    "cool": ("CPU Power notify\n\tCPU_Scheduler_Limit \t= 100\n\tCPU_Speed_Limit \t= 100\n", [0]),
    "hot": ("CPU Power notify\n\tCPU_Scheduler_Limit \t= 100\n\tCPU_Speed_Limit \t= 62\n", [2]),
}


@pytest.mark.parametrize("name", THERM)
def test_documented_limits_for_heat(name: str, mac: Path, tmp_path: Path) -> None:
    said, flags = THERM[name]
    (tmp_path / "therm").write_text(said)
    program(mac / "pmset", f'[ "$2" = therm ] && cat {tmp_path}/therm; exit 0')
    environment = Environment(str(tmp_path / "sys"), str(tmp_path / "proc"))
    sample = environment.sample()
    assert sample["firmware_throttled"] == flags
    assert sample["load1"] >= 0 and environment.facts()["power_mode"] is None


def test_documented_battery_and_low_power_are_told(mac: Path, tmp_path: Path) -> None:
    program(
        mac / "pmset",
        'case "$2" in batt) echo "Now drawing from \'Battery Power\'";; '
        "'') echo ' lowpowermode         1';; esac",
    )
    environment = Environment(str(tmp_path / "sys"), str(tmp_path / "proc"))
    assert environment.facts()["power_mode"] == "lowpowermode, Battery Power"
