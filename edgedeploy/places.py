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
    cache = os.environ.get("XDG_CACHE_HOME")
    if cache and Path(cache).is_absolute():
        return Path(cache) / "edgedeploy"
    try:
        return Path.home() / ".cache" / "edgedeploy"
    except RuntimeError as error:
        raise StoreError(
            "there is no home folder to keep the store in",
            code="E602",
            hint="set EDGEDEPLOY_STORE to a folder of your own",
        ) from error
