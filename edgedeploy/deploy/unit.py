"""What work on a device needs to know of it, and words for what lies on it."""

from __future__ import annotations

from typing import Protocol

from edgedeploy.deploy.fleet import Link
from edgedeploy.deploy.hooks import Hooks

SHORT = 12
"""Hex digits of a version's name that are shown."""


class Unit(Protocol):
    """What is needed of a device of the inventory."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def kind(self) -> str:
        """``ssh``, ``local`` or ``fake``."""

    @property
    def board(self) -> str | None:
        """Id of the board that it is, None when nobody said."""

    @property
    def root(self) -> str:
        """Folder of its depots."""

    @property
    def python(self) -> str | None:
        """Its Python, None finds one."""

    @property
    def hooks(self) -> Hooks:
        """The operator's commands."""


def depot_folder(unit: Unit, app: str) -> str:
    """Return the folder of an application's depot on a device; it may start with ``~/``."""
    return f"{unit.root.rstrip('/')}/{app}"


def short(version: str | None) -> str:
    """Return the start of a version's name, or words for none."""
    return version[:SHORT] if version else "no version"


def pretended(link: Link) -> str:
    """Return the words that mark what was done on a fake device, empty for a real one."""
    return ", on a fake device" if link.remote.pretended else ""
