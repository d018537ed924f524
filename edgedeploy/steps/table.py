"""Stage ``table``: take a calibration table that was made before, instead of calibrating."""

from __future__ import annotations

from edgedeploy.stage import Made, StageKind, Work


def run(work: Work) -> Made:
    """Check the file ``inputs.table`` and write it as the stage ``calibrate`` does.

    It must be of ``inputs.model``, of other samples than ``inputs.evaluate``, if there are any, and
    of sequences where ``params.state`` says that the model has one.

    Raises:
        DataError: It is of something else (E263, E294), or of single samples (E865).
    """
    import onnx_ir as ir

    from edgedeploy.data.pack import PackReader, refuse_overlap
    from edgedeploy.quant.identity import model_digest
    from edgedeploy.quant.table import CalibrationTable

    table = CalibrationTable.read(work.inputs["table"])
    if work.params["state"]:
        table.check_sequences()
    table.check_model(model_digest(ir.load(work.inputs["model"] / "model.onnx")))
    if "evaluate" in work.inputs:
        refuse_overlap(table.overlap(PackReader(work.inputs["evaluate"])))
    table.write(work.outputs["table"] / "table.json")
    return Made(summary={"samples": table.samples, "tensors": len(table.tensors)})


STAGE = StageKind(
    kind="table",
    run=run,
    outputs=("table",),
    tools=("onnx", "onnx-ir", "numpy"),
    code=("quant/identity", "quant/moments", "quant/table", "data/pack", "manifest"),
)
