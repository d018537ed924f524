"""Codes of calibration and quantization."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E260": Explanation(
        "No calibration sample",
        "Static quantization needs samples to learn the range of every activation, and the "
        "calibration data holds none. Name data under `data: calibrate` in the profile, or set "
        "`quantize: fp16` or `none` for the target. A few dozen typical inputs are enough.",
    ),
    "E261": Explanation(
        "An activation is not finite",
        "While the float model ran on a calibration sample, the named tensor got a NaN or an "
        "infinite element, so that it has no range. Either the sample is wrong (check its "
        "preprocessing) or the float model itself overflows on it. Repair or remove the sample; "
        "to quantize the rest of the model, list the nodes around the tensor in `keep_float`.",
    ),
    "E262": Explanation(
        "Nothing can be quantized",
        "No node of the model can take int8 weights under the chosen scheme: its op types are not "
        "in the scheme, all are listed in `keep_float`, lie in subgraphs, or are not float32. The "
        "result would be the float model under another name. Set `quantize: fp16` or `none`, or "
        "loosen the exclusions.",
    ),
    "E263": Explanation(
        "The calibration table is missing, unreadable or of another model",
        "There is no table where `tables` points, it is of another format, its content does not "
        "match its own digest, or it was made on another normal form: the model, its inputs and "
        "dims in the profile, or the tools that prepare it have changed. Restore it; or name the "
        "data under `data: calibrate`, build, and keep the table of that build.",
    ),
    "E264": Explanation(
        "The model is not in the normal form",
        "Quantization works on opset 13 or newer, where weights may have one scale per channel. "
        "The build upgrades every model before; this error means that a file was handed over "
        "directly. Quantize the normal form instead.",
    ),
    "E265": Explanation(
        "Unknown field of a quantization scheme",
        "A target states a quantization default that no scheme has, most likely a misspelt key. "
        "Correct the target file; the hint lists the known fields.",
    ),
    "E266": Explanation(
        "A `keep_float` pattern matches no node",
        "A pattern that excludes nothing is almost always a misspelt or outdated node name, and "
        "the layer that it should protect would be quantized. Names are those of the normal form; "
        "`edgedeploy inspect` lists them. Patterns use `*`, `?` and `[...]`.",
    ),
    "E267": Explanation(
        "The model does not run on a calibration sample",
        "A sample lacks an input, or the runtime refuses its shape or dtype. The message names the "
        "sample and what the runtime said. Give every input of the model with the dtype and the "
        "dims that the model states; inputs that are state are filled in and are not given.",
    ),
    "E268": Explanation(
        "The model is quantized already",
        "The model has quantized nodes (QuantizeLinear, QLinearConv and the like). Quantizing it "
        "again would round twice. Give the float model, or set `quantize: none` to ship this one "
        "as it is.",
    ),
    "E269": Explanation(
        "The models do not belong together",
        "Two models were to be compared layer by layer, and their layers come in another order, so "
        "that one is not the quantized form of the other. Compare with the very file that was "
        "quantized: the optimised normal form, not the user's model.",
    ),
    "E270": Explanation(
        "The runtime does not load the model to be calibrated",
        "ONNX Runtime refused the float model with the nodes added that measure its tensors. The "
        "message holds what it said. If the float model alone does not load either, the cause is "
        "in the model; if it does, please report it.",
    ),
    "E275": Explanation(
        "NNCF does not quantize the model",
        "NNCF, which the profile asks for by `method: nncf`, stopped with the error that the "
        "message holds. Keep the nodes that it names in float by `keep_float`, or leave `method` "
        "out: the own quantizer takes every model in the normal form.",
    ),
}
