"""4-bit weights keep their numbers on the way to the form that TensorRT takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, numpy_helper
from rtx_models import FLOAT, HALF, numbers, packed, save

from edgedeploy.backends.trt.four_bits import has_four_bits, spell_four_bits
from edgedeploy.backends.trt.program import MODEL, InterpretedRunner, write_program
from edgedeploy.errors import BuildError


@pytest.mark.parametrize("rows", [64, 40, 33])
@pytest.mark.parametrize("kind", [FLOAT, HALF])
def test_products_are_those_of_the_integers_and_scales(
    rows: int, kind: int, tmp_path: Path
) -> None:
    """The last block may be part of one: TensorRT would then read blocks of another size."""
    model, integers, scales = packed(rows, kind)
    (made,) = write_program(save(model, tmp_path / "given"), tmp_path)
    assert made == MODEL
    program = onnx.load(tmp_path / MODEL)
    onnx.checker.check_model(program, full_check=True)
    assert {node.op_type for node in program.graph.node} <= {"DequantizeLinear", "Slice", "MatMul"}
    stored = next(item for item in program.graph.initializer if item.data_type == TensorProto.INT4)
    assert stored.dims[0] % 32 == 0 and stored.dims[0] - rows < 32
    assert (numpy_helper.to_array(stored)[:rows].astype(np.int8) == integers).all()
    given = numbers(3, rows, dtype=scales.dtype)
    weight = integers * np.repeat(scales.astype(np.float64), 32, axis=0)[:rows]
    with InterpretedRunner(tmp_path) as runner:
        found = runner.run({"x": given})["y"]
    assert np.allclose(found, given @ weight, rtol=1e-2 if kind == HALF else 1e-5, atol=1e-2)
    assert found.dtype == scales.dtype


def test_a_weight_of_two_products_is_stored_once() -> None:
    model, _, _ = packed(64)
    twin = onnx.NodeProto()
    twin.CopyFrom(model.graph.node[0])
    twin.name, twin.output[0] = "twin", "z"
    model.graph.node.append(twin)
    second = model.graph.output.add()
    second.CopyFrom(model.graph.output[0])
    second.name = "z"
    loaded = ir.from_proto(model)
    spell_four_bits(loaded)
    assert not has_four_bits(loaded)
    ops = [node.op_type for node in loaded.graph]
    assert ops.count("DequantizeLinear") == 1 and ops.count("MatMul") == 2
    assert len(loaded.graph.initializers) == 2
    assert [value.name for value in loaded.graph.outputs] == ["y", "z"]


def test_other_models_are_copied_byte_by_byte(tmp_path: Path) -> None:
    from rtx_models import product

    source = save(product(), tmp_path / "given")
    source.with_name("model.onnx.data").write_bytes(b"weights")
    assert write_program(source, tmp_path) == (MODEL, f"{MODEL}.data")
    assert (tmp_path / MODEL).read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda model: model.graph.node[0].input.append("s"), "zero points"),
        (lambda model: setattr(model.graph.node[0].attribute[2], "i", 8), "not of 4 bits"),
        (lambda model: setattr(model.opset_import[0], "version", 17), "need opset 21"),
    ],
)
def test_forms_without_a_counterpart_are_refused(change, told: str) -> None:
    model, _, _ = packed(64)
    change(model)
    with pytest.raises(BuildError, match=told) as caught:
        spell_four_bits(ir.from_proto(model))
    assert caught.value.diagnostics[0].code == "E329"
