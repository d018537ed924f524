"""The verbs on devices: what each does with every device of a fleet.

The composition that the command line and Python share; each device's part lies beside this file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from edgedeploy.deploy.activate import Wanted, activate_version, roll_back
from edgedeploy.deploy.contents import Built
from edgedeploy.deploy.depots import Care, care_for, expect_depot
from edgedeploy.deploy.fit import check_device, check_reachable
from edgedeploy.deploy.fleet import Answer, Fleet, Link, Result
from edgedeploy.deploy.gpu import DeviceGpu
from edgedeploy.deploy.ondevice import OnDevice, make_onboard
from edgedeploy.deploy.probe import latest_facts, probe_device
from edgedeploy.deploy.provision import Wish, provision_device
from edgedeploy.deploy.push import push_to
from edgedeploy.deploy.released import BundledVersions, FromBundle
from edgedeploy.devices.depot import NOTHING, Allowed
from edgedeploy.devices.inventory import Device
from edgedeploy.devices.opening import open_depot
from edgedeploy.devices.runtimes import find_runtime
from edgedeploy.events import EventLog
from edgedeploy.opening import Request, open_profile
from edgedeploy.plan import Plan
from edgedeploy.store import Store
from edgedeploy.target.types import Target

if TYPE_CHECKING:
    from edgedeploy.devices.facts import DeviceFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class PushOptions:
    """How versions are pushed.

    Attributes:
        output: Folder for results that the build was given.
        store: The store that it was built with.
        wait_s: How long to wait for the lock when somebody else holds it.
    """

    output: Path
    store: Path
    wait_s: float = 0.0


def push(request: Request, fleet: Fleet[Device], options: PushOptions, events: EventLog) -> Result:
    """Stage what the last build made for it on every device of a fleet.

    Args:
        request: Which profile, with the options that it was built with.
        fleet: The devices.
        options: How.
        events: Where progress is told.

    Raises:
        EdgedeployError: The profile is refused, is not built, or fits one of the devices not; then
            no device is touched.
    """
    store = Store(options.store, events)
    built = Built(request, options.output, store, events)
    targets = {device.name: built.target(device.board, device.name) for device in fleet.devices}
    for device in fleet.devices:
        if device.kind != "fake":
            check_reachable(built.plan.targets[targets[device.name]], device.name)
    for target in dict.fromkeys(targets.values()):
        built.contents(target)  # all that can be wrong here is, before a device is touched

    def work(device: Device, link: Link) -> Answer:
        target = targets[device.name]
        _check_fit(store, device, link, built.plan.targets[target])
        gpu = _gpu(store, device, link)
        contents = built.contents(target, gpu.for_target(built.plan.targets[target]))
        gpu.check(contents.version)
        return push_to(
            link,
            device,
            contents,
            opener=open_depot,
            wait_s=options.wait_s,
            events=events,
        )

    return fleet.run(work)


def push_release(
    wanted: FromBundle, fleet: Fleet[Device], options: PushOptions, events: EventLog
) -> Result:
    """Stage what a signed bundle holds for it on every device of a fleet.

    Args:
        wanted: Which bundle, and who is believed.
        fleet: The devices.
        options: How; ``output`` means nothing here.
        events: Where progress is told.

    Raises:
        EdgedeployError: The bundle is refused, or fits one of the devices not; then no device is
            touched.
    """
    store = Store(options.store, events)
    with TemporaryDirectory(prefix="edgedeploy-release-") as folder:
        released = BundledVersions.opened(wanted, Path(folder) / "release")
        _check_targets(released, fleet)

        def work(device: Device, link: Link) -> Answer:
            _check_fit(store, device, link, released.target(device)[1])
            return push_to(
                link,
                device,
                released.for_device(device, _gpu(store, device, link)),
                opener=open_depot,
                wait_s=options.wait_s,
                downgrade=wanted.verify.allow_downgrade,
                events=events,
            )

        return fleet.run(work)


def _check_targets(released: BundledVersions, fleet: Fleet[Device]) -> None:
    """Find what is wrong with a release for a fleet before a device is touched."""
    for device in fleet.devices:
        target, known = released.target(device)
        if device.kind != "fake":
            check_reachable(known, device.name)
        released.contents(target, None)


def _check_fit(store: Store, device: Device, link: Link, target: Target) -> None:
    """Hold a device against its target, by its last probe or by one made now.

    Raises:
        DeviceError: It is another machine (E451-E453), or cannot be probed (E450).
    """
    if not link.remote.pretended:
        check_device(_facts(store, device, link), target, device.name)


def _gpu(store: Store, device: Device, link: Link) -> DeviceGpu:
    return DeviceGpu(lambda: link.remote, device.python, store, link.say)


def _facts(store: Store, device: Device, link: Link) -> DeviceFacts:
    """Return what the last probe found; a device that was never probed is now."""
    found = latest_facts(store, device.name)
    if found is None:
        found = probe_device(store, link.remote, device.root, device.python).facts
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivateOptions:
    """How versions are activated.

    Attributes:
        output: Folder for results that the build was given.
        store: The store that it was built with.
        version: The start of a version's name; None takes what the last build made for a device.
        golden: Run the staged version on the device first.
        allowed: What the operator allows on devices that trust keys.
        wait_s: How long to wait for the lock when somebody else holds it.
    """

    output: Path
    store: Path
    version: str | None = None
    golden: bool = True
    allowed: Allowed = NOTHING
    wait_s: float = 0.0


def activate(
    request: Request, fleet: Fleet[Device], options: ActivateOptions, events: EventLog
) -> Result:
    """Activate a version on every device of a fleet.

    Raises:
        EdgedeployError: The profile is refused, is not built, or fits one of the devices not; then
            no device is touched.
    """
    store = Store(options.store, events)
    return _activate(fleet, store, _wanted(request, fleet, options, store, events))


def activate_release(
    bundle: FromBundle, fleet: Fleet[Device], options: ActivateOptions, events: EventLog
) -> Result:
    """Activate the version of a signed bundle on every device of a fleet.

    The gate on latency is not judged: it is the profile's, and a bundle tells it in words alone.

    Args:
        bundle: Which, and who is believed.
        fleet: The devices.
        options: How; ``output`` and ``version`` mean nothing here.
        events: Where progress is told.

    Raises:
        EdgedeployError: As :func:`push_release`.
    """
    released = BundledVersions.opened(bundle, None)
    _check_targets(released, fleet)
    downgrade = bundle.verify.allow_downgrade or options.allowed.downgrade
    allowed = replace(options.allowed, downgrade=downgrade)

    def wanted(device: Device, gpu: DeviceGpu) -> Wanted:
        return Wanted(
            app=released.app,
            version=released.for_device(device, gpu).version.name,
            golden=options.golden,
            allowed=allowed,
            wait_s=options.wait_s,
        )

    return _activate(fleet, Store(options.store, events), wanted)


def _activate(
    fleet: Fleet[Device], store: Store, wanted: Callable[[Device, DeviceGpu], Wanted]
) -> Result:
    def work(device: Device, link: Link) -> Answer:
        gpu = _gpu(store, device, link)
        one = wanted(device, gpu)
        expect_depot(link.remote, device.root, one.app)
        runs = OnDevice(link.remote, device, find_runtime, make_onboard)
        one = without_false_ceilings(one, store, device, link)
        return activate_version(link, device, one, opener=open_depot, runs=runs, fits=gpu.check)

    return fleet.run(work)


def without_false_ceilings(wanted: Wanted, store: Store, device: Device, link: Link) -> Wanted:
    """Return what is wanted without limits on times that a device's clock proves nothing about."""
    if not wanted.ceilings_ms:
        return wanted
    if link.remote.pretended:
        why = "a fake device"
    else:
        facts = _facts(store, device, link)
        if not facts.emulated:
            return wanted
        why = f"emulated ({facts.virtual})"
    link.say(f"the limit on latency is not judged: {why}")
    return replace(wanted, ceilings_ms={})


def _wanted(
    request: Request,
    fleet: Fleet[Device],
    options: ActivateOptions,
    store: Store,
    events: EventLog,
) -> Callable[[Device, DeviceGpu], Wanted]:
    """Return what tells, of a connected device, what shall become active there."""
    built = None
    if options.version is None:
        built = Built(request, options.output, store, events)
        plan = built.plan
        targets = {device.name: built.target(device.board, device.name) for device in fleet.devices}
        for target in dict.fromkeys(targets.values()):
            built.contents(target)  # all that can be wrong here is, before a device is touched
    else:
        plan, _ = open_profile(request)

    def wanted(device: Device, gpu: DeviceGpu) -> Wanted:
        version = options.version
        if built is not None:
            target = targets[device.name]
            found = gpu.for_target(plan.targets[target])
            version = built.contents(target, found).version.name
        return Wanted(
            app=plan.profile.name,
            version=version or "",
            ceilings_ms=_ceilings(plan),
            golden=options.golden,
            allowed=options.allowed,
            wait_s=options.wait_s,
        )

    return wanted


def _ceilings(plan: Plan) -> dict[tuple[str, str], float]:
    """Return the gate on the median latency by model and target, where there is one."""
    return {
        (item.shared.name, item.use.target): item.use.gates.latency_ms["p50"]
        for item in plan.items
        if "p50" in item.use.gates.latency_ms
    }


def rollback(app: str, fleet: Fleet[Device], *, source: str = "", wait_s: float = 0.0) -> Result:
    """Go back to the version before on every device of a fleet.

    Args:
        app: Application.
        fleet: The devices.
        source: Only where the active version begins so; see
            :func:`edgedeploy.deploy.activate.roll_back`.
        wait_s: How long to wait for the lock when somebody else holds it.
    """

    def work(device: Device, link: Link) -> Answer:
        expect_depot(link.remote, device.root, app)
        return roll_back(link, device, app, opener=open_depot, source=source, wait_s=wait_s)

    return fleet.run(work)


def fsck(app: str | None, fleet: Fleet[Device], care: Care) -> Result:
    """Check the depots on every device of a fleet, or those of one application."""

    def work(device: Device, link: Link) -> Answer:
        return care_for(link, device, app, care, opener=open_depot)

    return fleet.run(work)


def provision(fleet: Fleet[Device], wish: Wish, events: EventLog | None = None) -> Result:
    """Put a runtime on every device of a fleet that does not have it.

    Args:
        fleet: The devices.
        wish: Which runtime.
        events: Where transfers are told.
    """

    def work(device: Device, link: Link) -> Answer:
        return provision_device(link, device, wish, opener=open_depot, events=events)

    return fleet.run(work)
