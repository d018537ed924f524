"""Running the models of a version where it lies on a device, as its checks ask for it."""

from __future__ import annotations

import shlex
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedeploy.backends import FAMILIES
from edgedeploy.bench.job import BenchArtifact, BenchInputs, BenchJob, BenchPlan, OutputsJob
from edgedeploy.deploy.unit import Unit
from edgedeploy.devices.version import Version, VersionModel
from edgedeploy.errors import DeviceError, RefusedError
from edgedeploy.remote import DeviceRuntime, Remote

if TYPE_CHECKING:
    import numpy as np

    from edgedeploy.bench.onboard import Onboard

OUTPUTS_S = 300.0
"""How long a model may take to load and answer its golden samples."""

LIMIT_BYTES = 64 << 20
"""What a model may answer to its golden samples: they have 8 MiB where it was built."""

QUICK = BenchPlan(
    warmup_max_s=2, window_s=0.25, min_s=2, min_count=16, min_repetitions=4, max_s=60, layer_runs=0
)
"""A look at the latency, not a measurement: a few windows after a short warm-up."""

# Of the recipe's options, what loading an engine needs to be told. A DLA's core is in the engine.
_AS_IT_IS = {"options": {"version_compatible": False, "dla": None, "dla_fallback": False}}

# What an artifact does to its runtime: it dies, refuses, or does not end.
_REFUSED = frozenset({"E470", "E471", "E472", "E493", "E494", "E495"})

FindRuntime = Callable[[Remote, str, str, str | None], DeviceRuntime]
MakeOnboard = Callable[[Remote, DeviceRuntime, str], "Onboard"]


def make_onboard(remote: Remote, runtime: DeviceRuntime, scratch: str) -> Onboard:
    """Return what runs artifacts with a runtime of a device."""
    if runtime.kind == "native":
        from edgedeploy.bench.native import NativeOnboard

        return NativeOnboard(remote, runtime, scratch)
    if runtime.kind == "trtexec":
        from edgedeploy.backends.trt.trtexec import bench_command
        from edgedeploy.bench.trtexec import TrtexecOnboard

        (program,) = shlex.split(runtime.command)
        command = partial(bench_command, runtime.version, _AS_IT_IS, trtexec=program)
        return TrtexecOnboard(remote, runtime, scratch, command)
    from edgedeploy.bench.onboard import PythonOnboard

    return PythonOnboard(remote, runtime, scratch)


class OnDevice:
    """Runs models on one device; its runtimes are looked for when they are needed.

    Args:
        remote: The device, connected.
        unit: What the inventory says of it.
        find: Finds the runtime of a family there.
        make: Makes what runs artifacts with it.
    """

    def __init__(self, remote: Remote, unit: Unit, find: FindRuntime, make: MakeOnboard) -> None:
        self._remote = remote
        self._unit = unit
        self._find = find
        self._make = make
        self._known: dict[str, Onboard] = {}

    def outputs(
        self, version: Version, model: VersionModel, folder: str, pack: Path, names: Sequence[str]
    ) -> list[dict[str, np.ndarray]]:
        """Return what a model answers; see :class:`edgedeploy.deploy.health.Runs`."""
        from edgedeploy.data.pack import PackReader

        job = OutputsJob(
            pack=pack, outputs=tuple(names), deadline_s=OUTPUTS_S, limit_bytes=LIMIT_BYTES
        )
        with tempfile.TemporaryDirectory(prefix="answers-") as name:
            goal = Path(name)
            self._run(
                model, lambda onboard: onboard.outputs(_artifact(version, model, folder), job, goal)
            )
            return [sample.tensors() for sample in PackReader(goal)]

    def p50_ms(self, version: Version, model: VersionModel, folder: str, pack: Path) -> float:
        """Return the median latency; see :class:`edgedeploy.deploy.health.Runs`."""
        job = BenchJob(
            artifacts=(_artifact(version, model, folder),),
            inputs=BenchInputs(pack=pack),
            evidence="device",
            plan=QUICK,
        )
        windows: list[Mapping[str, Any]] = []
        self._run(model, lambda onboard: windows.extend(onboard.measure(job)["windows"]))
        times_ns: list[int] = [ns for window in windows for ns in window["samples_ns"]]
        return statistics.median(times_ns) / 1e6

    def _run(self, model: VersionModel, call: Callable[[Onboard], object]) -> None:
        """Call what runs a model.

        Raises:
            RefusedError: The model is at fault.
            DeviceError: The device or the connection is.
        """
        family = model.runtime
        if family not in FAMILIES:  # the version may be another edgedeploy's
            raise DeviceError(
                f"{model.name} is for the runtime {family}, which this edgedeploy cannot run there",
                code="E436",
                subject=model.name,
                hint="use the edgedeploy that pushed the version, or push the version again",
            )
        if family not in self._known:
            root = self._unit.root.rstrip("/")
            runtime = self._find(self._remote, root, family, self._unit.python)
            self._known[family] = self._make(self._remote, runtime, f"{root}/.scratch")
        try:
            call(self._known[family])
        except DeviceError as error:
            if error.diagnostics[0].code in _REFUSED:
                raise RefusedError(error.diagnostics) from error
            raise


def _artifact(version: Version, model: VersionModel, folder: str) -> BenchArtifact:
    paths = [file.path for file in version.files if file.path.startswith(f"{model.name}/")]
    digests = {file.path: file.sha256 for file in version.files}
    return BenchArtifact(
        id=model.name,
        family=model.runtime,  # type: ignore[arg-type]
        path=Path(folder, model.entry),
        files=tuple(Path(folder, path) for path in paths),
        options=FAMILIES[model.runtime].bench_options,
        sha256=digests.get(model.entry),
        digest=model.artifact,
        target=model.target,
    )
