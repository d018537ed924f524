"""One converter on one model, in a process of its own: ``run.py TOOL MODEL PACKAGE``.

Prints JSON: seconds from the loaded ONNX file to the saved package, imports left out, or the error.
``run.py TOOL`` prints the operators that the tool has a translation for.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

IOS = 17


def ours() -> tuple[Callable[[Path, Path], None], list[str]]:
    """Return edgedeploy's converter and its operators."""
    import onnx_ir as ir

    from edgedeploy.backends.apple.package import save
    from edgedeploy.backends.apple.registry import translations
    from edgedeploy.backends.apple.translate import translate

    def convert(model: Path, package: Path) -> None:
        made = save(translate(ir.load(model), ios=IOS), package.parent)
        made.rename(package)

    return convert, sorted(translations())


def onnx2coreml() -> tuple[Callable[[Path, Path], None], list[str]]:
    """Return onnx2coreml and its operators."""
    import onnx
    import onnx2coreml as tool
    from onnx2coreml._coverage import supported_ops

    def convert(model: Path, package: Path) -> None:
        tool.convert(onnx.load(model), minimum_deployment_target=f"iOS{IOS}").save(str(package))

    return convert, sorted(name.rpartition("::")[2] for name in supported_ops())


def onnxsim() -> tuple[Callable[[Path, Path], None], list[str]]:
    """Return the Core ML exporter of onnxsim and its operators."""
    import onnx
    from onnxsim import coreml_export as tool

    def convert(model: Path, package: Path) -> None:
        made = tool.convert_to_coreml(onnx.load(model), minimum_deployment_target=f"iOS{IOS}")
        made.save(str(package))

    return convert, sorted(tool.SUPPORTED_ONNX_OPS)


def onnx2torch() -> tuple[Callable[[Path, Path], None], list[str]]:
    """Return onnx2torch followed by coremltools' torch front end, and onnx2torch's operators."""
    import coremltools as ct
    import onnx
    import torch

    # It imports torchvision for two operators that no model here has.
    vision, operators = types.ModuleType("torchvision"), types.ModuleType("torchvision.ops")
    vars(operators).update(nms=None, roi_align=None)
    vars(vision).update(ops=operators)
    sys.modules.update({"torchvision": vision, "torchvision.ops": operators})
    import onnx2torch as tool
    from onnx2torch.node_converters.registry import _CONVERTER_REGISTRY

    def convert(model: Path, package: Path) -> None:
        proto = onnx.load(model)
        inputs = []
        for item in proto.graph.input:
            sizes = [dim.dim_value for dim in item.type.tensor_type.shape.dim]
            kind = onnx.helper.tensor_dtype_to_np_dtype(item.type.tensor_type.elem_type)
            inputs.append(torch.zeros(sizes, dtype=getattr(torch, kind.name)))
        traced = torch.jit.trace(tool.convert(proto).eval(), tuple(inputs))
        made = ct.convert(
            traced,
            inputs=[ct.TensorType(shape=tuple(item.shape)) for item in inputs],
            minimum_deployment_target=getattr(ct.target, f"iOS{IOS}"),
            skip_model_load=True,
        )
        made.save(str(package))

    return convert, sorted({item.operation_type for item in _CONVERTER_REGISTRY})


TOOLS = {"ours": ours, "onnx2coreml": onnx2coreml, "onnxsim": onnxsim, "onnx2torch": onnx2torch}


def main(words: list[str]) -> dict[str, Any]:
    """Run what the command line asks for; return what to print."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    convert, operators = TOOLS[words[0]]()
    if len(words) == 1:
        return {"operators": operators}
    model, package = map(Path, words[1:])
    started = time.perf_counter()
    try:
        convert(model, package)
    except Exception as error:  # noqa: BLE001 - whatever a converter raises is its answer
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    return {"seconds": time.perf_counter() - started}


if __name__ == "__main__":
    answer = main(sys.argv[1:])
    print(json.dumps(answer))
