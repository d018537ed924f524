"""Running a graph of stages: keys, hits, workers and healing, concurrently."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgedeploy.artifact import Tree
from edgedeploy.crashpoint import crashpoint
from edgedeploy.difference import differences
from edgedeploy.errors import BuildError, EdgedeployError, IntegrityError, ModelError, ToolError
from edgedeploy.events import EventLog, Note, StageFinished, StageProgress, StageStarted
from edgedeploy.filememory import ABSENT, listing_digest
from edgedeploy.making import job_of, output_folders, take, unreadable
from edgedeploy.manifest import digest
from edgedeploy.node import FileRef as FileRef
from edgedeploy.node import FilesRef as FilesRef
from edgedeploy.node import Node as Node
from edgedeploy.node import OutputRef as OutputRef
from edgedeploy.stage import Made, Work, stage_file, stage_kind
from edgedeploy.store import ActionRecord, Store, action_key
from edgedeploy.store_care import sweep_work
from edgedeploy.toolchain import code_digest, tool_version
from edgedeploy.worker.launch import Stopped, run_job

ATTEMPTS = 4
TELL_WAITING_S = 2.0


class _TreeLost(Exception):
    """A tree that a record promised is missing or damaged; its node must run again."""

    def __init__(self, node: Node, record: ActionRecord) -> None:
        super().__init__(node.id)
        self.node = node
        self.record = record


class _InputChanged(Exception):
    """A file of the user's changed while a stage was reading it."""


Elsewhere = Callable[[Node, Work, threading.Event], Made]
"""Makes the outputs of a node outside of this machine's workers, such as on a device.

It is given the node, its work, and what is set when the build is interrupted; it then raises
:class:`~edgedeploy.worker.launch.Stopped`.
"""


class Builder:
    """Brings nodes up to date, each at most once, in as many workers as allowed.

    As long as it lives, or until :meth:`close`, nobody can clean the store.

    Args:
        store: Where results live.
        project: The user's project folder, for user code.
        workers: Any executor; each job occupies one of its workers while a subprocess runs.
            None makes a thread pool with one worker per core.
        events: Where progress is told.
        known: Components of the last build by node id, to say why something runs.
        runs: False uses what the store holds; what would have to run fails instead (E438).
        elsewhere: Makes the nodes whose stage kind has no function of its own, by kind.
    """

    def __init__(
        self,
        store: Store,
        project: Path,
        *,
        workers: concurrent.futures.Executor | None = None,
        events: EventLog | None = None,
        known: Mapping[str, Mapping[str, Any]] | None = None,
        runs: bool = True,
        elsewhere: Mapping[str, Elsewhere] | None = None,
    ) -> None:
        self._store = store
        self._runs = runs
        self._elsewhere = elsewhere or {}
        self._project = project
        self._workers = workers
        self._own_workers: concurrent.futures.Executor | None = None
        self._events = events or EventLog()
        self._known = known or {}
        self._mutex = threading.Lock()
        self._futures: dict[Node, concurrent.futures.Future[ActionRecord]] = {}
        self._records: dict[Node, ActionRecord] = {}
        # Nodes known to be no hit, with the count of finished runs at which that was found.
        self._cold: dict[Node, int] = {}
        self._generation = 0
        self._losses = 0
        self._stop = threading.Event()
        self.states: dict[str, StageFinished] = {}
        self.components: dict[str, Mapping[str, Any]] = {}
        using = contextlib.ExitStack()
        using.enter_context(store.in_use())
        self._release = weakref.finalize(self, using.close)
        sweep_work(store)

    @property
    def stopping(self) -> threading.Event:
        """Set once the builder is interrupted."""
        return self._stop

    def stop(self) -> None:
        """Interrupt: workers are killed and every waiting build raises Stopped."""
        self._stop.set()

    def close(self) -> None:
        """Interrupt what still runs and let go of the store; calling it twice is allowed."""
        self.stop()
        if self._own_workers:
            self._own_workers.shutdown(cancel_futures=True)
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

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
        threads = [threading.Thread(target=self._settle, args=(node,)) for node in cold[1:]]
        for thread in threads:
            thread.start()
        try:
            if cold:
                self._settle(cold[0])
            for thread in threads:
                thread.join()
        except BaseException:  # such as KeyboardInterrupt: leave nothing running behind
            self.stop()
            for thread in threads:
                thread.join()
            raise
        return [self._outcome(node) for node in wanted]

    def _outcome(self, node: Node) -> ActionRecord | EdgedeployError:
        try:
            return self.build(node)
        except EdgedeployError as error:
            return error

    def _settle(self, node: Node) -> None:
        """Build a node; how that ended is asked for later."""
        with contextlib.suppress(Exception):
            self.build(node)

    def folder(self, ref: OutputRef) -> tuple[Tree, Path]:
        """Return an output's tree and where its verified files lie; heals what is damaged.

        Raises:
            EdgedeployError: It had to be built again and failed.
            IntegrityError: What is written to the store is lost at once, again and again (E701).
            Stopped: The run was interrupted.
        """
        for _ in range(ATTEMPTS):
            record = self.build(ref.node)
            tree = record.outputs[ref.output]
            try:
                return tree, self._store.check_tree(tree)
            except KeyError:
                self._forget(_TreeLost(ref.node, record))
        raise _keeps_losing(ref.node.id)

    def hit(self, node: Node) -> ActionRecord | None:
        """Return the record of ``node`` if it is up to date, without running anything.

        Raises:
            EdgedeployError: An input file cannot be read or a tool is missing.
        """
        with self._mutex:
            generation, losses = self._generation, self._losses
            known = self._records.get(node)
            if known is not None or self._cold.get(node) == generation:
                return known
        upstream = [ref.node for ref in node.inputs.values() if isinstance(ref, OutputRef)]
        record = None
        if all(self.hit(needed) is not None for needed in upstream):
            components = self._components(node)
            self.components[node.id] = components
            record = self._lookup(action_key(components))
        with self._mutex:
            if record is None:
                self._cold[node] = generation
                return None
            if losses == self._losses:
                return self._records.setdefault(node, record)
        return self.hit(node)  # it may have been read before it was found to be lost

    def _hit_or_error(self, node: Node) -> ActionRecord | EdgedeployError | None:
        try:
            return self.hit(node)
        except EdgedeployError as error:
            return error

    def known_record(self, node: Node) -> ActionRecord | None:
        """Return the record that this builder found or made for ``node``, without looking."""
        with self._mutex:
            return self._records.get(node)

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
        why = ""
        for _ in range(ATTEMPTS):
            if self._stop.is_set():
                raise Stopped
            record = self.hit(node)
            if record is not None:
                self._finished(node, "hit", 0.0)
                return record
            if not self._runs:
                first = _first_miss(self, node)
                raise _not_built(first.id, self.explain(first))
            upstream = [ref.node for ref in node.inputs.values() if isinstance(ref, OutputRef)]
            for outcome in self.build_all(upstream):
                if isinstance(outcome, EdgedeployError):
                    raise outcome
            try:
                components = self.components[node.id] = self._components(node)
                why = self.why(node.id, components)
                record, ran = self._run(node, action_key(components), components, why)
            except _TreeLost as lost:
                failure: EdgedeployError = _keeps_losing(lost.node.id)
                self._forget(lost)
                continue
            except _InputChanged as changed:
                failure = BuildError(
                    f"{changed} keeps changing while stage {node.id} reads it",
                    code="E388",
                    subject=node.id,
                    hint="wait until what writes it has finished, or build from a copy",
                )
                continue
            except EdgedeployError:
                self._finished(node, "failed", time.monotonic() - started, why)
                raise
            with self._mutex:
                self._records[node] = record
                self._generation += 1
            self._finished(node, "ran" if ran else "hit", record.seconds if ran else 0.0, why)
            return record
        self._finished(node, "failed", time.monotonic() - started, why)
        raise failure

    def _finished(self, node: Node, state: Any, seconds: float, why: str = "") -> None:
        event = StageFinished(node=node.id, state=state, seconds=seconds, detail=why)
        self.states[node.id] = event
        self._events.emit(event)

    def _forget(self, lost: _TreeLost) -> None:
        """Drop a record whose tree is lost, so that the next :meth:`build` runs its node again."""
        key = lost.record.key
        # Under the action's lock: another builder may be putting it right at this moment.
        with self._store.lock(key, waiting=self._waiting(lost.node)):
            record = self._store.read_action(key)
            if record is not None:
                try:
                    for tree in record.outputs.values():
                        self._store.check_tree(tree)
                except KeyError:
                    self._store.drop_action(key)
        with self._mutex:
            if self._records.get(lost.node) is lost.record:
                self._futures.pop(lost.node, None)
                del self._records[lost.node]
            self._generation += 1
            self._losses += 1

    def _waiting(self, node: Node) -> Callable[[float], None]:
        """Return what is called while another builder has a node's lock."""
        told = False

        def waiting(waited_s: float) -> None:
            nonlocal told
            if self._stop.is_set():
                raise Stopped
            if waited_s > TELL_WAITING_S and not told:
                told = True
                self._events.emit(Note(text=f"{node.id}: waiting for another build that makes it"))

        return waiting

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
            raise unreadable(error) from error
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
        self._store.mark_used(key)
        return record

    def stale(self, record: ActionRecord) -> str:
        """Return what changed among a record's observed inputs, empty when nothing did."""
        for item in record.observed:
            if "file" in item:
                path = Path(item["file"])
                try:
                    now = self._store.file_digests([path])[path]
                except (FileNotFoundError, NotADirectoryError):
                    now = ABSENT
                except OSError:
                    return f"{path.name} cannot be read"
                if now != item["sha256"]:
                    return f"{path.name} changed" if now else f"{path.name} is gone"
            elif "folder" in item:
                path = Path(item["folder"])
                if listing_digest(path) != item["names"]:
                    return f"the files in {path.name} changed"
            else:
                try:
                    version = tool_version(item["distribution"])
                except ToolError:
                    return f"{item['distribution']} is gone"
                if version != item["version"]:
                    return f"{item['distribution']} {item['version']} -> {version}"
        return ""

    def why(self, node_id: str, components: Mapping[str, Any]) -> str:
        """Return in words why an action is no hit."""
        before = self._known.get(node_id)
        if before is None:
            return "not built before"
        found = list(differences(before, components))
        if not found:
            record = self._store.read_action(action_key(components))
            return (self.stale(record) if record else "") or "its result is no longer stored"
        return ", ".join(found)

    def _run(
        self, node: Node, key: str, components: Mapping[str, Any], why: str
    ) -> tuple[ActionRecord, bool]:
        """Run a node under its lock; another builder's record that came meanwhile is a hit."""
        with self._store.lock(key, waiting=self._waiting(node)):
            record = self._lookup(key)
            if record is not None:
                return record, False
            inputs = {name: self._input_path(ref) for name, ref in node.inputs.items()}
            crashpoint("executor.before-run")
            with self._store.work_folder() as folder:
                record = self._run_in(node, key, components, why, inputs, folder)
            crashpoint("executor.after-run")
            return record, True

    def _input_path(
        self, ref: FileRef | FilesRef | OutputRef, *, trust_memory: bool = True
    ) -> Path:
        if isinstance(ref, FileRef):
            return ref.path
        if isinstance(ref, FilesRef):
            return ref.folder
        record = self.build(ref.node)
        try:
            return self._store.check_tree(record.outputs[ref.output], trust_memory=trust_memory)
        except KeyError:
            raise _TreeLost(ref.node, record) from None

    def _check_inputs(self, node: Node, components: Mapping[str, Any]) -> None:
        """Refuse a run whose files are no longer what its key says.

        Raises:
            _InputChanged: A file changed.
        """
        try:
            now = self._digests(node)
        except ModelError as error:
            raise _InputChanged(error.diagnostics[0].subject) from error
        for name, sha256 in components["inputs"].items():
            if now[name] != sha256:
                ref = node.inputs[name]
                raise _InputChanged(ref.path if isinstance(ref, FileRef) else f"input {name}")

    def _run_in(
        self,
        node: Node,
        key: str,
        components: Mapping[str, Any],
        why: str,
        inputs: Mapping[str, Path],
        folder: Path,
    ) -> ActionRecord:
        outputs = output_folders(node, folder)
        make = self._maker(node, inputs, outputs, folder)

        def work() -> tuple[dict[str, Any], float]:
            if self._stop.is_set():
                raise Stopped
            self._events.emit(StageStarted(node=node.id, why=why))
            started = time.monotonic()
            return make(), time.monotonic() - started

        try:
            result, seconds = self._in_pool(work, here=stage_kind(node.kind).run is not None)
        except EdgedeployError:
            # A stage is not to blame for an input that was damaged or changed under its feet.
            for ref in node.inputs.values():
                self._input_path(ref, trust_memory=False)
            self._check_inputs(node, components)
            raise
        trees = take(self._store, node, outputs, result["segments"])
        self._check_inputs(node, components)
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

    def _maker(
        self, node: Node, inputs: Mapping[str, Path], outputs: Mapping[str, Path], folder: Path
    ) -> Callable[[], dict[str, Any]]:
        """Return what makes a node's outputs: a worker, or what was given for its kind."""

        def progress(done: int, total: int, what: str) -> None:
            self._events.emit(StageProgress(node=node.id, done=done, total=total, what=what))

        if stage_kind(node.kind).run is not None:
            job = job_of(node, inputs, outputs, folder, self._project, (self._store.scratch_lock,))
            return lambda: run_job(job, stop=self._stop, progress=progress)
        work = Work(
            params=node.params,
            inputs=inputs,
            outputs=outputs,
            fields=node.fields,
            project=self._project,
            progress=progress,
            observe=lambda: None,
        )

        def make() -> dict[str, Any]:
            made = self._elsewhere[node.kind](node, work, self._stop)
            return {"summary": dict(made.summary), "segments": made.segments, "observed": ()}

        return make

    def _in_pool(
        self, work: Callable[[], tuple[dict[str, Any], float]], *, here: bool
    ) -> tuple[dict[str, Any], float]:
        """Do ``work`` in one of the workers; when this thread is interrupted, end it first.

        What is made elsewhere waits for a device, and takes no worker's place.
        """
        if not here:
            with concurrent.futures.ThreadPoolExecutor(1) as apart:
                return self._waited(apart, work)
        with self._mutex:
            if self._workers is None:
                self._workers = concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1)
                self._own_workers = self._workers
            pool = self._workers
        return self._waited(pool, work)

    def _waited(
        self,
        pool: concurrent.futures.Executor,
        work: Callable[[], tuple[dict[str, Any], float]],
    ) -> tuple[dict[str, Any], float]:
        try:
            future = pool.submit(work)
        except RuntimeError:  # the pool was shut down by whoever interrupts
            raise Stopped from None
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise Stopped from None
        except BaseException:
            if not future.done():
                self._stop.set()
                future.cancel()
                concurrent.futures.wait([future])
            raise


def _first_miss(builder: Builder, node: Node) -> Node:
    """Return the first node on the way up from ``node`` that must run itself."""
    for ref in node.inputs.values():
        if isinstance(ref, OutputRef) and builder.hit(ref.node) is None:
            return _first_miss(builder, ref.node)
    return node


def _not_built(node_id: str, why: str) -> BuildError:
    return BuildError(
        f"{node_id} would have to run: {why}",
        code="E438",
        subject=node_id,
        hint="run `edgedeploy build` on the profile, with the same options",
    )


def _keeps_losing(node_id: str) -> IntegrityError:
    return IntegrityError(
        f"the store loses what stage {node_id} makes again and again",
        code="E701",
        subject=node_id,
        hint="check the disk, or set EDGEDEPLOY_STORE to a folder on another one",
    )
