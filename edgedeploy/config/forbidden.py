"""Keys that stand in no profile and no target file: hosts, secrets and commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgedeploy.config.document import DataPath
from edgedeploy.config.nearest import shorten

_KINDS: Mapping[str, str] = {
    "secrets": "password passwd passphrase token secret secrets api_key apikey private_key "
    "credentials",
    "hosts and users": "host hosts hostname address ip port user username ssh ssh_key "
    "identity identity_file jump proxyjump ssh_config device devices groups",
    "commands": "command commands cmd run exec shell script hook hooks restart health",
}
_FORBIDDEN = {word: kind for kind, words in _KINDS.items() for word in words.split()}


def forbidden_key(key: str, path: DataPath) -> tuple[str, str, str] | None:
    """Return (code, message, hint) when an unknown key belongs to a device, not to a profile."""
    kind = _kind(key)
    if kind is None:
        return None
    return (
        "E136",
        f"`{shorten(key)}` has no place in this file: {kind} never stand in profiles and targets",
        "put it into devices.yaml, which is git-ignored and never shipped",
    )


def _kind(key: str) -> str | None:
    return _FORBIDDEN.get(key.lower().replace("-", "_"))


def is_secret(key: str) -> bool:
    """Whether a key names a secret."""
    return _kind(key) == "secrets"


def secrets_within(value: Any, path: DataPath) -> Iterator[tuple[DataPath, str]]:
    """Yield (path, key) of each key in free-form parameters that names a secret."""
    if isinstance(value, dict):
        for key, item in value.items():
            if is_secret(key):
                yield (*path, key), key
            yield from secrets_within(item, (*path, key))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from secrets_within(item, (*path, place))
