"""A real OpenSSH server on a port of this machine: works as any user, touches nothing of theirs."""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from edgedeploy.devices.inventory import Device

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin:" + os.environ.get("PATH", ""))


class Sshd:
    """A running server and a client's files for it.

    Attributes:
        folder: Everything of it; ``known_hosts``, ``ssh_config`` and ``client_key`` among it.
        home: HOME of the sessions.
        port: On 127.0.0.1.
    """

    def __init__(self, folder: Path, *, lines: Sequence[str], host_keys: Sequence[str]) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self._lines = lines
        self._host_keys = host_keys
        for kind in host_keys:
            make_key(folder / f"host_{kind}", kind)
        make_key(folder / "client_key")
        shutil.copy(folder / "client_key.pub", folder / "authorized_keys")
        self.port = free_port()
        self.client = folder / "ssh_config"
        self.known_hosts = folder / "known_hosts"
        self.know()
        self.configure()
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, *lines: str) -> None:
        """Write the client's configuration: apart from the user's, and ``lines`` first."""
        own = [
            *lines,
            f"UserKnownHostsFile {self.known_hosts}",
            "GlobalKnownHostsFile /dev/null",
            f"IdentityFile {self.folder / 'client_key'}",
            "IdentityAgent none",
        ]
        self.client.write_text("\n".join(["Host *", *own]) + "\n")

    def know(self) -> None:
        """Make every host key of the server known."""
        keys = [(self.folder / f"host_{kind}.pub").read_text() for kind in self._host_keys]
        lines = [f"[127.0.0.1]:{self.port} {' '.join(key.split()[:2])}\n" for key in keys]
        self.known_hosts.write_text("".join(lines))

    def device(self, name: str = "board", **changes: object) -> Device:
        """Return the server as a device of an inventory."""
        device = Device(
            name=name,
            kind="ssh",
            host="127.0.0.1",
            port=self.port,
            user=getpass.getuser(),
            ssh_config=self.client,
        )
        return replace(device, **changes)  # type: ignore[arg-type]

    def start(self) -> None:
        """Start it and wait until it answers."""
        config = self.folder / "sshd_config"
        config.write_text(
            "\n".join(
                [
                    *self._lines,  # the first value counts
                    f"Port {self.port}",
                    "ListenAddress 127.0.0.1",
                    *(f"HostKey {self.folder / f'host_{kind}'}" for kind in self._host_keys),
                    f"AuthorizedKeysFile {self.folder / 'authorized_keys'}",
                    f"PidFile {self.folder / 'pid'}",
                    f'SetEnv HOME="{self.home}"',
                    "PasswordAuthentication no",
                    "KbdInteractiveAuthentication no",
                    "PermitRootLogin prohibit-password",
                    "StrictModes no",
                    "UsePAM no",
                    "UseDNS no",
                    "PrintMotd no",
                    "MaxStartups 100",
                    "LogLevel VERBOSE",  # DEBUG1 would print into sessions
                ]
            )
            + "\n"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # it insists on this folder
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [str(SSHD), "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stderr=log
            )
        deadline = time.monotonic() + 20
        while True:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"sshd does not start:\n{self.log()}")
            with contextlib.suppress(OSError), socket.create_connection(self.address, 1):
                return
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop listening; sessions go on."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def sessions(self) -> list[int]:
        """Return the processes that serve connections, all users' parts of them."""
        if self._process is None:
            return []
        found = [self._process.pid]
        for parent in found:
            found += children(parent)
        return [pid for pid in found[1:] if _command(pid).startswith("sshd")]

    def kill_sessions(self) -> None:
        """End every connection the hard way."""
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def log(self) -> str:
        """Return what it wrote so far."""
        return (self.folder / "log").read_text("utf-8", "replace")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return ("127.0.0.1", self.port)


@contextlib.contextmanager
def running(
    folder: Path, *, lines: Sequence[str] = (), host_keys: Sequence[str] = ("ed25519",)
) -> Iterator[Sshd]:
    """Run a server in a new folder.

    Args:
        folder: Must not exist.
        lines: Of its configuration, before ours.
        host_keys: Types of its host keys, as ``ssh-keygen -t`` calls them.
    """
    server = Sshd(folder, lines=lines, host_keys=host_keys)
    server.start()
    try:
        yield server
    finally:
        server.kill_sessions()
        server.stop()


def make_key(file: Path, kind: str = "ed25519", passphrase: str = "") -> None:
    """Make a key pair; the public half lies beside it."""
    # Larger keys take seconds to find, and more rounds as long to open.
    quick = ["-a", "1", *(["-b", "2048"] if kind == "rsa" else [])]
    subprocess.run(
        [
            "ssh-keygen",
            "-q",
            "-t",
            kind,
            *quick,
            "-N",
            passphrase,
            "-C",
            file.name,
            "-f",
            str(file),
        ],
        check=True,
        stdin=subprocess.DEVNULL,
    )


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def children(pid: int) -> list[int]:
    """Return the children of a process."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
