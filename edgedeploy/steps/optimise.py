"""Stage ``optimise``: fusions that stay in standard operators, so that any target can read them."""

from __future__ import annotations

from edgedeploy.stage import Made, StageKind, Work


def run(work: Work) -> Made:
    """Optimise ``inputs.model``, a model in normal form."""
    from edgedeploy.passes.optimise import optimise

    report = optimise(work.inputs["model"] / "model.onnx", work.outputs["model"])
    return Made(summary=report.to_json())


STAGE = StageKind(
    kind="optimise",
    run=run,
    outputs=("model",),
    tools=("onnx", "onnx-ir", "onnxruntime", "numpy"),
    code=("model", "passes"),
)
