"""How fast a push is next to scp and rsync over the same link, and how little it sends.

    python benchmarks/push.py [--rounds N] [--megabytes N] [--folder DIR]

A real OpenSSH server of this machine is the device, in a network namespace behind a virtual cable
when root runs this (shaped by tbf), on the loopback behind a user-space proxy otherwise. All three
use aes128-gcm, connect anew every time and end with the file synced. They take turns in every
round; medians are shown. Exit status 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from edgedeploy.artifact import scan_tree
from edgedeploy.deploy.fleet import Link
from edgedeploy.deploy.push import Contents, push_to
from edgedeploy.devices.connect import connect
from edgedeploy.devices.inventory import Device
from edgedeploy.devices.opening import open_depot
from edgedeploy.devices.version import Version

# The server, the cable and the proxy are those of the tests.
from tests.lab.network import Network
from tests.lab.proxy import Proxy
from tests.lab.sshd import Sshd, wait_for_banner

CIPHER = "aes128-gcm@openssh.com"
NUMBER = 947  # of the cable and the namespace
TENSORS = 40
SHAPED_BYTES_S = 10e6


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the server is reached, and how."""

    host: str
    port: int
    server: Sshd

    def ssh_options(self) -> list[str]:
        """Return what ssh and scp are given."""
        return [
            *("-c", CIPHER, "-i", str(self.server.key), "-F", "/dev/null"),
            *("-o", f"UserKnownHostsFile={self.server.known_hosts}", "-o", "BatchMode=yes"),
            *("-o", "HostKeyAlias=board"),
        ]

    def device(self) -> Device:
        """Return it as a device of an inventory."""
        config = self.server.folder / "ssh_config"
        config.write_text(
            f"Host *\n HostKeyAlias board\n UserKnownHostsFile {self.server.known_hosts}\n"
            f" GlobalKnownHostsFile /dev/null\n IdentityFile {self.server.key}\n"
            " IdentityAgent none\n"
        )
        return Device(
            name="board",
            kind="ssh",
            host=self.host,
            port=self.port,
            user=getpass.getuser(),
            ssh_config=config,
        )


@contextlib.contextmanager
def running(folder: Path) -> Iterator[tuple[Place, Network | None]]:
    """Run the server: in a namespace where we may make one, else on the loopback."""
    server = Sshd(folder / "server")
    key = (server.folder / "host_ed25519.pub").read_text().split()[:2]
    server.known_hosts.write_text(f"board {' '.join(key)}\n")
    try:
        if os.geteuid() != 0:
            yield Place(host=server.host, port=server.port, server=server), None
            return
        network = Network(NUMBER)
        network.make()
        config = server.folder / "sshd_config"
        text = config.read_text().replace(f"ListenAddress {server.host}", "ListenAddress 0.0.0.0")
        config.write_text(text)
        inside = subprocess.Popen(
            ["ip", "netns", "exec", network.namespace, "/usr/sbin/sshd", "-D", "-f", str(config)]
        )
        try:
            wait_for_banner(network.address, server.port, 10.0)
            yield Place(host=network.address, port=server.port, server=server), network
        finally:
            inside.terminate()
            inside.wait()
            network.remove()
    finally:
        server.close()


class Model:
    """A model of random tensors, one file; see :meth:`changed`."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self._folder = folder
        self._each = size_bytes // TENSORS
        self._random = random.Random(4)
        self._count = 0
        self._tensors = [self._random.randbytes(self._each) for _ in range(TENSORS)]

    def changed(self, count: int) -> Contents:
        """Return a version in which so many tensors are new."""
        for at in self._random.sample(range(TENSORS), count):
            self._tensors[at] = self._random.randbytes(self._each)
        self._count += 1
        folder = self._folder / f"v{self._count}"
        (folder / "main").mkdir(parents=True)
        (folder / "main" / "model").write_bytes(b"".join(self._tensors))
        cuts = [(at * self._each, self._each) for at in range(TENSORS)]
        tree = scan_tree(folder, {"main/model": cuts})
        version = Version(app="bench", board="board", models=(), files=tree.files)
        places = {file.sha256: folder / file.path for file in tree.files}
        return Contents(version=version, places=places)


def path_of(contents: Contents) -> Path:
    """Return the one file of a version."""
    return contents.places[contents.version.files[0].sha256]


def push(place: Place, contents: Contents, root: str) -> float:
    """Push; return how long it took, connecting included."""
    device = replace(place.device(), root=root)
    started = time.perf_counter()
    link = Link(device.name, lambda: connect(device))
    push_to(link, device, contents, opener=open_depot)
    link.close()
    return time.perf_counter() - started


def copied(command: list[str], goal: Path) -> float:
    """Run a copying command and sync what it made; return how long both took."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    descriptor = os.open(goal, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    return time.perf_counter() - started


def scp(place: Place, source: Path, goal: Path) -> float:
    """Copy a file with scp."""
    target = f"{getpass.getuser()}@{place.host}:{goal}"
    port = ["-P", str(place.port)]
    return copied(["scp", "-q", *place.ssh_options(), *port, str(source), target], goal)


def rsync(place: Place, source: Path, goal: Path, *more: str) -> float:
    """Copy a file with rsync."""
    shell = " ".join(["ssh", *place.ssh_options(), "-p", str(place.port)])
    target = f"{getpass.getuser()}@{place.host}:{goal}"
    return copied(["rsync", *more, "--inplace", "-e", shell, str(source), target], goal)


class Bench:
    """The cases, with a scratch folder and what was missed."""

    def __init__(self, folder: Path, place: Place, size_bytes: int) -> None:
        self._folder = folder
        self._place = place
        self._size = size_bytes
        self._model = Model(folder / "models", size_bytes)
        self._first = self._model.changed(0)
        self._names = 0
        self.missed: list[str] = []

    def _new(self) -> Path:
        self._names += 1
        path = self._folder / "device" / str(self._names)
        path.mkdir(parents=True)
        return path

    def goal(self, what: str, met: bool) -> None:
        """Print a goal and whether it is met."""
        print(f"  {'met   ' if met else 'MISSED'} {what}")
        if not met:
            self.missed.append(what)

    def throughput(self, title: str, place: Place, rounds: int, least_ratio: float) -> None:
        """Push a version to a device that has nothing, next to the others."""
        methods: dict[str, Callable[[Path], float]] = {
            "edgedeploy push": lambda to: push(place, self._first, str(to)),
            "scp": lambda to: scp(place, path_of(self._first), to / "file"),
            "rsync -W": lambda to: rsync(place, path_of(self._first), to / "file", "-W"),
        }
        rates: dict[str, list[float]] = {name: [] for name in methods}
        for _ in range(rounds):
            for name, method in methods.items():
                to = self._new()
                rates[name].append(self._size / 1e6 / method(to))
                shutil.rmtree(to)
        print(f"\n{title}, {self._size / 1e6:.0f} MB, {rounds} rounds, MB/s: median (least, most)")
        for name, values in rates.items():
            middle = statistics.median(values)
            print(f"  {name:<16} {middle:7.1f}  ({min(values):.1f}, {max(values):.1f})")
        pairs = zip(rates["edgedeploy push"], rates["scp"], strict=True)
        ratio = statistics.median(mine / other for mine, other in pairs)
        self.goal(f"{ratio:.2f} of scp, at least {least_ratio}", ratio >= least_ratio)

    def delta(self) -> None:
        """Change tensors that hold 5 % of the bytes, and count what passes."""
        to = self._new()
        push(self._place, self._first, str(to))
        rsync(self._place, path_of(self._first), to / "file", "-W")
        new = self._model.changed(TENSORS // 20)
        print(f"\n5 % of the bytes of {self._size / 1e6:.0f} MB changed: bytes on the wire, s")
        with self._proxied() as (near, proxy):
            for name, method in (
                ("edgedeploy push", lambda: push(near, new, str(to))),
                ("rsync", lambda: rsync(near, path_of(new), to / "file", "-I", "--no-whole-file")),
            ):
                before = proxy.sent + proxy.received
                seconds = method()
                share = (proxy.sent + proxy.received - before) / self._size
                print(f"  {name:<16} {share:7.2%}  {seconds:.2f} s")
                if name != "rsync":
                    self.goal(f"{share:.2%} of the bytes, at most 8 %", share <= 0.08)
            self._nothing(near, proxy, new, to)
        shutil.rmtree(to)

    def _nothing(self, near: Place, proxy: Proxy, contents: Contents, to: Path) -> None:
        """Push what is there already: bytes, and round trips by what a far link adds."""
        before = proxy.sent + proxy.received
        push(near, contents, str(to))
        bytes_passed = proxy.sent + proxy.received - before
        device = replace(near.device(), root=str(to))

        def after_connecting() -> float:
            remote = connect(device)
            link = Link(device.name, lambda: remote)
            _ = link.remote
            started = time.perf_counter()
            push_to(link, device, contents, opener=open_depot)
            spent = time.perf_counter() - started
            link.close()
            return spent

        here = statistics.median(after_connecting() for _ in range(5))
        proxy.delay_s = 0.1
        far = statistics.median(after_connecting() for _ in range(3))
        proxy.delay_s = 0.0
        trips = (far - here) / 0.2
        print("\nnothing to do")
        self.goal(f"{bytes_passed} bytes in all, below 65536", bytes_passed < 65536)
        self.goal(f"{trips:.1f} round trips after connecting, at most 4", trips < 4.5)

    def far(self, rounds: int) -> None:
        """Push through a proxy with and without a round trip of 20 ms."""
        rates: dict[float, list[float]] = {0.0: [], 0.01: []}
        with self._proxied() as (near, proxy):
            for _ in range(rounds):
                for delay_s, values in rates.items():
                    proxy.delay_s = delay_s
                    to = self._new()
                    values.append(self._size / 1e6 / push(near, self._first, str(to)))
                    shutil.rmtree(to)
        close, distant = (statistics.median(values) for values in rates.values())
        print(f"\nthe same proxy, round trip of 0 and 20 ms, {rounds} rounds, MB/s")
        print(f"  0 ms {close:.1f}, 20 ms {distant:.1f}")
        self.goal(f"{distant / close:.2f} of the throughput, at least 0.5", distant >= close / 2)

    @contextlib.contextmanager
    def _proxied(self) -> Iterator[tuple[Place, Proxy]]:
        with Proxy(self._place.host, self._place.port) as proxy:
            yield replace(self._place, host=proxy.host, port=proxy.port), proxy

    def shaped(self, network: Network | None, rounds: int) -> None:
        """Push over a link of 10 MB/s."""
        if network is not None:
            network.set_rate(int(SHAPED_BYTES_S * 8))
            self.throughput("10 MB/s (tbf)", self._place, rounds, 0.95)
            network.set_rate(None)
            return
        with self._proxied() as (near, proxy):
            proxy.rate_bytes_s = SHAPED_BYTES_S
            self.throughput("10 MB/s (proxy)", near, rounds, 0.95)


def main() -> int:
    """Run every case and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="Where both sides' files lie.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="push-", dir=options.folder) as name:
        folder = Path(name)
        with running(folder) as (place, network):
            bench = Bench(folder, place, options.megabytes * 1_000_000)
            bench.throughput("unshaped", place, options.rounds, 0.6)
            bench.shaped(network, max(1, options.rounds // 2))
            bench.delta()
            bench.far(max(1, options.rounds // 2 + 1))
    return 1 if bench.missed else 0


if __name__ == "__main__":
    sys.exit(main())
