"""Real models in fp16: what stays in float32 by itself, and what that is worth.

`benchmarks/half_models.py` measures all of them; docs/half-precision.md has the figures.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rtx import Parser
from running import cosines, edgedeploy, targets_of
from zoo import MODELS, TARGETS, write_profile

from edgedeploy.backends.trt.program import InterpretedRunner
from edgedeploy.passes.base import run
from edgedeploy.passes.float16 import ToFloat16, to_float16
from edgedeploy.passes.half_types import kept_nodes
from edgedeploy.passes.infer_shapes import InferShapes
from edgedeploy.passes.model_file import load, save
from tests.coreml.models import fed, normal_form

pytestmark = pytest.mark.slow

RTX = "rtx-40/tensorrt-rtx"


def test_magika_is_right_in_half_precision_everywhere(tmp_path: Path, store: Path) -> None:
    """Its activations' cubes and its normalisations overflow; the report says what is kept."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT for RTX")
    words = {"quantize": "fp16", "targets": [RTX, TARGETS[0]]}
    profile = write_profile(tmp_path, "half", {"magika": MODELS["magika"]}, **words)
    run = edgedeploy("build", profile, "-o", tmp_path / "build", "--store", store, "--no-bench")
    assert run.code == 0, run.err
    assert "46 nodes stay in float32: 36 for: statistics of a normalisation" in run.out
    for target, said in targets_of(tmp_path / "build/half").items():
        metric = said["evaluation"]["metric"]["value"]
        assert metric >= said["evaluation"]["float_value"] - 0.003, target
        assert min(cosines(said).values()) > 0.9999, target
        half = said["half"]
        assert half["calibrated"] and half["unknown"] == 1
        assert len(half["nodes"]) == 46
        reasons = {
            item["node"].rpartition("MagikaV2/")[2]: item["reason"] for item in half["nodes"]
        }
        assert " may reach " in reasons["ApplyActivation_1/Mul_2"]  # the cube of Gelu
        assert reasons["LayerNorm_0/Rsqrt"] == "statistics of a normalisation"


@pytest.mark.parametrize("name", ["magika", "silero", "pnet"])
def test_half_graphs_are_strongly_typed_networks(name: str, tmp_path: Path) -> None:
    """Casts around what stays in float32 break no agreement of types, wherever they stand."""
    source = normal_form(name, tmp_path)
    alternating = [str(node.name) for node in load(source).graph][::3]
    for label, wished in (("found", []), ("alternating", alternating)):
        (tmp_path / label).mkdir()
        report = to_float16(source, tmp_path / label, keep_float=wished)
        assert report.kept.keys() >= set(wished)
        network = Parser(tmp_path / label / "model.onnx")
        assert not network.errors
        assert network.engine()


def test_without_the_list_magika_is_wrong(tmp_path: Path) -> None:
    """What float16 does to it when only what must be is float32: the runner shows it."""
    source = normal_form("magika", tmp_path)
    (tmp_path / "half/program").mkdir(parents=True)
    (tmp_path / "float/program").mkdir(parents=True)
    model = load(source)
    save(model, tmp_path / "float/program")
    run((InferShapes(), ToFloat16(kept_nodes(model, (), ())[0], keep_io=True)), model)
    save(model, tmp_path / "half/program")
    right = 0
    samples = fed("magika", 4)
    with (
        InterpretedRunner(tmp_path / "float") as exact,
        InterpretedRunner(tmp_path / "half") as half,
    ):
        for sample in samples:
            answers = [next(iter(runner.run(sample).values())) for runner in (exact, half)]
            assert np.isfinite(answers[0]).all()
            right += int(answers[0].argmax() == answers[1].argmax())
    assert right == 0
