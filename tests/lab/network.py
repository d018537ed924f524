"""The network of one device: a namespace, a cable (a veth pair) and two addresses.

The machine's end of the cable stays for as long as the device exists, also while the device is
"off" or its link cut: were it gone, packets for the device would leave by the default route.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.lab.place import PREFIX, LabError, call

NETWORK = "198.18"
"""First half of all addresses: a range for tests of network devices (RFC 2544), used nowhere."""

MOST_DEVICES = 1000
"""Devices at one time; each takes four addresses and its number appears in its names."""

_TABLE = "edlab"
_DROP_ALL = f"""
table inet {_TABLE} {{
  chain in {{ type filter hook input priority 0; policy drop; }}
  chain out {{ type filter hook output priority 0; policy drop; }}
}}
"""


@dataclass(frozen=True, slots=True)
class LinkBytes:
    """What passed a device's cable, headers and all, since it was made.

    Attributes:
        to_device: Bytes sent to it.
        from_device: Bytes it sent.
    """

    to_device: int
    from_device: int


class Network:
    """The network of the device with one number.

    Attributes:
        namespace: Name of the network namespace that the device is in.
        cable: Name of the machine's end of the cable.
        host: The machine's address on it.
        address: The device's.
    """

    def __init__(self, number: int, generation: int = 0) -> None:
        """Work out the names; nothing is made."""
        if not 0 <= number < MOST_DEVICES:
            raise LabError(f"{number} is no number of a device")
        low = number * 4
        self._number, self._generation = number, generation
        self.cable = f"{PREFIX}{number}"
        self.host = f"{NETWORK}.{low // 256}.{low % 256 + 1}"
        self.address = f"{NETWORK}.{low // 256}.{low % 256 + 2}"

    @property
    def namespace(self) -> str:
        """Name of the namespace; a reboot makes another one."""
        return f"{PREFIX}-{self._number}-{self._generation}"

    def make(self) -> None:
        """Make namespace, cable and addresses.

        Raises:
            LabError: The addresses are in use, or the kernel does not let us.
        """
        call(["ip", "netns", "add", self.namespace])
        peer = ["peer", "name", "eth0", "netns", self.namespace]
        call(["ip", "link", "add", self.cable, "type", "veth", *peer])
        call(["ip", "address", "add", f"{self.host}/30", "dev", self.cable])
        call(["ip", "link", "set", self.cable, "up"])
        self._configure()

    def replace(self) -> None:
        """Plug the cable into a new namespace: the device's kernel forgets its connections.

        Every process of the device must have ended.
        """
        old = self.namespace
        self._inside("ip", "link", "set", "eth0", "down")
        self._generation += 1
        call(["ip", "netns", "add", self.namespace])
        call(["ip", "-n", old, "link", "set", "eth0", "netns", self.namespace])
        call(["ip", "netns", "delete", old])
        self._configure()

    def remove(self) -> None:
        """Remove cable and namespaces of this number, of every generation."""
        if Path("/sys/class/net", self.cable).exists():
            call(["ip", "link", "delete", self.cable])
        for name in namespaces(self._number):
            call(["ip", "netns", "delete", name])

    def cut(self, how: Literal["silent", "down"]) -> None:
        """Stop all traffic.

        Args:
            how: `silent`: packets vanish in both directions, nothing else is seen. `down`: the
                device's end is taken down, as when its cable is pulled.
        """
        if how == "down":
            self._inside("ip", "link", "set", "eth0", "down")
        else:
            self._inside("nft", "-f", "-", stdin=_DROP_ALL)

    def restore(self) -> None:
        """Undo :meth:`cut`, and wait until the cable carries again; allowed when nothing is cut.

        A cable that was down has no carrier for a moment, and the kernel remembers for a while that
        its address did not answer: connecting then ends at once with "no route to host".
        """
        if _TABLE in self._inside("nft", "list", "tables"):
            self._inside("nft", "delete", "table", "inet", _TABLE)
        self._inside("ip", "link", "set", "eth0", "up")
        call(["ip", "neighbour", "flush", "dev", self.cable])
        carrier = Path("/sys/class/net", self.cable, "operstate")
        deadline = time.monotonic() + 10
        while carrier.read_text().strip() != "up":
            if time.monotonic() > deadline:
                raise LabError(f"{self.cable} stays down")
            time.sleep(0.02)

    def set_rate(self, bits_s: int | None) -> None:
        """Limit both directions to a rate (bit/s), or to none.

        What a packet scheduler of the token-bucket kind lets through: bursts of 10 ms, at least
        32 KiB, and at most 100 ms of waiting packets.
        """
        for where, device in (([], self.cable), (["-n", self.namespace], "eth0")):
            rule = ["qdisc", "replace", "dev", device, "root"]
            if bits_s is None:
                call(["tc", *where, *rule, "pfifo_fast"])
            else:
                burst = max(32 << 10, bits_s // 800)
                shape = ["tbf", "rate", f"{bits_s}bit", "burst", f"{burst}b", "latency", "100ms"]
                call(["tc", *where, *rule, *shape])

    def passed(self) -> LinkBytes:
        """Return the bytes that passed the cable."""
        counters = Path("/sys/class/net", self.cable, "statistics")
        sent, received = (int((counters / f"{way}_bytes").read_text()) for way in ("tx", "rx"))
        return LinkBytes(to_device=sent, from_device=received)

    def pids(self) -> list[int]:
        """Return the ids of every process in the device's namespaces."""
        found = [call(["ip", "netns", "pids", name]).split() for name in namespaces(self._number)]
        return [int(pid) for group in found for pid in group]

    def _configure(self) -> None:
        self._inside("ip", "address", "add", f"{self.address}/30", "dev", "eth0")
        self._inside("ip", "link", "set", "lo", "up")
        self._inside("ip", "link", "set", "eth0", "up")

    def _inside(self, *argv: str, stdin: str = "") -> str:
        return call(["ip", "netns", "exec", self.namespace, *argv], stdin=stdin)


def namespaces(number: int) -> Sequence[str]:
    """Return the names of the network namespaces that a device with this number has."""
    folder = Path("/run/netns")
    return sorted(path.name for path in folder.glob(f"{PREFIX}-{number}-*"))


def check_free(number: int) -> None:
    """Refuse a number whose names or addresses something on this machine has.

    Raises:
        LabError: They are in use, by whom the lab does not know.
    """
    network = Network(number)
    if Path("/sys/class/net", network.cable).exists() or namespaces(number):
        raise LabError(f"{network.cable} exists, and the lab's books do not say why")
    for line in call(["ip", "-4", "route", "show", "match", f"{network.address}/32"]).splitlines():
        if not line.startswith(("default", "0.0.0.0/0")):
            raise LabError(f"this machine has a route of its own to {network.address}: {line}")
