"""Who holds a depot's lock, in words that the device keeps for others to read."""

from __future__ import annotations

import getpass
import os
import re
import socket

from edgedeploy.errors import DeviceError
from edgedeploy.manifest import process_lives

_TOLD = re.compile(r"\bby (\S+) since\b")
_HOLDER = re.compile(r"(\S+)\.pid(\d{1,10})")


def holder() -> str:
    """Return what this process calls itself when it takes a lock."""
    return f"{_user_and_host()}.pid{os.getpid()}"


def left_behind(error: DeviceError) -> bool:
    """Whether a lock that is held (E421) is held for a process of this user here that is gone.

    Its connection was cut silently, and the device has not noticed: the lock frees itself when
    the lease ends. What the device says is only ever a reason to wait for so long.
    """
    told = _TOLD.search(str(error))
    return told is not None and is_gone(told[1])


def is_gone(who: str) -> bool:
    """Whether a holder, as it called itself, is a process of this user here that has ended."""
    told = _HOLDER.fullmatch(who)
    return told is not None and told[1] == _user_and_host() and not process_lives(told[2])


def _user_and_host() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "?"
    # Plain letters: a shell on the device keeps and shows it.
    return re.sub(r"[^0-9A-Za-z@._-]", "-", f"{user}@{socket.gethostname()}")[:180]
