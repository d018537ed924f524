"""Stage ``half``: a float16 model; what float16 cannot hold stays in float32.

What a value may reach is told by ``inputs.table``, where there is calibration data.
"""

from __future__ import annotations

import json

from edgedeploy.stage import Made, StageKind, Work


def run(work: Work) -> Made:
    """Convert ``inputs.model``; inputs and outputs keep their dtypes."""
    from edgedeploy.passes.float16 import to_float16

    ranges = None
    if "table" in work.inputs:
        from edgedeploy.quant.table import CalibrationTable

        table = CalibrationTable.read(work.inputs["table"] / "table.json")
        ranges = {name: (seen.low, seen.high) for name, seen in table.tensors.items() if seen.count}
    report = to_float16(
        work.inputs["model"] / "model.onnx",
        work.outputs["model"],
        keep_float=work.params["keep_float"],
        keep_float_ops=work.params["keep_float_ops"],
        ranges=ranges,
    )
    data = report.to_json()
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, indent=1)
    (work.outputs["report"] / "half.json").write_text(text + "\n", encoding="utf-8")
    return Made(summary=data)


STAGE = StageKind(
    kind="half",
    run=run,
    outputs=("model", "report"),
    tools=("onnx", "onnx-ir", "onnxruntime", "numpy"),
    code=("model", "passes", "quant/table", "quant/moments", "data/pack", "manifest"),
)
