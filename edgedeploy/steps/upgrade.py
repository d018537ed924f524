"""Stage ``upgrade``: bring a model in normal form to a newer opset, for types that it alone has."""

from __future__ import annotations

from edgedeploy.stage import Made, StageKind, Work


def run(work: Work) -> Made:
    """Bring ``inputs.model`` to the opset ``params.opset``; one that is newer stays as it is."""
    from edgedeploy.passes.normalise import upgrade

    facts = upgrade(
        work.inputs["model"] / "model.onnx", work.outputs["model"], opset=work.params["opset"]
    )
    return Made(summary=facts.to_json())


STAGE = StageKind(
    kind="upgrade",
    run=run,
    outputs=("model",),
    tools=("onnx", "onnx-ir", "onnxruntime", "numpy"),
    code=("model", "passes"),
)
