"""One build: screen the candidates, measure where this machine may judge, publish, lock."""

from __future__ import annotations

import concurrent.futures
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgedeploy import choosing
from edgedeploy.artifact import Tree
from edgedeploy.choosing import Chooser, Outcome, Trial
from edgedeploy.combining import Combination, combine, float_pipeline
from edgedeploy.disk import disk_errors
from edgedeploy.engines import (
    Workshop,
    is_built_on_device,
    program_of,
    with_engines,
)
from edgedeploy.errors import (
    BuildError,
    DeviceError,
    Diagnostic,
    EdgedeployError,
    ExitCode,
    ModelError,
    combined_exit_code,
)
from edgedeploy.events import EventLog, StageFinished
from edgedeploy.executor import Builder
from edgedeploy.lockfile import Lock
from edgedeploy.manifest import digest, sweep_parts, write_atomic
from edgedeploy.measuring import FLOAT, Measure, Records, Site
from edgedeploy.memory import Memory
from edgedeploy.needed import further, searched
from edgedeploy.node import Node
from edgedeploy.parity.evaluation import Evaluation
from edgedeploy.pipelinesites import PipelineSites
from edgedeploy.plan import Item, Plan
from edgedeploy.profile.expand import expand
from edgedeploy.publish import is_published, publish, sweep
from edgedeploy.sessions import Bench
from edgedeploy.store import Store
from edgedeploy.target.host import is_this_machine
from edgedeploy.worker.launch import Stopped

TABLES = "calibration"
"""Folder of calibration tables in the build folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """How a build runs; nothing here changes a result.

    Attributes:
        output: Folder for results.
        store: Store folder; None takes the user's.
        jobs: Workers at once; None is one per core.
        locked: Insist on edgedeploy.lock.
        fail_fast: Start nothing new after the first failure.
        measure: ``missing`` measures where ``bench:`` asks for it and no record exists, ``again``
            always; ``known`` uses records only, ``off`` not even those.
        sensitivity: Look at how every layer takes to 8 bits, also where the choice needs no such
            look.
        runs: False runs no stage: what is not in the store up to date fails (E438).
    """

    output: Path = Path("build")
    store: Path | None = None
    jobs: int | None = None
    locked: bool = False
    fail_fast: bool = False
    measure: Measure = "missing"
    sensitivity: bool = False
    runs: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """What a build came to.

    Attributes:
        plan: What was asked for.
        outcomes: One per item of the plan, in its order.
        folder: Where the results lie.
        references: Worth of the float model, by model name (with its variant).
        combinations: What the models of each target are worth together, where there is a pipeline.
        float_pipeline: What the pipeline is worth with the float models; None without one.
        signatures: Inputs and outputs of the normal form, by model name (with its variant).
        states: How each stage ended, by node id.
        lock: What this build used and made.
        keeps_lock: Whether it stands in the lock file.
        notes: What the user should know.
    """

    plan: Plan
    outcomes: tuple[Outcome, ...]
    folder: Path
    references: Mapping[str, Any]
    signatures: Mapping[str, Any]
    states: Mapping[str, StageFinished]
    lock: Lock
    keeps_lock: bool
    notes: tuple[Diagnostic, ...] = ()
    combinations: tuple[Combination, ...] = ()
    float_pipeline: Evaluation | None = None

    def nodes(self) -> Iterator[Node]:
        """Yield every node of the plan, and those that the build found it needs."""
        return self.plan.nodes(further(self.outcomes, combinations=self.combinations))

    @property
    def unmeasured(self) -> tuple[Diagnostic, ...]:
        """Why devices that should have measured did not, each reason once."""
        each = [out.unmeasured for out in self.outcomes]
        each += [found.unmeasured for found in self.combinations]
        return tuple(dict.fromkeys(item for found in each for item in found))

    @property
    def exit_code(self) -> ExitCode:
        """The process exit status that the outcomes deserve."""
        codes = []
        for combination in self.combinations:
            refused = combination.state == "refused"
            codes.append(ExitCode.REFUSED if refused else combination.exit_code)
            if combination.unmeasured:
                codes.append(ExitCode.DEVICE)
        for outcome in self.outcomes:
            if outcome.unmeasured:
                codes.append(ExitCode.DEVICE)
            if outcome.state == "refused":
                codes.append(ExitCode.REFUSED)
            elif outcome.state == "failed":
                codes += [trial.exit_code for trial in outcome.trials if trial.exit_code]
        return combined_exit_code(codes)


class BuildRun:
    """The state of one running build.

    Args:
        store: The store.
        plan: What to build.
        options: How.
        events: Where progress is told.
        memory: What the last build knew.
        lock: The lock to follow, under ``--locked``.
        sites: Devices on which the items for their boards are measured, one after the other.
        workshop: Devices that build engines; None where there are none.
    """

    def __init__(
        self,
        store: Store,
        plan: Plan,
        options: BuildOptions,
        events: EventLog,
        memory: Memory,
        lock: Lock | None,
        sites: Sequence[Site] = (),
        workshop: Workshop | None = None,
    ) -> None:
        self._store = store
        self._plan = plan
        self._options = options
        self._events = events
        self._lock = lock
        self._gave_up = False
        self._workshop = workshop
        jobs = options.jobs or os.cpu_count() or 1
        self._pool = concurrent.futures.ThreadPoolExecutor(jobs)
        self.builder = Builder(
            store,
            plan.profile.folder.absolute(),
            workers=self._pool,
            events=events,
            known=memory.components,
            runs=options.runs,
            elsewhere={"engine": workshop.make} if workshop is not None else {},
        )
        # Published calibration tables, with their digests.
        self._tables: dict[Path, str] = {}
        self.bench = Bench(store, plan, self.builder, events, options.measure, sites)
        self._choosers: dict[str, Chooser] = {}
        self.notes: list[Diagnostic] = []
        self.sites = PipelineSites(store, self.builder, plan.pipeline, self.bench)
        self.combinations: tuple[Combination, ...] = ()
        """What the models of each target are worth together; :meth:`build` fills it."""

    @property
    def reads(self) -> tuple[Path, ...]:
        """Files and folders that say which devices build engines."""
        return tuple(self._workshop.reads) if self._workshop else ()

    def close(self) -> None:
        """End every worker that still runs."""
        self.builder.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def known(self) -> dict[str, Mapping[str, Any]]:
        """Return the key components of every stage that is up to date, by node id."""
        states = self.builder.states
        return {
            name: components
            for name, components in self.builder.components.items()
            if name in states and states[name].state != "failed"
        }

    def build(self) -> tuple[Outcome, ...]:
        """Return the outcome of every item, artifacts published.

        Raises:
            Stopped: The run was interrupted.
        """
        outcomes = _in_threads(self._screen, self._plan.items, self.builder.stop)
        outcomes = [self._settle(outcome) for outcome in outcomes]
        if self._plan.pipeline is not None:
            again = None if self._lock else self._again
            outcomes, self.combinations = combine(
                self.builder, self._plan, self._plan.pipeline, outcomes, again
            )
            self.combinations = self.sites.judged(self.combinations, outcomes)
        return tuple(map(self._surveyed, outcomes))

    def _again(self, outcome: Outcome, also: Callable[[Trial], Trial]) -> Outcome:
        """Search an item's candidates once more, with what holds an accepted one besides."""
        chooser = Chooser(self.builder, outcome.item, None, also)
        self._choosers[outcome.item.name] = chooser
        more = chooser.screen()
        kept = replace(more, baseline=outcome.baseline, unmeasured=outcome.unmeasured)
        return self._settle(kept) if more.chosen is not None else kept

    def float_pipeline(self) -> Evaluation | None:
        """Return what the pipeline is worth with the float models, where it could be run."""
        pipeline = self._plan.pipeline
        if pipeline is None or self.builder.hit(pipeline.scored) is None:
            return None
        return float_pipeline(self.builder, pipeline)

    # -- choosing --------------------------------------------------------------------------

    def _screen(self, item: Item) -> Outcome:
        """Choose for one item; a failure is its outcome, and stops the others if so asked."""
        try:
            outcome = self._screened(item)
        except EdgedeployError as error:
            outcome = choosing.failed(item, error)
        except Stopped:
            if not self._gave_up:
                raise
            skipped = BuildError(
                "not built: something else failed first, and --fail-fast was given",
                code="E389",
                subject=item.name,
                hint="build without --fail-fast to see everything that fails",
            )
            return choosing.failed(item, skipped)
        if outcome.chosen is None and self._options.fail_fast:
            self._gave_up = True
            self.builder.stop()
        return outcome

    def _screened(self, item: Item) -> Outcome:
        """Choose by the gates that need no measurement; build the float artifact beside it.

        Nothing is made for a model whose preprocessing seems to be declared wrong.
        Where devices build the artifacts, they do so now: those of several items at once.
        """
        if item.shared.preprocessing is not None:
            self.builder.build(item.shared.preprocessing)
        chooser = Chooser(self.builder, item, choosing.locked_candidate(item, self._lock))
        self._choosers[item.name] = chooser
        outcome = chooser.screen()
        if outcome.chosen is None:
            return outcome
        baseline = (
            outcome.chosen
            if outcome.chosen.kind == FLOAT
            else choosing.float_trial(self.builder, item)
        )
        outcome = replace(outcome, baseline=baseline)
        return self._engined(outcome) if is_built_on_device(item) else outcome

    def _settle(self, outcome: Outcome) -> Outcome:
        """Measure the chosen artifact where that may be, and judge all gates.

        A candidate that the measurement refuses is passed over like any other.
        """
        item = outcome.item
        here = is_this_machine(item.target)
        while (chosen := outcome.chosen) is not None and chosen.state == "accepted":
            if is_built_on_device(item):
                outcome = self._engined(outcome)
                chosen = outcome.chosen
                if chosen is None or chosen.state != "accepted":
                    break
            each: tuple[Records, ...] = ()
            unmeasured = outcome.unmeasured
            try:
                each = self.bench.records(outcome)
            except DeviceError as error:
                unmeasured = error.diagnostics
            reference = choosing.reference_evaluation(self.builder, item)
            chosen = choosing.judged(item, chosen, reference, each, board_is_host=here)
            trials = tuple(
                chosen if trial.name == chosen.name else trial for trial in outcome.trials
            )
            outcome = replace(
                outcome,
                chosen=chosen,
                trials=trials,
                records=each[0] if each else {},
                unmeasured=unmeasured,
            )
            if chosen.state == "accepted":
                break
            chooser = self._choosers[item.name]
            chooser.measured(chosen)
            more = chooser.screen()
            if more.chosen is None or more.chosen.name == chosen.name:
                break
            outcome = replace(more, baseline=outcome.baseline, unmeasured=outcome.unmeasured)
        return outcome

    def _engined(self, outcome: Outcome) -> Outcome:
        """Return the outcome with engines for the chosen and the float program.

        A program that TensorRT refuses has failed, and the next candidate gets its turn.
        """
        item, chooser = outcome.item, self._choosers[outcome.item.name]
        while outcome.chosen is not None and outcome.chosen.state == "accepted":
            chosen = outcome.chosen
            try:
                made = with_engines(self.builder, item, chosen, self._workshop)
            except DeviceError as error:
                failed = choosing.failed_trial(chosen, error)
                trials = tuple(failed if trial is chosen else trial for trial in outcome.trials)
                return replace(outcome, chosen=None, trials=trials)
            except BuildError as error:
                chooser.measured(choosing.failed_trial(chosen, error))
                outcome = replace(chooser.screen(), baseline=outcome.baseline)
                continue
            return replace(
                outcome,
                chosen=made,
                trials=tuple(made if trial is chosen else trial for trial in outcome.trials),
                baseline=made if chosen.kind == FLOAT else self._float_engine(outcome),
            )
        return outcome

    def _float_engine(self, outcome: Outcome) -> Trial | None:
        """Return the float trial with engines; one that fails is there to be told of, no more."""
        baseline = outcome.baseline
        if baseline is None or baseline.compiled is None:
            return baseline
        try:
            return with_engines(self.builder, outcome.item, baseline, self._workshop)
        except (BuildError, DeviceError) as error:
            return choosing.failed_trial(baseline, error)

    def _surveyed(self, outcome: Outcome) -> Outcome:
        """Add the sensitivity of the layers where it is asked for; why there is none is a note."""
        node = outcome.item.effects
        if not self._options.sensitivity or outcome.state == "failed":
            return outcome
        if node is None:
            self.notes.append(_no_survey(outcome.item))
            return outcome
        try:
            return replace(outcome, survey=choosing.survey(self.builder, node))
        except (BuildError, ModelError) as error:  # what was built is worth no less for it
            self.notes += [replace(item, severity="warning") for item in error.diagnostics]
            return outcome

    # -- results ---------------------------------------------------------------------------

    def publish(self, outcome: Outcome) -> bool:
        """Copy the chosen artifact to the build folder; return False if it was there already."""
        nodes = outcome.chosen.nodes if outcome.chosen else None
        if nodes is None:
            return False
        place = self._place(outcome.item)
        sweep(place.parent)
        tree, folder = self.builder.folder(nodes.compiled.output("artifact"))
        if is_published(tree, place, self._store.file_digests):
            return False
        publish(tree, folder, place)
        return True

    def publish_tables(self) -> None:
        """Write the calibration tables that were used to ``calibration/`` in the build folder.

        Raises:
            StoreError: The disk refuses (E601, E602); the old file stays.
        """
        folder = self._options.output / self._plan.profile.name / TABLES
        sweep_parts(folder)
        for shared in {item.shared.name: item.shared for item in self._plan.items}.values():
            if shared.table is None or self.builder.hit(shared.table) is None:
                continue
            tree, kept = self.builder.folder(shared.table.output("table"))
            place = folder / f"{shared.name}.json"
            self._tables[place] = tree.file("table.json").sha256
            if self._tables_stand([place]):
                continue
            with disk_errors("cannot write the build folder"):
                folder.mkdir(parents=True, exist_ok=True)
                write_atomic(place, (kept / "table.json").read_bytes())

    def _place(self, item: Item) -> Path:
        return self._options.output / self._plan.profile.name / item.shared.name / item.use.target

    def stands(self, outcomes: Iterable[Outcome]) -> bool:
        """Whether artifacts and tables lie where they were published and no record is newer."""
        if not self._tables_stand(self._tables):
            return False
        for outcome in outcomes:
            tree = outcome.chosen.artifact if outcome.chosen else None
            place = self._place(outcome.item)
            if tree is not None and not is_published(tree, place, self._store.file_digests):
                return False
        return self.bench.stands() and self.sites.stands()

    def _tables_stand(self, places: Iterable[Path]) -> bool:
        try:
            found = self._store.file_digests(sorted(places))
        except OSError:
            return False
        return all(self._tables[place] == sha256 for place, sha256 in found.items())

    def placed(self, outcome: Outcome) -> Outcome:
        """Return the outcome with what became of the chosen model's nodes, in the runtime too."""
        nodes = outcome.chosen.nodes if outcome.chosen else None
        if nodes is None:
            return outcome
        _, compiled = self.builder.folder(nodes.compiled.output("report"))
        _, evaluated = self.builder.folder(nodes.evaluated.output("evaluation"))
        # An engine tells what it computes on integers; its program only states it.
        told = compiled / "arithmetic.json"
        counted = told if told.exists() else evaluated / "arithmetic.json"
        maker = nodes.typed.node
        made = maker.kind in ("quantize", "half")
        summary = self.builder.build(maker).summary if made else {}
        return replace(
            outcome,
            placement=json.loads((compiled / "placement.json").read_text(encoding="utf-8")),
            arithmetic=json.loads(counted.read_text(encoding="utf-8")),
            wider=tuple(summary.get("wider", ())),
            notes=(
                *summary.get("notes", ()),
                *self.builder.build(nodes.compiled).summary["notes"],
            ),
            half=summary if maker.kind == "half" else {},
        )

    def lock(self, outcomes: tuple[Outcome, ...]) -> Lock:
        """Return what this build used and made."""
        tools: dict[str, str] = {}
        models: dict[str, str] = {}
        data: dict[str, str] = {}
        for node_id, components in self.builder.components.items():
            tools.update(components["tools"])
            kind = components["kind"]
            if kind == "intake":
                models[node_id.rpartition(".")[0]] = components["inputs"]["model"]
        for item in self._plan.items:
            kept = None if item.shared.calibrate else item.shared.table
            for node in (item.shared.calibrate, item.shared.evaluate, kept):
                if node is not None and self.builder.hit(node) is not None:
                    (output,) = {"samples", "table"} & set(self.builder.build(node).outputs)
                    data[node.id] = self.builder.build(node).outputs[output].digest
        pipeline = self._plan.pipeline
        for node in (*pipeline.data.values(), *pipeline.traces.values()) if pipeline else ():
            if self.builder.hit(node) is not None:
                (output,) = {"samples", "outputs"} & set(self.builder.build(node).outputs)
                data[node.id] = self.builder.build(node).outputs[output].digest
        done = [outcome for outcome in outcomes if outcome.chosen is not None]
        return Lock(
            expanded=digest("expanded", expand(self._plan.profile, self._plan.targets)),
            tools=tools,
            models=models,
            data=data,
            chosen={item.item.name: item.chosen.name for item in done if item.chosen},
            schemes={
                outcome.item.name: nodes.candidate.scheme.to_json()
                for outcome in done
                for nodes in searched([outcome])
                if outcome.chosen and outcome.chosen.nodes is nodes and nodes.candidate.scheme
            },
            artifacts={
                outcome.item.name: {file.path: file.sha256 for file in tree.files}
                for outcome in done
                if (tree := self._reproducible(outcome)) is not None
            },
            engines={
                outcome.item.name: {
                    name: outcome.chosen.artifact.file(engine["entry"]).sha256
                    for name, engine in outcome.chosen.compiled.summary["engines"].items()
                }
                for outcome in done
                if outcome.chosen and outcome.chosen.compiled and outcome.chosen.artifact
                if "engines" in outcome.chosen.compiled.summary
            },
        )

    def _reproducible(self, outcome: Outcome) -> Tree | None:
        """Return the files that the same inputs give again: of engines, their program."""
        nodes = outcome.chosen.nodes if outcome.chosen else None
        if nodes is None or program_of(nodes.compiled) is nodes.compiled:
            return outcome.chosen.artifact if outcome.chosen else None
        return self.builder.build(program_of(nodes.compiled)).outputs["artifact"]

    def signatures(self) -> dict[str, Any]:
        """Return inputs and outputs of the normal form by model name."""
        found = {}
        for item in self._plan.items:
            record = self.builder.hit(item.shared.normal)
            if record is not None:
                found[item.shared.name] = record.summary["signature"]
        return found

    def references(self) -> dict[str, Any]:
        """Return the worth of the float model by model name, for those that could be run."""
        found = {}
        for item in self._plan.items:
            if self.builder.hit(item.shared.reference) is not None:
                found[item.shared.name] = choosing.reference_evaluation(self.builder, item)
        return found


def _no_survey(item: Item) -> Diagnostic:
    return Diagnostic(
        code="E372",
        message=f"nothing tells the sensitivity of the layers of {item.name}",
        severity="warning",
        subject=item.name,
        hint="give `data: calibrate` samples, and a `quantize:` that may be `w8a8`",
    )


def _in_threads(
    work: Callable[[Item], Outcome], items: tuple[Item, ...], stop: Callable[[], None]
) -> list[Outcome]:
    """Call ``work`` on all items at once; the workers' pool bounds what really runs.

    An interruption calls ``stop`` and waits for the work to end: a thread that is cut off at the
    end of the process would leave its lock file. A second one does not wait.
    """
    results: dict[int, Outcome | BaseException] = {}

    def one(position: int, item: Item) -> None:
        try:
            results[position] = work(item)
        except BaseException as error:  # noqa: BLE001 - raised again below, in the main thread
            results[position] = error

    threads = [threading.Thread(target=one, args=pair, daemon=True) for pair in enumerate(items)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException:
        stop()
        for thread in threads:
            thread.join()
        raise
    found = []
    for position in range(len(items)):
        result = results[position]
        if isinstance(result, BaseException):
            raise result
        found.append(result)
    return found
