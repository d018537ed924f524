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
from edgedeploy.errors import Diagnostic, IntegrityError, RefusedError
from edgedeploy.remote import Remote, get_file, too_much

if TYPE_CHECKING:
    import numpy as np

GOLDEN_BYTES = 16 << 20
"""Of one folder of golden samples: twice what a push sends along, with its index."""


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


class Runs(Protocol):
    """Runs the models of a version on the device that it lies on."""

    def outputs(
        self, version: Version, model: VersionModel, folder: str, pack: Path, names: Sequence[str]
    ) -> list[dict[str, np.ndarray]]:
        """Return what a model answers, one set of outputs for each sample.

        Args:
            version: What the manifest says.
            model: One of its models.
            folder: Absolute path of the version on the device.
            pack: Folder here with the samples, all inputs in them.
            names: Outputs that are wanted.

        Raises:
            RefusedError: It does not load, died or did not end.
            DeviceError: The device has no runtime for it, or the connection is lost.
        """

    def p50_ms(self, version: Version, model: VersionModel, folder: str, pack: Path) -> float:
        """Return the median latency in a short window, milliseconds; otherwise as ``outputs``."""


def check_staged(
    link: Link,
    version: Version,
    folder: str,
    runs: Runs,
    ceilings_ms: Mapping[tuple[str, str], float],
) -> Health:
    """Run every model of a staged version on the device and return what is wrong.

    Args:
        link: The device.
        version: What its manifest says.
        folder: Absolute path of the version on the device.
        runs: Runs models there.
        ceilings_ms: Largest median latency by model and target, milliseconds, where the profile
            has one.

    Raises:
        DeviceError: The device has no runtime for a model, or the connection is lost.
        IntegrityError: A golden sample on the device is not what the manifest says (E720).
    """
    found = Health()
    for model in version.models:
        if model.golden is None:
            text = "the version carries no golden samples"
            found += _checked("golden", model, "not judged", text)
            continue
        with tempfile.TemporaryDirectory(prefix="golden-") as name:
            one = _Model(link, version, model, model.golden, folder, runs, Path(name))
            try:
                found += one.golden()
                ceiling_ms = ceilings_ms.get((model.name, model.target))
                if ceiling_ms is not None and not found.faults:
                    found += one.latency(ceiling_ms)
            except RefusedError as error:
                text = error.diagnostics[0].message
                found += _checked("golden", model, "refused", text, error.diagnostics)
    return found


class _Model:
    """The checks of one model."""

    def __init__(
        self,
        link: Link,
        version: Version,
        model: VersionModel,
        golden: VersionGolden,
        folder: str,
        runs: Runs,
        here: Path,
    ) -> None:
        self._link = link
        self._where = (version, model, folder)
        self._runs = runs
        self._inputs, self._outputs = here / "inputs", here / "outputs"
        self._golden = golden
        for place, goal in ((golden.inputs, self._inputs), (golden.outputs, self._outputs)):
            goal.mkdir()
            fetch_folder(link.remote, version, place, folder, goal)

    def golden(self) -> Health:
        from edgedeploy.data.pack import PackReader

        version, model, folder = self._where
        self._link.say(f"checking {model.name}")
        wanted = [sample.tensors() for sample in PackReader(self._outputs)]
        names = list(wanted[0]) if wanted else []
        found = self._runs.outputs(version, model, folder, self._inputs, names)
        text, faults = disagreements(
            model.name, found, wanted, self._golden.cosine, engine=model.needs is not None
        )
        return _checked("golden", model, "refused" if faults else "passed", text, faults)

    def latency(self, ceiling_ms: float) -> Health:
        version, model, folder = self._where
        self._link.say(f"timing {model.name}")
        found_ms = self._runs.p50_ms(version, model, folder, self._inputs)
        text = f"p50 {found_ms:.4g} ms, limit {ceiling_ms:g} ms (a quick look on this device)"
        if found_ms <= ceiling_ms:
            return _checked("latency", model, "passed", text)
        fault = Diagnostic(
            code="E446",
            message=f"{model.name} is too slow on the device: {text}",
            subject=model.name,
            hint="see `edgedeploy bench -d` for a full measurement, or change the gate",
        )
        return _checked("latency", model, "refused", text, (fault,))


def _checked(
    name: str,
    model: VersionModel,
    state: Literal["passed", "refused", "not judged"],
    text: str,
    faults: tuple[Diagnostic, ...] = (),
) -> Health:
    return Health(
        checks=(Check(name=name, model=model.name, state=state, text=text),), faults=faults
    )


def fetch_folder(remote: Remote, version: Version, place: str, folder: str, goal: Path) -> None:
    """Copy the files of one folder of a version from the device, checked against the manifest.

    Args:
        remote: The device.
        version: What the manifest says.
        place: The folder in the version; of files, not of folders.
        folder: Absolute path of the version on the device.
        goal: Existing empty folder here.

    Raises:
        IntegrityError: They are not what the manifest says (E720).
        DeviceError: They cannot be fetched, or are larger than ``GOLDEN_BYTES`` (E405).
    """
    left = GOLDEN_BYTES
    for file in version.files:
        parent, _, name = file.path.rpartition("/")
        if parent != place:
            continue
        if file.size > left:  # only what another program pushed is so large
            raise too_much("golden samples", GOLDEN_BYTES)
        left -= file.size
        get_file(remote, f"{folder}/{file.path}", goal / name, file.size)
        if hashlib.sha256((goal / name).read_bytes()).hexdigest() != file.sha256:
            raise IntegrityError(
                f"{file.path} on the device is not what its version says",
                code="E720",
                subject=remote.name,
                hint="`edgedeploy devices fsck --repair`, then push again",
            )


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
