"""What must not stand in a profile: hosts, secrets, commands, and where private data lies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgedeploy.config.document import DataPath
from edgedeploy.config.nearest import shorten
from edgedeploy.config.read import read_document
from edgedeploy.errors import ProfileError
from edgedeploy.profile.types import DataRole, Profile

DATA_FILE = "data.yaml"

_SECRETS = frozenset(
    ["password", "passwd", "passphrase", "token", "secret", "secrets", "api_key", "apikey", "private_key", "credentials"]
)
_HOSTS = frozenset(
    ["host", "hosts", "hostname", "address", "ip", "port", "user", "username", "ssh", "ssh_key", "identity_file", "device", "devices"]
)
_COMMANDS = frozenset(["command", "commands", "cmd", "run", "exec", "shell", "script", "hook", "hooks", "restart"])


def forbidden_key(key: str, path: DataPath) -> tuple[str, str, str] | None:
    """Return (code, message, hint) when an unknown key belongs to a device, not to a profile."""
    word = key.lower().replace("-", "_")
    if word in _SECRETS:
        kind = "secrets"
    elif word in _HOSTS:
        kind = "hosts and users"
    elif word in _COMMANDS:
        kind = "commands"
    else:
        return None
    return (
        "E136",
        f"`{shorten(key)}` has no place in a profile: {kind} never stand in one",
        "put it into devices.yaml, which is git-ignored and never shipped",
    )


def secrets_within(value: Any, path: DataPath) -> Iterator[tuple[DataPath, str]]:
    """Yield (path, key) of each key in free-form parameters that names a secret."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key.lower().replace("-", "_") in _SECRETS:
                yield (*path, key), key
            yield from secrets_within(item, (*path, key))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from secrets_within(item, (*path, place))


def locate(profile: Profile, model: str, role: DataRole) -> str:
    """Return the source of a data role: what the profile says, else what data.yaml says.

    ``data.yaml`` beside the profile is a map from role, or ``model.role``, to a source; relative
    ones are relative to the profile's folder.

    Raises:
        ProfileError: data.yaml is malformed, or neither names a source (E144).
    """
    if role.source is not None:
        return role.source
    file = profile.folder / DATA_FILE
    wanted = (f"{model}.{role.name}", role.name)
    hint = f"write `{role.name}: path/to/data` into {DATA_FILE} beside the profile"
    if not file.exists():
        raise ProfileError(
            f"the profile names no source for `{role.name}`, and there is no {DATA_FILE}",
            code="E144",
            subject=str(file),
            hint=hint,
        )
    document = read_document(file)
    if not isinstance(document.data, dict):
        raise ProfileError(
            document.diagnostic("E144", f"{DATA_FILE} is a map from role to source", (), hint=hint)
        )
    for key in wanted:
        if key in document.data:
            source = document.data[key]
            if isinstance(source, str) and source.strip() and source.isprintable():
                return source
            raise ProfileError(
                document.diagnostic("E144", f"`{key}` is no source", (key,), hint=hint)
            )
    raise ProfileError(
        document.diagnostic(
            "E144",
            f"neither the profile nor {DATA_FILE} names a source for `{role.name}`",
            (),
            hint=hint,
        )
    )
