"""Checking how the nodes of a graph are wired: one name one value, every input made, no cycle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from edgedeploy.errors import ModelError


class Node(NamedTuple):
    """A node reduced to its wiring.

    Attributes:
        label: Its name, or its operator and first output where it has none.
        inputs: Names of its inputs; an omitted optional input is the empty name.
        outputs: Names of its outputs.
        captured: Names that its subgraphs take from outside, with the label of the node in them
            that does.
    """

    label: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    captured: Mapping[str, str]


def check_wiring(
    nodes: Sequence[Node],
    inputs: Sequence[str],
    initializers: Sequence[str],
    outputs: Iterable[str],
    where: str,
) -> dict[str, str]:
    """Return the names that a graph takes from outside, each with the label of a user.

    Nodes may stand in any order.

    Raises:
        ModelError: Two values with one name (E212), a cycle (E213), or an output that no node,
            input or initialiser of this graph makes (E214).
    """
    made = _unique(inputs, where) | _unique(initializers, where)
    producer: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in node.outputs:
            if not name:
                continue
            if name in producer or name in made:
                raise ModelError(
                    f"the value {name!r} is made twice",
                    code="E212",
                    subject=node.label,
                    hint="give every value a name of its own; torch's exporter makes two of an "
                    "operator's name that stands in `output_names`",
                )
            producer[name] = index
    free: dict[str, str] = {}
    in_order = True
    for index, node in enumerate(nodes):
        for name, user in _uses(node):
            source = producer.get(name)
            if source is not None:
                in_order = in_order and source < index
            elif name not in made:
                free.setdefault(name, user)
    if not in_order:
        _refuse_cycles(nodes, producer)
    for name in outputs:
        if name not in producer and name not in made:
            raise ModelError(
                f"the output {name!r} is not made in its own graph",
                code="E214",
                subject=where,
                hint="export the model again, or add an Identity node that makes the output",
            )
    return free


def _unique(names: Sequence[str], where: str) -> set[str]:
    found = set(names)
    if len(found) != len(names):
        seen: set[str] = set()
        for name in names:
            if name in seen:
                raise ModelError(
                    f"the value {name!r} is declared twice",
                    code="E212",
                    subject=where,
                    hint="give every input and initialiser a name of its own",
                )
            seen.add(name)
    return found


def _uses(node: Node) -> Iterable[tuple[str, str]]:
    for name in node.inputs:
        if name:
            yield name, node.label
    yield from node.captured.items()


def _refuse_cycles(nodes: Sequence[Node], producer: Mapping[str, int]) -> None:
    """Raise E213 with the nodes of a cycle if there is one (Kahn's algorithm)."""
    waiting = [0] * len(nodes)
    consumers: list[list[int]] = [[] for _ in nodes]
    for index, node in enumerate(nodes):
        sources = {producer[name] for name, _ in _uses(node) if name in producer}
        waiting[index] = len(sources)
        for source in sources:
            consumers[source].append(index)
    ready = [index for index, count in enumerate(waiting) if count == 0]
    while ready:
        for consumer in consumers[ready.pop()]:
            waiting[consumer] -= 1
            if waiting[consumer] == 0:
                ready.append(consumer)
    stuck = next((index for index, count in enumerate(waiting) if count), None)
    if stuck is None:
        return
    # Walking up from a stuck node along stuck producers must come back to a node seen before.
    path: dict[int, None] = {}
    while stuck not in path:
        path[stuck] = None
        stuck = next(
            producer[name]
            for name, _ in _uses(nodes[stuck])
            if name in producer and waiting[producer[name]]
        )
    walked = list(path)
    cycle = [nodes[index].label for index in reversed(walked[walked.index(stuck) :])]
    shown = " -> ".join(cycle[:5]) + (" -> ..." if len(cycle) > 5 else "")
    raise ModelError(
        f"{len(cycle)} nodes feed each other in a circle: {shown}",
        code="E213",
        subject=cycle[0],
        hint="export the model again; a graph must have no cycles (use Loop for iteration)",
    )
