"""Is a version well on a device: does it load and answer right, is it fast enough, does it run.

The first two are asked of the staged version, before anything is switched: it lies there complete,
and what does not even load must not be active for a moment. The operator's own questions come when
it is active on trial.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from edgedeploy.deploy.agreement import disagreements
from edgedeploy.deploy.fleet import Link
from edgedeploy.deploy.hooks import Ended, Hooks, run_command, wait_until_well
from edgedeploy.devices.version import Version, VersionGolden, VersionModel
from edgedeploy.errors import Diagnostic, IntegrityError
from edgedeploy.remote import Remote, get_file

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question to a version on a device, and the answer.

    Attributes:
        name: ``golden``, ``latency``, ``restart``, ``health`` or ``health_url``.
        model: Which model it is about; None for the whole version.
        state: The verdict; ``not judged`` where nothing could be asked.
        text: What was found.
        seconds: How long it took.
    """

    name: str
    model: str | None = None
    state: Literal["passed", "refused", "not judged"]
    text: str
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the check as JSON data."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What the checks of a version found.

    Attributes:
        checks: All that were made, in order.
        faults: What is wrong; empty when the version is well.
    """

    checks: tuple[Check, ...] = ()
    faults: tuple[Diagnostic, ...] = ()

    def __add__(self, other: Health) -> Health:
        return Health(checks=self.checks + other.checks, faults=self.faults + other.faults)


class Onboard(Protocol):
    """Runs the models of a version on the device that it lies on."""

    def outputs(self, model: VersionModel, folder: str) -> Sequence[Mapping[str, np.ndarray]]:
        """Return what a model answers to its golden inputs, one set of outputs for each.

        Args:
            model: One with golden samples.
            folder: Absolute path of the version on the device.

        Raises:
            RefusedError: It does not load, or its process died.
            DeviceError: The device has no runtime for it, or the connection is lost.
        """

    def p50_ms(self, model: VersionModel, folder: str) -> tuple[float, str]:
        """Return the median latency in a short window, and words on how it was measured.

        Raises as :meth:`outputs`.
        """


def check_staged(
    link: Link,
    version: Version,
    folder: str,
    onboard: Onboard,
    ceilings_ms: Mapping[str, float],
) -> Health:
    """Run every model of a staged version on the device and return what is wrong.

    Args:
        link: The device.
        version: What its manifest says.
        folder: Absolute path of the version on the device.
        onboard: Runs models there.
        ceilings_ms: Largest median latency by model name, milliseconds, where the profile has one.

    Raises:
        DeviceError: The device has no runtime for a model, or the connection is lost.
        IntegrityError: A golden sample on the device is not what the manifest says (E720).
    """
    found = Health()
    for model in version.models:
        if model.golden is None:
            text = "the version carries no golden samples"
            found += Health(
                checks=(Check(name="golden", model=model.name, state="not judged", text=text),)
            )
        else:
            link.say(f"checking {model.name}")
            found += _golden(link.remote, version, model, model.golden, folder, onboard)
        ceiling_ms = ceilings_ms.get(model.name)
        if ceiling_ms is not None and not found.faults:
            link.say(f"timing {model.name}")
            found += _latency(model, folder, onboard, ceiling_ms)
    return found


def _golden(
    remote: Remote,
    version: Version,
    model: VersionModel,
    golden: VersionGolden,
    folder: str,
    onboard: Onboard,
) -> Health:
    wanted = golden_outputs(remote, version, golden, folder)
    found = onboard.outputs(model, folder)
    text, faults = disagreements(model.name, found, wanted, golden.cosine)
    state: Literal["passed", "refused"] = "refused" if faults else "passed"
    return Health(
        checks=(Check(name="golden", model=model.name, state=state, text=text),), faults=faults
    )


def golden_outputs(
    remote: Remote, version: Version, golden: VersionGolden, folder: str
) -> list[dict[str, np.ndarray]]:
    """Return the golden outputs of a model, fetched from the device and checked.

    Raises:
        IntegrityError: They are not what the manifest says (E720).
        DeviceError: They cannot be fetched.
    """
    from edgedeploy.data.pack import PackReader

    with tempfile.TemporaryDirectory(prefix="golden-") as name:
        for file in version.files:
            place, _, base = file.path.rpartition("/")
            if place != golden.outputs:
                continue
            goal = Path(name, base)
            get_file(remote, f"{folder}/{file.path}", goal, file.size)
            if hashlib.sha256(goal.read_bytes()).hexdigest() != file.sha256:
                raise IntegrityError(
                    f"{file.path} on the device is not what its version says",
                    code="E720",
                    subject=remote.name,
                    hint="`edgedeploy devices fsck --repair`, then push again",
                )
        return [sample.tensors() for sample in PackReader(Path(name))]


def _latency(model: VersionModel, folder: str, onboard: Onboard, ceiling_ms: float) -> Health:
    found_ms, how = onboard.p50_ms(model, folder)
    text = f"p50 {found_ms:.4g} ms, limit {ceiling_ms:g} ms ({how})"
    slow = found_ms > ceiling_ms
    check = Check(
        name="latency", model=model.name, state="refused" if slow else "passed", text=text
    )
    fault = Diagnostic(
        code="E446",
        message=f"{model.name} is too slow on the device: {text}",
        subject=model.name,
        hint="see `edgedeploy bench -d` for a full measurement, or change the gate",
    )
    return Health(checks=(check,), faults=(fault,) if slow else ())


def check_running(link: Link, hooks: Hooks, python: str | None = None) -> Health:
    """Restart what uses the active version and wait until it is well, as its operator asks.

    Args:
        link: The device.
        hooks: What devices.yaml says; what it does not say is not done.
        python: The device's Python.

    Raises:
        DeviceError: The connection is lost (E403), or a command printed too much (E405).
        Interrupted: The run is being ended.
    """
    found = Health()
    if hooks.restart:
        link.say("restarting")
        found += _asked("restart", run_command(link, hooks.restart, hooks.timeout_s))
    if not found.faults and (hooks.health or hooks.health_url):
        link.say("waiting until it is well")
        for name, ended in wait_until_well(link, hooks, python):
            found += _asked(name, ended)
    return found


def _asked(name: str, ended: Ended) -> Health:
    good = ended.status == 0
    check = Check(
        name=name, state="passed" if good else "refused", text=str(ended), seconds=ended.seconds
    )
    fault = Diagnostic(
        code="E448",
        message=f"the operator's `{name}` {ended}",
        subject=name,
        hint="run it on the device by hand; it stands in devices.yaml",
    )
    return Health(checks=(check,), faults=() if good else (fault,))
