"""Which version belongs on a device: what was built and accepted for its board, and nothing else.

The build document says what the last build published. Its choice is made once more from the store
without running anything; if that is not what the document says, something changed since, and the
profile has to be built first.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedeploy.artifact import FileEntry, Tree
from edgedeploy.building import BuildOptions, BuildRun
from edgedeploy.choosing import Outcome
from edgedeploy.combining import Combination
from edgedeploy.decode import Decoder, make_decoder
from edgedeploy.deploy.functionfiles import function_files
from edgedeploy.deploy.golden import Golden, golden_trees
from edgedeploy.deploy.gpu import choose_engine
from edgedeploy.deploy.push import Contents
from edgedeploy.devices.version import Version, VersionGolden, VersionModel, check_files
from edgedeploy.errors import (
    BuildError,
    EdgedeployError,
    IntegrityError,
    ProfileError,
    RefusedError,
    UsageError,
)
from edgedeploy.events import EventLog, Note
from edgedeploy.executor import Builder
from edgedeploy.loading import engines_of, loaded_part
from edgedeploy.lockfile import Lock
from edgedeploy.measuring import Session
from edgedeploy.memory import Memory
from edgedeploy.opening import Request, open_profile
from edgedeploy.places import DOCUMENT
from edgedeploy.plan import CandidateNodes, Item, Plan
from edgedeploy.profile.classes import read_classes
from edgedeploy.report.document import (
    BuildDocument,
    ModelReport,
    TargetReport,
    read_document,
)
from edgedeploy.report.platforms import known_platforms
from edgedeploy.store import ActionRecord, Store

if TYPE_CHECKING:
    from edgedeploy.devices.gpu_survey import GpuSurvey

FILES = "files"
"""Folder of a version that holds the profile's `files:`."""

GOLDEN = "golden"
"""Folder of a version that holds the golden samples, one folder per model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForRelease:
    """What is different where versions go into a release, which anybody may get to see.

    Golden inputs are random unless the profile lists real ones, and an engine that something else
    than a GPU made is refused.

    Attributes:
        unaccepted: Take what a gate refused as well.
    """

    unaccepted: bool = False


class Built:
    """A profile as it was last built.

    Args:
        request: Which profile, with the options that it was built with.
        output: Folder for results that the build was given.
        store: The store that it was built with.
        events: Where progress is told.
        released: Given where the contents go into a release.

    Raises:
        ProfileError: The profile is refused.
        BuildError: There is no build of it (E438).
    """

    def __init__(
        self,
        request: Request,
        output: Path,
        store: Store,
        events: EventLog,
        released: ForRelease | None = None,
    ) -> None:
        self._request = request
        self._output = output
        self._store = store
        self._events = events
        self._released = released
        self._memory = Memory.of(store, request.profile)
        self._plan, _ = open_profile(request, self._memory)
        self._document = _document(output / self._plan.profile.name, self._plan)
        self._chosen: dict[str, tuple[Outcome, ...]] = {}
        self._known: dict[tuple[str, ...], Contents] = {}
        self._mutex = threading.Lock()  # the threads of a fleet ask for the same

    @property
    def app(self) -> str:
        """Name of the application: the profile's."""
        return self._plan.profile.name

    @property
    def plan(self) -> Plan:
        """What the profile asks for."""
        return self._plan

    @property
    def document(self) -> BuildDocument:
        """What the last build said."""
        return self._document

    def report(self, item: Item) -> tuple[ModelReport, TargetReport]:
        """Return what the last build said of an item's model, and of it on its target.

        Raises:
            BuildError: The last build was of other targets (E438).
        """
        found = _report(self._document, item)
        if found is None:
            raise _stale(item, "the last build was of other targets")
        return found

    def combined(self, target: str) -> TargetReport:
        """Return what the last build said of the models of a target together.

        Raises:
            BuildError: The last build was of other targets (E438).
        """
        pipeline = self._document.pipeline
        for report in pipeline.targets if pipeline else ():
            if report.target == target:
                return report
        raise _stale(f"pipeline -> {target}", "the last build was of other targets")

    def function_files(self) -> list[str]:
        """Return the files that the profile's pipeline needs, relative to the profile's folder.

        Raises:
            ProfileError: The function's file lies outside of that folder (E442).
            EdgedeployError: A trace is no longer stored, had to run again and failed.
        """
        if self._plan.pipeline is None:
            return []
        with self._builder() as builder:
            return function_files(builder, self._plan.pipeline)

    def decoder(self, item: Item) -> Decoder | None:
        """Return what reads the outputs of an item's model; None where the profile names nothing.

        Raises:
            BuildError: The last build was of other targets (E438).
            DataError: It cannot be made (E874, E875, E877).
        """
        spec = item.shared.model.decode
        if spec is None:
            return None
        about, _ = self.report(item)
        with self._builder() as builder:
            _, facts = builder.folder(item.shared.intake.output("facts"))
        known = json.loads((facts / "facts.json").read_text(encoding="utf-8"))
        classes = item.shared.classes
        return make_decoder(
            spec,
            outputs=[output["name"] for output in about.signature["outputs"]],
            metadata=known["metadata"],
            classes=read_classes(None if classes is None else classes.path),
        )

    def refusals(self) -> Iterator[str]:
        """Yield in words what gates of the last build refused, item by item."""
        for report in self._document.pipeline.targets if self._document.pipeline else ():
            for gate in report.gates:
                if gate.state == "refused":
                    yield f"pipeline -> {report.target}: {gate.gate} (limit {gate.limit})"
        for item in self._plan.items:
            for gate in self.report(item)[1].gates:
                if gate.state == "refused":
                    yield f"{item.name}: {gate.gate} (limit {gate.limit})"

    def lock(self) -> Lock:
        """Return what the last build used and made, from the store alone.

        Raises:
            BuildError: It is not built, or not as the profile now says (E438).
        """
        run = self._run(self._plan)
        try:
            return run.lock(run.build())
        finally:
            run.close()

    def outcomes(self, targets: Collection[str]) -> tuple[Outcome, ...]:
        """Return what the last build chose for targets, what a gate refused as well.

        They are in the order of the plan; items that failed in that build are not among them.

        Raises:
            BuildError: It is not built, or not as the profile now says (E438).
        """
        items = tuple(
            item
            for item in self._plan.items
            if item.use.target in targets and self.report(item)[1].verdict != "failed"
        )
        run = self._run(replace(self._plan, items=items))
        try:
            found = run.build()
        finally:
            run.close()
        for outcome in found:
            self._check_built(outcome)
        return found

    def session(self, model: str, target: str) -> Session:
        """Return how the artifact is measured that the last build chose, a refused one as well.

        Raises:
            BuildError: It is not built, or not as the profile now says (E438).
        """
        items = tuple(
            item
            for item in self._plan.items
            if (item.shared.name, item.use.target) == (model, target)
        )
        run = self._run(replace(self._plan, items=items))
        try:
            for outcome in run.build():
                self._check_built(outcome)
        finally:
            run.close()
        session, _ = run.bench.sessions[-1]
        return session

    def target(self, board: str | None, device: str) -> str:
        """Return the target that was built for a board.

        Args:
            board: The device's, from the inventory.
            device: Its name, for the message.

        Raises:
            UsageError: The device says no board, or the profile has none or several targets for it
                (E440, E441).
        """
        names = tuple(dict.fromkeys(item.use.target for item in self._plan.items))
        fitting = [name for name in names if name.partition("/")[0] == board]
        if len(fitting) == 1:
            return fitting[0]
        if board is None:
            boards = sorted({name.partition("/")[0] for name in names})
            raise UsageError(
                f"devices.yaml does not say which board {device} is",
                code="E441",
                subject=device,
                hint=f"add `board:` to it; {self.app} is built for {', '.join(boards)}",
            )
        if not fitting:
            raise UsageError(
                f"{self.app} has no target for {device}, which is a {board}",
                code="E441",
                subject=device,
                hint=f"add one to the profile and build; it has {', '.join(names)}",
            )
        raise UsageError(
            f"{self.app} has several targets for {board}: {', '.join(fitting)}",
            code="E440",
            subject=device,
            hint="choose one with -t",
        )

    def contents(self, target: str, gpu: GpuSurvey | None = None) -> Contents:
        """Return the version for a target, with its files here.

        Args:
            target: One of the profile's.
            gpu: What the device has that the version is for, where the target's runtime loads
                engines: of those of an artifact a device gets its own. None takes the first.

        Raises:
            DeviceError: The device loads none of the engines (E487).
            BuildError: It is not built, or not as the profile now says (E438).
            RefusedError: A gate refused one of its artifacts (E439).
            ProfileError: A file of `files:` is missing or cannot be taken along (E442).
            EdgedeployError: The golden samples could not be made.
        """
        with self._mutex:
            return self._found(target, gpu)

    def engines(self, item: Item) -> Mapping[str, Any]:
        """Return what devices made of an item's program, by the id of their platform.

        Empty where it is none. See the stage ``engines`` for what each says.

        Raises:
            BuildError, RefusedError: As :meth:`contents`.
        """
        with self._mutex:
            for outcome in self._choice(item.use.target):
                if outcome.item.name == item.name:
                    return engines_of(outcome.chosen.compiled if outcome.chosen else None)
        return {}

    def _found(self, target: str, gpu: GpuSurvey | None) -> Contents:
        whole = self._released is not None  # a release holds the engines of all platforms
        engines = tuple(
            "" if whole or not made else choose_engine(outcome.item.name, made, gpu)
            for outcome in self._choice(target)
            for made in [engines_of(outcome.chosen.compiled if outcome.chosen else None)]
        )
        key = (target, *engines)
        if key not in self._known:
            self._known[key] = self._contents(target, engines)
        return self._known[key]

    def _choice(self, target: str) -> tuple[Outcome, ...]:
        if target not in self._chosen:
            items = tuple(item for item in self._plan.items if item.use.target == target)
            self._chosen[target] = self._outcomes(replace(self._plan, items=items))
        return self._chosen[target]

    def _contents(self, target: str, engines: Sequence[str]) -> Contents:
        taken = _Files()
        models = []
        with self._builder() as builder:
            for outcome, engine in zip(self._chosen[target], engines, strict=True):
                models.append(self._model(builder, outcome, engine, taken))
        for path, place in _profile_files(self._plan, self.function_files()):
            taken.add_file(f"{FILES}/{path}", place, self._store)
        version = Version(
            app=self.app,
            board=target.partition("/")[0],
            models=tuple(models),
            files=taken.sorted(),
        )
        return Contents(version=version, places=taken.places)

    def _builder(self) -> Builder:
        """Return what brings stages up to date; used as a context."""
        return Builder(self._store, self._plan.profile.folder.absolute(), events=self._events)

    def _outcomes(self, plan: Plan) -> tuple[Outcome, ...]:
        """Return what the last build chose, from the store alone.

        Raises:
            BuildError, RefusedError: As :meth:`contents`.
        """
        run = self._run(plan)
        try:
            outcomes = run.build()
        finally:
            run.close()
        for outcome in outcomes:
            self._check(outcome)
        for combination in run.combinations:
            self._check_combined(combination)
        return outcomes

    def _run(self, plan: Plan) -> BuildRun:
        options = BuildOptions(output=self._output, measure="known", runs=False)
        made_by = known_platforms(self._document)
        return BuildRun(
            self._store, plan, options, EventLog(), self._memory, None, workshop=made_by
        )

    def _check_built(self, outcome: Outcome) -> TargetReport:
        _, report = self.report(outcome.item)
        if report.verdict == "failed":
            raise _stale(outcome.item, "it failed in the last build")
        artifact = outcome.chosen.artifact if outcome.chosen else None
        if artifact is None or artifact.digest != report.artifact:
            missed = [trial.reason for trial in outcome.trials if _not_built(trial.diagnostics)]
            raise _stale(outcome.item, (missed or ["its artifact is another now"])[0])
        return report

    def _check(self, outcome: Outcome) -> None:
        report = self._check_built(outcome)
        allowed = self._released is not None and self._released.unaccepted
        if (report.verdict == "refused" or outcome.state != "accepted") and not allowed:
            raise RefusedError(
                f"{outcome.item.name} was refused by a gate and is not taken",
                code="E439",
                subject=outcome.item.name,
                hint="see `edgedeploy accept`; change the model or, if it is wrong, the gate",
            )

    def _check_combined(self, found: Combination) -> None:
        name = f"pipeline -> {found.use.target}"
        if found.state == "failed":
            raise _stale(name, found.reason)
        if found.state == "refused" and not (self._released and self._released.unaccepted):
            raise RefusedError(
                f"{name} was refused by a gate, and its models are not taken",
                code="E439",
                subject=name,
                hint="see `edgedeploy accept`; the report says which model loses how much",
            )

    def _model(
        self, builder: Builder, outcome: Outcome, engine: str, taken: _Files
    ) -> VersionModel:
        """Take a model's files and return what the manifest says of it.

        Args:
            builder: Brings the stages up to date.
            outcome: What became of the model.
            engine: Id of the platform whose engine is taken; empty where there are none, and for
                all of them.
            taken: Where the files go.
        """
        item, chosen = outcome.item, outcome.chosen
        nodes = chosen.nodes if chosen else None
        if chosen is None or nodes is None:  # _check() has seen to it
            raise _stale(item, "it has no artifact")
        name = item.shared.name
        if name in (FILES, GOLDEN):
            raise ProfileError(
                f"a model that is pushed cannot be called {name!r}",
                code="E442",
                subject=name,
                hint="give it another name in the profile",
                place=item.use.place,
            )
        record = builder.build(nodes.compiled)
        if self._released is not None:
            _check_engines(item, record)
        tree, folder = builder.folder(nodes.compiled.output("artifact"))
        part = loaded_part(record, item.target, engine)
        loaded = set(part.loaded)
        travels = Tree(files=tuple(file for file in tree.files if file.path in loaded))
        taken.add_tree(name, travels, folder)
        return VersionModel(
            name=name,
            target=item.use.target,
            runtime=item.target.runtime,
            entry=f"{name}/{part.entry}",
            # Another platform's engine beside it makes no other version of this device's.
            artifact=travels.digest if engine else tree.digest,
            candidate=chosen.name,
            options=nodes.compiled.params["options"],
            golden=self._golden(builder, item, nodes, taken),
            needs=part.needs,
        )

    def _golden(
        self, builder: Builder, item: Item, nodes: CandidateNodes, taken: _Files
    ) -> VersionGolden | None:
        synthetic = self._released is not None and self._plan.profile.release.golden == "synthetic"
        found, why = golden_trees(builder, item, nodes, synthetic=synthetic)
        if found is None:
            self._events.emit(Note(text=f"{item.name}: no golden samples travel: {why}"))
            return None
        return _take_golden(found, item.shared.name, taken)


class _Files:
    """The files of a version and where they lie here."""

    def __init__(self) -> None:
        self._entries: list[FileEntry] = []
        self.places: dict[str, Path] = {}

    def add_tree(self, prefix: str, tree: Tree, folder: Path) -> None:
        """Take the files of a checked tree."""
        for file in tree.files:
            self._entries.append(replace(file, path=f"{prefix}/{file.path}"))
            self.places[file.sha256] = folder / file.path

    def add_file(self, path: str, place: Path, store: Store) -> None:
        """Take a file of the user's."""
        try:
            sha256 = store.file_digests([place])[place]
            size = place.stat().st_size
        except OSError as error:
            raise _bad_file(path, error.strerror or str(error)) from error
        self._entries.append(FileEntry(path=path, size=size, sha256=sha256))
        self.places[sha256] = place

    def sorted(self) -> tuple[FileEntry, ...]:
        """Return the entries as a manifest lists them.

        Raises:
            ProfileError: They cannot lie in one folder of a device (E442).
        """
        entries = tuple(sorted(self._entries, key=lambda entry: entry.path))
        try:
            check_files(entries)
        except IntegrityError as error:
            raise _bad_file(None, error.diagnostics[0].message) from error
        return entries


def _take_golden(found: Golden, name: str, taken: _Files) -> VersionGolden:
    inputs, outputs = f"{GOLDEN}/{name}/inputs", f"{GOLDEN}/{name}/outputs"
    taken.add_tree(inputs, found.inputs, found.inputs_folder)
    taken.add_tree(outputs, found.outputs, found.outputs_folder)
    cosine = None if found.cosine is None else float(found.cosine)
    return VersionGolden(inputs=inputs, outputs=outputs, cosine=cosine)


def _profile_files(plan: Plan, needed: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Yield the path and place of every file that the profile's `files:` name; folders whole.

    Args:
        plan: Of the profile.
        needed: Further files, relative to the profile's folder: what its pipeline needs.

    Raises:
        ProfileError: One is not there, or is a link out of the profile's folder (E442): a profile
            from elsewhere must not send keys of its user's along.
    """
    inside = plan.profile.folder.resolve()
    named = dict(_named_files(plan)) | {name: plan.profile.folder / name for name in needed}
    for path, place in named.items():
        if not place.resolve().is_relative_to(inside):
            raise _bad_file(path, "it lies outside of the profile's folder")
        yield path, place


def _named_files(plan: Plan) -> Iterator[tuple[str, Path]]:
    root = plan.profile.folder
    for name in plan.profile.files:
        place = root / name
        if place.is_dir():
            inside = sorted(path for path in place.rglob("*") if path.is_file())
            for path in inside:
                yield path.relative_to(root).as_posix(), path
        elif place.is_file():
            yield Path(name).as_posix(), place
        else:
            raise _bad_file(name, "there is no such file")


def _document(folder: Path, plan: Plan) -> BuildDocument:
    path = folder / DOCUMENT
    if not path.is_file():
        raise BuildError(
            f"{plan.profile.name} is not built: there is no {path}",
            code="E438",
            subject=str(plan.profile.file),
            hint="run `edgedeploy build` on the profile first, or say where it is built with -o",
        )
    return read_document(path)


def _report(document: BuildDocument, item: Item) -> tuple[ModelReport, TargetReport] | None:
    for model in document.models:
        for target in model.targets:
            if model.name == item.shared.name and target.target == item.use.target:
                return model, target
    return None


def _not_built(diagnostics: tuple[object, ...]) -> bool:
    return any(getattr(item, "code", "") == "E438" for item in diagnostics)


def _stale(item: Item | str, why: str) -> EdgedeployError:
    name = item if isinstance(item, str) else item.name
    return BuildError(
        f"{name} has to be built first: {why}",
        code="E438",
        subject=name,
        hint="run `edgedeploy build` on the profile, with the same options, and try again",
    )


def _check_engines(item: Item, record: ActionRecord) -> None:
    """Refuse what is no engine, because something stood for the GPU (E759)."""
    if record.summary.get("simulated"):
        raise BuildError(
            f"something stood for the GPU that builds the engine of {item.name}: it is no engine",
            code="E759",
            subject=item.name,
            hint="build it on a device of the board, then release",
        )


def _bad_file(path: str | None, why: str) -> ProfileError:
    return ProfileError(
        f"`files:` cannot be pushed: {path + ': ' if path else ''}{why}",
        code="E442",
        subject=path,
        hint="name files and folders beside the profile, with plain names",
    )
