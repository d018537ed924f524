"""Writing of models with int8 weights and float activations (weight-only quantization).

Weights are stored as int8 with one scale per output channel and made float by a DequantizeLinear
before they are used: the file shrinks, the arithmetic stays.
"""

from __future__ import annotations

from pathlib import Path

from edgedeploy.quant.layers import constant_of, find_layers, load_checked
from edgedeploy.quant.numerics import weight_scales
from edgedeploy.quant.qdq import QuantizeReport, nothing_to_quantize, report_of
from edgedeploy.quant.scheme import Scheme
from edgedeploy.quant.selection import check_patterns, choose
from edgedeploy.quant.storage import Storage, save


def write(model: Path, scheme: Scheme, folder: Path) -> QuantizeReport:
    """Write ``folder/model.onnx``, ``model`` with its weights as int8.

    Args:
        model: ONNX model in the normal form; no calibration is needed.
        scheme: What to quantize; its ``activations`` are ``float``.
        folder: Existing folder; big models also get ``model.data`` there.

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
    storage = Storage(graph, scheme)
    for layer in layers:
        if layer.node.op_type == "Gather":
            storage.store_table(layer)
            continue
        axis = layer.channel_axis if scheme.per_channel else None
        scales = weight_scales(constant_of(layer.weight).numpy(), axis, scheme.weight_bits)
        position = list(layer.node.inputs).index(layer.weight)
        read = storage.read_weight(layer.weight, axis, scales, layer.node)
        layer.node.replace_input_with(position, read)
    for node in recurrent:
        storage.store_recurrent(node)
    storage.remove_unused()
    save(loaded, folder)
    return report_of([*(layer.node for layer in layers), *recurrent], kept, 0)
