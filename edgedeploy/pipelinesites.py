"""What a pipeline is worth with its models on a device: the function itself runs here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from edgedeploy.choosing import Outcome
from edgedeploy.combining import Combination
from edgedeploy.errors import BuildError, DataError, DeviceError
from edgedeploy.executor import Builder
from edgedeploy.measuring import Progress, Session, Site
from edgedeploy.modelnodes import ModelNodes
from edgedeploy.parity.evaluation import Evaluation
from edgedeploy.pipelinenodes import PipelineNodes
from edgedeploy.records import add_record, conditions_key, latest_record, record_folder
from edgedeploy.sessions import Bench
from edgedeploy.store import Store

if TYPE_CHECKING:
    from edgedeploy.pipeline import Model, Models, Runs

_WORTH = "evaluation"


class PipelineSites:
    """Evaluates a pipeline on the devices of a build, and knows what was found before.

    Args:
        store: Where records are kept.
        builder: Brings the stages up to date.
        pipeline: The pipeline's nodes; None where the profile has none.
        bench: The measurements of the build: its devices, and the session of each item.
    """

    def __init__(
        self, store: Store, builder: Builder, pipeline: PipelineNodes | None, bench: Bench
    ) -> None:
        self._store = store
        self._builder = builder
        self._pipeline = pipeline
        self._bench = bench
        self._looked: dict[str, str] = {}

    @property
    def folders(self) -> list[Path]:
        """Where the records that were looked for lie, or would lie."""
        return [record_folder(self._store, key) for key in self._looked]

    def stands(self) -> bool:
        """Whether no record is newer than those that were used."""
        return all(self._latest(key)[0] == folder for key, folder in self._looked.items())

    def judged(
        self, combinations: Sequence[Combination], outcomes: Sequence[Outcome]
    ) -> tuple[Combination, ...]:
        """Return the combinations with the verdicts on what devices answer.

        Raises:
            StoreError: A record cannot be written.
        """
        found = []
        for combination in combinations:
            target = combination.use.target
            theirs = [out for out in outcomes if out.item.use.target == target]
            if self._pipeline is not None and combination.evaluation is not None:
                combination = self._with_verdict(self._pipeline, combination, theirs)
            found.append(combination)
        return tuple(found)

    def _with_verdict(
        self, pipeline: PipelineNodes, combination: Combination, outcomes: Sequence[Outcome]
    ) -> Combination:
        try:
            worth = self._worth(pipeline, outcomes)
            return combination if worth is None else combination.on_device(worth)
        except DeviceError as error:
            return replace(combination, unmeasured=error.diagnostics)
        except (BuildError, DataError) as error:
            return replace(
                combination,
                state="failed",
                reason=error.diagnostics[0].message,
                diagnostics=(*combination.diagnostics, *error.diagnostics),
                exit_code=error.exit_code,
            )

    def _worth(self, pipeline: PipelineNodes, outcomes: Sequence[Outcome]) -> Evaluation | None:
        """Return what the chosen artifacts of a target are worth together on its board.

        Devices of the board that belong to the build are asked now; without any, the newest
        evaluation of the same artifacts counts. None where there is none.

        Raises:
            DeviceError: The device is lost, or a run there failed.
            DataError: The function failed with what the device answers.
            StoreError: The record cannot be written.
        """
        sessions = {}
        for outcome in outcomes:
            session = self._bench.session(outcome)
            if session is None:
                return None
            sessions[outcome.item.shared.name] = session
        shared = {outcome.item.shared.name: outcome.item.shared for outcome in outcomes}
        key = self._key(pipeline, sessions)
        board = next(iter(sessions.values())).board
        for site in self._bench.sites:
            if site.board == board:
                name = f"pipeline.{outcomes[0].item.use.target}"
                why = "the models are asked on the device"
                with self._bench.told(f"{name} on {site.name}", why) as progress:
                    found = self._asked(pipeline, site, sessions, shared, progress)
                if found is not None:
                    created = datetime.now(UTC).isoformat(timespec="seconds")
                    record = {"created": created, "device": site.name, _WORTH: found.to_json()}
                    add_record(self._store, key, record, ())
        folder, worth = self._latest(key)
        self._looked[key] = folder
        return worth

    def _latest(self, key: str) -> tuple[str, Evaluation | None]:
        record = latest_record(self._store, key)
        if record is None:
            return "", None
        return str(record["folder"]), Evaluation.from_json(record[_WORTH])

    def _key(self, pipeline: PipelineNodes, sessions: Mapping[str, Session]) -> str:
        """Return the key of the records: function, samples and artifacts, whatever the device."""
        trace = pipeline.traces["evaluate"]
        record = self._builder.build(trace)
        samples = self._builder.build(pipeline.data["evaluate"]).outputs["samples"]
        return conditions_key(
            {
                "pipeline": trace.params["function"],
                "function": record.components["inputs"]["function"],
                "reference": record.outputs["outputs"].digest,
                "samples": samples.digest,
                "artifacts": {
                    name: session.artifacts[-1].tree.digest for name, session in sessions.items()
                },
                "target": next(iter(sessions.values())).target,
            }
        )

    def _asked(
        self,
        nodes: PipelineNodes,
        site: Site,
        sessions: Mapping[str, Session],
        shared: Mapping[str, ModelNodes],
        progress: Progress,
    ) -> Evaluation | None:
        from edgedeploy.data.pack import PackReader
        from edgedeploy.parity.pipeline import score_outputs
        from edgedeploy.pipeline import Pipeline
        from edgedeploy.turns import run_in_turns

        asked = site.asked(sessions, progress)
        if asked.samples == 0:
            return None
        _, samples = self._builder.folder(nodes.data["evaluate"].output("samples"))
        _, outputs = self._builder.folder(nodes.traces["evaluate"].output("outputs"))
        _, score = self._builder.folder(nodes.scored.output("score"))
        data = json.loads((score / "evaluation.json").read_text(encoding="utf-8"))
        whole = Evaluation.from_json(data)
        given = list(islice(PackReader(samples), asked.samples))
        ids = {sample.id for sample in given}
        folder = Path(nodes.folder)
        runs = run_in_turns(
            Pipeline(nodes.spec.function, folder),
            given,
            pipeline_models(self._builder, shared),
            asked.answer,
        )
        scores = tuple(item for item in whole.scores if item.id in ids)
        # What the function prints is no part of what a command answers.
        with redirect_stdout(sys.stderr):
            found = score_outputs(
                runs,
                nodes.spec.metric,
                reference=PackReader(outputs),
                scores_reference=replace(whole, scores=scores),
                folder=folder,
            )
        return replace(found, evidence=asked.evidence)


def pipeline_models(
    builder: Builder, shared: Mapping[str, ModelNodes]
) -> Callable[[Callable[[str], Runs]], Models]:
    """Return what makes the models of one sequence of a pipeline's samples.

    Args:
        builder: Brings the stages up to date.
        shared: The models by name, with their variants.
    """
    from edgedeploy.pipeline import Loaded, Model, Models
    from edgedeploy.steps.reference import model_metadata, state_zeros
    from edgedeploy.steps.samples import model_signature

    signatures = {}
    metadata = {}
    for name, nodes in shared.items():
        _, normal = builder.folder(nodes.normal.output("model"))
        _, facts = builder.folder(nodes.intake.output("facts"))
        signatures[name] = model_signature(normal)
        metadata[nodes.model.name] = model_metadata(facts)

    def loaded(name: str, runs: Runs) -> Loaded:
        model = shared[name].model
        state = [(pair.input, pair.output) for pair in model.state]
        return Loaded(
            name=name,
            runs=runs,
            signature=signatures[name],
            dims=model.dims,
            state=state,
            zeros=state_zeros(signatures[name], state),
        )

    def make(load: Callable[[str], Runs]) -> Models:
        models: dict[str, Model] = {}
        for owner in metadata:
            variants = [name for name, nodes in shared.items() if nodes.model.name == owner]
            models[owner] = Model(
                owner, [loaded(name, load(name)) for name in variants], metadata[owner]
            )
        return Models(models)

    return make
