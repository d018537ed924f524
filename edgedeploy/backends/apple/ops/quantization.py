"""Conversion between floats and integers.

Core ML computes on integers where it finds ``quantize`` and ``dequantize`` around a float operation
whose weight is a ``constexpr``: the form of a QDQ model. It takes int8 and uint8, from iOS 17 on.
https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html,
https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgedeploy.backends.apple import dtypes, precision
from edgedeploy.backends.apple.mil_api import Var, mb, type_name
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.registry import op
from edgedeploy.backends.apple.weights import Packed, blocks, store

LIMITS: dict[str, tuple[int, int]] = {
    "int2": (-2, 1),
    "int4": (-8, 7),
    "int8": (-128, 127),
    "int16": (-(2**15), 2**15 - 1),
    "uint2": (0, 3),
    "uint4": (0, 15),
    "uint8": (0, 255),
    "uint16": (0, 2**16 - 1),
}
"""Lowest and highest value of the integers that can be converted to."""

EIGHT_BITS = ("int8", "uint8")


@op("QuantizeLinear", "com.microsoft.QuantizeLinear")
def quantize_linear(node: Node) -> Var:
    """Return ``clip(round(x / scale) + zero)``, rounded to even."""
    kind = node.made_dtype()
    if kind not in LIMITS:
        node.refuse(f"quantization to {kind}", "quantize to int8 or uint8")
    x = node.var(0)
    if not type_name(x).startswith("fp"):
        x = mb.cast(x=x, dtype="fp32")
    given = _given(node, kind, "fp16" if type_name(x) == "fp16" else "fp32")
    return quantized(node, x, given, kind)


@op("DequantizeLinear", "com.microsoft.DequantizeLinear")
def dequantize_linear(node: Node) -> Var:
    """Return ``(x - zero) * scale``; a constant of two axes or more stays integer in the file."""
    kind, wanted = node.dtype(0), node.made_dtype()
    if dtypes.held_as(wanted) is None:
        node.refuse(f"dequantization to {wanted}", "use float32 scales")
    integers = node.constant(0)
    held = {"float16": "fp16"}.get(wanted, "fp32")
    given = _given(node, kind, held)
    if integers is not None and isinstance(given.scale, np.ndarray):
        return _constant(node, integers, given)
    return dequantized(node, node.var(0, raw=True), given)


@op("DynamicQuantizeLinear")
def dynamic_quantize_linear(node: Node) -> tuple[Var, Var, Var]:
    """Return uint8 values, their scale and zero point, from the range of ``x`` and 0."""
    x = node.var(0)
    axes = list(range(len(x.shape)))
    low = mb.minimum(x=mb.reduce_min(x=x, axes=axes, keep_dims=False), y=np.float32(0))
    high = mb.maximum(x=mb.reduce_max(x=x, axes=axes, keep_dims=False), y=np.float32(0))
    scale = mb.real_div(x=mb.sub(x=high, y=low), y=np.float32(255))
    # All zeros have no range: the runtime takes a scale of 1 then, and the specification is silent.
    empty = mb.cast(x=mb.equal(x=scale, y=np.float32(0)), dtype="fp32")
    scale = mb.add(x=scale, y=empty)
    zero = mb.round(x=mb.real_div(x=mb.sub(x=np.float32(0), y=low), y=scale))
    zero = mb.cast(x=mb.clip(x=zero, alpha=0.0, beta=255.0), dtype="int32")
    given = Parameters(scale=scale, zero=zero, axis=None)
    return quantized(node, x, given, "uint8"), scale, zero


class Parameters:
    """Scale and zero point of a conversion.

    Args:
        scale: An array in the float type that is converted to or from, or a MIL value.
        zero: An int64 array or a MIL value; None for 0.
        axis: The axis that a vector belongs to; None where there is one scale for all.
        block: Elements along ``axis`` that share an entry, where the scale has all axes; else 0.
    """

    def __init__(self, *, scale: Any, zero: Any, axis: int | None, block: int = 0) -> None:
        self.scale = scale
        self.zero = zero
        self.axis = axis
        self.block = block

    def along(self, value: Any, shape: tuple[Any, ...]) -> Any:
        """Return a scale or zero point so that it broadcasts with a tensor of this shape."""
        rank = len(shape)
        if self.block and self.axis is not None:
            whole = np.repeat(value, self.block, self.axis)
            return np.take(whole, range(int(shape[self.axis])), self.axis)
        if self.axis is None or rank < 2:
            return value
        form = [-1 if axis == self.axis else 1 for axis in range(rank)]
        if isinstance(value, np.ndarray):
            return value.reshape(form)
        return mb.reshape(x=value, shape=[-1 if size < 0 else size for size in form])

    def constant(self) -> bool:
        """Return whether both are known and no blocks: what MIL's own operations want."""
        known = isinstance(self.scale, np.ndarray) and not self.block
        return bool(known and (self.zero is None or isinstance(self.zero, np.ndarray)))


def _given(node: Node, kind: str, held: str) -> Parameters:
    """Return a node's inputs 1 and 2 as parameters; vectors of one entry are scalars."""
    scale: Any = node.constant(1)
    zero: Any = node.constant(2) if node.given(2) else None
    if zero is not None:
        zero = zero.astype(np.float32 if kind.startswith("float") else np.int64)
    elif node.given(2):
        zero = node.var(2)
    if scale is None:
        scale = mb.cast(x=node.var(1), dtype=held)
    else:
        scale = scale.astype({"fp16": np.float16}.get(held, np.float32))
    shape, rank = tuple(scale.shape), node.rank(0)
    if shape in ((), (1,)):
        scale = _scalar(scale)
        return Parameters(scale=scale, zero=None if zero is None else _scalar(zero), axis=None)
    axis = node.axis(node.attribute("axis", 1), rank)
    block = int(node.attribute("block_size", 0)) if len(shape) > 1 else 0
    if len(shape) > 1 and not block:
        node.refuse(f"a scale of shape {list(shape)}", "use one scale per tensor, channel or block")
    if block and not (isinstance(scale, np.ndarray) and isinstance(zero, (np.ndarray, type(None)))):
        node.refuse("scales per block that are computed", "feed constant scales")
    return Parameters(scale=scale, zero=zero, axis=axis, block=block)


def _scalar(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.reshape(())
    return mb.squeeze(x=value, axes=[0]) if value.shape else value


def quantized(node: Node, x: Var, given: Parameters, kind: str) -> Var:
    """Return float values as integers: int8 and uint8 where MIL has them, else int32."""
    low, high = LIMITS[kind]
    if kind in EIGHT_BITS and given.constant() and node.ios >= 17 and x.shape:
        zero = None if given.zero is None or not given.zero.any() else given.zero.astype(kind)
        return mb.quantize(
            input=x,
            scale=_plain(given.scale),
            zero_point=None if zero is None else _plain(zero),
            axis=None if given.axis is None else np.int32(given.axis),
            output_dtype=kind,
        )
    wide = high > LIMITS["uint8"][1]
    with precision.float32(wide):
        shape = tuple(x.shape)
        found = mb.round(x=mb.real_div(x=x, y=given.along(given.scale, shape)))
        if given.zero is not None:
            zero = given.along(given.zero, shape)
            found = mb.add(x=found, y=_as_float(zero, x))
        found = mb.clip(x=found, alpha=float(low), beta=float(high))
        return mb.cast(x=found, dtype="int32")


def dequantized(node: Node, x: Var, given: Parameters) -> Var:
    """Return integers that are computed as floats.

    Args:
        node: The node.
        x: int8, uint8 or int32.
        given: Scale and zero point.
    """
    kind = type_name(x)
    if kind in EIGHT_BITS and given.constant() and node.ios >= 17 and x.shape:
        zero = None if given.zero is None or not given.zero.any() else given.zero.astype(kind)
        return mb.dequantize(
            input=x,
            scale=_plain(given.scale),
            zero_point=None if zero is None else _plain(zero),
            axis=None if given.axis is None else np.int32(given.axis),
        )
    # Integers of more than 11 bits have no exact value in 16-bit floats.
    with precision.float32(node.dtype(0) in ("int16", "uint16", "int32")):
        shape = tuple(x.shape)
        if given.zero is not None:
            if kind in EIGHT_BITS:
                x = mb.cast(x=x, dtype="int32")
            zero = given.along(given.zero, shape)
            zero = zero.astype(np.int32) if isinstance(zero, np.ndarray) else zero
            x = mb.sub(x=x, y=zero)
        scale = given.along(given.scale, shape)
        half = scale.dtype == np.float16 if isinstance(scale, np.ndarray) else False
        return mb.mul(x=mb.cast(x=x, dtype="fp16" if half else "fp32"), y=scale)


def _as_float(value: Any, like: Var) -> Any:
    half = type_name(like) == "fp16"
    if isinstance(value, np.ndarray):
        return value.astype(np.float16 if half else np.float32)
    return mb.cast(x=value, dtype="fp16" if half else "fp32")


def _plain(array: np.ndarray) -> Any:
    """Return an array, or the scalar that an array of rank 0 is."""
    return array if array.ndim else array[()]


def _constant(node: Node, integers: np.ndarray, given: Parameters) -> Var:
    """Return a constant as a weight that stays integer; in float where it is a vector or wide."""
    kind = node.dtype(0)
    narrow = kind in LIMITS and kind not in ("int16", "uint16")
    if integers.ndim < 2 or not integers.size or not narrow:
        # Biases are int32 or few: MIL wants them as plain constants.
        shape = integers.shape
        centred = integers.astype(np.float64)
        if given.zero is not None:
            centred = centred - given.along(given.zero, shape).astype(np.float64)
        scale = given.along(given.scale, shape)
        return mb.const(val=(centred * scale.astype(np.float64)).astype(scale.dtype))
    return kept(node, constant_weight(integers, given, bits=8 if kind in EIGHT_BITS else 4))


def constant_weight(integers: np.ndarray, given: Parameters, *, bits: int = 8) -> Packed:
    """Return a constant weight with parameters per tensor, channel or block.

    Args:
        integers: Of at least one axis and up to 8 bits.
        given: Constant parameters.
        bits: 8 or 4.
    """
    dtype = np.dtype(np.uint8 if integers.dtype.name.startswith("u") else np.int8)

    def formed(value: np.ndarray) -> np.ndarray:
        if given.block and given.axis is not None:
            return blocks(value, given.axis, given.block, integers.shape[given.axis])
        return value.reshape([-1 if axis == given.axis else 1 for axis in range(integers.ndim)])

    zero = given.zero if given.zero is not None and given.zero.any() else None
    return Packed(
        integers=integers.astype(dtype),
        bits=bits,
        scale=formed(given.scale),
        zero=None if zero is None else formed(zero).astype(dtype),
    )


def kept(node: Node, packed: Packed) -> Var:
    """Return the operation that holds a weight; refuse the node where this iOS has none."""
    stored = store(packed, node.ios)
    if stored is None:
        node.refuse(
            "weights with one scale per block",
            "target iOS 18 or macOS 15, or use one scale per channel (`quantize: w8`)",
        )
    return stored
