"""Which multiply-adds of an OpenVINO artifact run in integer kernels.

Kernels are those of the compiled model's own graph; operations and their shapes are those of the
IR at the sizes of one set of inputs. What lies in a body (``Loop``, ``If``) is listed without a
count, as that graph does not show how it is executed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from edgedeploy.backends.base import Arithmetic, ExecutedLayer
from edgedeploy.backends.inputs import Inputs
from edgedeploy.backends.ov.convert import MODEL
from edgedeploy.backends.ov.runner import OvRunner
from edgedeploy.backends.ov.runtime import load_runtime

# Where the weights and the recurrent weights of a node stand among its inputs.
_RECURRENT = {
    "LSTMSequence": (4, 5),
    "GRUSequence": (3, 4),
    "RNNSequence": (3, 4),
    "LSTMCell": (3, 4),
    "GRUCell": (2, 3),
    "RNNCell": (2, 3),
}
_CONVOLUTIONS = ("Convolution", "GroupConvolution")
_TRANSPOSED = ("ConvolutionBackpropData", "GroupConvolutionBackpropData")
_LAYERS = frozenset((*_CONVOLUTIONS, *_TRANSPOSED, "MatMul", *_RECURRENT))
_BODIES = ("Loop", "TensorIterator", "If")

# What the plugin calls the nodes that may do the work of a layer.
_KERNELS = ("Convolution", "Deconvolution", "FullyConnected", "MatMul", "RNN", "LSTM", "GRU")
# How many operations behind a layer may have given a kernel its name: a reshape and the addition.
_LONGEST_TAIL = 4
_FUSED = ("Subgraph", "ScaledDotProductAttention", "MHA")


@dataclass(frozen=True, slots=True)
class _Kernel:
    """A node of the executed graph: its kind and the implementation that was chosen."""

    kind: str
    implementation: str

    @property
    def integer(self) -> bool:
        """Whether it multiplies integers.

        The name ends in the type that is computed in (``brgemm_avx512_I8``); the precision beside
        it would be that of the weights, which may be made float first.
        """
        return self.implementation.rpartition("_")[2].lower() in ("i8", "u8")


def arithmetic(folder: Path, inputs: Inputs, *, device: str, precision: str) -> Arithmetic:
    """Return what a device computes on integers.

    Args:
        folder: What a compile wrote.
        inputs: One set of inputs.
        device: ``CPU``, ``GPU`` or ``NPU``.
        precision: What the device may compute floats in.

    Raises:
        BuildError: It does not load (E317), or the device is not in this machine (E324).
    """
    kernels: dict[str, _Kernel] = {}
    conversions = 0
    with OvRunner(folder, device=device, precision=precision) as runner:
        names = [spec.name for spec in runner.signature.inputs]
        for kind, implementation, made_of in runner.executed():
            conversions += kind == "FakeQuantize"
            if kind.startswith(_KERNELS + _FUSED):
                kernels.update((name, _Kernel(kind, implementation)) for name in made_of)
    model = load_runtime().Core().read_model(str(folder / MODEL))
    sized = _give_sizes(model, [inputs[name].shape for name in names])
    layers = [_layer(op, kernels, sized) for op in model.get_ordered_ops() if _holds_layers(op)]
    return Arithmetic(layers=tuple(layers), conversions=conversions)


def _give_sizes(model: Any, shapes: list[tuple[int, ...]]) -> bool:
    """Give the inputs these sizes; return False where the model does not take them as fixed."""
    runtime = load_runtime()
    try:
        model.reshape(
            {
                port: runtime.PartialShape(list(shape))
                for port, shape in zip(model.inputs, shapes, strict=True)
            }
        )
    except RuntimeError:
        return False
    return True


def _holds_layers(op: Any) -> bool:
    kind = op.get_type_name()
    if kind in _LAYERS:
        return True
    return kind in _BODIES and any(_holds_layers(inner) for inner in _inner(op))


def _inner(op: Any) -> Iterator[Any]:
    """Yield the operations in the bodies of one."""
    branches = op.get_type_name() == "If"
    for body in (op.get_function(0), op.get_function(1)) if branches else (op.get_function(),):
        yield from body.get_ordered_ops()


def _layer(op: Any, kernels: dict[str, _Kernel], sized: bool) -> ExecutedLayer:
    kernel = _kernel_of(op, kernels)
    kind = op.get_type_name()
    shapes_known = all(
        port.get_partial_shape().is_static for port in (*op.input_values(), *op.outputs())
    )
    return ExecutedLayer(
        name=op.get_friendly_name(),
        op=kernel.implementation if kernel else kind,
        integer=kernel is not None and kernel.integer,
        macs=multiply_adds(op) if sized and shapes_known and kind in _LAYERS else None,
    )


def _kernel_of(op: Any, kernels: dict[str, _Kernel]) -> _Kernel | None:
    """Return the executed node that an operation became part of.

    A matrix product whose bias is added to it may go by the name of the addition alone, or of what
    stands between the two.
    """
    for _ in range(_LONGEST_TAIL):
        found = kernels.get(op.get_friendly_name())
        if not op.get_output_size():
            return found
        readers = op.output(0).get_target_inputs()
        if found is not None or len(readers) != 1:
            return found
        op = next(iter(readers)).get_node()
    return None


def multiply_adds(op: Any) -> int:
    """Return the multiply-adds of a convolution, matrix product or recurrent node.

    Args:
        op: An OpenVINO operation with static shapes.
    """
    kind = op.get_type_name()
    first, result = _shape(op.input(0)), _shape(op.output(0))
    if kind in _CONVOLUTIONS:  # every weight is used once for every place of the result
        return prod(_shape(op.input(1))) * prod(result) // (result[1] or 1)
    if kind in _TRANSPOSED:
        return prod(_shape(op.input(1))) * prod(first) // (first[1] or 1)
    if kind in _RECURRENT:
        return prod(first[:-1]) * sum(prod(_shape(op.input(place))) for place in _RECURRENT[kind])
    transposed = len(first) > 1 and op.get_attributes()["transpose_a"]
    return prod(result) * first[-2 if transposed else -1]


def _shape(port: Any) -> list[int]:
    return list(port.get_shape())
