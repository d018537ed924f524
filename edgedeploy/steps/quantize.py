"""Stage ``quantize``: write the model with integer weights, and activations, of one scheme."""

from __future__ import annotations

import json

from edgedeploy.stage import Made, StageKind, Work


def run(work: Work) -> Made:
    """Quantize ``inputs.model`` by ``params.scheme``.

    The ranges of ``inputs.table`` are needed by the schemes with calibrated activations alone.
    """
    from edgedeploy.quant.scheme import Scheme

    scheme = Scheme.from_json(work.params["scheme"])
    model, folder = work.inputs["model"] / "model.onnx", work.outputs["model"]
    if scheme.calibrated:
        from edgedeploy.quant.qdq import quantize
        from edgedeploy.quant.table import CalibrationTable

        table = CalibrationTable.read(
            work.inputs["table"] / "table.json", work.inputs.get("moments")
        )
        report = quantize(model, table, scheme, folder)
    elif scheme.activations == "dynamic":
        from edgedeploy.quant.dynamic import quantize_dynamic

        report = quantize_dynamic(model, scheme, folder)
    else:
        from edgedeploy.quant.weight_only import write

        report = write(model, scheme, folder)
    data = report.to_json()
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, indent=1)
    (work.outputs["report"] / "quantize.json").write_text(text + "\n", encoding="utf-8")
    return Made(summary=data)


STAGE = StageKind(
    kind="quantize",
    run=run,
    outputs=("model", "report"),
    tools=("onnx", "onnx-ir", "numpy"),
    code=("model", "quant", "data/pack", "manifest"),
)
