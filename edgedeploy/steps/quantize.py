"""Stage ``quantize``: write the model with integer weights, and activations, of one scheme."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from edgedeploy.stage import Made, StageKind, Work

if TYPE_CHECKING:
    import onnx_ir as ir

FLOAT8_OPSET = 19
"""The oldest whose QuantizeLinear and DequantizeLinear take float8e4m3fn."""


def run(work: Work) -> Made:
    """Quantize ``inputs.model`` by ``params.scheme``.

    The ranges of ``inputs.table`` are needed by the schemes with calibrated activations alone.
    """
    from edgedeploy.quant.scheme import Scheme

    scheme = Scheme.from_json(work.params["scheme"])
    model, folder = work.inputs["model"] / "model.onnx", work.outputs["model"]
    if scheme.calibrated:
        from edgedeploy.quant.layers import load_checked
        from edgedeploy.quant.qdq import quantize_loaded
        from edgedeploy.quant.storage import save
        from edgedeploy.quant.table import CalibrationTable

        table = CalibrationTable.read(
            work.inputs["table"] / "table.json", work.inputs.get("moments")
        )
        loaded = load_checked(model)
        if scheme.weights == "float8":
            _admit_float8(loaded)
        report = quantize_loaded(loaded, table, scheme)
        save(loaded, folder)
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


def _admit_float8(model: ir.Model) -> None:
    """Bring a model to an opset whose Q and DQ nodes take float8.

    Raises:
        ModelError: One of its operators cannot be converted (E217).
    """
    from edgedeploy.passes.base import run as run_passes
    from edgedeploy.passes.set_ir_version import SetIrVersion
    from edgedeploy.passes.upgrade_opset import UpgradeOpset

    if model.opset_imports[""] < FLOAT8_OPSET:
        run_passes((UpgradeOpset(FLOAT8_OPSET), SetIrVersion(None)), model)


STAGE = StageKind(
    kind="quantize",
    run=run,
    outputs=("model", "report"),
    tools=("onnx", "onnx-ir", "numpy"),
    code=("model", "quant", "passes", "data/pack", "manifest"),
)
