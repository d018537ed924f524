"""Asking for passphrases: on a terminal, or not at all."""

from __future__ import annotations

import getpass
import sys
import threading
from collections.abc import Callable

_ONE_AT_A_TIME = threading.Lock()


def asker(*, no_input: bool) -> Callable[[str], str | None] | None:
    """Return what asks for a passphrase, None where nobody can or may be asked.

    Args:
        no_input: ``--no-input`` was given.
    """
    if no_input or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    return _ask


def _ask(prompt: str) -> str | None:
    """Ask without echo; None when nothing was typed. Devices that connect at once take turns."""
    with _ONE_AT_A_TIME:
        try:
            return getpass.getpass(prompt) or None
        except EOFError:
            return None
