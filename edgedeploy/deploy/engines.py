"""The devices that build engines: which there are, what they are, and one of them at work."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from edgedeploy.deploy.enginebuild import Order, Wanted, build_engine
from edgedeploy.deploy.engineways import order_for
from edgedeploy.deploy.fleet import JOBS, DaemonThreads
from edgedeploy.deploy.gpu import check_gpu, latest_survey, survey_device, survey_folder
from edgedeploy.deploy.shown import without_address
from edgedeploy.devices.gpu_facts import GpuSurvey
from edgedeploy.devices.inventory import LOCAL, Device, Inventory
from edgedeploy.engines import COMPILE_ON
from edgedeploy.errors import DeviceError
from edgedeploy.events import EventLog, Note
from edgedeploy.gpu import GpuPlatform
from edgedeploy.node import Node
from edgedeploy.plan import Item
from edgedeploy.remote import Remote
from edgedeploy.stage import Made, Work
from edgedeploy.store import Store
from edgedeploy.worker.launch import Stopped

_LOOK_S = 0.25

Probe = Callable[[Remote, str | None, Store | None], GpuSurvey]
MakeOrder = Callable[[GpuSurvey, Path], Order]


class DeviceWorkshop:
    """Devices of an inventory; an :class:`edgedeploy.engines.Workshop`.

    A device is reached when the first engine for its board is wanted, and asked once what it is.

    Args:
        inventory: The devices there are; ``local`` builds what is compiled on this machine.
        connect: Makes a connection to one.
        store: Where is kept what they are.
        events: Where progress is told.
        chosen: Names of those that may be reached; None for all.
        probe: Asks a device what it is.
        order: Says how a device builds a program.
    """

    def __init__(
        self,
        inventory: Inventory,
        connect: Callable[[Device], Remote],
        store: Store,
        events: EventLog,
        *,
        chosen: Collection[str] | None = None,
        probe: Probe = survey_device,
        order: MakeOrder = order_for,
    ) -> None:
        self._inventory = inventory
        self._connect = connect
        self._store = store
        self._events = events
        self._chosen = chosen
        self._probe = probe
        self._order = order
        self._mutex = threading.Lock()
        self._surveys: dict[str, concurrent.futures.Future[GpuSurvey]] = {}
        self._threads = DaemonThreads(JOBS)
        self._builds: Counter[str] = Counter()

    @property
    def reads(self) -> tuple[Path, ...]:
        """Files and folders by whose change this would be another workshop."""
        news = (survey_folder(self._store, device) for device in self._inventory.devices)
        return (*self._inventory.places, *news)

    def platforms(self, item: Item, stop: threading.Event) -> tuple[GpuPlatform, ...]:
        """Return the platforms of an item's devices; see :class:`edgedeploy.engines.Workshop`."""
        devices = [device for device in self._of(item) if self._may_reach(device)]
        if not devices and self._chosen:
            raise self._other_boards(item)
        for device in devices:
            self._asked(device)
        found: dict[GpuPlatform, None] = {}
        failed: list[DeviceError] = []
        for device in devices:
            try:
                survey = self._answer(device, stop)
                check_gpu(survey, item.target)
                platform = _platform(device, survey)
            except DeviceError as error:
                failed.append(error)
                why = error.diagnostics[0].message
                self._events.emit(
                    Note(text=f"{item.name}: nothing is built on {device.name}: {why}")
                )
                continue
            found[platform] = None
        if failed and not found:
            raise _none_of(failed)
        return tuple(found)

    def away(self, item: Item) -> tuple[GpuPlatform, ...]:
        """Return what devices were that cannot be asked now; see the protocol."""
        found = {}
        for device in self._of(item):
            future = self._surveys.get(device.name)
            if future is None or (future.done() and future.exception() is not None):
                survey = latest_survey(self._store, device.name)
                with contextlib.suppress(DeviceError):
                    if survey is not None:
                        found[_platform(device, survey)] = device.name
        return tuple(found)

    def make(self, node: Node, work: Work, stop: threading.Event) -> Made:
        """Build an engine on a device; see :class:`edgedeploy.engines.Workshop`.

        Where several devices are of the platform, the one with the least to do builds it; one that
        is lost gives way to the next.
        """
        platform = GpuPlatform.from_json(node.params["platform"])
        left = self._equal(platform)
        while True:
            with self._mutex:
                device = min(left, key=lambda device: self._builds[device.name])
                self._builds[device.name] += 1
            left.remove(device)
            try:
                return self._make_on(device, platform, node, work, stop)
            except DeviceError as error:
                if not error.retryable or not left:
                    raise
                why = error.diagnostics[0].message
                self._events.emit(Note(text=f"{node.id} goes on on another device: {why}"))
            finally:
                with self._mutex:
                    self._builds[device.name] -= 1

    # -- which devices -------------------------------------------------------------------------

    def _of(self, item: Item) -> list[Device]:
        """Return the devices that build an item, whether or not they may be reached."""
        if item.use.options.get(COMPILE_ON) == "local":
            return [self._inventory.devices[LOCAL]]
        devices = self._inventory.devices.values()
        return [device for device in devices if device.board == item.target.board]

    def _may_reach(self, device: Device) -> bool:
        return self._chosen is None or device.name in self._chosen or device.name == LOCAL

    def _other_boards(self, item: Item) -> DeviceError:
        """Return what to say where none of the chosen devices is of an item's board."""
        board = item.target.board
        boards = {name: self._inventory.devices[name].board for name in sorted(self._chosen or ())}
        told = ", ".join(f"{name} is {kind or 'of no board'}" for name, kind in boards.items())
        error = DeviceError(
            f"the engine of {item.name} is built on a device of the board {board}, and none was "
            f"chosen: {told}",
            code="E482",
            subject=item.name,
            hint=f"choose one with `board: {board}` in devices.yaml, or the target with -t",
        )
        error.retryable = True  # what was not chosen keeps its engine
        return error

    def _equal(self, platform: GpuPlatform) -> list[Device]:
        """Return the devices that were found to be of a platform."""
        equal = []
        for name, future in self._surveys.items():
            device = self._inventory.devices[name]
            if future.done() and future.exception() is None:
                with contextlib.suppress(DeviceError):
                    if _platform(device, future.result()) == platform:
                        equal.append(device)
        return equal

    # -- what they are -------------------------------------------------------------------------

    def _asked(self, device: Device) -> concurrent.futures.Future[GpuSurvey]:
        """Return the answer of a device that is asked once, while others are."""
        with self._mutex:
            if device.name not in self._surveys:
                self._surveys[device.name] = self._threads.submit(self._survey, device)
            return self._surveys[device.name]

    def _survey(self, device: Device) -> GpuSurvey:
        with self._reached(device) as remote:
            return self._probe(remote, device.python, self._store)

    def _answer(self, device: Device, stop: threading.Event) -> GpuSurvey:
        future = self._asked(device)
        while not stop.is_set():
            with contextlib.suppress(concurrent.futures.TimeoutError):
                return future.result(_LOOK_S)
        raise Stopped

    @contextlib.contextmanager
    def _reached(self, device: Device) -> Iterator[Remote]:
        """Connect to a device while the block runs; its failures name no address.

        Raises:
            DeviceError: It is not reached, or is lost.
        """
        try:
            remote = self._connect(device)
            try:
                yield remote
            finally:
                remote.close()
        except DeviceError as error:
            shown = without_address(device.name, error, self._events)
            if shown is error:
                raise
            raise shown from error

    # -- at work -------------------------------------------------------------------------------

    def _make_on(
        self, device: Device, platform: GpuPlatform, node: Node, work: Work, stop: threading.Event
    ) -> Made:
        survey = self._answer(device, stop)
        program = work.inputs["program"] / "program"
        wanted = Wanted(
            node=node.id,
            platform=platform,
            program=program,
            root=device.root,
            conditions=_conditions(survey),
        )
        with self._reached(device) as remote:
            return build_engine(
                remote, wanted, self._order(survey, program), work.outputs, self._events, stop
            )


def _platform(device: Device, survey: GpuSurvey) -> GpuPlatform:
    """Return the platform of a device; of a fake one it is simulated."""
    platform = survey.platform()
    if device.kind != "fake":
        return platform
    return GpuPlatform.from_json({**platform.to_json(), "simulated": True})


def _conditions(survey: GpuSurvey) -> dict[str, Any]:
    return {"clocks": survey.clocks, "power_mode": survey.power_mode}


def _none_of(failed: Sequence[DeviceError]) -> DeviceError:
    """Return the failure of all devices together."""
    together = DeviceError(dict.fromkeys(item for error in failed for item in error.diagnostics))
    together.retryable = all(error.retryable for error in failed)
    return together
