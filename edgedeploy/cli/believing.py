"""The options of verbs that read releases: whom to believe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgedeploy.places import default_trust_path

_FILE = click.Path(path_type=Path, dir_okay=False)


def believing_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--key`` (``keys``) and ``--trust``."""
    function = click.option(
        "--trust",
        type=_FILE,
        help="Trust file whose keys are believed (without --key: the one in your home).",
    )(function)
    return click.option(
        "--key",
        "keys",
        type=_FILE,
        multiple=True,
        help="Public key that is believed; may be given again.",
    )(function)


def trust_file(keys: tuple[Path, ...], trust: Path | None) -> Path | None:
    """Return the trust file that is asked: the one named, or the user's where no key is named.

    Raises:
        StoreError: The user has no home folder (E602).
    """
    return default_trust_path() if trust is None and not keys else trust
