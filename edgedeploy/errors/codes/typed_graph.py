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
        "graph uses: fp8 needs 8.9, float32 matrix products do not exist on 7.5 (Turing), "
        "NonMaxSuppression for none: leave that to the app there (`nms: app`). Else use another "
        "`quantize:`, or the target of another board.",
    ),
    "E335": Explanation(
        "An optimisation profile cannot be made",
        "An engine holds for sizes between a lowest and a highest one of every open dim and is "
        "tuned for one of them. A dim is open and the profile gives it no limits, or the size to "
        "tune for lies outside of them. Give it a size, a range or buckets under `dims:` or in the "
        "input's `shape:`, and let `opt` name sizes within.",
    ),
    "E336": Explanation(
        "The TensorRT of the device lacks an option",
        "Options come and go with releases, and an option that a release does not know, or takes "
        "without effect, is never sent to it: DLA cores for instance are not there from 10.8 to "
        "11.4.0, and trtexec 8.6 builds no second optimisation profile. The message says "
        "from which release to which it works. Leave the option out, or use a device with such a "
        "TensorRT; docs/tensorrt-options.md has the whole table.",
    ),
    "E337": Explanation(
        "The TensorRT of the device is of no known line",
        "Engines are built with TensorRT 8.6, 10.x and 11.x: what other releases understand by an "
        "option was not read. Use a device with one of these; JetPack 6 and later bring them.",
    ),
    "E338": Explanation(
        "An option does not fit the board or the program",
        "What the option asks for is not there: a DLA core that the board does not have or that "
        "would compute in float32, sparse kernels or engines for other GPUs below compute "
        "capability 8.0, a workspace of less than 1 MiB. Or a name in the model cannot be written "
        "on the command line of trtexec. Change the option, or the name.",
    ),
    "E339": Explanation(
        "TensorRT refuses the program",
        "The builder on the device ended without an engine. Its own words are shown, with the "
        "node where they name one, and the last lines of its log are kept in the report. Where a "
        "layer has no kernel, choose another `quantize:` or keep the node in float "
        "(`keep_float`); where memory ran out, set `workspace` lower or free some on the device.",
    ),
}
