"""The golden samples of an item's artifact: what a push sends along for the check on the device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgedeploy.artifact import Tree
from edgedeploy.executor import Builder
from edgedeploy.plan import CandidateNodes, Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Golden samples of one artifact: two tensor packs of the same sample ids.

    Attributes:
        inputs: The pack of inputs, state inputs (zero) among them.
        outputs: The pack of the artifact's outputs on this machine.
        inputs_folder: Where the files of ``inputs`` lie.
        outputs_folder: Where the files of ``outputs`` lie.
        cosine: The least cosine that the profile's gate allows; None without such a gate.
    """

    inputs: Tree
    outputs: Tree
    inputs_folder: Path
    outputs_folder: Path
    cosine: float | None


def golden_trees(builder: Builder, item: Item, nodes: CandidateNodes) -> tuple[Golden | None, str]:
    """Return the golden samples of an artifact, made now if there are none in the store.

    Args:
        builder: Brings the stage up to date.
        item: The model on a target.
        nodes: The chosen candidate's.

    Returns:
        The samples and an empty text; or None and why there are none (the smallest is larger than
        what a version may carry).

    Raises:
        EdgedeployError: The stage, or what it needs, failed.
    """
    record = builder.build(nodes.golden)
    if not record.summary["samples"]:
        return None, str(record.summary["reason"])
    inputs, inputs_folder = builder.folder(nodes.golden.output("inputs"))
    outputs, outputs_folder = builder.folder(nodes.golden.output("outputs"))
    golden = Golden(
        inputs=inputs,
        outputs=outputs,
        inputs_folder=inputs_folder,
        outputs_folder=outputs_folder,
        cosine=item.use.gates.cosine,
    )
    return golden, ""
