"""Groups of devices: lists of devices, ``tag:name`` and other groups, which must not go round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from edgedeploy.config.document import DataPath
from edgedeploy.config.nearest import nearest, shorten

Groups = Mapping[str, Sequence[str]]
Tags = Mapping[str, Sequence[str]]
"""The tags of each device, by name, in the order of the inventory."""


def group_faults(groups: Groups, tags: Tags) -> Iterator[tuple[str, str, DataPath, str]]:
    """Yield (code, message, path in the file, hint) of everything that is wrong with groups."""
    known = [
        *tags,
        *(f"@{group}" for group in groups),
        *sorted({f"tag:{tag}" for some in tags.values() for tag in some}),
    ]
    for group, members in groups.items():
        for at, member in enumerate(members):
            if member not in known:
                guess = nearest(member, known)
                yield (
                    "E191",
                    f"there is no device, group or tag `{shorten(member)}`",
                    ("groups", group, at),
                    f"did you mean `{guess}`?" if guess else "name a device of this file",
                )
        circle = _circle(groups, group)
        if circle is not None:
            yield (
                "E192",
                f"the groups contain each other: {' -> '.join(circle)}",
                ("groups", group),
                "remove one of these steps",
            )


def resolved(groups: Groups, tags: Tags) -> dict[str, tuple[str, ...]]:
    """Return the devices of each group, in the order of the inventory; no faults may be there."""
    found = {group: _members(groups, tags, group) for group in groups}
    return {group: tuple(name for name in tags if name in found[group]) for group in groups}


def _circle(groups: Groups, start: str) -> list[str] | None:
    """Return a way through the groups that leads back to ``start``, None when there is none."""
    ways: list[list[str]] = [[start]]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        for inner in (member[1:] for member in groups.get(way[-1], ()) if member.startswith("@")):
            if inner == start:
                return [*way, start]
            if inner not in seen:
                seen.add(inner)
                ways.append([*way, inner])
    return None


def _members(groups: Groups, tags: Tags, group: str) -> set[str]:
    found: set[str] = set()
    for member in groups[group]:
        if member.startswith("@"):
            found |= _members(groups, tags, member[1:])
        elif member.startswith("tag:"):
            found.update(name for name, some in tags.items() if member[4:] in some)
        else:
            found.add(member)
    return found
