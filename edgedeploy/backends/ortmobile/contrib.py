"""Operators outside the standard that older runtimes have.

Fusions make operators of the domain ``com.microsoft``, whose opset version stays 1, so that a
file does not say which runtime it needs. Source: kernel registry of onnxruntime 1.17.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgedeploy.errors import BuildError

_NAMES = (
    "Attention AttnLSTM BeamSearch BiasGelu BifurcationDetector CDist "
    "ConvTransposeWithDynamicPads CropAndResize DequantizeLinear DynamicQuantizeLSTM "
    "DynamicQuantizeMatMul EmbedLayerNormalization ExpandDims FastGelu FusedConv FusedGemm "
    "FusedMatMul GatherND Gelu GreedySearch GridSample Inverse MatMulBnb4 MatMulFpQ4 "
    "MatMulInteger16 MatMulIntegerToFloat MatMulNBits MaxpoolWithMask MultiHeadAttention "
    "MurmurHash3 NGramRepeatBlock NhwcMaxPool Pad QAttention QEmbedLayerNormalization QGemm "
    "QLinearAdd QLinearAveragePool QLinearConcat QLinearConv QLinearGlobalAveragePool "
    "QLinearLeakyRelu QLinearMul QLinearSigmoid QLinearSoftmax QLinearWhere QuantizeLinear "
    "QuickGelu Range RotaryEmbedding SampleOp Sampling SkipLayerNormalization "
    "SkipSimplifiedLayerNormalization SparseToDenseMatMul Tokenizer TransposeMatMul Trilu Unique "
    "WhisperBeamSearch WordConvEmbedding "
)
_KNOWN = frozenset(f"com.microsoft:{name}" for name in _NAMES.split())


def check_fused(kernels: Mapping[str, int], given: Iterable[str], oldest: str) -> None:
    """Refuse an artifact with a fused operator that the oldest runtime may not have.

    Args:
        kernels: ``domain:Op`` -> count in the artifact.
        given: ``domain:Op`` of the model before optimisation; these are the user's own choice.
        oldest: The target's oldest runtime.

    Raises:
        BuildError: A fusion made an operator that is not in 1.17 (E304).
    """
    own = set(given)
    for name in kernels:
        if name.startswith("com.microsoft:") and name not in _KNOWN and name not in own:
            raise BuildError(
                f"a fusion made {name}, which onnxruntime {oldest} may not have",
                code="E304",
                subject=name,
                hint="set optimization_style: runtime, or raise the oldest runtime of the target",
            )
