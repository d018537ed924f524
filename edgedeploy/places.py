"""Where things lie: the store, and the files of a build folder."""

from __future__ import annotations

import os
from pathlib import Path

from edgedeploy.errors import StoreError

DOCUMENT = "build.json"
TEXT = "report.txt"
PAGE = "report.html"
STAMP = ".report"


def default_store_path() -> Path:
    """Return where the store lies: ``EDGEDEPLOY_STORE``, else below the user's cache folder.

    Raises:
        StoreError: The user has no home folder (E602).
    """
    given = os.environ.get("EDGEDEPLOY_STORE")
    return Path(given).absolute() if given else user_cache() / "store"


def user_cache() -> Path:
    """Return the folder for what can be made or fetched again: ``$XDG_CACHE_HOME/edgedeploy``.

    Raises:
        StoreError: The user has no home folder (E602).
    """
    return _user_folder(
        "XDG_CACHE_HOME", ".cache", "the store", "set EDGEDEPLOY_STORE to a folder of your own"
    )


def default_state_path() -> Path:
    """Return the file that remembers which releases were taken: what must not be lost.

    Raises:
        StoreError: The user has no home folder (E602).
    """
    folder = _user_folder(
        "XDG_STATE_HOME", ".local/state", "what was taken", "name a file of your own with --state"
    )
    return folder / "releases.json"


def default_trust_path() -> Path:
    """Return the file of the keys that the user believes: what nobody else may decide.

    Raises:
        StoreError: The user has no home folder (E602).
    """
    folder = _user_folder(
        "XDG_CONFIG_HOME", ".config", "who is believed", "name a file of your own with --trust"
    )
    return folder / "trust.json"


def _user_folder(variable: str, usual: str, what: str, hint: str) -> Path:
    """Return our folder below one of the user's. Source: XDG Base Directory Specification."""
    given = os.environ.get(variable)
    if given and Path(given).is_absolute():
        return Path(given) / "edgedeploy"
    try:
        return Path.home() / usual / "edgedeploy"
    except RuntimeError as error:
        raise StoreError(
            f"there is no home folder to keep {what} in", code="E602", hint=hint
        ) from error
