"""From an ONNX model to the outputs of its saved Core ML package, without a store."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from edgedeploy.backends.apple.package import save
from edgedeploy.backends.apple.runner import CoreMlRunner
from edgedeploy.backends.apple.translate import Translation, translate
from edgedeploy.errors import ModelError
from edgedeploy.passes.normalise import NormaliseOptions, normalise


class Converted:
    """A converted model, ready to run.

    Args:
        model: The ONNX model, of any form.
        ios: Major version of iOS.
        precision: ``float32`` or ``float16``.
        constants: Inputs that become constants, by name.
        ranges: Lowest and highest size by the name of an open dim.
        folder: Where to leave the package; a temporary folder by default.

    Raises:
        ModelError, BuildError: As a build would.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        *,
        ios: int = 17,
        precision: str = "float32",
        constants: Mapping[str, np.ndarray] | None = None,
        ranges: Mapping[str, tuple[int, int]] | None = None,
        folder: Path | None = None,
    ) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            place = folder or Path(scratch)
            normal = place / "normal"
            normal.mkdir()
            onnx.save(_with_constants(model, constants or {}), place / "source.onnx")
            _normalise(place / "source.onnx", normal)
            self.normal = onnx.load(normal / "model.onnx")
            self.translation: Translation = translate(ir.load(normal / "model.onnx"), ios=ios)
            save(self.translation, place, precision=precision, ranges=ranges)
            self.translation.interface.write(place)
            self.runner = CoreMlRunner(place)
        self.program = self.runner.program

    def kinds(self) -> set[str]:
        """Return the kinds of MIL operations in the package."""
        from edgedeploy.mil.interpreter import operations

        return {item.kind for item in operations(self.program.body)}

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs by their ONNX names, in their ONNX types."""
        return self.runner.run(inputs)


def _normalise(source: Path, folder: Path) -> None:
    """Write the normal form, also of a model that the reference runtime has no kernels for.

    It is asked last, when the normal form is written, and Core ML does not need it.
    """
    try:
        normalise(source, folder, NormaliseOptions())
    except ModelError as error:
        if {item.code for item in error.diagnostics} != {"E225"}:
            raise


def _with_constants(model: onnx.ModelProto, constants: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    kept = [item for item in changed.graph.input if item.name not in constants]
    del changed.graph.input[:]
    changed.graph.input.extend(kept)
    for name, array in constants.items():
        changed.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return changed


def one_node(
    op: str,
    inputs: Mapping[str, np.ndarray | None],
    outputs: Mapping[str, Any],
    *,
    opset: int = 21,
    **attributes: Any,
) -> onnx.ModelProto:
    """Return a model of one node.

    Args:
        op: The operator.
        inputs: Sample arrays by name, whose types and shapes become the inputs'; None for an
            optional input that is left out.
        outputs: Dtype of each output by name.
        opset: Version of the standard domain.
        attributes: Attributes of the node.
    """
    names = [name if array is not None else "" for name, array in inputs.items()]
    node = onnx.helper.make_node(op, names, list(outputs), name=f"the_{op.lower()}", **attributes)
    graph = onnx.helper.make_graph(
        [node],
        "one",
        [
            onnx.helper.make_tensor_value_info(
                name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in inputs.items()
            if array is not None
        ],
        [
            onnx.helper.make_tensor_value_info(
                name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), None
            )
            for name, dtype in outputs.items()
        ],
    )
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10
    )
