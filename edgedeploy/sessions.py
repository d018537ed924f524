"""From what a build chose to its measurements: known ones, or made now, here or on devices."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from edgedeploy.backends import FAMILIES
from edgedeploy.choosing import Outcome, Trial
from edgedeploy.events import EventLog, StageFinished, StagePart, StageProgress, StageStarted
from edgedeploy.executor import Builder
from edgedeploy.loading import engines_of, loaded_part
from edgedeploy.measuring import (
    FLOAT,
    Measure,
    Measured,
    Progress,
    Records,
    Reference,
    Session,
    Site,
    board_records,
    known_records,
    measure_on,
    measure_session,
)
from edgedeploy.plan import CandidateNodes, Item, Plan
from edgedeploy.profile.classes import read_classes
from edgedeploy.signature import Signature
from edgedeploy.store import Store
from edgedeploy.target.host import is_this_machine
from edgedeploy.toolchain import tool_version

_PARTS: Mapping[str, str] = {
    "probe": "asking what the device is",
    "cold": "loading {}",
    "layers": "timing the layers of {}",
    "warm-up": "warming {} up",
    "outputs": "asking {} samples",
}
"""Phases of a measurement that are told, and how; ``{}`` is the artifact."""


class Bench:
    """The measurements of one build.

    Args:
        store: Where records are kept.
        plan: What is built.
        builder: Brings the stages up to date.
        events: Where progress is told.
        measure: When this machine measures.
        sites: Devices on which the items for their boards are measured, one after the other.
    """

    def __init__(
        self,
        store: Store,
        plan: Plan,
        builder: Builder,
        events: EventLog,
        measure: Measure,
        sites: Sequence[Site] = (),
    ) -> None:
        self._store = store
        self._plan = plan
        self._builder = builder
        self._events = events
        self._measure = measure
        self.sites = sites
        self.sessions: list[tuple[Session, tuple[Records, ...]]] = []
        """What was looked for, and what was found or made."""

    def records(self, outcome: Outcome) -> tuple[Records, ...]:
        """Return measurements of the chosen and the float artifact by name.

        Of several platforms with engines of their own, those of each, the slowest first.

        They are made now where a device was named, or where there are none and this machine may
        stand in for the board; what devices of the board showed goes before what this one did.

        Raises:
            DeviceError: The device is lost, or the run there failed.
            BuildError: The run here failed.
            StoreError: The records cannot be written.
        """
        session = self.session(outcome)
        if session is None:
            return ()
        name = _name(outcome)
        sites = [site for site in self.sites if site.board == session.board]
        for site in sites:
            told = self.told(f"{name} on {site.name}", f"measured on {site.name}")
            with told as progress:
                measure_on(self._store, session, site, progress)
        known = self._known(session)
        wanted = session.stands_in and session.bench.mode != "off" and not sites
        if wanted and (self._measure == "again" or (self._measure == "missing" and not known)):
            with self.told(name, "no measurement of these artifacts here") as progress:
                measure_session(self._store, session, progress)
            known = self._known(session)
        self.sessions.append((session, known))
        return known

    def stands(self) -> bool:
        """Whether no record that would count now is newer than those that were used."""
        return all(
            list(map(_folders, self._known(session))) == list(map(_folders, records))
            for session, records in self.sessions
        )

    def _known(self, session: Session) -> tuple[Records, ...]:
        """Return the measurements that count for a session: a board's own, else those here."""
        known = board_records(self._store, session)
        if not known and session.stands_in and session.bench.mode != "off":
            here = known_records(self._store, session)
            return () if here is None else (here,)
        return known

    @contextmanager
    def told(self, name: str, why: str) -> Iterator[Progress]:
        """Tell of a measurement: that it starts, how far it is, and how it ends."""
        begin_s = time.monotonic()
        state: Literal["ran", "failed"] = "failed"
        self._events.emit(StageStarted(node=name, why=why))

        def progress(line: Mapping[str, Any]) -> None:
            part = _PARTS.get(str(line.get("phase")))
            if part is not None:
                what = part.format(line.get("artifact", ""))
                self._events.emit(StagePart(node=name, what=what))
            elif (far := _how_far(line)) is not None:
                done, total, what = far
                self._events.emit(StageProgress(node=name, done=done, total=total, what=what))

        try:
            yield progress
            state = "ran"
        finally:
            seconds = time.monotonic() - begin_s
            self._events.emit(StageFinished(node=name, state=state, seconds=seconds, detail=why))

    def session(self, outcome: Outcome) -> Session | None:
        """Return how the chosen artifact and the float one are measured; None without any.

        Nor is there one where nothing is measured and no record looked at.
        """
        from edgedeploy.bench.host import host_facts

        item, chosen, baseline = outcome.item, outcome.chosen, outcome.baseline
        if self._measure == "off" or chosen is None or chosen.nodes is None:
            return None
        wanted = [chosen] if chosen.kind == FLOAT else [baseline, chosen]
        shared = item.shared
        samples, folder = self._builder.folder(shared.evaluate.output("samples"))
        _, answers = self._builder.folder(shared.reference.output("outputs"))
        _, score = self._builder.folder(shared.reference.output("score"))
        _, facts = self._builder.folder(shared.intake.output("facts"))
        summary = self._builder.build(shared.normal).summary
        about = json.loads((facts / "facts.json").read_text(encoding="utf-8"))
        return Session(
            app=self._plan.profile.name,
            model=shared.name,
            target=item.use.target,
            runtime=item.target.runtime,
            version=_version(item),
            artifacts=tuple(
                self._measured(item, trial, trial.nodes)
                for trial in wanted
                if trial and trial.compiled and trial.nodes
            ),
            samples=folder,
            samples_digest=samples.digest,
            signature=Signature.from_json(summary["signature"]),
            state=tuple((pair.input, pair.output) for pair in shared.model.state),
            bench=item.use.bench,
            options=_options(item, chosen.nodes),
            arch=str(item.target.get("board.arch")),
            system=str(item.target.get("board.os")),
            os_version=item.target.get("board.os_version"),
            stands_in=is_this_machine(item.target),
            device=host_facts(),
            reference=Reference(
                outputs=answers,
                score=score,
                metric=shared.model.metric,
                metadata=about["metadata"],
                folder=self._plan.profile.folder.absolute(),
                decode=shared.model.decode,
                classes=read_classes(None if shared.classes is None else shared.classes.path),
            ),
        )

    def _measured(self, item: Item, trial: Trial, nodes: CandidateNodes) -> Measured:
        tree, folder = self._builder.folder(nodes.compiled.output("artifact"))
        record = self._builder.build(nodes.compiled)
        engines = engines_of(record)
        part = loaded_part(record, item.target)
        return Measured(
            name=FLOAT if trial.kind == FLOAT else trial.name,
            tree=tree,
            folder=folder,
            entry=part.entry,
            loaded=part.loaded,
            needs=part.needs,
            parts={name: loaded_part(record, item.target, name) for name in engines},
            engines=engines,
        )


def _version(item: Item) -> str:
    """Return the version of an item's runtime here; empty where only devices have it."""
    if FAMILIES[item.target.runtime].on_device:
        return ""
    return tool_version(str(item.target.get("runtime.distribution")))


def _name(outcome: Outcome) -> str:
    """Return what a measurement is called, in the manner of the stages before it."""
    nodes = outcome.chosen.nodes if outcome.chosen else None
    stage = nodes.compiled.id.rpartition(".")[0] if nodes else outcome.item.name
    return f"{stage}.bench"


def _how_far(line: Mapping[str, Any]) -> tuple[int, int, str] | None:
    """Return how much is done of how much of what, by a line of progress that says so.

    A plan asks for least seconds and a least number of inferences; what is farther off counts.
    """
    if line.get("event") == "outputs":
        return int(line.get("done", 0)), 0, "samples answered"
    done, total = float(line.get("done_s", 0)), float(line.get("of_s", 0))
    count, least = int(line.get("n", 0)), int(line.get("of_n", 0))
    if not total:
        return None
    if count * total < done * least:
        return count, least, "inferences measured"
    return int(done), int(total), "s measured"


def _options(item: Item, nodes: CandidateNodes) -> Mapping[str, Any]:
    """Return the options of the runtime that measures: those of the family, and the processor."""
    options = dict(FAMILIES[item.target.runtime].bench_options)
    if item.target.runtime == "coreml":
        options["compute_units"] = item.use.bench.compute_units
    given = nodes.compiled.params["options"].get("device")
    device = str(given or item.target.get("board.processor")).upper()
    # What runs on the CPU says nothing of a GPU or an NPU.
    return options if device == "CPU" else {**options, "device": device}


def _folders(records: Records) -> dict[str, str]:
    """Return where the records lie, by artifact name."""
    return {name: str(record["folder"]) for name, record in records.items()}
