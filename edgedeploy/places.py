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
    if given:
        return Path(given).absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    if cache and Path(cache).is_absolute():
        return Path(cache) / "edgedeploy" / "store"
    try:
        return Path.home() / ".cache" / "edgedeploy" / "store"
    except RuntimeError as error:
        raise StoreError(
            "there is no home folder to keep the store in",
            code="E602",
            hint="set EDGEDEPLOY_STORE to a folder of your own",
        ) from error
