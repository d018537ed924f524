"""Calibration tables that are kept: whose they are, and that a change is seen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper
from quant_support import build, pack

from edgedeploy.data.pack import PackReader, PackWriter
from edgedeploy.errors import DataError
from edgedeploy.quant.calibrate import calibrate
from edgedeploy.quant.identity import model_digest
from edgedeploy.quant.table import CalibrationTable

GENERATOR = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return GENERATOR.normal(size=shape).astype(np.float32)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    nodes = [helper.make_node("Gemm", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    return build(tmp_path, nodes, {"w": normal(4, 3)}, {"x": ("n", 4)}, ["y"])


def identity(path: Path) -> str:
    return model_digest(ir.load(path))


def refused(function, *arguments, code: str = "E263") -> DataError:
    with pytest.raises(DataError) as caught:
        function(*arguments)
    (found,) = caught.value.diagnostics
    assert found.code == code
    assert found.hint
    return caught.value


def test_a_table_is_of_one_model(model: Path, tmp_path: Path) -> None:
    samples = pack(tmp_path / "p", [{"x": normal(2, 4)} for _ in range(3)])
    table = calibrate(model, samples, tmp_path / "t.json")
    CalibrationTable.read(tmp_path / "t.json").check_model(identity(model))
    other = onnx.load(model)
    weight = numpy_helper.to_array(other.graph.initializer[0]).copy()
    weight[0, 0] = np.nextafter(weight[0, 0], np.float32(9))
    other.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))
    onnx.save(other, tmp_path / "other.onnx")
    wanted = identity(tmp_path / "other.onnx")
    error = refused(table.check_model, wanted)
    assert table.model[:16] in str(error) and wanted[:16] in str(error)


def test_how_a_model_is_stored_does_not_count(model: Path, tmp_path: Path) -> None:
    loaded = ir.load(model)
    loaded.doc_string = "a note"
    (tmp_path / "far").mkdir()
    ir.save(loaded, tmp_path / "far/m.onnx", external_data="w.bin", size_threshold_bytes=0)
    assert identity(tmp_path / "far/m.onnx") == identity(model)


@pytest.mark.parametrize("change", ["op", "name", "attribute", "shape", "dtype"])
def test_what_a_model_computes_counts(model: Path, tmp_path: Path, change: str) -> None:
    other = onnx.load(model)
    if change == "op":
        other.graph.node[1].op_type = "Sigmoid"
    elif change == "name":
        other.graph.node[0].output[0] = other.graph.node[1].input[0] = "other"
    elif change == "attribute":
        other.graph.node[0].attribute.append(helper.make_attribute("alpha", 2.0))
    elif change == "shape":
        other.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 7
    else:
        other.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(other, tmp_path / "other.onnx")
    assert identity(tmp_path / "other.onnx") != identity(model)


def test_every_change_of_a_number_is_seen(model: Path, tmp_path: Path) -> None:
    """A table that was mended by hand, or by a merge, is no measurement."""
    path = tmp_path / "t.json"
    calibrate(model, pack(tmp_path / "p", [{"x": normal(2, 4)}]), path)
    good = json.loads(path.read_text())
    refusals = 0
    for name in good:
        bad = json.loads(path.read_text())
        bad[name] = {} if isinstance(bad[name], dict) else "0" * 64
        path.with_name("bad.json").write_text(json.dumps(bad))
        refused(CalibrationTable.read, path.with_name("bad.json"))
        refusals += 1
    assert refusals == 8
    good["tensors"]["x"]["range"][1] += 1.0
    path.with_name("bad.json").write_text(json.dumps(good))
    assert "digest" in str(refused(CalibrationTable.read, path.with_name("bad.json")))


def test_another_layout_of_the_json_is_the_same_table(model: Path, tmp_path: Path) -> None:
    """Formatters of a repository may touch it."""
    path = tmp_path / "t.json"
    table = calibrate(model, pack(tmp_path / "p", [{"x": normal(2, 4)}]), path)
    written = path.read_bytes()
    path.write_text(json.dumps(json.loads(path.read_text()), indent=4, sort_keys=True))
    CalibrationTable.read(path).write(path)
    assert path.read_bytes() == written
    assert CalibrationTable.read(path).units == table.units


def test_its_samples_are_known_again_by_content(model: Path, tmp_path: Path) -> None:
    seen, unseen = normal(1, 4), normal(1, 4)
    frames = [normal(1, 4), normal(1, 4)]

    def written(name: str, alone: list[tuple[str, np.ndarray]], sequence: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        with PackWriter(folder) as writer:
            for sample, array in alone:
                writer.add(sample, {"x": array})
            for place, array in enumerate(frames):
                writer.add(f"{sequence}{place}", {"x": array}, sequence=sequence)
        return folder

    table = calibrate(model, written("a", [("p", seen)], "one"), tmp_path / "t.json")
    again = PackReader(written("b", [("q", seen), ("r", unseen)], "two"))
    assert table.overlap(again) == ["q", "two"]
    # A frame alone is another sample than the recording that it is from.
    assert table.overlap(PackReader(pack(tmp_path / "c", [{"x": frames[0]}]))) == []


def test_a_table_of_single_samples_is_known(model: Path, tmp_path: Path) -> None:
    """A state stays zero over them; one sequence of two is enough to be none of these."""
    frames = [{"x": normal(1, 4)} for _ in range(3)]
    single = calibrate(model, pack(tmp_path / "single", [*frames, frames[0]]), tmp_path / "t.json")
    refused(single.check_sequences, code="E865")
    folder = tmp_path / "mixed"
    folder.mkdir()
    with PackWriter(folder) as writer:
        for place, tensors in enumerate(frames):
            writer.add(str(place), tensors, sequence="one" if place else None)
    calibrate(model, folder, tmp_path / "t.json").check_sequences()


def test_a_table_stays_small(model: Path, tmp_path: Path) -> None:
    sizes = []
    for count in (10, 510):
        samples = pack(tmp_path / f"{count}", [{"x": normal(1, 4)} for _ in range(count)])
        calibrate(model, samples, tmp_path / "t.json")
        sizes.append((tmp_path / "t.json").stat().st_size)
    assert (sizes[1] - sizes[0]) / 500 <= 24
