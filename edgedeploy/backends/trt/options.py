"""What the command line of trtexec knows, release by release, and what stands for it in the API.

The rows are in :mod:`edgedeploy.backends.trt.option_table`; ``docs/tensorrt-options.md`` is made of
them. A command is put together of :func:`argument` alone: what a release does not know, or takes
without effect, cannot be sent to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from edgedeploy.errors import BuildError

Version = tuple[int, ...]
"""Numbers of a release, major first: ``(10, 3, 0, 30)``. A shorter one is the start of a range."""

SUPPORTED = ((8, 6), (10, 0), (11, 0))
"""First release of every line that is supported."""

_LINES = {8: (6,), 10: (), 11: ()}
"""Major number -> what the minor number must be; empty: any."""

_VERSION = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,6}){1,3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Releases from one on, up to another.

    Attributes:
        first: The first release.
        end: The first one that no longer belongs to it; None: still does.
    """

    first: Version
    end: Version | None = None

    def holds(self, version: Version) -> bool:
        """Return whether a release lies within."""
        return self.first <= version and (self.end is None or version < self.end)

    def in_words(self) -> str:
        """Return it for people: ``from 10.0, before 11.0``."""
        start = f"from {text(self.first)}"
        return start if self.end is None else f"{start}, before {text(self.end)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrtOption:
    """One option of trtexec.

    Attributes:
        flag: As it is written, such as ``--fp16``.
        what: What it does, a few words.
        known: Releases whose command line takes it; others end with "Unknown option".
        works: Releases of ``known`` in which it has its effect; empty: all of them.
        deprecated: First release that warns of it.
        api: What stands for it in the Python package ``tensorrt``; empty: nothing does.
        sent: Whether edgedeploy ever sends it.
    """

    flag: str
    what: str
    known: Span
    works: tuple[Span, ...] = ()
    deprecated: Version | None = None
    api: str = ""
    sent: bool = False

    def is_known(self, version: Version) -> bool:
        """Return whether the command line of a release takes it."""
        return self.known.holds(version)

    def is_effective(self, version: Version) -> bool:
        """Return whether a release takes it, and it has its effect there."""
        spans = self.works or (self.known,)
        return self.is_known(version) and any(span.holds(version) for span in spans)


def parse_version(written: str) -> Version:
    """Return the numbers of a release such as ``10.3.0`` or ``10.3.0.30``.

    Raises:
        BuildError: It is no version, or of no line that the table describes (E337).
    """
    if not _VERSION.fullmatch(written):
        raise _unsupported(written, "that is no version of TensorRT")
    version = tuple(int(part) for part in written.split("."))
    minor = _LINES.get(version[0])
    if minor is None or (minor and version[1] not in minor):
        raise _unsupported(written, f"TensorRT {written} is of no line that edgedeploy knows")
    return version


def text(version: Version) -> str:
    """Return a release as it is written."""
    return ".".join(map(str, version))


@cache
def table() -> Mapping[str, TrtOption]:
    """Return all options by flag."""
    from edgedeploy.backends.trt.option_table import ROWS

    return {row.flag: row for row in ROWS}


def known_flags(version: Version) -> frozenset[str]:
    """Return the flags that the command line of a release takes."""
    return frozenset(flag for flag, row in table().items() if row.is_known(version))


def argument(flag: str, version: Version, value: object = None, *, needed_by: str = "") -> str:
    """Return one argument of a command.

    Args:
        flag: A flag of the table.
        version: Release that the command is for.
        value: What follows ``=``; None for flags without a value.
        needed_by: What of the profile asks for it, for the message.

    Raises:
        BuildError: The release does not have it, or it has no effect there (E336).
    """
    row = table()[flag]
    if not row.is_effective(version):
        raise missing(row, version, needed_by)
    return flag if value is None else f"{flag}={value}"


def missing(row: TrtOption, version: Version, needed_by: str = "") -> BuildError:
    """Return the error that says that a release does not have an option (E336)."""
    name = text(version)
    spans = row.works or (row.known,)
    whole = " and ".join(span.in_words() for span in spans)
    if row.is_known(version):
        said = f"TensorRT {name} takes {row.flag}, but without effect"
    else:
        said = f"TensorRT {name} has no {row.flag}"
    return BuildError(
        f"{needed_by}: {said}" if needed_by else said,
        code="E336",
        subject=needed_by or row.flag,
        hint=f"it works {whole}; leave the option out, or use a device with such a TensorRT",
    )


def _unsupported(written: str, message: str) -> BuildError:
    lines = ", ".join("8.6" if line == (8, 6) else f"{line[0]}.x" for line in SUPPORTED)
    return BuildError(
        message,
        code="E337",
        subject=written[:40],
        hint=f"use a device with TensorRT {lines}",
    )
