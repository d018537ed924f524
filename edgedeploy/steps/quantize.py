"""Stage ``quantize``: write an int8 model with explicit quantize and dequantize nodes."""

from __future__ import annotations

import json

from edgedeploy.stage import Made, StageKind, Work


def run(work: Work) -> Made:
    """Quantize ``inputs.model`` with the ranges of ``inputs.table`` by ``params.scheme``."""
    from edgedeploy.quant.qdq import quantize
    from edgedeploy.quant.scheme import Scheme
    from edgedeploy.quant.table import CalibrationTable

    report = quantize(
        work.inputs["model"] / "model.onnx",
        CalibrationTable.read(work.inputs["table"] / "table.json"),
        Scheme.from_json(work.params["scheme"]),
        work.outputs["model"],
    )
    data = report.to_json()
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, indent=1)
    (work.outputs["report"] / "quantize.json").write_text(text + "\n", encoding="utf-8")
    return Made(summary=data)


STAGE = StageKind(
    kind="quantize",
    run=run,
    outputs=("model", "report"),
    tools=("onnx", "onnx-ir", "numpy"),
    code=("quant",),
)
