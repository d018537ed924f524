"""Half precision: what stays in float, where Casts stand, and what is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nasty
import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from edgedeploy.errors import ModelError
from edgedeploy.passes.equality import verify_equal
from edgedeploy.passes.float16 import Float16Report, to_float16
from edgedeploy.passes.normalise import NormaliseOptions, normalise


def halve(source: Path, folder: Path, **options: Any) -> tuple[Path, Float16Report]:
    for part in ("normal", "half"):
        (folder / part).mkdir()
    normalise(source, folder / "normal", NormaliseOptions())
    report = to_float16(folder / "normal" / "model.onnx", folder / "half", **options)
    return folder / "half" / "model.onnx", report


def layers(folder: Path, scale: float = 1.0) -> Path:
    """Write three layers; the second one's weights times ``scale``."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, 0.5, (4, 4)).astype(np.float32) for _ in range(3)]
    weights[1][0, 0] *= scale
    nodes = [
        h.make_node("MatMul", [f"h{i}", f"w{i}"], [f"h{i + 1}"], name=f"layer{i}") for i in range(3)
    ]
    io = [h.make_tensor_value_info(name, T.FLOAT, ["N", 4]) for name in ("h0", "h3")]
    tensors = [nh.from_array(weight, f"w{i}") for i, weight in enumerate(weights)]
    return nasty.write(folder, nodes, io[:1], io[1:], tensors)


FEED = [{"h0": np.random.default_rng(1).uniform(-1, 1, (2, 4)).astype(np.float32)}]


def dtypes(path: Path) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in onnx.load(path).graph.initializer}


def test_all_half_has_casts_at_the_borders_only(tmp_path: Path) -> None:
    path, report = halve(layers(tmp_path), tmp_path)
    assert report.facts.ops == {"Cast": 2, "MatMul": 3}
    assert set(dtypes(path).values()) == {T.FLOAT16}
    assert verify_equal(tmp_path / "model.onnx", path, FEED, rtol=5e-3, atol=5e-3).equal


def test_io_can_become_half(tmp_path: Path) -> None:
    _, report = halve(layers(tmp_path), tmp_path, keep_io=False)
    assert report.facts.ops == {"MatMul": 3}
    signature = report.facts.signature
    assert {spec.dtype for spec in (*signature.inputs, *signature.outputs)} == {"float16"}


@pytest.mark.parametrize("pattern", ["layer1", "*er1", "layer[1]"])
def test_kept_node_is_exact(pattern: str, tmp_path: Path) -> None:
    path, report = halve(layers(tmp_path), tmp_path, keep_float=[pattern])
    assert report.kept == {"layer1": "keep_float"}
    assert sorted(dtypes(path).items()) == [
        ("w0.half", T.FLOAT16),
        ("w1", T.FLOAT),
        ("w2.half", T.FLOAT16),
    ]
    assert report.facts.ops["Cast"] == 4


def test_neighbours_in_float_have_no_casts_between_them(tmp_path: Path) -> None:
    path, report = halve(layers(tmp_path), tmp_path, keep_float_ops=["MatMul"])
    assert report.facts.ops == {"MatMul": 3}
    assert verify_equal(tmp_path / "model.onnx", path, FEED, rtol=0, atol=0).equal


@pytest.mark.parametrize("options", [{"keep_float": ["nobody"]}, {"keep_float_ops": ["Conv"]}])
def test_name_that_matches_nothing_is_refused(options: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        halve(layers(tmp_path), tmp_path, **options)
    assert caught.value.diagnostics[0].code == "E228"


def test_weight_beyond_the_half_range_stays_in_float(tmp_path: Path) -> None:
    path, report = halve(layers(tmp_path, scale=1e6), tmp_path)
    assert list(report.beyond_range) == ["w1"]
    assert "exceeds the half range" in report.kept["layer1"]
    assert dtypes(path)["w1"] == T.FLOAT
    assert all(np.isfinite(nh.to_array(t)).all() for t in onnx.load(path).graph.initializer)


FEEDABLE = sorted(
    name
    for name, about in nasty.ABOUT.items()
    if about.code is None and name not in ("long_chain", "huge_constant_of_shape")
)


@pytest.mark.parametrize("name", FEEDABLE)
def test_nasty_models_run_in_half(name: str, tmp_path: Path) -> None:
    path, report = halve(nasty.NASTY[name](tmp_path), tmp_path)
    normal = tmp_path / "normal" / "model.onnx"
    found = verify_equal(normal, path, [nasty.feed(name)], rtol=2e-2, atol=2e-2)
    # Wide weights lose more: one output there is a sum of terms up to a hundred times larger.
    assert found.equal or (name == "depthwise_wide_spread" and max(found.max_abs.values()) < 0.1)
    before = {spec.name: spec.dtype for spec in report.facts.signature.outputs}
    assert "float16" not in before.values() or name == "float16_weights"


def test_equal_bytes_on_the_second_run(tmp_path: Path) -> None:
    path, _ = halve(nasty.NASTY["if_with_outer_weight"](tmp_path), tmp_path)
    (tmp_path / "again").mkdir()
    to_float16(tmp_path / "normal" / "model.onnx", tmp_path / "again")
    assert path.read_bytes() == (tmp_path / "again" / "model.onnx").read_bytes()
