"""Holding back what coremltools says: away from a Mac it warns of all that only a Mac has."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

# tqdm reads it when a bar is made: the bars of the pass pipelines would end up in logs.
os.environ.setdefault("TQDM_DISABLE", "1")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back log messages and warnings below errors."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
