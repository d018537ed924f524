"""From an accepted program to the engines that devices of its board made of it.

A program is what a backend's ``compile`` wrote: the typed graph and how to build it. An engine is
keyed by the program, the options and the platform that builds it: the same platform builds once,
and every identical device of a fleet loads the result.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from edgedeploy.backends import FAMILIES
from edgedeploy.choosing import Trial
from edgedeploy.errors import DeviceError
from edgedeploy.executor import Builder
from edgedeploy.gpu import GpuPlatform
from edgedeploy.node import Node, OutputRef
from edgedeploy.plan import Item
from edgedeploy.stage import Made, Work

ENGINES = "engines"
"""Stage kind of what joins engines to an artifact."""

COMPILE_ON = "compile_on"
"""Option of a target: ``device`` builds on devices of its board, ``local`` on this machine."""

MAKERS = tuple(f"backends/trt/{name}" for name in ("onboard_build", "options", "trtexec"))
"""What decides how a device builds; part of an engine's key, as the device's name is not.

Nor is whether Python or ``trtexec`` builds: both are given the same program and the same options.
"""


class Workshop(Protocol):
    """Devices that make engines, by board."""

    def platforms(self, item: Item, stop: threading.Event) -> Sequence[GpuPlatform]:
        """Return the platforms of the devices of an item's board, each once, in a stable order.

        Raises:
            DeviceError: None of them is reached and has a TensorRT that fits the target.
            Stopped: ``stop`` was set.
        """

    def away(self, item: Item) -> Sequence[GpuPlatform]:
        """Return what devices of the board were that were not asked now, or not reached.

        Their engines stay with the artifact as long as they need not be built.
        """

    @property
    def reads(self) -> Sequence[Path]:
        """Files and folders by whose change this would be another workshop."""

    def make(self, node: Node, work: Work, stop: threading.Event) -> Made:
        """Build an engine (stage ``engine``) on a device of the platform in the node's params.

        Raises:
            DeviceError: The device is lost.
            BuildError: TensorRT refuses the program.
            Stopped: ``stop`` was set; nothing of the build is left on the device.
        """


class KnownPlatforms:
    """A :class:`Workshop` without devices: what the last build made is asked for again.

    Args:
        known: Platforms by the names of the model and the target.
    """

    def __init__(self, known: Mapping[tuple[str, str], Sequence[GpuPlatform]]) -> None:
        self._known = known

    def platforms(self, item: Item, stop: threading.Event) -> Sequence[GpuPlatform]:
        """Return the platforms that an item was built for; none where it was not."""
        return self._known.get((item.shared.name, item.use.target), ())

    def away(self, item: Item) -> Sequence[GpuPlatform]:
        """Return none: nobody was asked."""
        return ()

    @property
    def reads(self) -> Sequence[Path]:
        """None: what it knows, the build's own document says."""
        return ()

    def make(self, node: Node, work: Work, stop: threading.Event) -> Made:
        """Refuse: there is no device.

        Raises:
            DeviceError: Always (E482).
        """
        raise DeviceError(
            f"{node.id} is built on a device, and none is known",
            code="E482",
            subject=node.id,
            hint="build again, with the device",
        )


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
    platforms = _platforms(builder, item, nodes.compiled, workshop) if workshop else ()
    if not platforms:
        raise _nobody(item)
    joined = engine_nodes(nodes.compiled, platforms, trial.compiled.summary["notes"])
    return replace(trial, nodes=replace(nodes, compiled=joined), compiled=builder.build(joined))


def _platforms(
    builder: Builder, item: Item, program: Node, workshop: Workshop
) -> tuple[GpuPlatform, ...]:
    """Return the platforms of the devices that answer, and of others whose engine is there.

    Raises:
        DeviceError: No device answers, and no engine is there; or what answers does not fit.
    """
    found: tuple[GpuPlatform, ...] = ()
    unreached = None
    try:
        found = tuple(workshop.platforms(item, builder.stopping))
    except DeviceError as error:
        unreached = error
    away = [
        platform
        for platform in workshop.away(item)
        if platform not in found and builder.hit(engine_node(program, platform)) is not None
    ]
    # A device that is off may come back; one that does not fit the target stays that way.
    if unreached is not None and not (away and unreached.retryable):
        raise unreached
    return tuple(sorted((*found, *away), key=lambda platform: platform.id))


def engine_node(program: Node, platform: GpuPlatform) -> Node:
    """Return the node of the engine that a platform makes of a program."""
    options = program.params["options"]
    return Node(
        id=f"{program.id.rpartition('.')[0]}.engine[{platform.id}]",
        kind="engine",
        params={
            "runtime": program.params["runtime"],
            "options": {name: options[name] for name in options if name != COMPILE_ON},
            "platform": platform.to_json(),
        },
        inputs={"program": program.output("artifact")},
        code=MAKERS,
    )


def engine_nodes(program: Node, platforms: Sequence[GpuPlatform], notes: Sequence[str]) -> Node:
    """Return the node that joins the engines of a program for some platforms."""
    engines = {platform.id: engine_node(program, platform) for platform in platforms}
    return Node(
        id=f"{program.id.rpartition('.')[0]}.engines",
        kind=ENGINES,
        params={
            "platforms": [platform.to_json() for platform in platforms],
            "options": program.params["options"],
            "notes": list(notes),
        },
        inputs={
            "program": program.output("artifact"),
            "report": program.output("report"),
            **{name: engine.output("engine") for name, engine in engines.items()},
            **{f"layers.{name}": engine.output("report") for name, engine in engines.items()},
        },
    )


def program_of(compiled: Node) -> Node:
    """Return the node whose program the engines of ``compiled`` are of, else itself."""
    ref = compiled.inputs.get("report")
    return ref.node if compiled.kind == ENGINES and isinstance(ref, OutputRef) else compiled


def _nobody(item: Item) -> DeviceError:
    board = item.target.board
    return DeviceError(
        f"the engine of {item.name} is built on a device of the board {board}, and none is known",
        code="E482",
        subject=item.name,
        hint=f"name one in devices.yaml with `board: {board}`, or choose devices with -d",
    )
