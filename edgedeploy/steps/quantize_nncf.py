"""Stage ``quantize_nncf``: write the model with 8-bit weights and activations, as NNCF does it."""

from __future__ import annotations

import json

from edgedeploy.stage import Made, StageKind, Work


def run(work: Work) -> Made:
    """Quantize ``inputs.model`` over the pack ``inputs.samples``."""
    from edgedeploy.quant.by_nncf import quantize_by_nncf

    report = quantize_by_nncf(
        work.inputs["model"] / "model.onnx",
        work.inputs["samples"],
        work.outputs["model"],
        state=[(given, made) for given, made in work.params["state"]],
        keep_float=work.params["keep_float"],
        keep_float_ops=work.params["keep_float_ops"],
    )
    data = report.to_json()
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, indent=1)
    (work.outputs["report"] / "quantize.json").write_text(text + "\n", encoding="utf-8")
    return Made(summary=data)


STAGE = StageKind(
    kind="quantize_nncf",
    run=run,
    outputs=("model", "report"),
    tools=("nncf", "onnx", "onnx-ir", "onnxruntime", "numpy"),
    code=("quant", "data/pack", "manifest", "model/files", "runner"),
)
