"""Stage ``sensitivity``: what the model's outputs lose by each layer's quantization."""

from __future__ import annotations

import json

from edgedeploy.stage import Made, StageKind, Work


def run(work: Work) -> Made:
    """Write ``sensitivity.json`` for ``inputs.model`` under ``params.scheme``."""
    from edgedeploy.quant.scheme import Scheme
    from edgedeploy.quant.sensitivity import sensitivity
    from edgedeploy.quant.table import CalibrationTable

    found = sensitivity(
        work.inputs["model"] / "model.onnx",
        CalibrationTable.read(work.inputs["table"] / "table.json", work.inputs.get("moments")),
        work.inputs["samples"],
        Scheme.from_json(work.params["scheme"]),
        state=[(given, made) for given, made in work.params["state"]],
        methods=work.params["methods"],
        progress=lambda done, total: work.progress(done, total, "variants"),
    )
    text = json.dumps(found.to_json(), sort_keys=True, ensure_ascii=False, indent=1)
    (work.outputs["survey"] / "sensitivity.json").write_text(text + "\n", encoding="utf-8")
    return Made(summary={"layers": len(found.layers), "ranges": found.ranges})


STAGE = StageKind(
    kind="sensitivity",
    run=run,
    outputs=("survey",),
    tools=("onnx", "onnx-ir", "onnxruntime", "numpy"),
    code=("quant", "data/pack", "manifest", "model/files", "runner"),
)
