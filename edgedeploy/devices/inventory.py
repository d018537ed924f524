"""The inventory: which devices there are, how to reach them, and what may be run on them.

``devices.yaml`` is the operator's own file: it names hosts and commands, is git-ignored and never
shipped. A profile has neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["ssh", "local", "fake"]

LOCAL = "local"
"""The device that is there without being named: this machine."""

ROOT = "~/.edgedeploy"
"""Where depots lie on a device unless ``root`` says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """The operator's own commands around a change of version; they run on the device.

    Attributes:
        restart: Shell command that makes the application load the active version.
        health: Shell command that ends with 0 when the application is well.
        health_url: Address that answers with a 2xx status when it is; asked from the device.
        timeout_s: For each of them.
    """

    restart: str | None = None
    health: str | None = None
    health_url: str | None = None
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One physical unit, or what stands for one.

    Attributes:
        name: Its name in the inventory.
        kind: ``ssh``, ``local`` (this machine) or ``fake`` (a folder here, for dry runs).
        host: Name, address or alias of the ssh configuration; empty unless ``ssh``.
        user: Who logs in; None leaves it to the ssh configuration.
        port: None leaves it to the ssh configuration.
        jump: ``[user@]host[:port]``, several separated by commas; None as for ``user``.
        identity: File of the private key; None as for ``user``.
        ssh_config: File that ``ssh -F`` reads in place of the user's and the system's.
        board: Id of the board that it is, None when nobody said.
        tags: For selections.
        groups: Groups of the inventory that it is in, sorted.
        root: Folder of the depots on the device; may start with ``~/``.
        python: Interpreter on the device to use, None for the first that fits.
        hooks: Commands that may be run on it.
        facts: What a fake device says of itself; empty for others.
    """

    name: str
    kind: Kind
    host: str = ""
    user: str | None = None
    port: int | None = None
    jump: str | None = None
    identity: Path | None = None
    ssh_config: Path | None = None
    board: str | None = None
    tags: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    root: str = ROOT
    python: str | None = None
    hooks: Hooks = Hooks()
    facts: Mapping[str, Any] = field(default_factory=dict)
