"""One device of the lab: a root file system, namespaces of its own and a real SSH server."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from tests.lab import emulation
from tests.lab.images import USER, USER_ID
from tests.lab.network import LinkBytes, Network
from tests.lab.place import LabError, call
from tests.lab.sshd import make_key, wait_for_banner

BOARDS: Mapping[str, str] = {"amd64": "linux-x86-64", "arm64": "linux-arm64"}
"""The board, as targets name it, of each architecture."""

START_S = 30.0
"""The longest that a device may take to answer; a quiet machine needs half a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a device is, as the lab made it.

    Attributes:
        architecture: `amd64` or `arm64`.
        kind: Kind of the image.
        emulated: Whether its programs run under qemu. Then no time measured on it says anything
            about hardware.
        cpu: CPU model that qemu plays, None where the machine's own is used.
        disk_bytes: Size of its disk.
    """

    architecture: str
    kind: str
    emulated: bool
    cpu: str | None
    disk_bytes: int


@dataclass(slots=True, kw_only=True)
class LabDevice:
    """A running device, and what can be done to it.

    Attributes:
        name: Its name, also its host name.
        folder: The lab's files of it.
        layers: Read-only roots below its own, the uppermost first.
        network: Its network.
        facts: What it is.
        key: Private key that its account lets in.
        persistent: Whether it goes on when this process ends.
    """

    name: str
    folder: Path
    layers: Sequence[Path]
    network: Network
    facts: Facts
    key: Path
    persistent: bool = False
    _boot: subprocess.Popen[str] | None = field(default=None, repr=False)
    _pid: int = 0

    @property
    def host(self) -> str:
        """Its address."""
        return self.network.address

    @property
    def port(self) -> int:
        """Where its SSH server listens."""
        return 22

    @property
    def user(self) -> str:
        """The account to log in as."""
        return USER

    @property
    def netns(self) -> str:
        """Its network namespace; another one after each reboot."""
        return self.network.namespace

    @property
    def root(self) -> Path:
        """Its file system as this machine sees it (its /tmp, /run, /proc and /dev are its own)."""
        return self.folder / "root"

    @property
    def home(self) -> Path:
        """Its account's home folder as this machine sees it."""
        return self.root / "home" / USER

    @property
    def known_hosts(self) -> Path:
        """File that knows its host key."""
        return self.folder / "known_hosts"

    @property
    def ssh_config(self) -> Path:
        """Settings for `ssh -F`, in which :attr:`name` is an alias of the device."""
        return self.folder / "ssh_config"

    # Making

    def make(self) -> None:
        """Make disk, network and keys, boot it and wait for its SSH server.

        Raises:
            LabError: A step fails; what was made stays for :func:`demolish`.
        """
        disk = self.folder / "disk"
        for folder in (disk, self.root):
            folder.mkdir()
        size = f"size={self.facts.disk_bytes},mode=755"
        call(["mount", "-t", "tmpfs", "-o", size, "tmpfs", disk])
        for folder in (disk / "upper", disk / "work"):
            folder.mkdir()
        lower = ":".join(str(layer) for layer in self.layers)
        options = f"lowerdir={lower},upperdir={disk}/upper,workdir={disk}/work"
        call(["mount", "-t", "overlay", "-o", options, "overlay", self.root])
        self.network.make()
        self._make_server_keys()
        if self.facts.cpu is not None:
            text = emulation.cpuinfo(self.facts.cpu, os.cpu_count() or 1)
            (self.folder / "cpuinfo").write_text(text)
        self._start()

    def _make_server_keys(self) -> None:
        ssh = self.home / ".ssh"
        ssh.mkdir(mode=0o700)
        shutil.copyfile(self.key.with_name(f"{self.key.name}.pub"), ssh / "authorized_keys")
        (ssh / "authorized_keys").chmod(0o600)
        for path in (ssh, ssh / "authorized_keys"):
            shutil.chown(path, USER_ID, USER_ID)
        line = make_key(self.folder / "host_key", comment=self.name)
        self.known_hosts.write_text(f"{self.host} {' '.join(line.split()[:2])}\n")
        self.ssh_config.write_text(
            f"Host {self.name}\n"
            f"  HostName {self.host}\n"
            f"  User {self.user}\n"
            f"  IdentityFile {self.key}\n"
            "  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {self.known_hosts}\n"
            "  GlobalKnownHostsFile /dev/null\n"
        )
        if self.facts.kind == "minimal":
            (self.root / "etc/dropbear").mkdir(exist_ok=True)
            goal = self.root / "etc/dropbear/host_key"
            call(["dropbearconvert", "openssh", "dropbear", self.folder / "host_key", goal])
            return
        settings = [
            "HostKey /etc/ssh/host_key",
            "PidFile /run/sshd.pid",
            "UsePAM no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PrintMotd no",
            "MaxStartups 100",
            "Subsystem sftp /usr/lib/openssh/sftp-server",
        ]
        settings += [f"SetEnv {name}={value}" for name, value in self._environment().items()]
        (self.root / "etc/ssh/sshd_config").write_text("\n".join(settings) + "\n")
        shutil.copy(self.folder / "host_key", self.root / "etc/ssh/host_key")

    def _environment(self) -> Mapping[str, str]:
        """Return what the device's processes need besides the usual."""
        return {"QEMU_CPU": self.facts.cpu} if self.facts.cpu is not None else {}

    # Processes

    def _start(self) -> None:
        cpuinfo = str(self.folder / "cpuinfo") if self.facts.cpu is not None else ""
        namespaces = ["unshare", "-m", "-u", "-i", "-p", "--fork", "--kill-child"]
        script = [str(Path(__file__).with_name("boot.sh")), str(self.root), self.name, cpuinfo]
        script.append("forever" if self.persistent else "input")
        boot = subprocess.Popen(
            ["ip", "netns", "exec", self.netns, *namespaces, "sh", *script],
            stdin=subprocess.DEVNULL if self.persistent else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._boot = boot
        said = [boot.stdout.readline().strip() for _ in range(2)]
        if said[1] != "up":
            rest = " ".join([*said, boot.stdout.read()])
            raise LabError(f"{self.name} does not boot: {rest.strip()}")
        self._pid = int(said[0])
        self.start_sshd()

    def run_inside(
        self, argv: Sequence[str], *, user: bool = False, stdin: str = "", timeout_s: float = 60
    ) -> str:
        """Run a program on the device, without SSH; return what it printed.

        Args:
            argv: Program and arguments.
            user: As the account that logs in; as root otherwise.
            stdin: Its input.
            timeout_s: The longest that it may take.

        Raises:
            LabError: It fails or takes longer.
        """
        account = [f"--userspec={USER_ID}:{USER_ID}"] if user else []
        home = f"/home/{USER}" if user else "/root"
        variables = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": home, **self._environment()}
        enter = ["nsenter", "-t", str(self._pid), "-m", "-u", "-i", "-n", "-p"]
        clean = ["env", "-i", *(f"{name}={value}" for name, value in variables.items())]
        return call(
            [*enter, *clean, "chroot", *account, str(self.root), *argv],
            stdin=stdin,
            timeout_s=timeout_s,
        )

    def show_folder(self, folder: Path, place: str) -> None:
        """Show a folder at a place on the device, until it is powered off.

        For what only a kernel can put there, such as a part of /sys.

        Args:
            folder: As this machine sees it.
            place: Absolute path on the device; a folder that exists.
        """
        goal = f"{self.root}{place}"
        enter = ["nsenter", "-t", str(self._pid), "-m"]
        call([*enter, "mount", "--bind", "-o", "ro", folder, goal])

    def start_sshd(self) -> None:
        """Start the SSH server and wait until it answers."""
        if self.facts.kind == "minimal":
            options = ["-r", "/etc/dropbear/host_key", "-P", "/run/sshd.pid", "-p", "22"]
            self.run_inside(["/usr/sbin/dropbear", *options, "-s", "-e"])
        else:
            self.run_inside(["/usr/sbin/sshd", "-E", "/run/sshd.log"])
        wait_for_banner(self.host, self.port, START_S)

    def stop_sshd(self) -> None:
        """End the listener, so that connecting is refused; sessions go on."""
        listener = self._listener()
        if listener is not None:
            os.kill(listener, signal.SIGKILL)
            _wait_until(lambda: not Path("/proc", str(listener)).exists())

    def kill_sessions(self) -> None:
        """End what serves each client with SIGKILL, as an out-of-memory killer would."""
        listener = self._listener()
        for pid, name in self._processes():
            if name.startswith(("sshd", "dropbear")) and pid != listener:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _listener(self) -> int | None:
        """Return this machine's number of the SSH server's process, None when it is stopped."""
        with contextlib.suppress(OSError):
            # Its /run is mounted in its own mount namespace alone.
            inside = Path(f"/proc/{self._pid}/root{self.root}")
            wanted = (inside / "run/sshd.pid").read_text().strip()
            for pid, _ in self._processes():
                status = Path("/proc", str(pid), "status").read_text()
                if status.partition("NSpid:")[2].split("\n")[0].split()[-1:] == [wanted]:
                    return pid
        return None

    def _processes(self) -> list[tuple[int, str]]:
        """Return the device's processes as this machine numbers them, with their names."""
        found = []
        for pid in self.network.pids():
            with contextlib.suppress(OSError):
                found.append((pid, Path("/proc", str(pid), "comm").read_text().strip()))
        return found

    # Faults

    def cut_link(self, how: Literal["silent", "down"] = "silent") -> None:
        """Cut its network; see :meth:`lab.network.Network.cut`."""
        self.network.cut(how)

    def restore_link(self) -> None:
        """Undo :meth:`cut_link`."""
        self.network.restore()

    def set_rate(self, bits_s: int | None) -> None:
        """Limit its network in both directions (bit/s); None ends that."""
        self.network.set_rate(bits_s)

    def bytes_on_link(self) -> LinkBytes:
        """Return what passed its cable so far."""
        return self.network.passed()

    def fill_disk(self, free_bytes: int) -> None:
        """Leave so much free on its disk; :meth:`empty_disk` undoes it.

        Raises:
            LabError: Less is free already.
        """
        disk = self.folder / "disk"
        if shutil.disk_usage(disk).free < free_bytes:
            raise LabError(f"{self.name}: {free_bytes} bytes are no longer free")
        deadline = time.monotonic() + 10
        with open(disk / "ballast", "ab") as file:
            while (more := shutil.disk_usage(disk).free - free_bytes) > 0:
                # Others may be writing to it meanwhile, so that this much is no longer there.
                with contextlib.suppress(OSError):
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), more)
                if time.monotonic() > deadline:
                    raise LabError(f"{self.name}: its disk does not fill")

    def empty_disk(self) -> None:
        """Free what :meth:`fill_disk` took."""
        (self.folder / "disk/ballast").unlink(missing_ok=True)

    def power_off(self) -> None:
        """Kill everything on it while nothing leaves it: nobody is told that it goes."""
        self.network.cut("silent")
        self._end()

    def reboot(self) -> None:
        """Power it off and on: all processes die, connections are forgotten, the disk stays."""
        self.power_off()
        self.network.replace()
        self._start()

    def _end(self) -> None:
        end_processes(self.network)
        if self._boot is not None:
            for pipe in (self._boot.stdin, self._boot.stdout):
                if pipe is not None:
                    pipe.close()
            self._boot.wait()
            self._boot = None

    def demolish(self) -> None:
        """End it and remove all of it."""
        self._end()
        demolish(self.folder, self.network)

    # Clients

    def ssh(self) -> list[str]:
        """Return the start of a command line of the system's own client that logs in."""
        options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
        return ["ssh", "-F", str(self.ssh_config), *options, self.name]

    def inventory_entry(self) -> dict[str, Any]:
        """Return what devices.yaml says about it, beside the `ssh_config` that knows its name."""
        tags = [self.facts.kind, *(["emulated"] if self.facts.emulated else [])]
        return {"host": self.name, "board": BOARDS[self.facts.architecture], "tags": tags}


def write_inventory(
    folder: Path, devices: Sequence[LabDevice], changes: Mapping[str, Any] | None = None
) -> Path:
    """Write `devices.yaml` and the `ssh_config` that it names; return the first.

    Args:
        folder: Where to; it exists.
        devices: Their names become those of the inventory.
        changes: More of the entry of every device, such as `root` or hooks.
    """
    config = folder / "ssh_config"
    config.write_text("".join(device.ssh_config.read_text() for device in devices))
    entries = {device.name: {**device.inventory_entry(), **(changes or {})} for device in devices}
    inventory = folder / "devices.yaml"
    text = yaml.safe_dump({"ssh_config": str(config), "devices": entries}, sort_keys=False)
    inventory.write_text(text)
    return inventory


def end_processes(network: Network) -> None:
    """Kill every process in a device's namespaces and wait until they are gone.

    Raises:
        LabError: One does not die.
    """

    def gone() -> bool:
        pids = network.pids()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids

    _wait_until(gone)


def demolish(folder: Path, network: Network) -> None:
    """Remove all of a device that lies in `folder`, whatever of it there is."""
    end_processes(network)
    for mounted in (folder / "root", folder / "disk"):
        if mounted.is_mount():
            call(["umount", "-l", mounted])
    network.remove()
    shutil.rmtree(folder)


def _wait_until(met: Callable[[], bool], limit_s: float = 10.0) -> None:
    deadline = time.monotonic() + limit_s
    while not met():
        if time.monotonic() > deadline:
            raise LabError(f"a process of the lab does not end within {limit_s:g} s")
        time.sleep(0.01)
