"""Optimisation that leaves only standard operators, so the result may go to any runtime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedeploy.model import ModelFacts, scan
from edgedeploy.model.files import MODEL_NAME
from edgedeploy.passes.base import run
from edgedeploy.passes.fold_affine import FoldAffine
from edgedeploy.passes.fold_gemm_factors import FoldGemmFactors
from edgedeploy.passes.fold_input import FoldInput
from edgedeploy.passes.fuse_gemm import FuseGemm
from edgedeploy.passes.infer_shapes import InferShapes
from edgedeploy.passes.model_file import load, save
from edgedeploy.passes.remove_unused import RemoveUnused
from edgedeploy.passes.unique_names import UniqueNames
from edgedeploy.passes.verify import check_saved


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimiseReport:
    """What optimisation did.

    Attributes:
        facts: What the result is.
        external: Whether its weights are in ``model.onnx.data``.
        nodes_before: Number of nodes of the source.
        passes: Names of the passes that modified the model.
    """

    facts: ModelFacts
    external: bool
    nodes_before: int
    passes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON data."""
        return {
            "facts": self.facts.to_json(),
            "external": self.external,
            "nodes_before": self.nodes_before,
            "passes": list(self.passes),
        }


def optimise(source: Path, folder: Path) -> OptimiseReport:
    """Write an optimised copy of a model in normal form into ``folder``.

    Args:
        source: What :func:`normalise` wrote.
        folder: An existing folder; gets ``model.onnx`` and, for big models, ``model.onnx.data``.

    Raises:
        ModelError: A pass failed (E224) or the result does not load (E225).
    """
    model = load(source)
    before = len(list(model.graph.all_nodes()))
    passes = (
        UniqueNames(),
        InferShapes(),
        FuseGemm(),
        FoldGemmFactors(),
        FoldAffine(),
        FoldInput(),
        RemoveUnused(),
        UniqueNames(),
    )
    applied = run(passes, model)
    external = save(model, folder)
    facts = scan(folder / MODEL_NAME, allow_nonfinite=True)
    check_saved(folder / MODEL_NAME, facts.weight_bytes)
    return OptimiseReport(
        facts=facts,
        external=external,
        nodes_before=before,
        passes=tuple(name for name, modified in applied if modified),
    )
