"""What a holder that lost power in the middle of a switch leaves behind."""

from __future__ import annotations

import json
import time
from typing import NamedTuple

from tests.unit.devices.depots import Box, content, push


class Left(NamedTuple):
    """The links and ``pending`` that are found, and what must come of them."""

    links: tuple[str | None, str | None]
    kind: str
    before: str | None
    version: str
    expected: tuple[str | None, str | None]
    reverted: str | None

    def goal(self, names: dict[str, str]) -> tuple[str | None, ...]:
        """Return what ``current`` and ``previous`` must lead to."""
        return tuple(names[name] if name else None for name in self.expected)


LEFT = {
    "announced": Left(("one", None), "trial", "one", "two", ("one", None), "two"),
    "switched": Left(("two", None), "trial", "one", "two", ("one", None), "two"),
    "with a previous": Left(("two", "three"), "trial", "one", "two", ("one", "three"), "two"),
    "confirmation begun": Left(("two", "one"), "trial", "one", "two", ("two", "one"), None),
    "reverted": Left(("one", "three"), "trial", "one", "two", ("one", "three"), "two"),
    "first": Left(("one", None), "trial", None, "one", (None, None), "one"),
    "the same": Left(("one", "two"), "trial", "one", "one", ("one", "two"), "one"),
    "rollback announced": Left(("one", "two"), "swap", "one", "two", ("two", "one"), None),
    "rollback half": Left(("two", "two"), "swap", "one", "two", ("two", "one"), None),
    "rollback done": Left(("two", "one"), "swap", "one", "two", ("two", "one"), None),
}


def versions(box: Box, count: int) -> list[str]:
    """Push versions; the first is active and confirmed."""
    with box.locked() as depot:
        names = [push(depot, {"f": content(seed, 100), "same": b"x"}) for seed in range(count)]
        depot.activate(names[0], 60)
        depot.confirm()
    return names


def leave(box: Box, names: dict[str, str], left: Left, boot: str) -> None:
    """Put a depot into the state of a case, as of a boot of the device."""
    for link, name in zip(("current", "previous"), left.links, strict=True):
        (box.folder / link).unlink(missing_ok=True)
        if name is not None:
            (box.folder / link).symlink_to(f"versions/{names[name]}")
    record = {
        "before": names[left.before] if left.before else None,
        "boot": boot,
        "deadline": int(time.time()) + 1000,
        "kind": left.kind,
        "token": "5" * 32,
        "version": names[left.version],
    }
    text = json.dumps(record, sort_keys=True, separators=(",", ":")) + "\n"
    (box.folder / "pending").write_text(text)
    if left.before:
        (box.folder / "pending.back").symlink_to(f"versions/{names[left.before]}")
