"""Measuring artifacts, here or on a device, and keeping the records."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from edgedeploy.artifact import Tree
from edgedeploy.gpu import EngineNeeds
from edgedeploy.loading import Part
from edgedeploy.profile.types import BenchSpec, DecodeSpec, MetricSpec
from edgedeploy.records import add_record, conditions_key, latest_record, records_of
from edgedeploy.runner import Evidence
from edgedeploy.signature import Signature
from edgedeploy.store import Store

if TYPE_CHECKING:
    import numpy as np

    from edgedeploy.bench.job import BenchJob, GeneratedTensor

FLOAT = "float"

ANSWERS = "answers"
"""Key of an artifact's record under which the evaluation of its answers on a device lies."""

Measure = Literal["off", "known", "missing", "again"]
"""When this machine measures: never, not even looking at records; never; where there is no record;
always."""

Progress = Callable[[Mapping[str, Any]], None]
Records = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One artifact as it shall be measured.

    Attributes:
        name: ``float`` for the baseline, else the candidate's name.
        tree: Its files.
        folder: Where they lie.
        entry: What the runtime loads, relative to ``folder``: a file, or a package's folder.
        loaded: The files that the runtime needs, relative to ``folder``.
        needs: What it asks of the device; None for what is no engine.
        parts: What a device loads in place of ``entry`` and ``loaded``, by the id of its platform,
            where devices built engines of the artifact.
        engines: What those engines are, as ``steps/engines.py`` says in its summary.
    """

    name: str
    tree: Tree
    folder: Path
    entry: str
    loaded: tuple[str, ...]
    needs: EngineNeeds | None = None
    parts: Mapping[str, Part] = field(default_factory=dict)
    engines: Mapping[str, Any] = field(default_factory=dict)

    def on(self, platform: str) -> Measured:
        """Return the artifact as devices of a platform load it."""
        part = self.parts[platform]
        return replace(self, entry=part.entry, loaded=part.loaded, needs=part.needs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What the float model answers to a session's samples, and how answers are scored.

    Attributes:
        outputs: Tensor pack of its answers.
        score: Folder with their evaluation.
        metric: None where the profile names none.
        metadata: The model's, for parameters of the metric.
        folder: The profile's, for user functions.
        decode: How outputs become an answer; None where the profile names nothing.
        classes: Names of the model's classes, for that.
    """

    outputs: Path
    score: Path
    metric: MetricSpec | None
    metadata: Mapping[str, str]
    folder: Path
    decode: DecodeSpec | None = None
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What is measured together, interleaved: a target's float artifact and one other.

    Attributes:
        app: Name of the profile.
        model: Name of the model.
        target: Target id.
        runtime: ``coreml``, ``ort`` or ``openvino``.
        version: Version of the runtime here.
        artifacts: The float one first.
        samples: Tensor pack that feeds them.
        samples_digest: The pack's digest.
        signature: Inputs and outputs of the model.
        state: ``(state input, state output)``. Samples do not hold the inputs.
        bench: Mode, threads and CPUs.
        options: Of the runtime, so that it computes as when the artifact was verified.
        arch: The board's architecture, as targets name it.
        system: Its operating system, as targets name it.
        os_version: The oldest version of that which the target is for; None: any.
        stands_in: Whether this machine may stand in for the board.
        device: Facts of this machine.
        reference: What the answers of a device are compared with.
        platform: Id of the platform whose engines are measured; empty where there are none, or
            it is not decided.
    """

    app: str
    model: str
    target: str
    runtime: str
    version: str
    artifacts: tuple[Measured, ...]
    samples: Path
    samples_digest: str
    signature: Signature
    state: tuple[tuple[str, str], ...]
    bench: BenchSpec
    options: Mapping[str, Any]
    arch: str
    system: str
    os_version: int | None
    stands_in: bool
    device: Mapping[str, Any]
    reference: Reference
    platform: str = ""

    @property
    def platforms(self) -> tuple[str, ...]:
        """Ids of the platforms for which each artifact has an engine; empty without engines."""
        *others, chosen = self.artifacts
        return tuple(name for name in chosen.parts if all(name in item.parts for item in others))

    def on(self, platform: str) -> Session:
        """Return the session as it runs on devices of a platform."""
        artifacts = tuple(item.on(platform) for item in self.artifacts)
        return replace(self, artifacts=artifacts, platform=platform)

    @property
    def board(self) -> str:
        """Id of the target's board."""
        return self.target.partition("/")[0]

    def key(self) -> str:
        """Return the key of this session's records here: what was measured and how."""
        device = {name: self.device.get(name) for name in ("cpu", "cores", "machine", "system")}
        version = [self.runtime, self.version]
        return self._key(self.bench.mode, {"runtime": version, "device": device})

    def board_key(self, mode: str) -> str:
        """Return the key of this session's records on devices of the target's board."""
        return self._key(mode, {"runtime": [self.runtime], "board": self.board})

    def _key(self, mode: str, where: Mapping[str, Any]) -> str:
        return conditions_key(
            {
                "target": self.target,
                "artifacts": [[item.name, self._digest(item)] for item in self.artifacts],
                "samples": self.samples_digest,
                "mode": mode,
                "threads": self.bench.threads,
                "cpus": list(self.bench.cpus),
                "options": dict(self.options),
                **({"state": "carried"} if self.state else {}),
                **where,
            }
        )

    def _digest(self, item: Measured) -> str:
        """Return what names an artifact: its engine alone, where other devices have other ones."""
        return item.tree.file(item.entry).sha256 if self.platform else item.tree.digest

    def board_keys(self) -> tuple[str, ...]:
        """Return the keys under which records from devices count for this session.

        What was measured in full counts where ``quick`` is asked for, not the other way round.
        """
        modes = ("full",) if self.bench.mode == "full" else ("full", "quick")
        return tuple(self.board_key(mode) for mode in modes)

    def all_keys(self) -> tuple[str, ...]:
        """Return every key under which a record may lie."""
        return (self.key(), *(key for one in self.each() for key in one.board_keys()))

    def each(self) -> tuple[Session, ...]:
        """Return the session on each platform that it has engines for, or itself."""
        return tuple(self.on(name) for name in self.platforms) or (self,)

    def zeros(self) -> tuple[GeneratedTensor, ...]:
        """Return the state at the start of a sequence; open axes have the size 1."""
        from edgedeploy.bench.job import GeneratedTensor

        names = {given for given, _ in self.state}
        return tuple(
            GeneratedTensor(
                name=spec.name,
                dtype=spec.dtype,
                shape=tuple(size if isinstance(size, int) else 1 for size in spec.dims or ()),
                high=0,
            )
            for spec in self.signature.inputs
            if spec.name in names
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a device showed of a session.

    Attributes:
        mode: ``quick`` or ``full``.
        records: One per artifact of the session, in its order; the chosen one's may hold the
            evaluation of its answers under ``ANSWERS``.
        samples: Files of raw samples that they name.
        platform: Id of the platform whose engines were measured; empty where there are none.
    """

    mode: Literal["quick", "full"]
    records: tuple[dict[str, Any], ...]
    samples: tuple[Path, ...]
    platform: str = ""


class Asked(Protocol):
    """Artifacts on a device that answer calls, several of a model at once."""

    @property
    def samples(self) -> int | None:
        """How many samples of a pipeline it is asked; None all, 0 none."""

    @property
    def evidence(self) -> Evidence:
        """What its answers are worth; known once it has answered."""

    def answer(
        self, model: str, calls: Sequence[Mapping[str, np.ndarray]]
    ) -> Sequence[dict[str, np.ndarray]]:
        """Return what the chosen artifact of a model answers to each call, state among the inputs.

        Raises:
            DeviceError: The device is lost, or the run there failed (E470-E476).
        """

    def answer_pack(self, model: str, pack: Path, goal: Path) -> None:
        """Write what the chosen artifact of a model answers to samples, state carried along.

        Args:
            model: Its name with its variant.
            pack: Tensor pack of the samples, without state inputs.
            goal: Existing empty folder for the pack of answers.

        Raises:
            DeviceError: The device is lost, or the run there failed (E470-E476).
        """


class Site(Protocol):
    """A device on which sessions are measured."""

    @property
    def name(self) -> str:
        """The device's name."""

    @property
    def board(self) -> str:
        """Id of the board that it is."""

    def measure(self, session: Session, folder: Path, progress: Progress) -> Taken:
        """Measure a session on the device.

        Args:
            session: What to measure.
            folder: Existing folder for the files of raw samples.
            progress: Called with each line of progress.

        Raises:
            DeviceError: The device is lost, or a run there failed (E470-E476).
        """

    def asked(self, sessions: Mapping[str, Session], progress: Progress) -> Asked:
        """Return what answers with the chosen artifacts of several sessions.

        Args:
            sessions: By the model's name with its variant.
            progress: Called with each line of progress.
        """


def known_records(store: Store, session: Session) -> Records | None:
    """Return the latest records of a session here by artifact name, None when there are none."""
    found = latest_record(store, session.key())
    return None if found is None else _by_name(found)


def board_records(store: Store, session: Session) -> tuple[Records, ...]:
    """Return what devices of the session's board showed, nothing when none was measured.

    The newest record in which every artifact's figures are valid, else the newest; what a device
    answered to samples is the newest of that, in whichever record. Of several platforms with
    engines of their own, one each, that on which the chosen artifact is slowest first.
    """
    each = [found for one in session.each() if (found := _board_records(store, one)) is not None]
    last = session.artifacts[-1].name
    return tuple(sorted(each, key=lambda found: -float(found[last]["latency"]["mean_ms"])))


def _board_records(store: Store, session: Session) -> Records | None:
    found = sorted(
        (item for key in session.board_keys() for item in records_of(store, key)),
        key=lambda item: str(item["created"]),
        reverse=True,
    )
    if not found:
        return None
    taken = _by_name(next((item for item in found if _valid(item)), found[0]))
    for name, record in taken.items():
        answers = next(_answers(found, name), None)
        if answers is not None:
            record[ANSWERS] = answers
    return taken


def _valid(found: Mapping[str, Any]) -> bool:
    records = found["artifacts"].values()
    return all(record["validity"]["verdict"] == "valid" for record in records)


def _answers(found: Sequence[Mapping[str, Any]], name: str) -> Iterator[Any]:
    for item in found:
        answers = item["artifacts"].get(name, {}).get(ANSWERS)
        if answers is not None:
            yield answers


def _by_name(found: Mapping[str, Any]) -> Records:
    records: Records = found["artifacts"]
    return {name: {**record, "folder": found["folder"]} for name, record in records.items()}


def bench_job(
    session: Session, folders: Sequence[Path], mode: Literal["quick", "full"], **how: Any
) -> BenchJob:
    """Return the job that measures a session.

    Args:
        session: What to measure.
        folders: Where the files of each artifact lie, on the machine that measures.
        mode: How long.
        how: Further fields of the job.
    """
    from edgedeploy.bench.job import BenchArtifact, BenchInputs, BenchJob, stream_samples

    artifacts = tuple(
        BenchArtifact(
            id=item.name,
            family=session.runtime,  # type: ignore[arg-type]
            path=folder / item.entry,
            files=tuple(folder / path for path in item.loaded),
            threads=session.bench.threads,
            options=session.options,
            sha256=_entry_sha256(item),
            digest=item.tree.digest,
            target=session.target,
        )
        for item, folder in zip(session.artifacts, folders, strict=True)
    )
    inputs = BenchInputs(pack=session.samples, generated=session.zeros(), state=session.state)
    if session.state:
        inputs = replace(inputs, samples=stream_samples(session.samples))
    return BenchJob(
        artifacts=artifacts,
        inputs=inputs,
        mode=mode,
        baseline=FLOAT if len(artifacts) > 1 else None,
        cpus=session.bench.cpus,
        **how,
    )


def _entry_sha256(item: Measured) -> str | None:
    """Return the digest of the file that is loaded; a Core ML package is a folder and has none."""
    found = [file.sha256 for file in item.tree.files if file.path == item.entry]
    return found[0] if found else None


def measure_session(store: Store, session: Session, progress: Progress) -> Records:
    """Measure a session here and now, keep its records and return them by artifact name.

    Raises:
        BuildError: The runtime died or refused an artifact (E350-E353).
        StoreError: The records cannot be written.
    """
    from edgedeploy.bench.measure import measure

    mode: Literal["quick", "full"] = "full" if session.bench.mode == "full" else "quick"
    folders = [item.folder for item in session.artifacts]
    job = bench_job(session, folders, mode, device=session.device)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        records = measure(job, folder, on_progress=progress)
        return _kept(store, session.key(), session, records, sorted(folder.glob("*.gz")))


def measure_on(store: Store, session: Session, site: Site, progress: Progress) -> Records:
    """Measure a session on a device, keep its records and return them by artifact name.

    Raises:
        DeviceError: As :meth:`Site.measure`.
        StoreError: The records cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        taken = site.measure(session, Path(name), progress)
        one = session.on(taken.platform) if taken.platform else session
        key = one.board_key(taken.mode)
        return _kept(store, key, session, taken.records, taken.samples)


def keep_imported(
    store: Store, session: Session, record: dict[str, Any], samples: Sequence[Path]
) -> bool:
    """Keep what somebody else measured of a session's chosen artifact on the session's board.

    Args:
        store: The store.
        session: Of what it is a measurement.
        record: With ``app``, whose ``sha256`` tells documents apart.
        samples: Files of raw samples that it names.

    Returns:
        Whether it is new; a document that was imported before is not kept again.

    Raises:
        StoreError: The record cannot be written.
    """
    key = session.board_key(record["conditions"]["mode"])
    name = session.artifacts[-1].name
    for known in records_of(store, key):
        app = known["artifacts"].get(name, {}).get("app")
        if app is not None and app["sha256"] == record["app"]["sha256"]:
            return False
    whole = {"created": record["created"], "artifacts": {name: record}}
    add_record(store, key, whole, samples)
    return True


def _kept(
    store: Store,
    key: str,
    session: Session,
    records: Sequence[dict[str, Any]],
    samples: Sequence[Path],
) -> Records:
    whole = {
        "created": records[0]["created"],
        "artifacts": {
            item.name: record for item, record in zip(session.artifacts, records, strict=True)
        },
    }
    place = add_record(store, key, whole, samples)
    return _by_name({**whole, "folder": str(place)})
