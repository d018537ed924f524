"""Whom a reader of releases believes: keys that are named, and those of a trust file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedeploy.disk import disk_errors
from edgedeploy.release.keys import read_public_key
from edgedeploy.release.signing import key_id
from edgedeploy.release.trust import Trust, read_trust


@dataclass(frozen=True, slots=True, kw_only=True)
class Believed:
    """Keys that are believed, and those that are no more.

    Attributes:
        trusted: The 32 public bytes of the keys that are believed, by id.
        revoked: Why keys are believed no more, by id; none of them is in ``trusted``.
    """

    trusted: Mapping[str, bytes]
    revoked: Mapping[str, str]


def believed(
    keys: Sequence[Path], trust: Path | None, own: Mapping[str, bytes] | None = None
) -> Believed:
    """Return who is believed.

    Args:
        keys: Files of public keys.
        trust: Trust file whose keys are believed too, and whose revoked ones are not, whoever
            names them; None: there is none.
        own: Keys that are at hand, by id; believed like those of ``keys``.

    Raises:
        UsageError: A key cannot be used (E751, E752), or there is no trust file (E753).
        IntegrityError: The trust file cannot be believed (E743).
        StoreError: It cannot be read (E601, E602).
    """
    with disk_errors("cannot read the trust file"):
        said = Trust() if trust is None else read_trust(trust)
    given = {key_id(public): public for public in map(read_public_key, keys)}
    revoked = said.revoked
    known = {**(own or {}), **given, **said.believed}
    return Believed(
        trusted={key: public for key, public in known.items() if key not in revoked},
        revoked=revoked,
    )
