"""The lab itself: devices come up, answer, break as told, and leave nothing behind."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.lab import capabilities, emulation, network
from tests.lab.device import LabDevice
from tests.lab.lab import Lab, devices_there, tear_down
from tests.lab.place import PREFIX, RUN, LabError

PATHS = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
IMAGES = ("amd64-python", "amd64-minimal", "arm64-python", "arm64-minimal")


@pytest.fixture(scope="module", params=IMAGES)
def device(request: pytest.FixtureRequest, lab: Lab):
    """One device of each image."""
    if not emulation.is_native(request.param.partition("-")[0]):
        capabilities.require("arm64")
    made = lab.device(request.param)
    yield made
    lab.remove(made)


@pytest.fixture(scope="module")
def small(lab: Lab):
    """The quickest device, for what does not depend on the image."""
    made = lab.device("amd64-minimal", name="small")
    yield made
    lab.remove(made)


def run(device: LabDevice, command: str, stdin: bytes = b"") -> subprocess.CompletedProcess:
    """Run a command over SSH with the system's own client."""
    return subprocess.run([*device.ssh(), command], input=stdin, capture_output=True, timeout=60)


def test_a_device_is_what_its_name_says(device: LabDevice) -> None:
    """Its processor, its name, its account, Python or none, sftp or none."""
    done = run(device, "uname -mn; id -un; echo $HOME; command -v python3; command -v flock")
    said = done.stdout.decode().split()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}[device.facts.architecture]
    assert said[:4] == [device.name, machine, "edge", "/home/edge"], done.stderr
    has_python = device.facts.kind == "python"
    assert ("/usr/bin/python3" in said) == has_python
    assert said[-1].endswith("flock")
    assert (device.root / "usr/lib/openssh/sftp-server").exists() == has_python


def test_it_has_a_disk_of_its_own(device: LabDevice) -> None:
    """What is written there is seen here, and is not in the image."""
    data = os.urandom(100_000)
    assert run(device, "cat > kept && sync kept", data).returncode == 0
    assert (device.home / "kept").read_bytes() == data
    assert not any((layer / "home/edge/kept").exists() for layer in device.layers)


def test_an_emulated_device_plays_one_cpu(device: LabDevice) -> None:
    """The CPU model arrives in sessions, and /proc/cpuinfo agrees with it."""
    if not device.facts.emulated:
        return
    done = run(device, "echo $QEMU_CPU; grep -c 'CPU part.*0xd08' /proc/cpuinfo")
    assert done.stdout.decode().split() == ["cortex-a72", str(os.cpu_count())]


def test_it_cannot_change_the_machine(device: LabDevice) -> None:
    """Even its root: the kernel is shared."""
    before = Path("/proc/sys/vm/swappiness").read_text()
    with pytest.raises(LabError, match=r"[Rr]ead-only"):
        device.run_inside(["sh", "-c", "echo 1 > /proc/sys/vm/swappiness"])
    assert Path("/proc/sys/vm/swappiness").read_text() == before


def wait_for_quiet(device: LabDevice, deadline: float) -> None:
    """Wait until nothing passes the cable for longer than TCP puts an acknowledgement off.

    Linux does so for 200 ms at most (TCP_DELACK_MAX). One that came after a reboot would be
    answered with a reset, and the client would hear of it.
    """
    before, passed = None, device.bytes_on_link()
    while passed != before:
        assert time.monotonic() < deadline
        time.sleep(0.3)
        before, passed = passed, device.bytes_on_link()


def test_a_reboot_ends_everything_but_the_disk(device: LabDevice) -> None:
    """No process, no connection, nothing in /tmp; and the client hears nothing of it."""
    assert run(device, "echo kept > on-disk; echo lost > /tmp/in-memory").returncode == 0
    first = run(device, "cat /proc/sys/kernel/random/boot_id").stdout
    client = subprocess.Popen([*device.ssh(), "sleep 100"], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while b"sleep 100" not in run(device, "ps -ef || ps").stdout:
            assert time.monotonic() < deadline
        wait_for_quiet(device, deadline)
        device.reboot()
        assert client.poll() is None
        done = run(
            device, "cat on-disk; cat /proc/sys/kernel/random/boot_id; ls /tmp; ps -ef || ps"
        )
        assert done.stdout.startswith(b"kept\n") and b"sleep 100" not in done.stdout
        assert b"in-memory" not in done.stdout and first not in done.stdout
    finally:
        client.kill()
        client.wait()


@pytest.mark.parametrize("how", ["silent", "down"])
def test_a_cut_link_passes_nothing(small: LabDevice, how: str) -> None:
    """Not a byte arrives, and no connection is made; restored, the same session goes on."""
    command = "while read -r line; do echo $line; done"
    client = subprocess.Popen(
        [*small.ssh(), command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        client.stdin.write("one\n")
        client.stdin.flush()
        assert client.stdout.readline() == "one\n"
        small.cut_link(how)
        before = small.bytes_on_link().from_device
        client.stdin.write("two\n")
        client.stdin.flush()
        probe = ["ssh", "-o", "ConnectTimeout=1", *small.ssh()[1:], "true"]
        assert subprocess.run(probe, capture_output=True).returncode == 255
        assert small.bytes_on_link().from_device == before
        small.restore_link()
        assert client.stdout.readline() == "two\n"
    finally:
        small.restore_link()
        client.kill()
        client.wait()


def test_a_stopped_server_refuses(small: LabDevice) -> None:
    """A refusal, unlike silence; sessions go on, and it can be started again."""
    client = subprocess.Popen(
        [*small.ssh(), "read -r x; echo $x"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    while not small.run_inside(["sh", "-c", "ps | grep -c '[r]ead -r x' || true"]).strip() > "0":
        time.sleep(0.05)
    small.stop_sshd()
    assert b"refused" in run(small, "true").stderr
    assert client.communicate(b"alive\n", timeout=20)[0] == b"alive\n"
    small.start_sshd()
    assert run(small, "true").returncode == 0


def test_sessions_can_be_killed(device: LabDevice) -> None:
    """The client learns at once; the server goes on."""
    client = subprocess.Popen([*device.ssh(), "echo on; sleep 100"], stdout=subprocess.PIPE)
    assert client.stdout.readline() == b"on\n"
    device.kill_sessions()
    assert client.wait(timeout=20) == 255
    assert run(device, "true").returncode == 0


def test_a_full_disk_is_full(device: LabDevice) -> None:
    """As much fits as was left free, and not one block more."""
    device.fill_disk(1 << 20)
    try:
        assert run(device, "cat > fits", bytes(900_000)).returncode == 0
        done = run(device, "cat > large", bytes(2_000_000))
        assert b"No space left" in done.stderr or done.returncode != 0
    finally:
        device.empty_disk()
        run(device, "rm -f fits large")


def test_a_rate_holds_in_both_directions(small: LabDevice) -> None:
    """1 MB at 8 Mbit/s takes a second; what the cable counted is what was sent."""
    small.set_rate(8_000_000)
    try:
        for command, stdin in (("cat > /tmp/f", bytes(1_000_000)), ("cat /tmp/f", b"")):
            before, start = small.bytes_on_link(), time.monotonic()
            assert run(small, command, stdin).returncode == 0
            assert time.monotonic() - start >= 0.8
            after = small.bytes_on_link()
            passed = after.to_device + after.from_device - before.to_device - before.from_device
            assert 1_000_000 < passed < 1_300_000
    finally:
        small.set_rate(None)


def traces(number: int) -> list[str]:
    """Return what of a device is on this machine."""
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if str(RUN) in line]
    names = [path.name for path in Path("/sys/class/net").glob(f"{PREFIX}{number}")]
    processes = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"{RUN}/device-{number}/" in path.read_text():
                processes.append(path.read_text())
        except OSError:
            continue
    folders = [str(path) for path in RUN.glob(f"device-{number}")]
    ours = [line for line in mounts if f"device-{number}/" in line]
    return [*ours, *names, *network.namespaces(number), *processes, *folders]


def test_a_removed_device_leaves_nothing(lab: Lab) -> None:
    """No mount, interface, namespace, process or file; sessions that were open end."""
    made = lab.device("amd64-minimal", name="short-lived")
    number = int(made.folder.name.removeprefix("device-"))
    client = subprocess.Popen([*made.ssh(), "echo on; sleep 100"], stdout=subprocess.PIPE)
    assert client.stdout.readline() == b"on\n"
    assert traces(number)
    lab.remove(made)
    assert traces(number) == []
    assert client.wait(timeout=20) == 255


def test_a_device_that_fails_to_start_leaves_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half-made is unmade."""
    before = {number for number, _ in devices_there()}

    def fail(self: LabDevice) -> None:
        raise LabError("no server today")

    monkeypatch.setattr(LabDevice, "start_sshd", fail)
    with pytest.raises(LabError, match="no server today"):
        lab.device("amd64-minimal", name="stillborn")
    assert {number for number, _ in devices_there()} == before
    assert "stillborn" not in lab.devices


def test_what_a_killed_lab_left_is_swept(lab: Lab) -> None:
    """SIGKILL leaves mounts and names; its processes end by themselves, the next lab removes."""
    program = (
        "import os, signal; from tests.lab.lab import Lab; lab = Lab();"
        "print(lab.device('amd64-minimal').folder.name, flush=True); signal.pause()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        env=PATHS,
    )
    number = int(owner.stdout.readline().strip().removeprefix("device-"))
    Lab().close()
    assert traces(number), "a lab must not sweep what a living one owns"
    owner.kill()
    owner.wait()
    Lab().close()
    assert traces(number) == []


def test_a_lab_that_was_brought_up_stays_until_it_is_taken_down() -> None:
    """`make lab-up` and `make lab-down`; a lab of tests in between does not touch it."""
    capabilities.require("lab")
    name = f"stays-{os.getpid()}"
    program = (
        "from tests.lab.lab import Lab; lab = Lab(persistent=True);"
        f"made = lab.device('amd64-minimal', name={name!r}); print(*made.ssh()); lab.close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=PATHS
    )
    assert done.returncode == 0, done.stderr
    Lab().close()
    ssh = done.stdout.split()
    assert subprocess.run([*ssh, "true"], timeout=30).returncode == 0
    assert tear_down([name]) == 1
    assert subprocess.run([*ssh, "true"], capture_output=True, timeout=30).returncode == 255
    assert tear_down([name]) == 0


def test_wrong_names_are_refused(lab: Lab) -> None:
    """Before anything is made."""
    for name in ("arm64", "riscv64-python", "arm64-", "arm64-python-x"):
        with pytest.raises(LabError, match="an image is"):
            lab.device(name)
    with pytest.raises(LabError, match="CPU model"):
        if emulation.is_native("arm64"):
            raise LabError("a CPU model is for emulated devices")
        lab.device("arm64-minimal", name="odd", cpu="max")
