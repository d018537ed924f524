"""Parser events become plain data and marks, with limits counted event by event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from edgedeploy.config.document import (
    DataPath,
    Document,
    Limits,
    Mark,
    Source,
    Work,
    by_place,
    marked,
)
from edgedeploy.config.nearest import shorten
from edgedeploy.config.scalars import NumberError, resolve
from edgedeploy.errors import Diagnostic, ProfileError

_CORE = "tag:yaml.org,2002:"
_SCALAR_TAGS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "null": (type(None),),
}
MAX_FINDINGS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class _Anchored:
    """A finished node with an anchor: its data, where it stands, and how many nodes it has."""

    value: Any
    path: DataPath
    nodes: int


class Composer:
    """Builds one document from events.

    Args:
        events: Gives the next event.
        source: The text that the events come from.
        limits: Where to stop.
        work: Counters to keep.

    Attributes:
        findings: Faults that do not hinder reading on (a duplicate key, a tag, ...).
    """

    def __init__(
        self, events: Callable[[], Any], source: Source, limits: Limits, work: Work
    ) -> None:
        self.findings: list[Diagnostic] = []
        self._events = events
        self._source = source
        self._limits = limits
        self._work = work
        self._document = Document(data=None, label=source.label, work=work)
        self._anchors: dict[str, _Anchored | None] = {}  # None while its node is still open

    def document(self) -> Document:
        """Return the one document of the stream.

        Raises:
            ProfileError: A limit is reached (E117, E118), the stream is empty (E102) or holds
                several documents (E116).
            yaml.YAMLError: The text is not YAML.
        """
        self._next()  # stream start
        event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            self._stop(
                "E102",
                "the file is empty",
                self._mark(event),
                "write at least `edgedeploy: 1`; `edgedeploy init model.onnx` writes a start",
            )
        self._document.data = self._node(self._next(), (), 0)
        self._next()  # document end
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            self._stop(
                "E116",
                "a second YAML document starts here",
                self._mark(event),
                "keep one document per file: remove the `---` line and what follows it",
            )
        return self._document

    def _next(self) -> Any:
        self._work.events += 1
        return self._events()

    def _mark(self, event: Any) -> Mark:
        at = event.start_mark
        line = min(at.line + 1, len(self._source.lines))
        return Mark(source=self._source, line=line, column=at.column + 1)

    def _stop(self, code: str, message: str, mark: Mark, hint: str) -> None:
        """Give up: raise all findings so far with this one."""
        last = marked(code, message, mark, hint=hint)
        raise ProfileError(sorted([*self.findings, last], key=by_place))

    def _find(self, code: str, message: str, mark: Mark, hint: str) -> None:
        """Note a finding and read on; too many of them end the reading."""
        if len(self.findings) >= MAX_FINDINGS:
            self._stop(code, message, mark, hint)
        self.findings.append(marked(code, message, mark, hint=hint))

    def _count(self, nodes: int, mark: Mark) -> None:
        self._work.nodes += nodes
        if self._work.nodes > self._limits.nodes:
            self._work.nodes = self._limits.nodes
            self._stop(
                "E118",
                f"more than {self._limits.nodes} values (aliases count as what they stand for)",
                mark,
                "write the values out where they are needed, or move data into a file",
            )

    def _deeper(self, depth: int, mark: Mark) -> None:
        if depth > self._limits.depth:
            self._stop(
                "E117",
                f"nested deeper than {self._limits.depth} levels",
                mark,
                "flatten the structure",
            )
        self._work.depth = max(self._work.depth, depth)

    def _node(self, event: Any, path: DataPath, depth: int) -> Any:
        """Return the data of the node that starts with ``event``; marks go into the tables."""
        mark = self._mark(event)
        self._document.values[path] = mark
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor), path, mark, depth)
        before = self._work.nodes
        self._count(1, mark)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, path, mark)
        else:
            value = self._collection(event, path, mark, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchored(
                value=value, path=path, nodes=self._work.nodes - before
            )
        return value

    def _collection(self, event: Any, path: DataPath, mark: Mark, depth: int) -> Any:
        depth += 1
        self._deeper(depth, mark)
        kind = "map" if isinstance(event, yaml.MappingStartEvent) else "seq"
        if event.tag not in (None, "!", _CORE + kind):
            self._tag(event.tag, mark)
        if kind == "map":
            return self._map(path, depth)
        items: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._node(event, (*path, len(items)), depth))
        return items

    def _map(self, path: DataPath, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            mark = self._mark(event)
            key = self._key(event, mark, depth)
            place = (*path, key)
            if key in found:
                first = self._document.keys[place]
                self._find(
                    "E113",
                    f"duplicate key `{shorten(key)}` (first in line {first.line})",
                    mark,
                    "keep one of the two",
                )
                self._skip(self._next(), depth)
                continue
            self._document.keys[place] = mark
            found[key] = self._node(self._next(), place, depth)
        return found

    def _key(self, event: Any, mark: Mark, depth: int) -> str:
        """Return the text of a map key."""
        self._count(1, mark)
        if not isinstance(event, yaml.ScalarEvent):
            self._find(
                "E121", "a key must be plain text", mark, "write one word, or text in quotes"
            )
            self._skip(event, depth)
            return f"\0{self._work.nodes}"  # unlike any key; the document is refused anyway
        if event.tag not in (None, "!", _CORE + "str"):
            self._tag(event.tag, mark)
        if event.anchor is not None:
            self._find(
                "E121", "an anchor on a key is not allowed", mark, "put the anchor on a value"
            )
        if event.value == "<<" and event.implicit[0]:
            self._find(
                "E114",
                "merge keys (`<<`) are not allowed",
                mark,
                "write the keys out; defaults at the top level hold for every target",
            )
        return str(event.value)

    def _skip(self, event: Any, depth: int) -> None:
        """Read over the node that starts with ``event``, still counting."""
        level = depth
        while True:
            self._count(1, self._mark(event))
            if isinstance(event, yaml.CollectionStartEvent):
                level += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                level -= 1
            self._deeper(level, self._mark(event))
            if level == depth:
                return
            event = self._next()

    def _scalar(self, event: Any, path: DataPath, mark: Mark) -> Any:
        text = str(event.value)
        plain = event.implicit[0]
        if event.tag in (None, "!", _CORE + "str"):
            if not plain or event.tag is not None:
                return text
            value = self._number(text, mark)
            if not isinstance(value, str):
                self._document.texts[path] = text
            return value
        name = event.tag.removeprefix(_CORE)
        value = self._number(text, mark)
        if name in _SCALAR_TAGS and type(value) in _SCALAR_TAGS[name]:
            return float(value) if name == "float" and value is not None else value
        self._tag(event.tag, mark)
        return text

    def _number(self, text: str, mark: Mark) -> Any:
        try:
            return resolve(text)
        except NumberError as error:
            self._find("E119", str(error), mark, "write a finite number of fewer digits")
            return 0

    def _tag(self, tag: str, mark: Mark) -> None:
        shown = "!!" + tag.removeprefix(_CORE) if tag.startswith(_CORE) else tag
        self._find(
            "E115",
            f"the tag `{shorten(shown)}` is not allowed here",
            mark,
            "remove the tag; a file holds plain data only",
        )

    def _alias(self, anchor: str, path: DataPath, mark: Mark, depth: int) -> Any:
        """Return a copy of what the alias stands for, with marks of its own."""
        self._work.aliases += 1
        if self._work.aliases > self._limits.aliases:
            self._work.aliases = self._limits.aliases
            self._stop(
                "E118",
                f"more than {self._limits.aliases} aliases",
                mark,
                "write the values out where they are needed",
            )
        target = self._anchors.get(anchor)
        if target is None:
            inside = anchor in self._anchors
            what = "stands inside its own anchor" if inside else "has no anchor before it"
            self._find(
                "E120",
                f"the alias `*{shorten(anchor)}` {what}",
                mark,
                "write the value out, or anchor it (`&name`) further up",
            )
            self._count(1, mark)
            return None
        self._count(target.nodes, mark)
        return self._copy(target.value, target.path, path, depth)

    def _copy(self, value: Any, origin: DataPath, path: DataPath, depth: int) -> Any:
        """Return a copy of a node; its inner marks keep pointing at where the text stands."""
        document = self._document
        for table in (document.values, document.keys, document.texts):
            _carry(table, origin, path)
        if not isinstance(value, (dict, list)):
            return value
        self._deeper(depth + 1, document.values[path])
        if isinstance(value, dict):
            return {
                key: self._copy(item, (*origin, key), (*path, key), depth + 1)
                for key, item in value.items()
            }
        return [
            self._copy(item, (*origin, place), (*path, place), depth + 1)
            for place, item in enumerate(value)
        ]


def _carry(table: dict[DataPath, Any], origin: DataPath, path: DataPath) -> None:
    """Give ``path`` what the table says of ``origin``, unless it has its own."""
    if origin in table:
        table.setdefault(path, table[origin])
