"""Quantization schemes: which nodes become integer, and how their numbers are represented."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from edgedeploy.errors import ProfileError
from edgedeploy.profile.types import QuantizeSpec, RangeMethod, Rounding

Role = Literal["first", "last", "depthwise"]

GREATEST_FLOAT8 = 448
"""The greatest float8e4m3fn. Source: Micikevicius et al., FP8 Formats for Deep Learning
(arXiv:2209.05433), table 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How weights and activations are represented. Weights are symmetric, zero point 0.

    Attributes:
        weights: ``int8``, ``int4``, ``float8`` (e4m3, activations alike) or ``float``.
        activations: ``static8`` and ``static16`` take calibrated ranges, ``dynamic`` finds the
            8-bit range of each activation at run time, ``float`` leaves activations alone
            (weight-only).
        block: Elements of a weight's input axis that share one scale; None: the whole axis does.
            Weight-only schemes alone have blocks.
        activation_dtype: ``uint8`` or ``int8``; with ``static16`` the same signedness in 16 bits.
        ranges: ``minmax`` represents everything that was seen; ``average`` takes the mean over
            samples (or sequences) of their extremes, and clips what only rare ones reach; the
            others come from histograms, ``choose`` takes the best of all for each tensor.
        symmetric: Whether the zero point of activations is the middle of the range.
        per_channel: One weight scale per output channel where the op allows it, else one in all.
        weight_bits: 8, or 7 where 16-bit accumulators would saturate (x86 without VNNI).
        rounding: ``nearest``, or ``second-order``: weights are rounded so that the errors of a
            product make up for one another on the calibration data (calibrated schemes alone).
        bias_correction: Whether what rounding does to the mean of a layer's results is taken out
            of its bias (calibrated schemes alone).
        smooth: Whether large channels of the activations of matrix products are divided, and the
            weights multiplied, where that lets expect less noise (calibrated schemes alone).
        quantize_bias: Bias as int32 with scale ``activation scale * weight scale``; False leaves
            it in float.
        ops: Layer ops (``Conv``, ``Gemm`` ...) that become integer.
        gather: Tables that ``Gather`` looks rows up in (embeddings) become int8 with one scale
            per column; what was looked up is float again.
        recurrent: What becomes of the weights of ``LSTM``, ``GRU`` and ``RNN``: ``weights``
            stores them as int8 and makes them float before they are used; ``integer`` does so too,
            save that an LSTM computes on them, with ranges found at run time; ``float`` keeps them.
        elementwise: Ops without weights that become integer where operands and result are
            quantized anyway (``Add``, ``Concat`` ...).
        quantized_outputs: Layer ops whose result is quantized as well, because the runtime has
            no integer kernel for them with a float result.
        bias_always: Whether a convolution without a bias gets one, of a single unit of its int32
            accumulator in the first channel (far below the rounding of 8 bits).
        keep_float: Names or glob patterns of nodes that stay in float.
        keep_float_ops: Op types that stay in float.
        keep_float_roles: ``first``: layers that read a graph input; ``last``: layers whose
            result reaches an output without another layer; ``depthwise``: depthwise convolutions.
    """

    weights: Literal["int8", "int4", "float8", "float"] = "int8"
    activations: Literal["static8", "static16", "dynamic", "float"] = "static8"
    block: int | None = None
    activation_dtype: Literal["uint8", "int8"] = "uint8"
    ranges: RangeMethod = "average"
    symmetric: bool = False
    per_channel: bool = True
    weight_bits: Literal[7, 8] = 8
    rounding: Rounding = "nearest"
    bias_correction: bool = False
    smooth: bool = False
    quantize_bias: bool = True
    ops: tuple[str, ...] = ("Conv", "Gemm", "MatMul")
    gather: bool = True
    recurrent: Literal["integer", "weights", "float"] = "integer"
    elementwise: tuple[str, ...] = ("Add", "AveragePool", "Concat", "GlobalAveragePool")
    quantized_outputs: tuple[str, ...] = ("Conv",)
    bias_always: bool = False
    keep_float: tuple[str, ...] = ()
    keep_float_ops: tuple[str, ...] = ()
    keep_float_roles: tuple[Role, ...] = ()

    @property
    def greatest_weight(self) -> int:
        """What the largest element of a weight that shares a scale becomes, such as 127."""
        return GREATEST_FLOAT8 if self.weights == "float8" else 2 ** (self.weight_bits - 1) - 1

    @property
    def calibrated(self) -> bool:
        """Whether the scheme needs a calibration table."""
        return self.activations in ("static8", "static16")

    @property
    def needs_moments(self) -> bool:
        """Whether the scheme needs the second moments of activations."""
        return self.calibrated and self.rounding == "second-order"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON data."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Scheme:
        """Return the scheme whose fields, tuples as lists, are ``data``."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        return cls(**values)

    def keeps(self, name: str) -> bool:
        """Return whether a node of this name stays in float."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.keep_float)


# Symmetric int8 only, no int32 bias. Source: NVIDIA TensorRT Developer Guide, "Working with
# Quantized Types" (explicit quantization). Integer lookups and recurrent weights are untried.
_TENSORRT: Mapping[str, Any] = {
    "activation_dtype": "int8",
    "symmetric": True,
    "quantize_bias": False,
    "ops": ("Conv", "ConvTranspose", "Gemm", "MatMul"),
    "gather": False,
    "recurrent": "float",
    "quantized_outputs": (),
}

RUNTIME_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    # uint8 activations with int8 weights are the pair with the fastest kernels and fusions on
    # both x86 and arm64; signed activations leave convolutions behind a Relu in float.
    # Source: ONNX Runtime documentation, "Quantize ONNX models", section "Data type selection";
    # kernel counts in the optimised graph.
    "ort": {},
    # Fuses float epilogues into integer convolutions, so only operands are quantized. Source:
    # OpenVINO documentation, "Low Precision Transformations"; int8 deconvolution exists.
    # bias_always: on dynamic shapes OpenVINO 2026.4.1 computes wrong values where several nodes
    # read the float result of an integer convolution that has no bias, or a bias of zeros.
    # recurrent: it has no integer LSTM, and its CPU plugin (2026.4.1) refuses one whose weights are
    # stored as int8 in a model that also has quantized activations.
    "openvino": {
        "ops": ("Conv", "ConvTranspose", "Gemm", "MatMul"),
        "quantized_outputs": (),
        "bias_always": True,
        "recurrent": "float",
    },
    "tensorrt": _TENSORRT,
    "tensorrt-rtx": _TENSORRT,
    # Symmetric int8 in front of convolutions, linear layers, pools and additions, biases in float:
    # the form that coremltools' own activation quantizer writes
    # (insert_prefix_quantize_dequantize_pair of coremltools 9.0). No recurrent operation computes
    # on integers.
    "coreml": {
        "activation_dtype": "int8",
        "symmetric": True,
        "quantize_bias": False,
        "ops": ("Conv", "ConvTranspose", "Gemm", "MatMul"),
        "elementwise": ("Add", "AveragePool", "GlobalAveragePool"),
        "recurrent": "weights",
        "quantized_outputs": (),
    },
}
"""Scheme fields by runtime id where they differ from :class:`Scheme`'s own defaults."""

# Costs a pass over the calibration data and (almost) no time on the device: docs/weights.md has the
# gains on five models.
_REFINED: Mapping[str, Any] = {
    "rounding": "second-order",
    "bias_correction": True,
    "smooth": True,
}

MODES: Mapping[str, Mapping[str, Any]] = {
    "auto": _REFINED,
    "w8a8": _REFINED,
    # No runtime here has integer kernels for 16 bits: only what a layer reads is rounded, and the
    # bias is added in float.
    "w8a16": {
        **_REFINED,
        "activations": "static16",
        "quantize_bias": False,
        "elementwise": (),
        "quantized_outputs": (),
    },
    # A float8 has a range of its own, so that nothing is clipped. What else a layer adds stays in
    # float. Source: NVIDIA TensorRT documentation, "Working with Quantized Types" (FP8).
    "fp8": {
        "weights": "float8",
        "ranges": "minmax",
        "symmetric": True,
        "quantize_bias": False,
        "ops": ("Conv", "Gemm", "MatMul"),
        "gather": False,
        "recurrent": "float",
        "elementwise": (),
        "quantized_outputs": (),
    },
    "w8": {"activations": "float", "recurrent": "weights"},
    "w4": {"activations": "float", "weights": "int4", "block": 32, "recurrent": "weights"},
    "dynamic": {"activations": "dynamic"},
}
"""Scheme fields by the profile's ``quantize: mode``; they go before the target's."""

_NAMES = {field.name for field in fields(Scheme)}


def scheme_for(spec: QuantizeSpec, target_defaults: Mapping[str, Any]) -> Scheme:
    """Return the scheme of a profile's ``quantize:`` on one target.

    Args:
        spec: What the profile says; what it leaves open comes from the target.
        target_defaults: Scheme fields by name, as lists or tuples, as a target file states them.

    Raises:
        ProfileError: ``target_defaults`` has a field that no scheme has (E265).
        KeyError: The mode is none of :data:`MODES`: it needs no scheme.
    """
    unknown = sorted(set(target_defaults) - _NAMES)
    if unknown:
        raise ProfileError(
            f"the target states {unknown[0]!r}, which is no field of a quantization scheme",
            code="E265",
            subject=unknown[0],
            hint=f"Known fields: {', '.join(sorted(_NAMES))}.",
        )
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, (list, tuple)) else value
        for name, value in target_defaults.items()
    }
    scheme = Scheme(**{**values, **MODES[spec.mode]})
    if spec.ranges is not None:
        scheme = replace(scheme, ranges=spec.ranges)
    if spec.symmetric_activations is not None:
        scheme = replace(scheme, symmetric=spec.symmetric_activations)
    if spec.activation_dtype is not None:
        scheme = replace(scheme, activation_dtype=spec.activation_dtype)
    if spec.weight_bits is not None:
        scheme = replace(scheme, weight_bits=spec.weight_bits)
    if spec.rounding is not None:
        scheme = replace(scheme, rounding=spec.rounding)
    if spec.bias_correction is not None:
        scheme = replace(scheme, bias_correction=spec.bias_correction)
    if spec.smooth is not None:
        scheme = replace(scheme, smooth=spec.smooth)
    if spec.per_channel is not None:
        scheme = replace(scheme, per_channel=spec.per_channel)
    return replace(
        scheme,
        keep_float=(*scheme.keep_float, *spec.keep_float),
        keep_float_ops=(*scheme.keep_float_ops, *spec.keep_float_ops),
    )
