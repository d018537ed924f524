"""What was measured of a release: a file beside its bundle, and its signature.

It differs from run to run and so is no part of the bundle, whose bytes do not. It names the release
by its digest; the signature is of a type of its own, so that it vouches for nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgedeploy.errors import IntegrityError
from edgedeploy.manifest import canonical, write_atomic
from edgedeploy.plaindata import from_plain, to_plain
from edgedeploy.release.bundle import SUFFIX
from edgedeploy.release.keys import SigningKey
from edgedeploy.release.opening import Bundle, check_signatures
from edgedeploy.release.signing import envelope, sign
from edgedeploy.report.document import BenchSummary, GateReport

SCHEMA = 1
PAYLOAD_TYPE = "application/vnd.edgedeploy.measurements+json"
MOST_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured of an artifact; devices have no names in it.

    Attributes:
        model, target: Which of the release's models, for which target.
        artifact: Its digest.
        bench: None where it was not measured.
        gates: Those that are judged by measurements, with the figures.
    """

    model: str
    target: str
    artifact: str
    bench: BenchSummary | None
    gates: tuple[GateReport, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """All that was measured of a release's artifacts, the newest of each.

    Attributes:
        release: Digest of the release.
        name, version: Of the release.
        measured: Sorted by target, then in the order of the models.
    """

    schema: int = SCHEMA
    release: str
    name: str
    version: str
    measured: tuple[Measured, ...]


def measured_path(bundle: Path) -> Path:
    """Return where the measurements of a bundle lie."""
    return bundle.with_name(f"{bundle.name.removesuffix(SUFFIX)}.measurements.json")


def signature_path(measurements: Path) -> Path:
    """Return where the signature of measurements lies."""
    return measurements.with_suffix(".dsse.json")


def without_name(bench: BenchSummary) -> BenchSummary:
    """Return a measurement without the name that its device has in the publisher's inventory."""
    return replace(bench, device=None)


def write_measurements(found: Measurements, bundle: Path, key: SigningKey) -> Path:
    """Write the measurements of a bundle beside it, signed, and return their path.

    Raises:
        IntegrityError: What signs gave no signature of the key (E733).
        OSError: The disk refuses.
    """
    content = canonical(to_plain(found))
    signature = sign(content, key.public, key.sign, PAYLOAD_TYPE)
    goal = measured_path(bundle)
    write_atomic(signature_path(goal), envelope(content, [signature], PAYLOAD_TYPE))
    write_atomic(goal, content)
    return goal


def read_measurements(bundle: Bundle, trusted: Mapping[str, bytes]) -> Measurements | None:
    """Return the measurements that lie beside a bundle; None where there are none.

    Args:
        bundle: A bundle that was checked.
        trusted: The 32 public bytes of the keys that are believed, by id.

    Raises:
        IntegrityError: No trusted key vouches for them (E732, E735, E736), or they are of another
            release or schema (E762).
        OSError: They cannot be read.
    """
    path = measured_path(bundle.path)
    if not path.exists():
        return None
    content, signed = _read(path), _read(signature_path(path))
    check_signatures(content, signed, trusted, path.name, PAYLOAD_TYPE)
    try:
        found: Measurements = from_plain(Measurements, json.loads(content), "measurements")
    except (ValueError, RecursionError) as error:
        raise _wrong(path, str(error)) from error
    if found.schema != SCHEMA:
        raise _wrong(path, f"it has schema {found.schema}, this version reads {SCHEMA}")
    if found.release != bundle.release.digest:
        raise _wrong(path, "it is of another release")
    return found


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise _wrong(path, "it is missing, or no regular file")
    with open(path, "rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise _wrong(path, f"it has more than {MOST_BYTES} bytes")
    return content


def _wrong(path: Path, why: str) -> IntegrityError:
    return IntegrityError(
        f"the measurements cannot be used: {path.name}: {why}",
        code="E762",
        subject=path.name,
        hint="get both files again from where the bundle was published, or remove both",
    )
