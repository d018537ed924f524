"""The inventory: which devices there are, how to reach them, and what may be run on them.

``devices.yaml`` is the operator's own file: it names hosts and commands, is git-ignored and never
shipped. A profile has neither.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgedeploy.config.document import DataPath, Document, by_place
from edgedeploy.config.forbidden import is_secret, secrets_within
from edgedeploy.config.nearest import nearest, shorten
from edgedeploy.config.read import read_document
from edgedeploy.config.search import user_folder
from edgedeploy.config.validation import schema_diagnostics
from edgedeploy.devices.groups import group_faults, resolved
from edgedeploy.devices.writers import refuse_other_writers
from edgedeploy.errors import Diagnostic, ProfileError, UsageError

if TYPE_CHECKING:
    from edgedeploy.devices.inventory_schema import DeviceSchema, InventorySchema

FILE = "devices.yaml"
VARIABLE = "EDGEDEPLOY_DEVICES"

EXAMPLE = """devices:
  kitchen-pi:
    host: 192.168.1.20
    user: pi
    board: rpi5
"""
"""The smallest inventory that says something."""

# A key that names a secret, or `user:password@`: a line with one is never shown.
_MAY_BE_SECRET = re.compile(
    r"pass(?:word|wd|phrase)|token|secret|api_?key|private.?key|credential|:[^\s@]*@", re.IGNORECASE
)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """The devices that there are.

    Attributes:
        file: Where they were read, None where there is no inventory.
        devices: By name, in the order of the file; :data:`LOCAL` is always among them.
        groups: Names of the devices in each group.
        unnamed: Devices that the file does not name: patterns leave them out.
        places: Where it was looked for: a file that appears or changes there is another inventory.
    """

    file: Path | None
    devices: Mapping[str, Device]
    groups: Mapping[str, tuple[str, ...]]
    unnamed: frozenset[str] = frozenset()
    places: tuple[Path, ...] = ()

    def select(self, patterns: Sequence[str]) -> tuple[Device, ...]:
        """Return the devices that are meant, in the order of the inventory.

        Args:
            patterns: Names, patterns of ``*`` and ``?``, ``@group`` and ``tag:name``; a device is
                meant when one of them matches.

        Raises:
            UsageError: There is none (E190), or one of them matches nothing (E191).
        """
        if not patterns:
            raise self._nothing_named()
        names = {name for pattern in patterns for name in self._matching(pattern)}
        return tuple(device for name, device in self.devices.items() if name in names)

    def _matching(self, pattern: str) -> tuple[str, ...]:
        if pattern.startswith("@"):
            found = self.groups.get(pattern[1:], ())
        elif pattern.startswith("tag:"):
            found = tuple(
                name for name, device in self.devices.items() if pattern[4:] in device.tags
            )
        elif pattern in self.devices:
            found = (pattern,)
        else:
            named = (name for name in self.devices if name not in self.unnamed)
            found = tuple(name for name in named if fnmatch.fnmatchcase(name, pattern))
        if not found:
            raise self._nothing_matches(pattern)
        return found

    def _nothing_named(self) -> UsageError:
        return UsageError(
            "no device is named", code="E190", hint=f"name one with `-d`: {self._known()}"
        )

    def _nothing_matches(self, pattern: str) -> UsageError:
        if self.file is None:
            return UsageError(
                f"there is no device `{shorten(pattern)}`, and no {FILE}",
                code="E190",
                hint=f"write {FILE} beside the profile: `devices: {{{shorten(pattern)}: "
                "{host: 192.168.1.20, user: pi}}`",
            )
        tags = {f"tag:{tag}" for device in self.devices.values() for tag in device.tags}
        legal = [*self.devices, *(f"@{group}" for group in self.groups), *sorted(tags)]
        guess = nearest(pattern, legal)
        return UsageError(
            f"{self.file} has no device, group or tag `{shorten(pattern)}`",
            code="E191",
            hint=f"did you mean `{guess}`?" if guess else self._known(),
        )

    def _known(self) -> str:
        groups = [f"@{group}" for group in self.groups]
        listed = ", ".join([*self.devices, *groups][:20])
        return f"there are {listed}" + ("" if self.file else f", and no {FILE}")


def load_inventory(file: Path | None, project: Path) -> Inventory:
    """Return the inventory.

    Args:
        file: The file to read; None looks it up: ``EDGEDEPLOY_DEVICES``, then ``devices.yaml``
            beside the profile, in the current folder, and in the user's configuration folder.
        project: The profile's folder.

    Raises:
        ProfileError: The file cannot be read, others may write to it (E193), or anything in it is
            wrong; holds every finding, sorted by place.
    """
    places = (file,) if file else _places(project)
    found = file or next((place for place in places if place.exists()), None)
    if found is None:
        local = Device(name=LOCAL, kind="local")
        return Inventory(
            file=None,
            devices={LOCAL: local},
            groups={},
            unnamed=frozenset({LOCAL}),
            places=places,
        )
    refuse_other_writers(found)
    try:
        return replace(_validated(read_document(found), found), places=places)
    except ProfileError as error:
        raise ProfileError([_for_inventory(item) for item in error.diagnostics]) from error


def _places(project: Path) -> tuple[Path, ...]:
    """Return where an inventory may lie, the first that counts first."""
    named = os.environ.get(VARIABLE)
    if named:
        return (Path(named),)
    user = user_folder()
    folders = [project, Path(), *([user] if user is not None else [])]
    return tuple(folder / FILE for folder in folders)


def _validated(document: Document, file: Path) -> Inventory:
    from pydantic import ValidationError

    from edgedeploy.devices.inventory_schema import InventorySchema

    found = list(_crossing(document))
    schema = None
    try:
        schema = InventorySchema.model_validate(document.data)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        found += schema_diagnostics(errors, InventorySchema, document, unknown_key=_secret)
    if schema is None or found:
        raise ProfileError(sorted(found, key=by_place))
    return _inventory(schema, file)


def _crossing(document: Document) -> Iterator[Diagnostic]:
    """Yield what is wrong between the parts of a file, as far as these have the right shape."""
    data = document.data if isinstance(document.data, dict) else {}
    devices, groups = data.get("devices"), data.get("groups")
    known = devices if isinstance(devices, dict) else {}
    for path, key in secrets_within(known, ("devices",)):
        if "facts" in path:  # elsewhere it is an unknown key
            code, message, hint = _secret(key, path) or ("", "", "")
            yield document.diagnostic(code, message, path, key=True, hint=hint)
    yield from _local_is_local(known.get(LOCAL), document)
    if isinstance(groups, dict) and all(_is_texts(members) for members in groups.values()):
        for code, message, path, hint in group_faults(groups, _tags(known)):
            yield document.diagnostic(code, message, path, hint=hint)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _tags(devices: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """Return the tags of each device, :data:`LOCAL` among them."""
    found = {
        name: device.get("tags", ()) if isinstance(device, dict) else ()
        for name, device in devices.items()
    }
    texts = {name: tags if _is_texts(tags) else () for name, tags in found.items()}
    return {**texts, LOCAL: texts.get(LOCAL, ())}


def _secret(key: str, path: DataPath) -> tuple[str, str, str] | None:
    """Return the diagnostic of an unknown key that names a secret."""
    if not is_secret(key):
        return None
    return (
        "E194",
        f"`{shorten(key)}` has no place in {FILE}: devices are logged in to with keys",
        "use ssh-agent or `identity: FILE`; a passphrase is asked for on the terminal",
    )


def _for_inventory(found: Diagnostic) -> Diagnostic:
    """Return a finding without its line where that may hold a secret, and with our own advice."""
    if found.code == "E102":  # an empty file; the reader's advice is about profiles
        found = replace(found, hint="write `devices: {kitchen-pi: {host: 192.168.1.20, user: pi}}`")
    if found.snippet is not None and _MAY_BE_SECRET.search(found.snippet):
        return replace(found, snippet=None)
    return found


def _local_is_local(device: Any, document: Document) -> Iterator[Diagnostic]:
    """Yield a finding where the device `local` is said to be another machine."""
    if not isinstance(device, dict):
        return
    for key in ("host", "user", "port", "jump", "identity"):
        if key in device:
            yield document.diagnostic(
                "E196",
                f"`{LOCAL}` is this machine, and `{key}` says otherwise",
                ("devices", LOCAL, key),
                key=True,
                hint="give the other machine another name",
            )
    if device.get("connection", LOCAL) != LOCAL:
        yield document.diagnostic(
            "E196",
            f"`{LOCAL}` is this machine, and nothing else",
            ("devices", LOCAL, "connection"),
            hint="give the device another name",
        )


def _inventory(schema: InventorySchema, file: Path) -> Inventory:
    named = {name: device.tags for name, device in schema.devices.items()}
    groups = resolved(schema.groups, _tags({name: {"tags": tags} for name, tags in named.items()}))
    config = None if schema.ssh_config is None else _path(schema.ssh_config, file)
    if config is not None:
        refuse_other_writers(config)  # it may hold commands as well (Match exec)
    devices = {
        name: _device(
            name,
            device,
            file,
            config,
            tuple(sorted(group for group, names in groups.items() if name in names)),
        )
        for name, device in schema.devices.items()
    }
    unnamed = frozenset({LOCAL} - set(devices))
    if unnamed:
        inside = tuple(sorted(group for group, names in groups.items() if LOCAL in names))
        devices[LOCAL] = Device(name=LOCAL, kind="local", groups=inside)
    return Inventory(file=file, devices=devices, groups=groups, unnamed=unnamed)


def _device(
    name: str, given: DeviceSchema, file: Path, config: Path | None, groups: tuple[str, ...]
) -> Device:
    kind: Kind = given.connection or ("local" if name == LOCAL else "ssh")
    over_ssh = kind == "ssh"
    return Device(
        name=name,
        kind=kind,
        host=(given.host or name) if over_ssh else "",
        user=given.user,
        port=given.port,
        jump=given.jump,
        identity=None if given.identity is None else _path(given.identity, file),
        ssh_config=config if over_ssh else None,
        board=given.board,
        tags=tuple(given.tags),
        groups=groups,
        root=(given.root or ROOT).rstrip("/"),
        python=given.python,
        hooks=Hooks(
            restart=given.restart,
            health=given.health.command,
            health_url=given.health.url,
            timeout_s=given.health.timeout / 1000,
        ),
        facts=given.facts,
    )


def _path(named: str, file: Path) -> Path:
    """Return a path of the file; relative ones are relative to it."""
    return file.absolute().parent / Path(named).expanduser()
