"""A device as a site of measurements: artifacts are staged there, measured, and asked samples.

Nothing here activates anything: the active version of the device stays what it is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from edgedeploy.bench.job import BenchJob, OutputsJob
from edgedeploy.bench.onboard import Onboard
from edgedeploy.deploy.asking import DeviceAsked, Ready
from edgedeploy.deploy.fit import check_reachable, check_system
from edgedeploy.deploy.gpu import DeviceGpu, check_needs, choose_engine
from edgedeploy.deploy.ondevice import FindRuntime, MakeOnboard, make_onboard
from edgedeploy.deploy.parity import evaluate_answers
from edgedeploy.deploy.probe import present_facts
from edgedeploy.deploy.push import Contents, Opener, push_version
from edgedeploy.deploy.shown import without_address
from edgedeploy.deploy.unit import Unit, depot_folder
from edgedeploy.devices.facts import DeviceFacts
from edgedeploy.devices.opening import open_depot
from edgedeploy.devices.runtimes import find_runtime
from edgedeploy.devices.version import Version, VersionModel
from edgedeploy.errors import DeviceError, UsageError
from edgedeploy.events import EventLog, Note
from edgedeploy.gpu import RUNTIMES
from edgedeploy.measuring import ANSWERS, Measured, Progress, Session, Taken, bench_job
from edgedeploy.plan import Plan
from edgedeploy.remote import DeviceRuntime, Remote
from edgedeploy.runner import Evidence

SAMPLES = 16
"""How many samples a device is asked unless the user says otherwise; 0 asks none, None all."""

_CORRECT = "correct `board:` of the device in devices.yaml"

_TEXT = 200
"""Letters that a record keeps of each text of the device."""


class DeviceSite:
    """A device on which sessions are measured; a :class:`edgedeploy.measuring.Site`.

    Args:
        unit: What the inventory says of it.
        connect: Makes a connection to it.
        pretended: It is a fake one: figures from it are simulated.
        claimed: What the inventory says of a fake one.
        samples: How many samples the chosen artifact is asked there; None all, 0 none.
        events: Where progress is told.
        opener: Opens a depot.
        find: Finds a runtime.
        make: Makes what runs artifacts with it.
    """

    def __init__(
        self,
        unit: Unit,
        connect: Callable[[], Remote],
        *,
        pretended: bool = False,
        claimed: Mapping[str, Any] | None = None,
        samples: int | None = SAMPLES,
        events: EventLog | None = None,
        opener: Opener = open_depot,
        find: FindRuntime = find_runtime,
        make: MakeOnboard = make_onboard,
    ) -> None:
        self.unit = unit
        self._connect = connect
        self._pretended = pretended
        self._claimed = claimed
        self._samples = samples
        self._events = events
        self._opener = opener
        self._find = find
        self._make = make
        self._remote: Remote | None = None
        self._facts: DeviceFacts | None = None
        self._gpu = DeviceGpu(self._reached, unit.python, say=self._say)

    @property
    def name(self) -> str:
        """The device's name."""
        return self.unit.name

    @property
    def board(self) -> str:
        """Id of the board that it is; empty when nobody said."""
        return self.unit.board or ""

    def close(self) -> None:
        """Disconnect."""
        if self._remote is not None:
            self._remote.close()
            self._remote = None

    def measure(self, session: Session, folder: Path, progress: Progress) -> Taken:
        """Measure a session; see :meth:`edgedeploy.measuring.Site.measure`."""
        from edgedeploy.bench.record import build_record

        created = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            progress({"event": "phase", "phase": "probe"})
            facts = self._known(session)
            session = self._engined(session)
            family, root = session.runtime, self.unit.root.rstrip("/")
            runtime = self._find(self._reached(), root, family, self.unit.python)
            folders = self._staged(session)
            onboard = self._make(self._reached(), runtime, f"{root}/.scratch")
            evidence: Evidence = "simulated" if self._emulated(facts, session) else "device"
            mode: Literal["quick", "full"] = "full" if session.bench.mode == "full" else "quick"
            about = self._about(facts, runtime, session)
            job = bench_job(session, folders, mode, device=about, evidence=evidence)
            names = " and ".join(item.name for item in session.artifacts)
            turns = ", in turns" if len(session.artifacts) > 1 else ""
            self._say(f"measuring {names} of {session.model} ({mode}{turns})")
            result = onboard.measure(job, on_progress=progress)
            records = [build_record(job, item, result, created, folder) for item in job.artifacts]
            if self._samples != 0:
                evidence = records[-1]["evidence"]  # a stand-in says so in its result
                records[-1][ANSWERS] = self._asked(session, onboard, job, evidence, progress)
        except DeviceError as error:
            told = self._lost(error)
            if told is error:
                raise
            raise told from error
        return Taken(
            mode=mode,
            records=tuple(records),
            samples=tuple(sorted(folder.glob("*.gz"))),
            platform=session.platform,
        )

    def asked(self, sessions: Mapping[str, Session], progress: Progress) -> DeviceAsked:
        """Return what answers with artifacts; see :meth:`edgedeploy.measuring.Site.asked`."""
        return DeviceAsked(sessions, self._samples, self._ready, self._lost, progress)

    def _ready(self, session: Session) -> Ready:
        """Stage a session's artifacts and return what runs the chosen one."""
        facts = self._known(session)
        session = self._engined(session)
        root = self.unit.root.rstrip("/")
        runtime = self._find(self._reached(), root, session.runtime, self.unit.python)
        job = bench_job(session, self._staged(session), "quick")
        return Ready(
            session=session,
            onboard=self._make(self._reached(), runtime, f"{root}/.scratch"),
            artifact=job.artifacts[-1],
            evidence="simulated" if self._emulated(facts, session) else "device",
        )

    def _lost(self, error: DeviceError) -> DeviceError:
        """Return a failure as it may be shown; the next session gets a connection of its own."""
        self.close()
        return without_address(self.name, error, self._events)

    def _reached(self) -> Remote:
        if self._remote is None:
            self._say("connecting")
            self._remote = self._connect()
        return self._remote

    def _say(self, text: str) -> None:
        if self._events is not None:
            self._events.emit(Note(text=f"{self.name}: {text}"))

    # -- what the device is ------------------------------------------------------------------

    def _known(self, session: Session) -> DeviceFacts:
        """Return what the device is.

        Raises:
            DeviceError: It has another architecture or system than the board (E477), an older
                macOS (E491), or cannot be probed (E450).
        """
        if self._facts is None:
            remote, unit = self._reached(), self.unit
            self._facts = present_facts(remote, unit.root, unit.python, self._claimed)
        found = self._facts
        if not self._pretended:
            self._check(session, found)
        return found

    def _check(self, session: Session, found: DeviceFacts) -> None:
        if found.arch != session.arch:
            raise DeviceError(
                f"{self.name} is said to be {self.board}, which is {session.arch}, and says "
                f"that it is {found.arch}",
                code="E477",
                subject=self.name,
                hint=_CORRECT,
            )
        for code, what in check_system(found, session.system, session.os_version):
            raise DeviceError(
                f"{self.name} is said to be {self.board}: {what}",
                code="E477" if code == "E451" else code,
                subject=self.name,
                hint=_CORRECT,
            )

    def _engined(self, session: Session) -> Session:
        """Return the session with the engines of the device's platform, before any is loaded.

        Raises:
            DeviceError: The device loads none of them (E487), has no GPU that is known (E485) or
                no TensorRT (E486).
        """
        if session.runtime not in RUNTIMES:
            return session
        chosen = session.artifacts[-1]
        found = None if self._pretended else self._gpu.survey()
        if chosen.engines:
            session = session.on(choose_engine(session.model, chosen.engines, found))
        if found is not None:
            for item in session.artifacts:
                if item.needs is not None:
                    check_needs(found, f"{session.model} ({item.name})", item.needs, self._say)
        return session

    def _emulated(self, facts: DeviceFacts, session: Session) -> str:
        """Return what stands for the hardware; figures of such a device are simulated."""
        if self._pretended:
            return "fake device"
        needs = session.artifacts[-1].needs
        if needs is not None and needs.simulated:
            return "a stand-in for TensorRT"
        return facts.virtual if facts.emulated else ""

    def _about(
        self, facts: DeviceFacts, runtime: DeviceRuntime, session: Session
    ) -> dict[str, Any]:
        """Return the facts of the device that a record keeps."""
        said = {
            "system": facts.distribution or facts.system,
            "kernel": facts.kernel,
            "machine": facts.arch,
            "cpu": facts.cpu or facts.soc,
            "model": facts.board,
            "governor": ", ".join(facts.governors) or None,
            "virtual": facts.virtual,
        }
        return {
            **{name: text[:_TEXT] if text else text for name, text in said.items()},
            "cores": facts.cores,
            "memory_bytes": facts.memory_bytes,
            "name": self.name,
            "board": self.board,
            "emulated": self._emulated(facts, session),
            "platform": session.platform or None,
            "facts": facts.digest,
            "runtime": {
                "kind": runtime.kind,
                "version": runtime.version,
                "provisioned": runtime.provisioned,
            },
        }

    # -- what is brought there ---------------------------------------------------------------

    def _staged(self, session: Session) -> list[Path]:
        """Stage the session's artifacts as one version; return their folders on the device."""
        contents, reached = _contents(session), False

        def reach() -> Remote:
            nonlocal reached
            if reached:  # asked again: the connection was lost
                self.close()
            reached = True
            return self._reached()

        pushed = push_version(
            reach,
            depot_folder(self.unit, session.app),
            contents,
            opener=self._opener,
            python=self.unit.python,
            events=self._events,
        )
        version = Path(pushed.root, "versions", pushed.version)
        return [version / model.name for model in contents.version.models]

    # -- what it answers ---------------------------------------------------------------------

    def _asked(
        self,
        session: Session,
        onboard: Onboard,
        job: BenchJob,
        evidence: Evidence,
        progress: Progress,
    ) -> dict[str, Any]:
        """Return the evaluation of what the chosen artifact answers, as JSON data."""
        asked = OutputsJob(
            pack=session.samples,
            samples=self._samples,
            outputs=tuple(spec.name for spec in session.signature.outputs),
            state=session.state,
            zeros=session.zeros(),
            cpus=session.bench.cpus,
            dtypes={spec.name: spec.dtype for spec in session.signature.outputs},
        )
        chosen = job.artifacts[-1]
        progress({"event": "phase", "phase": "outputs", "artifact": chosen.id})
        with tempfile.TemporaryDirectory(prefix="answers-") as name:
            goal = Path(name)
            onboard.outputs(chosen, asked, goal, on_progress=progress)
            return evaluate_answers(session, goal, self._samples, evidence).to_json()


def _contents(session: Session) -> Contents:
    """Return the session's artifacts as a version of their own.

    Its files are the same objects as those of a version that is pushed, so that what the device
    has does not travel again.
    """
    models, files, places = [], [], {}
    for artifact in session.artifacts:
        name = f"{session.model}.{artifact.name}"
        models.append(_model(session, artifact, name))
        for path in artifact.loaded:
            file = artifact.tree.file(path)
            files.append(replace(file, path=f"{name}/{path}"))
            places[file.sha256] = artifact.folder / path
    version = Version(
        app=session.app,
        board=session.board,
        models=tuple(models),
        files=tuple(sorted(files, key=lambda file: file.path)),
    )
    return Contents(version=version, places=places)


def _model(session: Session, artifact: Measured, name: str) -> VersionModel:
    return VersionModel(
        name=name,
        target=session.target,
        runtime=session.runtime,
        entry=f"{name}/{artifact.entry}",
        artifact=artifact.tree.digest,
        candidate=artifact.name,
        options=session.options,
        needs=artifact.needs,
    )


def check_boards(plan: Plan, units: Sequence[Unit]) -> None:
    """Refuse devices for whose board the profile has no target, or that cannot be reached.

    Raises:
        UsageError: There is one without a target (E478), or of iOS (E490).
    """
    boards = sorted({item.use.target.partition("/")[0] for item in plan.items})
    for unit in units:
        if unit.board in boards:
            for target in plan.targets.values():
                if target.id.partition("/")[0] == unit.board and unit.kind != "fake":
                    check_reachable(target, unit.name)
            continue
        board = f"a {unit.board}" if unit.board else "a board that nobody named"
        raise UsageError(
            f"{unit.name} is {board}; {plan.profile.name} has targets for {', '.join(boards)}",
            code="E478",
            subject=unit.name,
            hint="set `board:` of the device in devices.yaml, or add a target to the profile",
        )
