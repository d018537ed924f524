"""The normal form: what every backend gets, whatever the exporter wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir

from edgedeploy.model import ModelFacts, scan
from edgedeploy.model.files import MODEL_NAME
from edgedeploy.passes.bake import BakeImages
from edgedeploy.passes.base import Pass, run
from edgedeploy.passes.bind_constants import BindConstants
from edgedeploy.passes.bind_dims import BindDims, Binding
from edgedeploy.passes.clear_notes import ClearNotes
from edgedeploy.passes.fold_branches import FoldBranches
from edgedeploy.passes.fold_constants import FoldConstants
from edgedeploy.passes.infer_shapes import InferShapes
from edgedeploy.passes.initializers_not_inputs import InitializersNotInputs
from edgedeploy.passes.inline_functions import InlineFunctions
from edgedeploy.passes.keep_outputs import KeepOutputs
from edgedeploy.passes.lift_constants import LiftConstants
from edgedeploy.passes.model_file import load, save
from edgedeploy.passes.remove_identity import RemoveIdentity
from edgedeploy.passes.remove_unused import RemoveUnused
from edgedeploy.passes.set_ir_version import SetIrVersion
from edgedeploy.passes.sort_nodes import SortNodes
from edgedeploy.passes.suppress_boxes import SuppressBoxes, Suppression
from edgedeploy.passes.unique_names import UniqueNames
from edgedeploy.passes.upgrade_opset import UpgradeOpset
from edgedeploy.passes.verify import check_saved
from edgedeploy.profile.types import ImagePreprocess

DEFAULT_OPSET = 17
"""What older models are brought to; every runtime of the stated ranges reads it."""
_OLDEST_KEPT_OPSET = 13
"""From here on quantization per channel and the operators' axes inputs are as backends expect."""
_ROUNDS = 20
"""Folding finds new shapes, which allow new folding; real models settle in two to five rounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NormaliseOptions:
    """What the profile and the targets ask of the normal form.

    Attributes:
        dims: By input name, per axis a size, a name, or None for the model's own.
        constants: JSON values by input name; these inputs become initialisers.
        outputs: Outputs to keep, in this order; empty keeps all.
        opset: Version of the default domain; None keeps 13 and above and brings older ones to 17.
        ir_version: IR version; None takes the one that came with the opset.
        images: Preprocessing of images by input name, of which baked steps enter the model.
        suppress: What the model itself chooses of its boxes; None leaves its head as it is.
    """

    dims: Mapping[str, Binding] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    opset: int | None = None
    ir_version: int | None = None
    images: Mapping[str, ImagePreprocess] = field(default_factory=dict)
    suppress: Suppression | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NormaliseReport:
    """What was made of a model.

    Attributes:
        facts: What the normal form is: signature, opsets, operators, weights, digest.
        external: Whether its weights are in ``model.onnx.data``.
        nodes_before: Number of nodes of the source.
        origins: Name of a node in the user's model (or ``#<number> <operator>`` for a nameless
            one) by its name in the normal form, where they differ.
        foreign: Nodes outside the ``ai.onnx`` and ``ai.onnx.ml`` domains by ``domain::op``.
        passes: Names of the passes that modified the model, in order.
    """

    facts: ModelFacts
    external: bool
    nodes_before: int
    origins: Mapping[str, str]
    foreign: Mapping[str, tuple[str, ...]]
    passes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON data."""
        return {
            "facts": self.facts.to_json(),
            "external": self.external,
            "nodes_before": self.nodes_before,
            "origins": dict(self.origins),
            "foreign": {op: list(names) for op, names in self.foreign.items()},
            "passes": list(self.passes),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> NormaliseReport:
        """Return the report that :meth:`to_json` wrote."""
        return cls(
            **{
                **data,
                "facts": ModelFacts.from_json(data["facts"]),
                "foreign": {op: tuple(names) for op, names in data["foreign"].items()},
                "passes": tuple(data["passes"]),
            }
        )


def normalise(source: Path, folder: Path, options: NormaliseOptions) -> NormaliseReport:
    """Write the normal form of an adopted model into ``folder``.

    Args:
        source: The model file that ``model.adopt`` wrote.
        folder: An existing folder; gets ``model.onnx`` and, for big models, ``model.onnx.data``.
        options: What the profile asks for.

    Raises:
        ModelError: The model cannot be brought to the normal form (E213-E226), with the node, or
            what is to be baked cannot be (E897).
    """
    model = load(source)
    before = sum(1 for _ in ir.traversal.RecursiveGraphIterator(model.graph))
    applied = run(_opening(model, options), model) + _settle(model)
    if options.suppress is not None:
        applied += run((SuppressBoxes(options.suppress),), model) + _settle(model)
    applied += run((SortNodes(), UniqueNames(), ClearNotes()), model)
    external = save(model, folder)
    facts = scan(folder / MODEL_NAME, allow_nonfinite=True)
    check_saved(folder / MODEL_NAME, facts.weight_bytes)
    nodes = list(ir.traversal.RecursiveGraphIterator(model.graph))
    names = {node.name or "": node.meta.get("origin", "") for node in nodes}
    foreign: dict[str, list[str]] = {}
    for node in nodes:
        if node.domain not in ("", "ai.onnx.ml"):
            foreign.setdefault(f"{node.domain}::{node.op_type}", []).append(node.name or "")
    return NormaliseReport(
        facts=facts,
        external=external,
        nodes_before=before,
        origins={name: origin for name, origin in names.items() if origin and origin != name},
        foreign={op: tuple(items) for op, items in sorted(foreign.items())},
        passes=tuple(name for name, modified in applied if modified),
    )


def _settle(model: ir.Model) -> tuple[tuple[str, bool], ...]:
    """Infer and fold until nothing changes; return each pass with whether it modified the model."""
    applied: tuple[tuple[str, bool], ...] = ()
    for _ in range(_ROUNDS):
        done = run(
            (
                InferShapes(),
                FoldConstants(),
                LiftConstants(),
                FoldBranches(),
                RemoveIdentity(),
                RemoveUnused(),
            ),
            model,
        )
        applied += done
        # Inference alone changes shapes only; it is run again after whatever else changed.
        if not any(modified for name, modified in done if name != InferShapes.__name__):
            break
    return applied


def upgrade(source: Path, folder: Path, *, opset: int) -> ModelFacts:
    """Write a model in normal form at a newer opset into ``folder``; return what it is.

    Args:
        source: What :func:`normalise` or :func:`edgedeploy.passes.optimise.optimise` wrote.
        folder: An existing folder; gets ``model.onnx`` and, for big models, ``model.onnx.data``.
        opset: The least version of the default domain; a newer one stays.

    Raises:
        ModelError: A node cannot be converted (E223).
    """
    model = load(source)
    wanted = max(opset, model.opset_imports.get("", opset))
    run(
        (UpgradeOpset(wanted), LiftConstants(), UniqueNames(), InferShapes(), SetIrVersion(None)),
        model,
    )
    save(model, folder)
    facts = scan(folder / MODEL_NAME, allow_nonfinite=True)
    check_saved(folder / MODEL_NAME, facts.weight_bytes)
    return facts


def _opening(model: ir.Model, options: NormaliseOptions) -> tuple[Pass, ...]:
    """Return the passes that run once, in order."""
    opset = options.opset
    if opset is None:
        own = model.opset_imports.get("", DEFAULT_OPSET)
        opset = own if own >= _OLDEST_KEPT_OPSET else DEFAULT_OPSET
    return (
        InitializersNotInputs(),
        KeepOutputs(options.outputs),
        InlineFunctions(),
        UniqueNames(),
        SortNodes(),
        LiftConstants(),
        BindConstants(options.constants),
        BindDims(options.dims),
        InferShapes(),
        UpgradeOpset(opset),
        LiftConstants(),
        UniqueNames(),
        SetIrVersion(options.ir_version),
        BakeImages(options.images),
        UniqueNames(),
    )
