"""What every attempt shares: the build, and workers whose results nobody keeps."""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from edgedeploy.deploy.contents import Built
from edgedeploy.disk import disk_errors
from edgedeploy.errors import Diagnostic, EdgedeployError, ExitCode
from edgedeploy.events import EventLog, StageFinished, StageStarted
from edgedeploy.executor import Builder
from edgedeploy.making import job_of, output_folders
from edgedeploy.node import FileRef, Node, OutputRef
from edgedeploy.runner import Evidence
from edgedeploy.store import Store
from edgedeploy.trying.answered import Answered
from edgedeploy.worker.launch import run_job

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a worker left: its output folders by name, and its summary."""

    outputs: Mapping[str, Path]
    summary: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A row to come.

    Attributes:
        row: What is known of it beforehand; without a target it is the float model's.
        outputs: Makes a pack of the outputs, and says what they are worth.
    """

    row: Answered
    outputs: Callable[[], tuple[Path, Evidence]]


class Attempt:
    """A file, the build that it is tried on, and what runs stages for it.

    The stages run in workers, like those of a build, but their results lie in a folder that goes
    when the attempt ends: nothing of the file enters the store.

    Args:
        file: The file, absolute.
        kind: Its kind.
        built: The profile as it was last built.
        store: The store that it was built with.
        folder: Where everything lies meanwhile.
        pictures: Where boxes are drawn; None draws none.
        events: Where progress is told.
    """

    def __init__(
        self,
        file: Path,
        kind: str,
        built: Built,
        store: Store,
        folder: Path,
        pictures: Path | None,
        events: EventLog,
    ) -> None:
        self.file = file
        self.kind = kind
        self.built = built
        self.pictures = pictures
        self._store = store
        self._folder = folder
        self._events = events
        self._project = built.plan.profile.folder.absolute()
        self._stop = threading.Event()
        self._numbers = itertools.count()

    def folder(self) -> Path:
        """Return a new empty folder that goes when the attempt ends."""
        made = self._folder / str(next(self._numbers))
        made.mkdir()
        return made

    def paths(self, refs: Mapping[str, Any]) -> dict[str, Path]:
        """Return where inputs of the build's nodes lie.

        Args:
            refs: Files and outputs of nodes, by name.

        Raises:
            BuildError: The build is not up to date (E438).
        """
        with self.builder() as builder:
            return {
                name: builder.folder(ref)[1] if isinstance(ref, OutputRef) else ref.path
                for name, ref in refs.items()
            }

    def builder(self) -> Builder:
        """Return what knows the results of the build; it runs nothing. Used as a context."""
        return Builder(self._store, self._project, events=self._events, runs=False)

    def run(
        self, name: str, kind: str, params: Mapping[str, Any], inputs: Mapping[str, Path]
    ) -> Ran:
        """Run a stage in a worker.

        Args:
            name: What it is called in progress and messages.
            kind: Stage kind.
            params: Its parameters.
            inputs: Where its inputs lie.

        Raises:
            EdgedeployError: As :func:`edgedeploy.worker.launch.run_job`.
        """
        refs = {key: FileRef(path=path) for key, path in inputs.items()}
        node = Node(id=name, kind=kind, params=params, inputs=refs)
        folder = self.folder()
        outputs = output_folders(node, folder)
        guards = (self._store.scratch_lock,)
        job = job_of(node, inputs, outputs, folder, self._project, guards)
        with self.told(name):
            summary = run_job(job, stop=self._stop)["summary"]
        return Ran(outputs=outputs, summary=summary)

    @contextmanager
    def told(self, name: str) -> Iterator[None]:
        """Tell of something that runs for the file: that it starts, and how it ends."""
        why = f"asked about {self.file.name}"
        begin_s = time.monotonic()
        state: Literal["ran", "failed"] = "failed"
        self._events.emit(StageStarted(node=name, why=why))
        try:
            yield
            state = "ran"
        finally:
            seconds = time.monotonic() - begin_s
            self._events.emit(StageFinished(node=name, state=state, seconds=seconds, detail=why))

    def each(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """Do tasks side by side, one per core; when this thread is interrupted, end them first."""
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            futures = [pool.submit(task) for task in tasks]
            try:
                return [future.result() for future in futures]
            except BaseException:
                self._stop.set()
                raise

    def rows(
        self,
        name: str,
        sources: Sequence[Source | Answered],
        params: Mapping[str, Any],
        inputs: Mapping[str, Path],
    ) -> list[Answered]:
        """Return the row of every source, its answer held against the first one's.

        What is a row already, because it has no answer, stays where it stands.

        Args:
            name: What is asked: the model's name.
            sources: The float model first.
            params: ``state`` and ``decode`` of the stage ``answers``.
            inputs: What that stage takes beside the file and the outputs.

        Raises:
            EdgedeployError: The float model failed, or the stage.
        """
        tasks = [item for item in sources if isinstance(item, Source)]
        here = [source for source in tasks if source.row.device is None]
        there = [source for source in tasks if source.row.device is not None]
        # Devices one after the other, in this thread, which an interruption ends.
        got = [*self.each([partial(_outputs, item) for item in here]), *map(_outputs, there)]
        said = iter(
            self._answers(name, params, inputs, [found.pack for found in got if found.pack])
        )
        rows = iter(
            found.row if found.pack is None else self._said(found.row, next(said)) for found in got
        )
        return [item if isinstance(item, Answered) else next(rows) for item in sources]

    def _answers(
        self,
        name: str,
        params: Mapping[str, Any],
        inputs: Mapping[str, Path],
        packs: Sequence[Path],
    ) -> list[dict[str, Any]]:
        """Return what the stage ``answers`` says of packs of outputs, the float model's first."""
        draw = self.pictures is not None and self.kind == "picture"
        ran = self.run(
            f"{name}.answers",
            "answers",
            {**params, "count": len(packs), "draw": draw},
            {
                **inputs,
                "file": self.file,
                **{f"outputs.{number}": pack for number, pack in enumerate(packs)},
            },
        )
        folder = ran.outputs["answers"]
        found: list[dict[str, Any]] = json.loads((folder / "answers.json").read_text("utf-8"))
        for item in found:
            item["picture"] = folder / item["picture"] if item["picture"] else None
        return found

    def _said(self, row: Answered, found: Mapping[str, Any]) -> Answered:
        """Return a row with what the stage ``answers`` says, its picture kept."""
        diagnostics = tuple(map(Diagnostic.from_json, found.get("diagnostics", ())))
        return replace(
            row,
            answer=found.get("answer"),
            difference=found.get("difference"),
            picture=self._kept(row, found["picture"]),
            diagnostics=diagnostics,
            exit_code=ExitCode.USAGE if diagnostics else ExitCode.DONE,
        )

    def _kept(self, row: Answered, picture: Path | None) -> Path | None:
        """Copy a row's picture to where the user wants it.

        Raises:
            StoreError: The disk refuses (E601, E602).
        """
        if picture is None or self.pictures is None:
            return None
        target = (row.target or "float").replace("/", "-")
        where = [self.file.stem, row.model, target, *([row.device] if row.device else [])]
        goal = self.pictures / f"{'.'.join(where)}.png"
        with disk_errors("cannot write the pictures"):
            self.pictures.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture, goal)
        return goal


def not_built(row: Answered, diagnostics: tuple[Diagnostic, ...]) -> Answered:
    """Return the row of what failed in the last build, with what that said of it."""
    said = Diagnostic(
        code="E438",
        message="it failed in the last build",
        subject=f"{row.model} -> {row.target}",
        hint="run `edgedeploy build` on the profile and see why",
    )
    return replace(row, diagnostics=diagnostics or (said,), exit_code=ExitCode.BUILD)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Got:
    """What became of a source: its pack of outputs, or a row that says why there is none."""

    row: Answered
    pack: Path | None = None


def _outputs(source: Source) -> _Got:
    """Return what a source gives; only the float model's failure is everybody's.

    Raises:
        EdgedeployError: The float model failed.
    """
    try:
        pack, evidence = source.outputs()
    except EdgedeployError as error:
        if source.row.target is None:
            raise
        return _Got(
            row=replace(source.row, diagnostics=error.diagnostics, exit_code=error.exit_code)
        )
    return _Got(row=replace(source.row, evidence=evidence), pack=pack)
