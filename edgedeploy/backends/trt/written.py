"""Values of options that profiles write as words: sizes by dim, and bytes."""

from __future__ import annotations

import re

from edgedeploy.config.units import UnitError, size_bytes
from edgedeploy.errors import BuildError

_SIZE = re.compile(r"([^=,]+)=\s*([0-9]{1,10})")


def written_sizes(words: str) -> dict[str, int]:
    """Return the sizes that ``opt`` names, by dim: ``x[3]=320, n=1``.

    Raises:
        BuildError: It is not of that form (E310).
    """
    found = {}
    for part in filter(None, map(str.strip, words.split(","))):
        match = _SIZE.fullmatch(part)
        if match is None:
            raise BuildError(
                f"option opt: {part!r} is no dim with a size",
                code="E310",
                subject="opt",
                hint="write such as `W=320`, or `x[3]=320` for the last axis of the input x",
            )
        found[match[1].strip()] = int(match[2])
    return found


def written_bytes(name: str, words: str) -> int | None:
    """Return a size such as ``1 GiB`` in bytes, None for no words.

    Args:
        name: Of the option, for the message.
        words: As the profile writes it.

    Raises:
        BuildError: It is no size (E310).
    """
    if not words:
        return None
    try:
        return size_bytes(words)
    except UnitError as error:
        raise BuildError(
            f"option {name}: {error}", code="E310", subject=name, hint=error.hint
        ) from error
