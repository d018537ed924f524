"""Codes of both TensorRT families (E326-E329, E334-E339)."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E326": Explanation(
        "TensorRT for RTX is not installed",
        "Its parser and builder come with the package `tensorrt-rtx-cu13`, for Linux on x86-64 and "
        "arm64, and need no GPU. Install the extra `[tensorrt-rtx]`, or leave the target out.",
    ),
    "E327": Explanation(
        "The parser refuses a node",
        "The parser of TensorRT for RTX has no layer for the operator, or not for the types or "
        "attributes of this node; its own words are shown, and all such nodes are named at once. "
        "Bind the model's dims, choose another `quantize:`, replace the node by other operators, "
        "or move it out of the model into the app.",
    ),
    "E328": Explanation(
        "The builder makes no engine",
        "The parser took the graph, and no kernel was found for a part of it on one of the "
        "compute capabilities that were asked for. The last messages of the builder are shown, "
        "with the node where they name one. Choose another `quantize:`, keep the node in float "
        "(`keep_float`), or leave out the compute capability.",
    ),
    "E329": Explanation(
        "The graph has types that TensorRT does not take",
        "Networks are strongly typed: what is computed in which type stands in the graph, and "
        "types must agree. Found before the parser is asked: integers other than int8, int4 and "
        "fp8 under a DequantizeLinear, zero points other than zero, types without a tensor in "
        "TensorRT, operands of one node in several float types. Quantize the float model with "
        "this target's own scheme, instead of bringing a model that was quantized for another.",
    ),
    "E334": Explanation(
        "An engine cannot be made for a compute capability",
        "The builder does not know the capability, or has no kernels there for a type that the "
        "graph uses: fp8 needs 8.9, float32 matrix products do not exist on 7.5 (Turing). Choose "
        "other `compute_capabilities`, or another `quantize:`.",
    ),
    "E335": Explanation(
        "An optimisation profile cannot be made",
        "An engine holds for sizes between a lowest and a highest one of every open dim and is "
        "tuned for one of them. A dim is open and the profile gives it no limits, or the size to "
        "tune for lies outside of them. Give it a size, a range or buckets under `dims:` or in the "
        "input's `shape:`, and let `opt` name sizes within.",
    ),
}
