"""A store, a project and builders over stub stages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgedeploy.events import Event, EventLog, StageFinished
from edgedeploy.executor import Builder, FileRef, Node
from edgedeploy.store import Store


def join(name: str, *needed: Node | Path, kind: str = "tests.stubs.join", **params: Any) -> Node:
    """Return a joining node that needs other nodes' texts and files."""
    inputs: dict[str, Any] = {}
    for other in needed:
        if isinstance(other, Path):
            inputs[other.name] = FileRef(path=other)
        else:
            inputs[other.id] = other.output("text")
    return Node(id=name, kind=kind, params={"text": name, "name": name, **params}, inputs=inputs)


def names(folder: Path | str) -> list[str]:
    """Return the names in a folder, sorted."""
    return sorted(os.listdir(folder))  # noqa: PTH208


class Bench:
    """One place to build at, again and again, as a user's runs would."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.project = base / "project"
        self.project.mkdir()
        self.trace = base / "trace"
        self.seen: list[Event] = []
        self.known: dict[str, Any] = {}
        self.log = EventLog(self.seen.append)
        self.store = Store(base / "store", self.log)

    def builder(self) -> Builder:
        return Builder(self.store, self.project, events=self.log, known=self.known)

    def text(self, node: Node) -> str:
        """Build a node as a new run does and return what it wrote."""
        with self.builder() as builder:
            text = (builder.folder(node.output("text"))[1] / "text").read_text()
            self.known.update(builder.components)
        return text

    def explain(self, node: Node) -> str:
        with self.builder() as builder:
            return builder.explain(node)

    def ran(self) -> list[str]:
        """Return the nodes that ran since the last call, sorted."""
        ran = [event.node for event in self.of(StageFinished) if event.state == "ran"]
        self.seen.clear()
        return sorted(ran)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.seen if isinstance(event, kind)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    yield Bench(tmp_path)
