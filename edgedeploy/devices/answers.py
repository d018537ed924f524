"""What a device answers, checked: it is a stranger's until then (E420)."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Literal, cast

from edgedeploy.devices.depot import Damage, DepotState, Incoming
from edgedeploy.devices.refusals import no_answer
from edgedeploy.errors import IntegrityError
from edgedeploy.remote import printable

MANY = 1_000_000
"""More things of one kind than any depot holds."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_DAMAGES = ("bad-object", "bad-version", "bad-link", "stray", "foreign")
_WORD = re.compile(r"[a-z0-9]{1,16}")


def text_of(value: Any, limit: int = 4096) -> str:
    """Return a text with nothing in it that could steer a terminal."""
    if not isinstance(value, str) or len(value) > limit:
        raise no_answer("sent no text where one is due")
    return printable(value.encode("utf-8", "replace")).replace("\n", "?")


def count_of(value: Any) -> int:
    """Return a number of things or bytes."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
        raise no_answer("sent no number where one is due")
    return value


def digest_of(value: Any) -> str:
    """Return a SHA-256 of 64 hex digits."""
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise no_answer("sent no digest where one is due")
    return value


def manifest_of(content: bytes, version: str) -> bytes:
    """Return the manifest of a version, which its name stands for (E720)."""
    if hashlib.sha256(content).hexdigest() != version:
        raise IntegrityError(
            f"the device sent a manifest that is not that of {version}",
            code="E720",
            hint="run `devices fsck --repair`, and push the version again",
        )
    return content


def digests_of(value: Any) -> tuple[str, ...]:
    """Return a list of digests."""
    return tuple(digest_of(item) for item in _list(value))


def texts_of(value: Any) -> tuple[str, ...]:
    """Return a list of texts."""
    return tuple(text_of(item, 64 << 10) for item in _list(value))


def state_of(value: Any) -> DepotState:
    """Return what a depot says of itself."""
    fields = _fields(value)
    root, clock = text_of(fields.get("root")), fields.get("clock_s")
    if not root.startswith("/"):
        raise no_answer("says that its depot is at no absolute path")
    if not isinstance(clock, int | float) or isinstance(clock, bool) or not abs(clock) < 1e15:
        raise no_answer("sent no time where one is due")
    codecs = tuple(text_of(item, 16) for item in _list(fields.get("codecs")))
    if not all(_WORD.fullmatch(codec) for codec in codecs):
        raise no_answer("names compressions that there are not")
    return DepotState(
        root=root,
        agent="python",
        versions=digests_of(fields.get("versions")),
        current=_perhaps(fields.get("current")),
        previous=_perhaps(fields.get("previous")),
        pending=_perhaps(fields.get("pending")),
        reverted=_perhaps(fields.get("reverted")),
        free_bytes=count_of(fields.get("free_bytes")),
        clock_s=float(clock),
        codecs=codecs,
    )


def incoming_of(value: Any) -> Incoming:
    """Return what a device holds of a stream."""
    fields = _fields(value)
    return Incoming(length=count_of(fields.get("length")), frames=digests_of(fields.get("frames")))


def damages_of(value: Any) -> tuple[Damage, ...]:
    """Return the faults that a check found."""
    return tuple(_damage(item) for item in _list(value))


def _damage(value: Any) -> Damage:
    if not isinstance(value, list) or len(value) != 3 or value[1] not in _DAMAGES:
        raise no_answer("sent no finding where one is due")
    what = cast(Literal["bad-object", "bad-version", "bad-link", "stray", "foreign"], value[1])
    return Damage(path=text_of(value[0]), what=what, repaired=value[2] is True)


def _perhaps(value: Any) -> str | None:
    return None if value is None else digest_of(value)


def _fields(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise no_answer("sent no fields where they are due")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) > MANY:
        raise no_answer("sent no list where one is due")
    return value
