"""Inputs are checked against the artifact before the runtime sees them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgedeploy.backends import FAMILIES, load
from edgedeploy.backends.inputs import checked_inputs
from edgedeploy.errors import BuildError
from edgedeploy.passes.normalise import NormaliseOptions, normalise
from edgedeploy.signature import TensorSpec

FIELDS = {
    "board.os": "ios",
    "board.os_version": 17,
    "board.gpu": {"compute_capabilities": ["8.6"]},
    "runtime.versions": ">=10",
}
OPEN = ("ort", "openvino")
"""Families that take open sizes without limits."""
SIZES = {"cls": {"x": [1, 3, 48, 192]}, "pnet": {"input_1": [1, 48, 64, 3]}}


def model_for(family: str, name: str, model: Path, folder: Path) -> Path:
    """Return the model; with fixed sizes for families that take no open ones without limits."""
    if family in OPEN:
        return model
    normalise(model, folder, NormaliseOptions(dims=SIZES[name]))
    return folder / "model.onnx"


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def made(request, real_model, tmp_path_factory):
    backend = load(request.param)
    folder = tmp_path_factory.mktemp("made")
    model = model_for(request.param, "cls", real_model("cls"), tmp_path_factory.mktemp("normal"))
    backend.compile(model, folder, {}, FIELDS)
    with backend.runner(folder) as runner:
        yield runner


GOOD = np.zeros((1, 3, 48, 192), np.float32)


@pytest.mark.parametrize(
    ("inputs", "codes"),
    [
        ({}, ["E331"]),
        ({"y": GOOD}, ["E331", "E331"]),
        ({"x": GOOD, "y": GOOD}, ["E331"]),
        ({"x": GOOD.astype(np.float64)}, ["E332"]),
        ({"x": np.array(["text"])}, ["E332"]),
        ({"x": GOOD[0]}, ["E333"]),
        ({"x": GOOD[:, :2]}, ["E333"]),
    ],
)
def test_what_does_not_fit_is_named(made, inputs, codes):
    with pytest.raises(BuildError) as caught:
        made.run(inputs)
    assert [item.code for item in caught.value.diagnostics] == codes
    assert all(item.subject in ("x", "y") and item.hint for item in caught.value.diagnostics)


def test_memory_layout_and_order_do_not_matter(made):
    random = np.random.default_rng(0).random((1, 3, 48, 192), np.float32)
    expected = made.run({"x": random})
    found = made.run({"x": np.asfortranarray(random)})
    for key in expected:
        np.testing.assert_array_equal(found[key], expected[key])


def test_a_closed_runner_says_so(real_model, tmp_path):
    for family in FAMILIES:
        folder, normal = tmp_path / family, tmp_path / f"{family}-normal"
        folder.mkdir()
        normal.mkdir()
        backend = load(family)
        backend.compile(model_for(family, "pnet", real_model("pnet"), normal), folder, {}, FIELDS)
        runner = backend.runner(folder)
        runner.close()
        runner.close()
        with pytest.raises(BuildError, match="closed"):
            runner.run({"input_1": np.zeros((1, 12, 12, 3), np.float32)})


def test_values_that_the_runtime_refuses_are_typed(save, tmp_path):
    from backend_models import value
    from onnx import TensorProto, helper

    model = save(
        [helper.make_node("Gather", ["table", "i"], ["y"], name="pick")],
        [value("table", (4, 2)), value("i", ("N",), TensorProto.INT64)],
        [value("y", ("N", 2))],
    )
    folder = tmp_path / "out"
    folder.mkdir()
    load("ort").compile(model, folder, {}, {})
    with load("ort").runner(folder) as runner, pytest.raises(BuildError) as caught:
        runner.run({"table": np.zeros((4, 2), np.float32), "i": np.array([9])})
    assert caught.value.diagnostics[0].code == "E330"
    assert "pick" in caught.value.diagnostics[0].message


def test_scalars_keep_their_rank():
    spec = TensorSpec(name="rate", dtype="int64", dims=())
    found = checked_inputs([spec], {"rate": np.array(16000)})
    assert found["rate"].shape == ()


def test_an_unknown_rank_takes_any_shape():
    spec = TensorSpec(name="x", dtype="float32", dims=None)
    assert checked_inputs([spec], {"x": GOOD})["x"].shape == GOOD.shape
