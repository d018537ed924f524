"""Stage ``effects``: what the task metric loses by the quantization of the noisiest layers."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgedeploy.stage import Made, StageKind, Work
from edgedeploy.steps.reference import model_decoder, model_metadata, state_zeros

if TYPE_CHECKING:
    from edgedeploy.quant.scheme import Scheme
    from edgedeploy.quant.table import CalibrationTable

MEASURED_LAYERS = 8
"""Layers, the noisiest, whose effect on the task metric is measured."""


def run(work: Work) -> Made:
    """Write ``inputs.survey`` with the metric of the noisiest layers, each quantized alone."""
    from edgedeploy.quant.scheme import Scheme
    from edgedeploy.quant.survey import Survey
    from edgedeploy.quant.table import CalibrationTable

    data = json.loads((work.inputs["survey"] / "sensitivity.json").read_text(encoding="utf-8"))
    survey = Survey.from_json(data)
    scheme = replace(Scheme.from_json(work.params["scheme"]), ranges=survey.ranges)
    table = CalibrationTable.read(work.inputs["table"] / "table.json", work.inputs.get("moments"))
    noisiest = sorted(survey.layers, key=lambda layer: (-layer.noise, layer.node))
    names = [layer.node for layer in noisiest[:MEASURED_LAYERS]]
    measured: dict[str, float | None] = {}
    for done, name in enumerate(names, start=1):
        measured[name] = _metric(work, table, scheme, name)
        work.progress(done, len(names), "layers")
    layers = (replace(layer, metric=measured.get(layer.node)) for layer in survey.layers)
    found = replace(survey, layers=tuple(layers))
    text = json.dumps(found.to_json(), sort_keys=True, ensure_ascii=False, indent=1)
    (work.outputs["survey"] / "sensitivity.json").write_text(text + "\n", encoding="utf-8")
    return Made(summary={"layers": len(names)})


def _metric(work: Work, table: CalibrationTable, scheme: Scheme, node: str) -> float | None:
    """Return the metric of the model with one layer quantized, as the artifact would run."""
    from edgedeploy.backends.ortmobile.reference import reference_runner
    from edgedeploy.parity.evaluate import evaluate
    from edgedeploy.profile.expand import metric_from_data
    from edgedeploy.quant.layers import load_checked
    from edgedeploy.quant.qdq import quantize_loaded
    from edgedeploy.quant.storage import save

    metric = metric_from_data(work.params["metric"])
    if metric is not None and metric.runs_user_code:
        work.observe()
    state = [(given, made) for given, made in work.params["state"]]
    variant = load_checked(work.inputs["model"] / "model.onnx")
    quantize_loaded(variant, table, scheme, node)
    with tempfile.TemporaryDirectory(prefix="sensitivity-") as folder:
        save(variant, Path(folder))
        with reference_runner(Path(folder) / "model.onnx") as runner:
            found = evaluate(
                runner,
                work.inputs["evaluate"],
                work.inputs["reference"],
                metric,
                state=state,
                zeros=state_zeros(runner.signature, state),
                metadata=model_metadata(work.inputs["facts"]),
                folder=work.project,
                decoder=model_decoder(work, runner.signature),
            )
    return found.metric.value if found.metric else None


STAGE = StageKind(
    kind="effects",
    run=run,
    outputs=("survey",),
    tools=("onnx", "onnx-ir", "onnxruntime", "numpy"),
    code=(
        "quant",
        "data/pack",
        "manifest",
        "model/files",
        "runner",
        "decode",
        "parameters",
        "parity",
        "profile/classes",
        "backends/ortmobile",
        "backends/inputs",
        "steps/reference",
        "steps/samples",
    ),
)
