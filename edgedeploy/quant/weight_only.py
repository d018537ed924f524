"""Writing of models with integer weights and float activations (weight-only quantization).

Eight bits: one scale per output channel, made float by a DequantizeLinear before they are used.
Four bits: one scale per block of inputs, in matrix products; other layers get eight bits. Weights
are read from their file part by part and written one at a time, so that memory does not grow with
the model.
"""

from __future__ import annotations

from pathlib import Path

from edgedeploy.quant.layers import Layer, constant_of, find_layers, load_checked
from edgedeploy.quant.numerics import weight_scales
from edgedeploy.quant.products import BlockProducts, obstacle
from edgedeploy.quant.qdq import QuantizeReport, nothing_to_quantize, report_of
from edgedeploy.quant.scheme import Scheme
from edgedeploy.quant.selection import Exempt, check_patterns, choose
from edgedeploy.quant.storage import Storage, save


def write(model: Path, scheme: Scheme, folder: Path) -> QuantizeReport:
    """Write ``folder/model.onnx``, ``model`` with its weights as int8 or int4.

    Args:
        model: ONNX model in the normal form; no calibration is needed.
        scheme: What to quantize; its ``activations`` are ``float``.
        folder: Existing folder; big models also get ``model.onnx.data`` there.

    Raises:
        ModelError: Nothing can be quantized (E262), or see ``layers.load_checked``.
        ProfileError: A ``keep_float`` pattern matches no node (E266).
    """
    loaded = load_checked(model)
    graph = loaded.graph
    check_patterns(graph, scheme)
    layers, recurrent, kept = choose(graph, find_layers(graph), scheme, None)
    if not layers and not recurrent:
        raise nothing_to_quantize(kept)
    wider: list[Exempt] = []
    if scheme.block is not None:
        reasons = [(layer.node, obstacle(layer)) for layer in layers]
        reasons += [(node, f"{node.op_type} has no form with 4-bit weights") for node in recurrent]
        wider = [
            Exempt(node=str(node.name), op=node.op_type, reason=reason)
            for node, reason in reasons
            if reason is not None
        ]
    report = report_of([*(layer.node for layer in layers), *recurrent], kept, 0, wider)
    storage = Storage(graph, scheme)
    products = None if scheme.block is None else BlockProducts(storage, scheme.block)
    for layer in layers:
        if products is not None and obstacle(layer) is None:
            products.replace(layer)
        else:
            _store_bytes(storage, layer, scheme)
    for node in recurrent:
        storage.store_recurrent(node)
    storage.remove_unused()
    save(loaded, folder)
    return report


def _store_bytes(storage: Storage, layer: Layer, scheme: Scheme) -> None:
    """Store the weight of a layer as int8."""
    if layer.node.op_type == "Gather":
        storage.store_table(layer)
        return
    axis = layer.channel_axis if scheme.per_channel else None
    scales = weight_scales(constant_of(layer.weight).numpy(), axis, scheme.greatest_weight)
    position = list(layer.node.inputs).index(layer.weight)
    read = storage.read_weight(layer.weight, axis, scales, layer.node)
    layer.node.replace_input_with(position, read)
