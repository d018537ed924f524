"""The golden samples of an item's artifact: what a push sends along for the check on the device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edgedeploy.artifact import Tree
from edgedeploy.executor import Builder
from edgedeploy.modelnodes import synthetic_samples
from edgedeploy.node import Node
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


def golden_trees(
    builder: Builder, item: Item, nodes: CandidateNodes, *, synthetic: bool = False
) -> tuple[Golden | None, str]:
    """Return the golden samples of an artifact, made now if there are none in the store.

    Args:
        builder: Brings the stage up to date.
        item: The model on a target.
        nodes: The chosen candidate's.
        synthetic: With random inputs, whatever data the model was evaluated on.

    Returns:
        The samples and an empty text; or None and why there are none (the smallest is larger than
        what a version may carry).

    Raises:
        EdgedeployError: The stage, or what it needs, failed.
    """
    node = _on_random(item, nodes.golden) if synthetic else nodes.golden
    record = builder.build(node)
    if not record.summary["samples"]:
        return None, str(record.summary["reason"])
    inputs, inputs_folder = builder.folder(node.output("inputs"))
    outputs, outputs_folder = builder.folder(node.output("outputs"))
    golden = Golden(
        inputs=inputs,
        outputs=outputs,
        inputs_folder=inputs_folder,
        outputs_folder=outputs_folder,
        cosine=item.use.gates.cosine,
    )
    return golden, ""


def _on_random(item: Item, golden: Node) -> Node:
    """Return the golden stage on random inputs; itself where it has no others."""
    shared = item.shared
    if shared.evaluate_role == "synthetic":
        return golden
    samples = synthetic_samples(shared.model, shared.variant, shared.name, shared.normal)
    return replace(
        golden,
        id=f"{golden.id}.synthetic",
        inputs={**golden.inputs, "samples": samples.output("samples")},
    )
