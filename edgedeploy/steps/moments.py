"""Stage ``moments``: the second moments of what layers multiply, over the calibration samples."""

from __future__ import annotations

from edgedeploy.stage import Made, StageKind, Work


def run(work: Work) -> Made:
    """Write the moments for ``inputs.model`` over the pack ``inputs.samples``."""
    from edgedeploy.quant.gather import gather

    found = gather(
        work.inputs["model"] / "model.onnx",
        work.inputs["samples"],
        work.outputs["moments"],
        state=[(given, made) for given, made in work.params["state"]],
        progress=lambda done, total: work.progress(done, total, "samples"),
    )
    return Made(summary={"layers": len(found.files), "matrices": len(set(found.files.values()))})


STAGE = StageKind(
    kind="moments",
    run=run,
    outputs=("moments",),
    tools=("onnx", "onnx-ir", "onnxruntime", "numpy"),
    code=("quant", "data/pack", "runner"),
)
