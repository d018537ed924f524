"""Facts of devices, found by probes and kept as dated records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from edgedeploy.deploy.fleet import Answer, Fleet, Link, Result
from edgedeploy.deploy.gpu import survey_device
from edgedeploy.errors import UsageError
from edgedeploy.records import add_record, conditions_key, latest_record

if TYPE_CHECKING:
    from edgedeploy.devices.facts import DeviceFacts
    from edgedeploy.devices.inventory import Device
    from edgedeploy.remote import Remote
    from edgedeploy.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a device was at one time.

    Attributes:
        device: Its name in the inventory.
        created: ISO 8601 time in UTC, by this machine's clock.
        facts: What was found; their digest names them.
        changed: Names of the facts that differ from the probe before; None when there was none.
    """

    device: str
    created: str
    facts: DeviceFacts
    changed: tuple[str, ...] | None

    def to_json(self) -> dict[str, Any]:
        """Return the probe as JSON data."""
        return {
            "device": self.device,
            "created": self.created,
            "digest": self.facts.digest,
            "facts": self.facts.to_json(),
            "changed": None if self.changed is None else list(self.changed),
        }


def probe_device(
    store: Store,
    remote: Remote,
    root: str = "~",
    python: str | None = None,
    claimed: Mapping[str, Any] | None = None,
) -> Probe:
    """Probe a device now and keep what was found.

    Args:
        store: Where the record goes.
        remote: The device, connected.
        root: Folder on the device whose file system counts.
        python: Its interpreter, None for ``python3``.
        claimed: What the inventory says of a fake device; it goes before what is found.

    Raises:
        UsageError: A claimed fact is none (E196).
        DeviceError: The connection fails (E403-E406) or the device cannot be probed (E450).
        StoreError: The record cannot be written.
    """
    facts = present_facts(remote, root, python, claimed)
    before = latest_facts(store, remote.name)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    record = {
        "kind": "facts",
        "created": created,
        "device": remote.name,
        "digest": facts.digest,
        "facts": facts.to_json(),
    }
    add_record(store, _key(remote.name), record, ())
    changed = None if before is None else _changed(before.to_json(), facts.to_json())
    return Probe(device=remote.name, created=created, facts=facts, changed=changed)


def present_facts(
    remote: Remote,
    root: str = "~",
    python: str | None = None,
    claimed: Mapping[str, Any] | None = None,
) -> DeviceFacts:
    """Return what a device is now and keep nothing; as :func:`probe_device` otherwise."""
    from edgedeploy.devices.facts import probe

    facts = probe(remote, root, python)
    return _with_claims(facts, claimed, remote.name) if claimed else facts


def _with_claims(facts: DeviceFacts, claimed: Mapping[str, Any], device: str) -> DeviceFacts:
    """Return the facts of a fake device: what this machine is, except for what is claimed."""
    try:
        return type(facts).from_json({**facts.to_json(), **claimed})
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"the facts of the fake device {device} cannot be used: {error}",
            code="E196",
            subject=device,
            hint="name facts as `edgedeploy devices probe --json` prints them",
        ) from error


def probe_all(fleet: Fleet[Device], store: Store) -> Result:
    """Probe every device of a fleet and keep what was found; each row's details are a probe.

    What one with a GPU of NVIDIA's builds and loads engines with is under ``engines``
    (:class:`edgedeploy.devices.gpu_survey.GpuSurvey`).
    """

    def work(device: Device, link: Link) -> Answer:
        found = probe_device(store, link.remote, device.root, device.python, device.facts)
        details = found.to_json()
        if _may_have_tensorrt(found.facts):
            survey = survey_device(link.remote, device.python, store)
            details["engines"] = survey.to_json()
        return Answer(text=_in_words(found), details=details)

    return fleet.run(work)


def _may_have_tensorrt(facts: DeviceFacts) -> bool:
    """Whether it is worth a second command to ask for it."""
    return (
        facts.soc_vendor == "NVIDIA"
        or any(gpu.compute_capability for gpu in facts.gpus)
        or not {"tensorrt", "libnvinfer"}.isdisjoint(facts.runtimes)
    )


def _in_words(probe: Probe) -> str:
    facts = probe.facts
    what = [facts.board or facts.cpu, facts.arch, facts.distribution]
    text = ", ".join(word for word in what if word)
    if facts.emulated:
        text += f", emulated ({facts.virtual})"
    if probe.changed:
        text += f"; changed since the last probe: {', '.join(probe.changed)}"
    return text


def latest_facts(store: Store, device: str) -> DeviceFacts | None:
    """Return what the newest probe of a device found.

    None when it was never probed, or by an edgedeploy that knew other facts.
    """
    from edgedeploy.devices.facts import DeviceFacts

    record = latest_record(store, _key(device))
    try:
        return None if record is None else DeviceFacts.from_json(record["facts"])
    except (KeyError, TypeError, ValueError):
        return None


_MOVING = frozenset({"disk_free_bytes"})
"""Facts that differ from one minute to the next, which is no change of the device."""


def _key(device: str) -> str:
    return conditions_key({"kind": "facts", "device": device})


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    names = sorted(before.keys() | after.keys())
    return tuple(
        name for name in names if name not in _MOVING and before.get(name) != after.get(name)
    )
