"""What each layer's quantization does to the model's outputs: which layers to keep in float.

Every layer is quantized alone and the outputs are held against the float model's. The noise that
single layers add to the outputs adds up, nearly: what is left after some layers were put back to
float is the sum over the others (Zhou et al., Adaptive Quantization for Deep Neural Network,
arXiv:1712.01048). That makes a ranking from one run per layer instead of one per subset.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from edgedeploy.profile.types import RangeMethod
from edgedeploy.quant.compare import compare
from edgedeploy.quant.layers import (
    constant_shape,
    find_layers,
    is_weight,
    load_checked,
    recurrent_weights,
)
from edgedeploy.quant.multiply_adds import multiply_adds
from edgedeploy.quant.outputs import Outputs
from edgedeploy.quant.qdq import quantize, quantize_loaded
from edgedeploy.quant.refine import Rounded
from edgedeploy.quant.scheme import Scheme
from edgedeploy.quant.selection import choose
from edgedeploy.quant.survey import COMPARED_RANGES, LayerSensitivity, Survey
from edgedeploy.quant.table import CalibrationTable


def sensitivity(
    model: Path,
    table: CalibrationTable,
    samples: Path,
    scheme: Scheme,
    *,
    state: Sequence[tuple[str, str]] = (),
    methods: Sequence[RangeMethod] = COMPARED_RANGES,
    progress: Callable[[int, int], None] | None = None,
) -> Survey:
    """Return how the outputs of a model take to each layer's quantization.

    Variants run in the runtime with its optimisations, so on the integer kernels that an artifact
    would use. Memory holds one variant and the float outputs of a few samples.

    Args:
        model: The float model that was calibrated.
        table: Its calibration table.
        samples: Tensor pack folder; ``outputs.picked`` says which of its samples are run.
        scheme: How layers are quantized.
        state: As in ``calibrate``.
        methods: Range methods that are compared besides the scheme's own.
        progress: Called with (variants done, variants in all).

    Raises:
        ModelError: Nothing can be quantized, or no output is float (E262); see also
            ``layers.load_checked``.
        DataError: See ``calibrate``.
        BuildError: The runtime does not load a variant (E270).
    """
    outputs = Outputs(model, samples, state)
    loaded = load_checked(model)
    layers, recurrent, _ = choose(loaded.graph, find_layers(loaded.graph), scheme, table)
    nodes = [*(layer.node for layer in layers), *recurrent]
    tried = list(dict.fromkeys([scheme.ranges, *methods]))
    total, done = len(tried) + len(nodes), 0
    rounded: Rounded = {}

    def run(using: Scheme, only: str | None) -> tuple[float, float]:
        nonlocal done
        variant = load_checked(model)
        quantize_loaded(variant, table, using, only, rounded)
        found = outputs.compare(variant)
        done += 1
        if progress is not None:
            progress(done, total)
        return found

    noise: dict[str, float] = {name: run(replace(scheme, ranges=name), None)[0] for name in tried}
    best = min(tried, key=lambda name: noise[name])
    alone = {str(node.name): run(replace(scheme, ranges=best), str(node.name)) for node in nodes}
    facts = {str(node.name): (node.op_type, _weights(node)) for node in nodes}
    counts = multiply_adds(loaded, model.parent, nodes, outputs.first_inputs())
    inside = _inside(model, table, replace(scheme, ranges=best), samples, state)
    rows = tuple(
        LayerSensitivity(
            node=name,
            op=facts[name][0],
            noise=error,
            kl=divergence,
            multiply_adds=counts[name],
            weights=facts[name][1],
            inside_db=inside.get(name),
        )
        for name, (error, divergence) in alone.items()
    )
    return Survey(samples=len(outputs), methods=noise, ranges=best, layers=rows)


def _inside(
    model: Path,
    table: CalibrationTable,
    scheme: Scheme,
    samples: Path,
    state: Sequence[tuple[str, str]],
) -> dict[str, float]:
    """Return the ratio at each layer's own result with all layers quantized, in decibels."""
    with tempfile.TemporaryDirectory(prefix="sensitivity-") as name:
        quantize(model, table, scheme, Path(name))
        rows = compare(model, Path(name) / "model.onnx", samples, state=state)
    return {row.node: row.sqnr_db for row in rows if math.isfinite(row.sqnr_db)}


def _weights(node: ir.Node) -> int:
    found = recurrent_weights(node).values() or [v for v in node.inputs if is_weight(v)]
    return sum(math.prod(constant_shape(value)) for value in found if value is not None)
