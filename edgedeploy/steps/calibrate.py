"""Stage ``calibrate``: the value range of every tensor over the calibration samples."""

from __future__ import annotations

from edgedeploy.stage import Made, StageKind, Work


def run(work: Work) -> Made:
    """Write ``table.json`` for ``inputs.model`` over the pack ``inputs.samples``."""
    from edgedeploy.quant.calibrate import calibrate

    table = calibrate(
        work.inputs["model"] / "model.onnx",
        work.inputs["samples"],
        work.outputs["table"] / "table.json",
        state=[(given, made) for given, made in work.params["state"]],
        progress=lambda done, total: work.progress(done, total, "samples"),
    )
    return Made(summary={"samples": table.samples, "tensors": len(table.tensors)})


STAGE = StageKind(
    kind="calibrate",
    run=run,
    outputs=("table",),
    tools=("onnx", "onnx-ir", "onnxruntime", "numpy"),
    code=("quant", "data/pack", "manifest", "runner"),
)
