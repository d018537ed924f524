"""Running a graph of stages: keys, hits, workers and healing, concurrently."""

from __future__ import annotations

import concurrent.futures
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgedeploy.artifact import Tree
from edgedeploy.crashpoint import crashpoint
from edgedeploy.errors import EdgedeployError, ModelError
from edgedeploy.events import EventLog, StageFinished, StageProgress, StageStarted
from edgedeploy.manifest import digest
from edgedeploy.stage import stage_file, stage_kind
from edgedeploy.store import ActionRecord, Store
from edgedeploy.store_care import sweep_work
from edgedeploy.toolchain import code_digest, tool_version
from edgedeploy.worker.launch import Job, Stopped, run_job


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRef:
    """A file of the user's that is an input."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesRef:
    """Several files of the user's that are one input; the stage gets ``folder``.

    Attributes:
        folder: What the names are relative to.
        names: Relative POSIX paths, in reading order (the order is part of the input).
    """

    folder: Path
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRef:
    """An output of another node that is an input."""

    node: Node
    output: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Node:
    """One stage to be done.

    Attributes:
        id: Name for people and events, such as ``main.calibrate``; unique in a plan.
        kind: Stage kind.
        params: Parameters, JSON data.
        inputs: What it takes, by input name.
        fields: Values of the target fields that the stage may see; others are not there.
        tools, code: What the key depends on besides what the kind declares (a backend's).
    """

    id: str
    kind: str
    params: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, FileRef | FilesRef | OutputRef] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[str, ...] = ()
    code: tuple[str, ...] = ()

    def output(self, name: str) -> OutputRef:
        """Return a reference to one of this node's outputs."""
        return OutputRef(node=self, output=name)


class _TreeLost(Exception):
    """A tree that a hit promised is missing or damaged; its node must run again."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.id)
        self.node = node


class Builder:
    """Brings nodes up to date, each at most once, in as many workers as allowed.

    Args:
        store: Where results live.
        project: The user's project folder, for user code.
        workers: Any executor; each job occupies one of its workers while a subprocess runs.
            None makes a thread pool with one worker per core.
        events: Where progress is told.
        known: Components of the last build by node id, to say why something runs.
    """

    def __init__(
        self,
        store: Store,
        project: Path,
        *,
        workers: concurrent.futures.Executor | None = None,
        events: EventLog | None = None,
        known: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._store = store
        self._project = project
        self._workers = workers
        self._events = events or EventLog()
        self._known = known or {}
        self._mutex = threading.Lock()
        self._futures: dict[Node, concurrent.futures.Future[ActionRecord]] = {}
        self._records: dict[Node, ActionRecord] = {}
        # Nodes known to be no hit, with the count of finished runs at which that was found.
        self._cold: dict[Node, int] = {}
        self._generation = 0
        self._stop = threading.Event()
        self.states: dict[str, StageFinished] = {}
        self.components: dict[str, Mapping[str, Any]] = {}
        sweep_work(store)

    def stop(self) -> None:
        """Interrupt: workers are killed and every waiting build raises Stopped."""
        self._stop.set()

    # -- results ---------------------------------------------------------------------------

    def build(self, node: Node) -> ActionRecord:
        """Return the record of ``node``, running it and what it needs where there is no hit.

        Raises:
            EdgedeployError: It, or something it needs, failed.
            Stopped: The run was interrupted.
        """
        with self._mutex:
            future = self._futures.get(node)
            mine = future is None
            if future is None:
                future = self._futures[node] = concurrent.futures.Future()
        if mine:
            try:
                future.set_result(self._bring_up(node))
            except BaseException as error:  # noqa: BLE001 - raised again by result()
                future.set_exception(error)
        return future.result()

    def build_all(self, nodes: Iterable[Node]) -> list[ActionRecord | EdgedeployError]:
        """Build several nodes at once; a failure takes its place in the list.

        Raises:
            Stopped: The run was interrupted.
        """
        wanted = list(nodes)
        cold = [node for node in wanted if self._hit_or_error(node) is None]
        threads = [threading.Thread(target=self._outcome, args=(node,)) for node in cold[1:]]
        for thread in threads:
            thread.start()
        if cold:
            self._outcome(cold[0])
        for thread in threads:
            thread.join()
        return [self._outcome(node) for node in wanted]

    def _outcome(self, node: Node) -> ActionRecord | EdgedeployError:
        try:
            return self.build(node)
        except EdgedeployError as error:
            return error

    def folder(self, ref: OutputRef) -> tuple[Tree, Path]:
        """Return an output's tree and where its verified files lie; heals what is damaged."""
        while True:
            tree = self.build(ref.node).outputs[ref.output]
            try:
                return tree, self._store.check_tree(tree)
            except KeyError:
                self._forget(ref.node)

    def hit(self, node: Node) -> ActionRecord | None:
        """Return the record of ``node`` if it is up to date, without running anything.

        Raises:
            EdgedeployError: An input file cannot be read or a tool is missing.
        """
        with self._mutex:
            known = self._records.get(node)
            cold = self._cold.get(node) == self._generation
        if known is not None or cold:
            return known
        upstream = [ref.node for ref in node.inputs.values() if isinstance(ref, OutputRef)]
        generation = self._generation
        record = None
        if all(self.hit(needed) is not None for needed in upstream):
            components = self._components(node)
            self.components[node.id] = components
            record = self._lookup(digest("action", components))
        with self._mutex:
            if record is None:
                self._cold[node] = generation
            else:
                self._records[node] = record
        return record

    def _hit_or_error(self, node: Node) -> ActionRecord | EdgedeployError | None:
        try:
            return self.hit(node)
        except EdgedeployError as error:
            return error

    def explain(self, node: Node) -> str:
        """Return ``hit``, or why ``node`` must run, or ``unknown until <node>``; runs nothing."""
        if self.hit(node) is not None:
            return "hit"
        for ref in node.inputs.values():
            if isinstance(ref, OutputRef) and self.hit(ref.node) is None:
                return f"unknown until {_first_miss(self, ref.node).id}"
        return self.why(node.id, self._components(node))

    # -- one node --------------------------------------------------------------------------

    def _bring_up(self, node: Node) -> ActionRecord:
        started = time.monotonic()
        while True:
            if self._stop.is_set():
                raise Stopped
            record = self.hit(node)
            if record is not None:
                self._finished(node, "hit", 0.0)
                return record
            upstream = [ref.node for ref in node.inputs.values() if isinstance(ref, OutputRef)]
            for outcome in self.build_all(upstream):
                if isinstance(outcome, EdgedeployError):
                    raise outcome
            components = self.components[node.id] = self._components(node)
            why = self.why(node.id, components)
            try:
                record, ran = self._run(node, digest("action", components), components, why)
            except _TreeLost as lost:
                self._forget(lost.node)
                continue
            except EdgedeployError:
                self._finished(node, "failed", time.monotonic() - started, why)
                raise
            with self._mutex:
                self._records[node] = record
                self._generation += 1
            self._finished(node, "ran" if ran else "hit", time.monotonic() - started, why)
            return record

    def _finished(self, node: Node, state: Any, seconds: float, why: str = "") -> None:
        event = StageFinished(node=node.id, state=state, seconds=seconds, detail=why)
        self.states[node.id] = event
        self._events.emit(event)

    def _forget(self, node: Node) -> None:
        """Drop a node's record, so that the next :meth:`build` runs it again."""
        with self._mutex:
            self._futures.pop(node, None)
            record = self._records.pop(node, None)
            self._generation += 1
        if record is not None:
            self._store.drop_action(record.key)

    def _digests(self, node: Node) -> dict[str, str]:
        """Return the digest of every input; the nodes it needs are up to date."""
        found: dict[str, str] = {}
        try:
            for name, ref in node.inputs.items():
                if isinstance(ref, FileRef):
                    found[name] = self._store.file_digests([ref.path])[ref.path]
                elif isinstance(ref, FilesRef):
                    paths = [ref.folder / part for part in ref.names]
                    known = self._store.file_digests(paths)
                    pairs = zip(ref.names, paths, strict=True)
                    found[name] = digest("files", [[part, known[path]] for part, path in pairs])
        except OSError as error:
            raise ModelError(
                f"cannot read {error.filename}: {error.strerror}",
                code="E188",
                subject=str(error.filename),
                hint="check the path in the profile",
            ) from error
        for name, ref in node.inputs.items():
            if isinstance(ref, OutputRef):
                found[name] = self.build(ref.node).outputs[ref.output].digest
        return found

    def _components(self, node: Node) -> dict[str, Any]:
        """Return everything that the node's outputs depend on."""
        stage = stage_kind(node.kind)
        return {
            "kind": node.kind,
            "code": code_digest(
                ("stage", "worker", *stage.code, *node.code), stage_file(node.kind)
            ),
            "tools": {name: tool_version(name) for name in ("python", *stage.tools, *node.tools)},
            "params": dict(node.params),
            "inputs": self._digests(node),
            "fields": dict(node.fields),
        }

    def _lookup(self, key: str) -> ActionRecord | None:
        """Return the record of ``key`` if what it observed is unchanged."""
        record = self._store.read_action(key)
        if record is None or self.stale(record):
            return None
        return record

    def stale(self, record: ActionRecord) -> str:
        """Return what changed among a record's observed inputs, empty when nothing did."""
        files = [Path(item["file"]) for item in record.observed if "file" in item]
        try:
            now = self._store.file_digests(files)
        except OSError as error:
            return f"{Path(str(error.filename)).name} cannot be read"
        for item in record.observed:
            if "file" in item and now[Path(item["file"])] != item["sha256"]:
                return f"{Path(item['file']).name} changed"
            if "distribution" in item and tool_version(item["distribution"]) != item["version"]:
                return f"{item['distribution']} changed"
        return ""

    def why(self, node_id: str, components: Mapping[str, Any]) -> str:
        """Return in words why an action is no hit."""
        before = self._known.get(node_id)
        if before is None:
            return "not built before"
        found = list(_differences(before, components))
        if not found:
            record = self._store.read_action(digest("action", components))
            return (self.stale(record) if record else "") or "its result is no longer stored"
        return ", ".join(found)

    def _run(
        self, node: Node, key: str, components: Mapping[str, Any], why: str
    ) -> tuple[ActionRecord, bool]:
        """Run a node under its lock; another builder's record that came meanwhile is a hit."""
        with self._store.lock(key):
            record = self._lookup(key)
            if record is not None:
                return record, False
            inputs = {name: self._input_path(ref) for name, ref in node.inputs.items()}
            crashpoint("executor.before-run")
            with self._store.work_folder() as folder:
                record = self._run_in(node, key, components, why, inputs, folder)
            crashpoint("executor.after-run")
            return record, True

    def _input_path(self, ref: FileRef | FilesRef | OutputRef) -> Path:
        if isinstance(ref, FileRef):
            return ref.path
        if isinstance(ref, FilesRef):
            return ref.folder
        try:
            return self._store.check_tree(self.build(ref.node).outputs[ref.output])
        except KeyError:
            raise _TreeLost(ref.node) from None

    def _run_in(
        self,
        node: Node,
        key: str,
        components: Mapping[str, Any],
        why: str,
        inputs: Mapping[str, Path],
        folder: Path,
    ) -> ActionRecord:
        stage = stage_kind(node.kind)
        outputs = {name: folder / "out" / name for name in stage.outputs}
        for path in outputs.values():
            path.mkdir(parents=True)
        job = Job(
            node=node.id,
            kind=node.kind,
            params=node.params,
            inputs=inputs,
            outputs=outputs,
            fields=node.fields,
            limits=stage.limits.for_inputs(sum(map(_size, node.inputs.values(), inputs.values()))),
            project=self._project,
            folder=folder,
        )

        def progress(done: int, total: int, what: str) -> None:
            self._events.emit(StageProgress(node=node.id, done=done, total=total, what=what))

        def work() -> tuple[dict[str, Any], float]:
            if self._stop.is_set():
                raise Stopped
            self._events.emit(StageStarted(node=node.id, why=why))
            started = time.monotonic()
            return run_job(job, stop=self._stop, progress=progress), time.monotonic() - started

        result, seconds = self._pool().submit(work).result()
        trees = {}
        for name, path in outputs.items():
            cuts = {
                file.partition("/")[2]: [(int(start), int(length)) for start, length in parts]
                for file, parts in result["segments"].items()
                if file.partition("/")[0] == name
            }
            trees[name] = self._store.add_tree(path, cuts)
        record = ActionRecord(
            key=key,
            kind=node.kind,
            components=components,
            outputs=trees,
            observed=tuple(result["observed"]),
            summary=result["summary"],
            seconds=round(seconds, 3),
        )
        self._store.write_action(record)
        return record

    def _pool(self) -> concurrent.futures.Executor:
        with self._mutex:
            if self._workers is None:
                self._workers = concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1)
            return self._workers


def _first_miss(builder: Builder, node: Node) -> Node:
    """Return the first node on the way up from ``node`` that must run itself."""
    for ref in node.inputs.values():
        if isinstance(ref, OutputRef) and builder.hit(ref.node) is None:
            return _first_miss(builder, ref.node)
    return node


def _size(ref: FileRef | FilesRef | OutputRef, path: Path) -> int:
    """Return the bytes of an input that lies at ``path``."""
    if isinstance(ref, FilesRef):
        return sum((path / name).stat().st_size for name in ref.names)
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield in words what differs between two sets of key components."""
    if before["code"] != now["code"]:
        yield "edgedeploy's own code changed"
    for part, noun in (("tools", "tool"), ("inputs", "input"), ("fields", "target field")):
        for name in sorted({*before[part], *now[part]}):
            old, new = before[part].get(name), now[part].get(name)
            if old == new:
                continue
            if part == "inputs":
                yield f"{noun} {name} changed"
            else:
                yield f"{noun} {name} {old} -> {new}"
    for name in sorted({*before["params"], *now["params"]}):
        old, new = before["params"].get(name), now["params"].get(name)
        if old != new:
            yield f"{name} {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
