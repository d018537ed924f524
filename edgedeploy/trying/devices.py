"""Artifacts that answer on a device; what comes before and after runs here."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgedeploy.executor import Builder
from edgedeploy.measuring import Asked
from edgedeploy.modelnodes import ModelNodes
from edgedeploy.pipelinenodes import PipelineNodes
from edgedeploy.pipelinesites import pipeline_models
from edgedeploy.runner import Evidence
from edgedeploy.trying.attempt import Attempt

if TYPE_CHECKING:
    from edgedeploy.deploy.bench import DeviceSite


class OnDevice:
    """A device, and the target that was built for it.

    Args:
        attempt: The file and the build.
        site: The device.
        target: The target.
    """

    def __init__(self, attempt: Attempt, site: DeviceSite, target: str) -> None:
        self._attempt = attempt
        self._site = site
        self.target = target

    @property
    def name(self) -> str:
        """The device's name."""
        return self._site.name

    def model(self, name: str, pack: Path) -> tuple[Path, Evidence]:
        """Return what the chosen artifact of a model answers there, and what that is worth.

        Args:
            name: The model's, with its variant.
            pack: The samples.

        Raises:
            DeviceError: The device is lost, or the run there failed.
        """
        goal = self._attempt.folder()
        with self._attempt.told(f"{name}.{self.target} on {self.name}"):
            asked = self._asked([name])
            asked.answer_pack(name, pack, goal)
        return goal, asked.evidence

    def pipeline(
        self,
        nodes: PipelineNodes,
        shared: Mapping[str, ModelNodes],
        builder: Builder,
        pack: Path,
    ) -> tuple[Path, Evidence]:
        """Return what a pipeline answers with its models there; the function runs here.

        Args:
            nodes: The pipeline's.
            shared: Its models on the target, by name with their variants.
            builder: Brings the stages up to date.
            pack: The sample.

        Raises:
            DeviceError: The device is lost, or a run there failed.
            DataError: The function failed with what the device answers.
        """
        from edgedeploy.data.pack import PackReader, PackWriter
        from edgedeploy.pipeline import Pipeline
        from edgedeploy.turns import run_in_turns

        goal = self._attempt.folder()
        # What the function prints is no part of what a command answers.
        with self._attempt.told(f"pipeline.{self.target} on {self.name}"):
            asked = self._asked(list(shared))
            with redirect_stdout(sys.stderr), PackWriter(goal) as writer:
                runs = run_in_turns(
                    Pipeline(nodes.spec.function, Path(nodes.folder)),
                    PackReader(pack),
                    pipeline_models(builder, shared),
                    asked.answer,
                )
                for sample, outputs in runs:
                    writer.add(sample.id, outputs, sequence=sample.sequence)
        return goal, asked.evidence

    def _asked(self, names: Sequence[str]) -> Asked:
        """Return what answers there with the chosen artifacts of models."""
        sessions = {}
        for name in names:
            session = self._attempt.built.session(name, self.target)
            # The float artifact has nothing to do there: the float model answers here.
            sessions[name] = replace(session, artifacts=session.artifacts[-1:])
        return self._site.asked(sessions, lambda line: None)


def devices_of(attempt: Attempt, sites: Sequence[DeviceSite]) -> list[OnDevice]:
    """Return devices with the targets that were built for them.

    Raises:
        UsageError: One has no target, several, or no way to it (E440, E441, E478, E490).
    """
    from edgedeploy.deploy.bench import check_boards

    check_boards(attempt.built.plan, [site.unit for site in sites])
    return [
        OnDevice(attempt, site, attempt.built.target(site.board or None, site.name))
        for site in sites
    ]
