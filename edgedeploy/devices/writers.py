"""Who may write to a file that can run commands: its owner alone."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

from edgedeploy.errors import ProfileError


def refuse_other_writers(file: Path) -> None:
    """Refuse a file that another user may change or replace.

    As sshd does it on Debian: a group is no other user when it is the owner's own.

    Raises:
        ProfileError: Another user owns or may write to it or to its folder (E193), or it is not
            there (E101).
    """
    try:
        there = file.resolve(strict=True)
        for path in (there, there.parent):
            fault = _fault(path.stat())
            if fault is not None:
                raise ProfileError(
                    f"`{path}` {fault}; who can change {file.name} can run commands on the devices",
                    code="E193",
                    subject=str(file),
                    hint=f"take it into your own hands: `chmod go-w '{path}'`, or copy the file "
                    "into a folder of yours",
                )
    except OSError as error:
        raise ProfileError(
            f"cannot read `{file}`: {(error.strerror or str(error)).lower()}",
            code="E101",
            subject=str(file),
            hint="give the path of a file that exists and that you may read",
        ) from error


def _fault(found: os.stat_result) -> str | None:
    """Return how somebody else may write to a file or folder, None when nobody may."""
    if found.st_uid not in (os.geteuid(), 0):
        return "belongs to another user"
    if stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX:
        return None  # as /tmp: everybody may add, nobody may replace
    if found.st_mode & stat.S_IWOTH:
        return "may be written to by everybody"
    if found.st_mode & stat.S_IWGRP and not _is_own_group(found.st_gid, found.st_uid):
        return "may be written to by a group"
    return None


def _is_own_group(group: int, user: int) -> bool:
    """Whether a group has no member but its owner."""
    try:
        members = {pwd.getpwnam(name).pw_uid for name in grp.getgrgid(group).gr_mem}
    except KeyError:
        return False
    members |= {entry.pw_uid for entry in pwd.getpwall() if entry.pw_gid == group}
    return members <= {user}
