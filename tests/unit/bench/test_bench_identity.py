"""What devices say of themselves, from transcripts and from this machine."""

from __future__ import annotations

import platform
import re
import shlex

import pytest

from edgedeploy.bench.identity import identify
from edgedeploy.devices.local import LocalPipe, LocalRemote
from edgedeploy.errors import DeviceError
from edgedeploy.remote import Finished

ARM = "processor\t: 0\nFeatures\t: fp asimd\n\nprocessor\t: 1\nFeatures\t: fp asimd\n"
X86 = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\nflags\t\t: hypervisor\n"


class Says(LocalRemote):
    """A device that answers the question with given files."""

    def __init__(self, machine: str, emulator: str = "sh\n/bin/dash\n", **files: str) -> None:
        super().__init__("board")
        self._said = {"emulator": emulator, "machine": f"{machine}\n", "end": ""}
        names = {"cpu": "proc/cpuinfo", "model": "sys/firmware/devicetree/base/model",
                 "memory": "proc/meminfo", "vendor": "sys/class/dmi/id/sys_vendor"}  # fmt: skip
        self._files = {names[name]: text for name, text in files.items()}

    def run(self, command: str, **_: object) -> Finished:  # type: ignore[override]
        mark = re.search(r"edgedeploy-[0-9a-f]{12}", command)
        assert mark is not None
        parts = [f"\n{mark[0]} {n}\n{text}" for n, text in {**self._files, **self._said}.items()]
        said = "Welcome to this board!\n" + "".join(parts)
        return Finished(status=0, stdout=said.encode(), stderr=b"")


def test_a_board() -> None:
    model = "Raspberry Pi 5 Model B Rev 1.0\n"
    found = identify(Says("aarch64", cpu=ARM, model=model, memory="MemTotal:  4000000 kB\n"))
    assert found.facts["cpu"] == "Raspberry Pi 5 Model B Rev 1.0" and found.facts["cores"] == 2
    assert found.facts["memory_bytes"] == 4_096_000_000 and found.facts["machine"] == "aarch64"
    assert (found.machine, found.emulated) == ("aarch64", "")


STATIC = "/usr/bin/qemu-aarch64-static"
BINFMT = "/usr/libexec/qemu-binfmt/aarch64-binfmt-P"


@pytest.mark.parametrize(
    ("device", "emulated"),
    [
        (Says("aarch64", f"{STATIC} /bin/sh -c x\n", cpu=ARM), "qemu-aarch64-static"),
        (Says("aarch64", "sh\n/usr/bin/qemu-aarch64\n", cpu=ARM), "qemu-aarch64"),
        (Says("aarch64", f"{BINFMT} sh\n", cpu=ARM), "aarch64-binfmt-P"),
        (Says("aarch64", "sh\n/opt/qemu-tools/bin/sh\n", cpu=ARM), ""),
        (Says("aarch64", cpu=X86), "an emulator of aarch64 on x86"),
        (Says("aarch64", cpu=ARM, model="linux,dummy-virt\n"), "QEMU virtual machine"),
        (Says("aarch64", cpu=ARM, vendor="QEMU\n"), "QEMU virtual machine"),
        (Says("x86_64", cpu=X86.replace("AMD EPYC", "QEMU TCG CPU version 2.5+")), "qemu (TCG)"),
        (Says("x86_64", cpu=X86, vendor="QEMU\n"), ""),  # with KVM: its processor is real
    ],
)  # fmt: skip
def test_what_is_emulated_says_so(device: Says, emulated: str) -> None:
    assert identify(device).emulated == emulated


@pytest.mark.parametrize("digits", [5000, 400])
def test_a_memory_without_end_is_none(digits: int) -> None:
    found = identify(Says("aarch64", cpu=ARM, memory=f"MemTotal: {'9' * digits} kB\n"))
    assert found.facts["memory_bytes"] is None


def test_control_characters_go_nowhere() -> None:
    found = identify(Says("aarch64", cpu=ARM, model="\x1b[2J" + "A" * 500))
    assert found.facts["cpu"].startswith("?[2JAAA") and len(found.facts["cpu"]) == 200


@pytest.mark.parametrize("machine", ["", "x86_64; rm -rf /", "a" * 100])
def test_no_answer_is_refused(machine: str) -> None:
    with pytest.raises(DeviceError) as error:
        identify(Says(machine))
    assert error.value.diagnostics[0].code == "E474"


@pytest.mark.skipif(platform.system() != "Linux", reason="needs a device")
def test_this_machine() -> None:
    found = identify(LocalRemote())
    assert found.machine == platform.machine() and found.facts["kernel"] == platform.release()


def test_a_shell_that_is_emulated_is_seen(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What looks like an emulator's process is one, whichever program it runs."""
    emulator = tmp_path_factory.mktemp("bin") / "qemu-test"
    emulator.symlink_to("/bin/sh")

    class Emulated(LocalRemote):
        def open(self, command: str) -> LocalPipe:
            return super().open(f"exec {emulator} -c {shlex.quote(command)}")

    assert identify(Emulated()).emulated == "qemu-test"
