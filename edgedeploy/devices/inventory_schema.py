"""The schema of devices.yaml at the YAML edge: what may stand where, and what is safe to use."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from edgedeploy.config.nearest import shorten
from edgedeploy.devices.sshconfig import split_hop
from edgedeploy.profile.schema_parts import Duration, Strict, Text, fault

COMMAND_CHARACTERS = 2000
"""The longest command of the operator; with its quoting it must fit into one that travels."""

LONGEST_TIMEOUT_MS = 600_000.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9_.:][A-Za-z0-9_.:%-]{0,254}")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+\\-]{0,63}")
_ROOT = re.compile(r"~?(?:/\.?[A-Za-z0-9_+@][A-Za-z0-9._+@-]*)+/?")
_PYTHON = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9._/+-]{0,254}")
_URL = re.compile(r"https?://[A-Za-z0-9\[][A-Za-z0-9.:\[\]%-]*(?:/[!-~]*)?")


def _matching(pattern: re.Pattern[str], what: str, hint: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            shown = value.rpartition("@")[2]  # `user:password@` is for nobody's eyes
            raise fault("E195", f"`{shorten(shown)}` is no {what}", hint)
        return value

    return check


def _jump(value: str) -> str:
    for hop in value.split(","):
        try:
            user, host, port = split_hop(hop.strip())
        except ValueError:
            user, host, port = None, "", None
        if not _HOST.fullmatch(host) or (user and not _USER.fullmatch(user)) or port == 0:
            raise fault(
                "E195",
                f"`{shorten(hop.strip().rpartition('@')[2])}` is no jump host",
                "write `[user@]host[:port]`, several separated by commas",
            )
    return value


def _url(value: str) -> str:
    if "@" in value.partition("//")[2].partition("/")[0]:
        raise fault(
            "E194",
            "a password or user stands in this address",
            "let the health command read it from a file on the device",
        )
    return _matching(_URL, "address", "write `http://127.0.0.1:8080/health`")(value)


def _command(value: str) -> str:
    if len(value) > COMMAND_CHARACTERS:
        raise fault(
            "E195",
            f"a command of {len(value)} characters (at most {COMMAND_CHARACTERS})",
            "put it into a script on the device and name that",
        )
    return value


def _timeout(value: float) -> float:
    if not 0 < value <= LONGEST_TIMEOUT_MS:
        raise fault("E195", "a health check takes longer than 0 and at most 600 s", "write `30 s`")
    return value


Name = Annotated[
    Text,
    AfterValidator(
        _matching(
            _NAME,
            "name",
            "use letters, digits, `.`, `_` and `-`, starting with a letter or digit, at most 64",
        )
    ),
]
Host = Annotated[
    Text,
    AfterValidator(
        _matching(
            _HOST,
            "host",
            "write a name, an address, or an alias of ~/.ssh/config; who logs in is `user:`",
        )
    ),
]
User = Annotated[
    Text, AfterValidator(_matching(_USER, "user", "write the name that logs in, such as `pi`"))
]
Jump = Annotated[Text, AfterValidator(_jump)]
Root = Annotated[
    Text,
    AfterValidator(
        _matching(
            _ROOT, "folder on a device", "write an absolute path, or one that starts with `~/`"
        )
    ),
]
Python = Annotated[
    Text, AfterValidator(_matching(_PYTHON, "interpreter", "write `/usr/bin/python3`"))
]
Url = Annotated[Text, AfterValidator(_url)]
Command = Annotated[Text, AfterValidator(_command)]
Timeout = Annotated[Duration, AfterValidator(_timeout)]


class HealthSchema(Strict):
    """How to see that the application on a device is well."""

    command: Command | None = Field(
        default=None, description="Shell command that ends with 0 when it is; runs on the device."
    )
    url: Url | None = Field(
        default=None, description="Address that answers with 2xx when it is; asked from the device."
    )
    timeout: Timeout = Field(
        default=30_000.0, description="For each of them and for `restart`: at most `600 s`."
    )


class DeviceSchema(Strict):
    """One device."""

    connection: Literal["ssh", "local", "fake"] | None = Field(
        default=None, description="`ssh`; `local` for the device of that name."
    )
    host: Host | None = Field(
        default=None, description="Name, address or alias; by default the device's name."
    )
    user: User | None = Field(default=None, description="Who logs in.")
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None, description="Port of its SSH server."
    )
    jump: Jump | None = Field(
        default=None, description="`[user@]host[:port]` to go through, several with commas."
    )
    identity: Text | None = Field(
        default=None, description="File of the private key, relative to devices.yaml."
    )
    board: Name | None = Field(default=None, description="Id of the board that it is.")
    tags: list[Name] = Field(default=[], description="For selections: `-d tag:NAME`.")
    root: Root | None = Field(
        default=None, description="Folder of the depots on it; `~/.edgedeploy` by default."
    )
    python: Python | None = Field(default=None, description="Interpreter on it to use.")
    restart: Command | None = Field(
        default=None,
        description="Shell command that makes the application load the active version.",
    )
    health: HealthSchema = Field(
        default=HealthSchema(), description="How to see that the application is well."
    )
    facts: dict[str, Any] = Field(
        default={}, description="What a fake device says of itself; for `connection: fake` alone."
    )

    @model_validator(mode="after")
    def _together(self) -> Self:
        foreign = {
            "local": ("host", "user", "port", "jump", "identity", "facts"),
            "fake": ("host", "user", "port", "jump", "identity"),
        }.get(self.connection or "ssh", ("facts",))
        given = next((key for key in foreign if getattr(self, key)), None)
        if given is not None:
            raise fault(
                "E196",
                f"`{given}` says nothing about a device with `connection: "
                f"{self.connection or 'ssh'}`",
                f"remove `{given}`, or change `connection`",
                at=(given,),
            )
        return self


class InventorySchema(Strict):
    """devices.yaml."""

    ssh_config: Text | None = Field(
        default=None,
        description="File that is read in place of ~/.ssh/config (`ssh -F`), relative to this one.",
    )
    devices: dict[Name, DeviceSchema] = Field(description="Map from name to device.")
    groups: dict[Name, list[Text]] = Field(
        default={}, description="Map from name to a list of devices, `@group` and `tag:name`."
    )
