"""Free-form parameters of a part that a profile names, read one by one with the type they have.

Metrics, decoders and task presets each take some; a parameter that nobody reads is refused by
name, and so is one of another type: never passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgedeploy.config.nearest import shorten
from edgedeploy.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Parameters as the profile gives them.

    Attributes:
        owner: What takes them, such as ``the metric map``; begins the messages.
        subject: Its name alone.
        values: By name.
        code: Of the diagnostics.
    """

    owner: str
    subject: str
    values: Mapping[str, Any]
    code: str

    def error(self, what: str, hint: str) -> DataError:
        """Return the error of a parameter that cannot be used: the owner, then ``what``."""
        return DataError(f"{self.owner} {what}", code=self.code, subject=self.subject, hint=hint)

    def only(self, *names: str) -> None:
        """Refuse parameters other than ``names``.

        Raises:
            DataError: There is another (``code``).
        """
        for name in self.values:
            if name not in names:
                raise self.error(
                    f"does not take the parameter '{shorten(name)}'",
                    f"It takes: {', '.join(names) or 'none'}.",
                )

    def get(self, name: str, kind: type | tuple[type, ...], default: Any) -> Any:
        """Return a parameter of the wanted type; ``true`` is no number.

        Raises:
            DataError: It has another type (``code``).
        """
        value = self.values.get(name, default)
        if value is default:
            return value
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(f"cannot use {shorten(value)!r} for '{name}'", self._words(kind))
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """Return a number from ``low`` to ``high``, both included.

        Raises:
            DataError: It is none (``code``).
        """
        value = float(self.get(name, (int, float), default))
        if not low <= value <= high:
            raise self.error(
                f"cannot use {value:g} for '{name}'", f"Give a number from {low:g} to {high:g}."
            )
        return value

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``, both included.

        Raises:
            DataError: It is none (``code``).
        """
        value = int(self.get(name, int, default))
        if not low <= value <= high:
            raise self.error(
                f"cannot use {value} for '{name}'", f"Give a whole number from {low} to {high}."
            )
        return value

    def choice(self, name: str, choices: Sequence[str], default: str | None) -> Any:
        """Return a parameter that is one of ``choices``.

        Raises:
            DataError: It is another (``code``).
        """
        value = self.get(name, str, default)
        if value is not None and value not in choices:
            raise self.error(
                f"cannot use '{shorten(value)}' for '{name}'",
                f"Choose one of: {', '.join(choices)}.",
            )
        return value

    @staticmethod
    def _words(kind: type | tuple[type, ...]) -> str:
        names = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if kinds == (int, float):
            return "Give a number."
        return f"Give {' or '.join(names.get(item, 'a list') for item in kinds)}."
