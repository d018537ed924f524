"""From an accepted program to the engines that devices of its board made of it.

A program is what a backend's ``compile`` wrote: the typed graph and how to build it. An engine is
keyed by the program, the options and the platform that builds it: the same platform builds once,
and every identical device of a fleet loads the result.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from edgedeploy.backends import FAMILIES
from edgedeploy.choosing import Trial
from edgedeploy.errors import DeviceError
from edgedeploy.executor import Builder
from edgedeploy.gpu import GpuPlatform
from edgedeploy.node import Node
from edgedeploy.plan import CandidateNodes, Item
from edgedeploy.stage import Made, Work

ENGINES = "engines"
"""Stage kind of what joins engines to an artifact."""


class Workshop(Protocol):
    """Devices that make engines, by board."""

    def platforms(self, item: Item) -> Sequence[GpuPlatform]:
        """Return the platforms of the devices of an item's board, each once, in a stable order.

        Raises:
            DeviceError: A device is not reached, or has no TensorRT that fits the target.
        """

    def make(self, node: Node, work: Work, stop: threading.Event) -> Made:
        """Build an engine (stage ``engine``) on a device of the platform in the node's params.

        Raises:
            DeviceError: The device is lost.
            BuildError: TensorRT refuses the program.
            Stopped: ``stop`` was set; nothing of the build is left on the device.
        """


def is_built_on_device(item: Item) -> bool:
    """Return whether an item's artifact is made by its devices."""
    return FAMILIES[item.target.runtime].on_device


def with_engines(builder: Builder, item: Item, trial: Trial, workshop: Workshop | None) -> Trial:
    """Return the trial with engines in place of its program; one that has them stays as it is.

    Args:
        builder: Brings the stages up to date.
        item: The item, which is built on devices.
        trial: One that was built.
        workshop: The devices; None where nobody looked for any.

    Raises:
        DeviceError: No device of the board is known (E482), or one fails.
        BuildError: TensorRT refuses the program.
    """
    nodes = trial.nodes
    if nodes is None or trial.compiled is None or nodes.compiled.kind == ENGINES:
        return trial
    platforms = tuple(workshop.platforms(item)) if workshop is not None else ()
    if not platforms:
        raise _nobody(item)
    joined = engine_nodes(nodes, platforms, trial.compiled.summary["notes"])
    return replace(trial, nodes=replace(nodes, compiled=joined), compiled=builder.build(joined))


def engine_nodes(
    nodes: CandidateNodes, platforms: Sequence[GpuPlatform], notes: Sequence[str]
) -> Node:
    """Return the node that joins the engines of a program for some platforms."""
    program = nodes.compiled
    base = program.id.rpartition(".")[0]
    engines = {
        platform.id: Node(
            id=f"{base}.engine[{platform.id}]",
            kind="engine",
            params={
                "runtime": program.params["runtime"],
                "options": program.params["options"],
                "platform": platform.to_json(),
            },
            inputs={"program": program.output("artifact")},
            code=program.code,
        )
        for platform in platforms
    }
    return Node(
        id=f"{base}.engines",
        kind=ENGINES,
        params={
            "platforms": [platform.to_json() for platform in platforms],
            "notes": list(notes),
        },
        inputs={
            "program": program.output("artifact"),
            "report": program.output("report"),
            **{name: engine.output("engine") for name, engine in engines.items()},
            **{f"layers.{name}": engine.output("report") for name, engine in engines.items()},
        },
    )


def _nobody(item: Item) -> DeviceError:
    board = item.use.target.partition("/")[0]
    return DeviceError(
        f"the engine of {item.name} is built on a device of the board {board}, and none is known",
        code="E482",
        subject=item.name,
        hint=f"name one in devices.yaml with `board: {board}`, or choose devices with -d",
    )
