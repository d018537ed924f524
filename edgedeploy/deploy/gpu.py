"""The GPU and TensorRT of a device, held against engines before any of them is sent or loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedeploy.devices.runtimes import in_range
from edgedeploy.errors import DeviceError, Diagnostic
from edgedeploy.gpu import RUNTIMES, EngineNeeds, GpuPlatform, sm
from edgedeploy.records import add_record, conditions_key, latest_record, record_folder

if TYPE_CHECKING:
    from edgedeploy.devices.gpu_facts import GpuSurvey
    from edgedeploy.devices.version import Version
    from edgedeploy.release.bundle import ReleaseEngine, ReleaseModel
    from edgedeploy.remote import Remote
    from edgedeploy.store import Store
    from edgedeploy.target.types import Target


class DeviceGpu:
    """What one connected device loads engines with; asked once, when it is first needed.

    Never a survey of another day: between two of them a system may be upgraded, and an engine that
    does not load is found out too late.

    Args:
        reach: Returns the connection to the device.
        python: Its interpreter, None finds one that has TensorRT.
        store: Where the record goes; None keeps none.
        say: Called with what should be known, in words.
    """

    def __init__(
        self,
        reach: Callable[[], Remote],
        python: str | None,
        store: Store | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._reach = reach
        self._python = python
        self._store = store
        self._say = say
        self._survey: GpuSurvey | None = None

    def survey(self) -> GpuSurvey:
        """Return what the device has.

        Raises:
            DeviceError: The connection fails (E403-E406), or the device cannot be probed (E450).
            StoreError: The record cannot be written.
        """
        if self._survey is None:
            self._survey = survey_device(self._reach(), self._python, self._store)
            for text in self._survey.conflicts:
                self._say(text)
        return self._survey

    def for_target(self, target: Target) -> GpuSurvey | None:
        """Return what the device has, when a target's runtime loads engines.

        None for other runtimes, and for a fake device: what this machine has says nothing of it.

        Raises:
            DeviceError: It has no GPU that is known (E485), no such runtime (E486), another GPU
                than the board (E488) or a version that the target does not allow (E489); or as
                :meth:`survey`.
        """
        if target.runtime not in RUNTIMES or self._reach().pretended:
            return None
        found = self.survey()
        check_gpu(found, target)
        return found

    def check(self, version: Version) -> None:
        """Let a version pass whose engines the device loads.

        Raises:
            DeviceError: It does not load one (E487), or as :meth:`survey`.
        """
        engines = [model for model in version.models if model.runtime in RUNTIMES]
        if not engines or self._reach().pretended:
            return
        found = self.survey()
        for model in engines:
            if model.needs is None:
                raise mismatch(
                    found.device, model.name, ["its manifest does not say what it needs"]
                )
            check_needs(found, model.name, model.needs, self._say)


def check_needs(
    survey: GpuSurvey, name: str, needs: EngineNeeds, say: Callable[[str], None]
) -> None:
    """Let an engine pass that a device loads, and say what is another than where it was built.

    Args:
        survey: Of the device.
        name: Of the model, for messages.
        needs: What the engine asks.
        say: Called with what should be known, in words.

    Raises:
        DeviceError: The device does not load it (E487), or its GPU is not known (E485).
    """
    why = survey.refuses(needs)
    if why is not None:
        raise mismatch(survey.device, name, [why])
    for text in needs.differences(survey):
        say(f"{name}: {text}")


def survey_device(remote: Remote, python: str | None, store: Store | None = None) -> GpuSurvey:
    """Survey a device now, and keep what was found where it is news.

    Args:
        remote: The device, connected.
        python: Its interpreter, None finds one that has TensorRT.
        store: Where the record goes; None keeps none.

    Raises:
        DeviceError: The connection fails (E403-E406), or the device cannot be probed (E450).
        StoreError: The record cannot be written.
    """
    from edgedeploy.devices.gpu_facts import probe_gpu

    found = probe_gpu(remote, python)
    if store is not None and latest_survey(store, remote.name) != found:
        created = datetime.now(UTC).isoformat(timespec="seconds")
        record = {"kind": "gpu", "created": created, "survey": found.to_json()}
        add_record(store, _key(remote.name), record, ())
    return found


def latest_survey(store: Store, device: str) -> GpuSurvey | None:
    """Return what the newest survey of a device found; as :func:`dated_survey` otherwise."""
    found = dated_survey(store, device)
    return found and found[1]


def dated_survey(store: Store, device: str) -> tuple[str, GpuSurvey] | None:
    """Return since when a device is what its newest survey found (ISO 8601, UTC), and that.

    None when there was none, or one by an edgedeploy that knew other facts.
    """
    from edgedeploy.devices.gpu_facts import GpuSurvey

    record = latest_record(store, _key(device))
    try:
        if record is None:
            return None
        return str(record["created"]), GpuSurvey.from_json(record["survey"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def survey_folder(store: Store, device: str) -> Path:
    """Return the folder in which news of a device appears."""
    return record_folder(store, _key(device))


def _key(device: str) -> str:
    return conditions_key({"kind": "gpu", "device": device})


def check_gpu(survey: GpuSurvey, target: Target) -> None:
    """Let a device pass whose GPU and runtime are what a target says.

    Args:
        survey: Of the device.
        target: One whose runtime loads engines.

    Raises:
        DeviceError: It has no GPU that is known (E485), no such runtime (E486), another GPU than
            the board (E488) or a version that the target does not allow (E489).
    """
    survey.check_gpu()
    rtx = target.runtime == "tensorrt-rtx"
    version = survey.rtx if rtx else survey.version
    if version is None:
        raise survey.no_runtime("TensorRT for RTX" if rtx else "TensorRT")
    board = target.get("board.gpu")
    allowed = board["compute_capabilities"] if board else [survey.compute_capability]
    found = []
    if survey.compute_capability not in allowed:
        must = " or ".join(map(sm, allowed))
        has = f"{survey.gpu} ({sm(survey.compute_capability)})"
        found.append(("E488", f"the GPU must be {must}, and is {has}"))
    versions = str(target.get("runtime.versions") or "")
    if versions and not in_range(version, versions):
        found.append(("E489", f"the runtime must be {versions}, and is {version}"))
    if found:
        raise DeviceError(
            Diagnostic(
                code=code,
                message=f"{survey.device} does not fit {target.id}: {what}",
                subject=survey.device,
                hint="name its own board in devices.yaml, or choose a target that fits",
            )
            for code, what in found
        )


def choose_engine(
    model: str, engines: Mapping[str, Mapping[str, Any]], survey: GpuSurvey | None
) -> str:
    """Return which of an artifact's engines a device gets, by the id of its platform.

    That of its own platform; else the one that differs least of those that it loads.

    Args:
        model: Name, for the message.
        engines: The summary of stage ``engines``: ``platform`` and ``needs`` by id.
        survey: Of the device; None takes the first, for a fake device.

    Raises:
        DeviceError: It loads none of them (E487), or has no GPU (E485) or TensorRT (E486).
    """
    if survey is None:
        return next(iter(engines))
    own = survey.platform()
    if own.id in engines:
        return own.id
    refusals, loading = [], []
    for name, engine in engines.items():
        why = survey.refuses(EngineNeeds.from_json(engine["needs"]))
        if why is None:
            loading.append((_distance(own, GpuPlatform.from_json(engine["platform"])), name))
        else:
            refusals.append(why)
    if not loading:
        raise mismatch(survey.device, model, refusals)
    return min(loading)[1]


def released_engine(model: ReleaseModel, survey: GpuSurvey | None) -> ReleaseEngine:
    """Return which of a model's engines in a release a device gets.

    Args:
        model: Of the release; it has engines.
        survey: Of the device; None takes the first, for a fake device.

    Raises:
        DeviceError: As :func:`choose_engine`.
    """
    built = {item.platform.id: item for item in model.engines if item.platform is not None}
    if built:
        told = {
            name: {"platform": GpuPlatform.to_json(item.platform), "needs": item.needs.to_json()}
            for name, item in built.items()
            if item.platform is not None
        }
        return built[choose_engine(model.name, told, survey)]
    engine = model.engines[0]  # built without a GPU, for all that the target names: the only one
    if survey is not None:
        why = survey.refuses(engine.needs)
        if why is not None:
            raise mismatch(survey.device, model.name, [why])
    return engine


def _distance(one: GpuPlatform, other: GpuPlatform) -> tuple[bool, ...]:
    """Return in what two platforms differ, the gravest first."""
    names = ("compute_capability", "gpu", "tensorrt", "cuda", "jetpack", "driver")
    return tuple(getattr(one, name) != getattr(other, name) for name in names)


def mismatch(device: str, model: str, refusals: list[str]) -> DeviceError:
    """Return the refusal of engines on a device (E487)."""
    return DeviceError(
        f"{device} loads no engine of {model}: {'; '.join(refusals)}",
        code="E487",
        subject=device,
        hint=f"build again with this device: `edgedeploy build -d {device}`",
    )
