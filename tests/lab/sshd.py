"""A real OpenSSH server on 127.0.0.1 that any user can start: a device without a lab.

It lets in the user who runs it, with a key of its own, into a home folder of its own: `~` and
`HOME` of a session are below the server's folder, never the user's own. Clients get settings of
their own too, so that nobody's known_hosts is read or written.
"""

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
from tests.lab.place import LabError, call

START_S = 30.0


def find_sshd() -> str | None:
    """Return the path of this machine's sshd; it is often outside a user's PATH."""
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def make_key(
    path: Path, kind: str = "ed25519", *, passphrase: str = "", comment: str = "edgedeploy-lab"
) -> str:
    """Make a key pair, the public half beside it; return the public line.

    Args:
        path: Of the private key.
        kind: As `ssh-keygen -t` calls it.
        passphrase: That encrypts it; none when empty.
        comment: At the end of the public line.
    """
    # Larger keys take seconds to find, and more rounds as long to open.
    quick = ["-a", "1", *(["-b", "2048"] if kind == "rsa" else [])]
    call(
        ["ssh-keygen", "-q", "-t", kind, *quick, "-N", passphrase, "-C", comment, "-f", path],
    )
    return path.with_name(f"{path.name}.pub").read_text().strip()


class Sshd:
    """One server, started; its attributes are what a client needs.

    Attributes:
        host: `127.0.0.1`.
        port: Where it listens.
        user: Who can log in: the one who runs the tests.
        folder: Everything of it: `host_KIND` and `.pub`, `authorized_keys`, `sshd_config`.
        home: The home folder that sessions see.
        key: Private key file that is let in.
        known_hosts: File that knows the server's keys.
        client: Client's configuration, an `ssh_config`.
    """

    def __init__(
        self, folder: Path, *, lines: Sequence[str] = (), host_keys: Sequence[str] = ("ed25519",)
    ) -> None:
        """Make keys and settings and start the server.

        Args:
            folder: For its files, new; its path must be free of white space.
            lines: More lines of sshd_config; the first of a keyword counts, and they come first.
            host_keys: Types of its host keys, as `ssh-keygen -t` calls them.
        """
        self.host, self.port, self.user = "127.0.0.1", free_port(), getpass.getuser()
        self.folder, self.key, self.home = folder, folder / "client_key", folder / "home"
        self.known_hosts, self.client = folder / "known_hosts", folder / "ssh_config"
        self.home.mkdir(parents=True)
        known = [make_key(folder / f"host_{kind}", kind).split()[:2] for kind in host_keys]
        self.known_hosts.write_text(
            "".join(f"[{self.host}]:{self.port} {' '.join(key)}\n" for key in known)
        )
        (folder / "authorized_keys").write_text(make_key(self.key) + "\n")
        self.configure()
        settings = [
            *lines,
            f"Port {self.port}",
            f"ListenAddress {self.host}",
            *(f"HostKey {folder}/host_{kind}" for kind in host_keys),
            f"AuthorizedKeysFile {folder}/authorized_keys",
            f"PidFile {folder}/sshd.pid",
            f"SetEnv HOME={self.home}",
            "StrictModes no",
            "UsePAM no",
            "UseDNS no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            "PrintMotd no",
            "MaxStartups 100",
            "Subsystem sftp internal-sftp",
            "LogLevel VERBOSE",  # DEBUG1 would print into sessions
        ]
        (folder / "sshd_config").write_text("\n".join(settings) + "\n")
        self._server: subprocess.Popen[bytes] | None = None
        self._orphans: list[int] = []
        self.start()

    def configure(self, *lines: str) -> None:
        """Write the client's configuration: apart from the user's, and `lines` first."""
        own = [
            *lines,
            f"UserKnownHostsFile {self.known_hosts}",
            "GlobalKnownHostsFile /dev/null",
            f"IdentityFile {self.key}",
            "IdentityAgent none",
        ]
        self.client.write_text("\n".join(["Host *", *own]) + "\n")

    def know_at(self, port: int) -> None:
        """Make the server's keys known at another port too: of a proxy on the way."""
        known = self.known_hosts.read_text()
        self.known_hosts.write_text(known + known.replace(f":{self.port} ", f":{port} "))

    def device(self, name: str = "board", **changes: object) -> Device:
        """Return the server as a device of an inventory."""
        device = Device(
            name=name,
            kind="ssh",
            host=self.host,
            port=self.port,
            user=self.user,
            ssh_config=self.client,
        )
        return replace(device, **changes)  # type: ignore[arg-type]

    def ssh(self, port: int | None = None) -> list[str]:
        """Return the start of a command line of the system's own client that logs in.

        Args:
            port: Of a proxy on the way; the server's own when None.
        """
        options = {
            "BatchMode": "yes",
            "HostKeyAlias": f"[{self.host}]:{self.port}",
            "IdentitiesOnly": "yes",
            "Port": port or self.port,
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return ["ssh", "-F", str(self.client), *words, f"{self.user}@{self.host}"]

    def start(self) -> None:
        """Start it (again, on the same port and with the same key) and wait until it answers."""
        sshd = find_sshd()
        if sshd is None:
            raise LabError("there is no sshd; install openssh-server")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # it confines its helpers there
        argv = [sshd, "-D", "-f", str(self.folder / "sshd_config"), "-E", str(self._log)]
        self._server = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        try:
            wait_for_banner(self.host, self.port, START_S)
        except LabError as error:
            self.stop()
            raise LabError(f"{error}\n{self.log()}") from None

    def stop(self) -> None:
        """End the listener; sessions go on, as after `systemctl stop ssh`."""
        if self._server is not None:
            self._orphans += sshd_below([self._server.pid])
            self._server.terminate()
            self._server.wait()
            self._server = None

    def sessions(self) -> list[int]:
        """Return the process ids of what serves clients (one or two for each connection)."""
        return sshd_below([self._server.pid] if self._server else []) + self._orphans

    def kill_sessions(self) -> None:
        """End every session with SIGKILL, as an out-of-memory killer would."""
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._orphans.clear()

    def close(self) -> None:
        """End sessions and listener; allowed twice."""
        self.stop()
        self.kill_sessions()

    def log(self) -> str:
        """Return what it wrote so far."""
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    @property
    def _log(self) -> Path:
        return self.folder / "sshd.log"


@contextlib.contextmanager
def running(
    folder: Path, *, lines: Sequence[str] = (), host_keys: Sequence[str] = ("ed25519",)
) -> Iterator[Sshd]:
    """Run a server, as :class:`Sshd` describes, until the block ends."""
    server = Sshd(folder, lines=lines, host_keys=host_keys)
    try:
        yield server
    finally:
        server.close()


def sshd_below(roots: Sequence[int]) -> list[int]:
    """Return the ids of all processes of sshd that descend from others."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = stat.read_text().rpartition(") ")
            if "(sshd" in name:
                children.setdefault(int(rest.split()[1]), []).append(int(stat.parent.name))
    found: list[int] = []
    waiting = list(roots)
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def wait_for_banner(host: str, port: int, limit_s: float) -> None:
    """Return once a server at an address says that it speaks SSH.

    Raises:
        LabError: It did not within `limit_s`.
    """
    deadline = time.monotonic() + limit_s
    said = "nothing"
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((host, port), timeout=2) as line:
                line.settimeout(2)
                said = repr(line.recv(4))
                if said == "b'SSH-'":
                    return
        except OSError as error:
            said = str(error)
        time.sleep(0.03)
    raise LabError(f"no SSH server at {host}:{port} after {limit_s:g} s: {said}")
