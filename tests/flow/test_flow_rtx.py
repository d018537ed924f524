"""TensorRT-RTX engines of real models, by the command line and by the backend itself."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from running import cosines, edgedeploy, targets_of
from zoo import MODELS, write_profile

from tests.trt.engines import PORTABLE, attempt, compiled, prepare, write_form

pytestmark = pytest.mark.slow
pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT for RTX")

PLAINLY = {"mode": "w8a8", "rounding": "nearest", "bias_correction": False, "smooth": False}
TARGETS = ("rtx-30/tensorrt-rtx", "rtx-40/tensorrt-rtx", "rtx-50/tensorrt-rtx")


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """The detector and a digit network in three number representations."""
    found = {}
    for name in ("det", "mnist-resnet"):
        folder = tmp_path_factory.mktemp(name)
        model, table = prepare(name, folder)
        for form in ("fp32", "fp16", "w8a8", "w4"):
            found[name, form] = write_form(model, table, form, folder / form)
    return found


@pytest.mark.parametrize("form", ["fp32", "fp16", "w8a8", "w4"])
def test_real_models_become_engines_for_every_generation(
    form: str, forms: dict[tuple[str, str], Path]
) -> None:
    for name in ("det", "mnist-resnet"):
        found = attempt(forms[name, form], PORTABLE)
        assert found.size, found.refusal


def test_what_turing_lacks_is_said_of_each_node(forms: dict[tuple[str, str], Path]) -> None:
    """The detector has no matrix products, the digit network has one."""
    assert attempt(forms["det", "fp32"], ["7.5"]).size
    refused = attempt(forms["mnist-resnet", "fp32"], ["7.5"])
    assert refused.size is None and refused.refusal.startswith("E334: Gemm gemm21 ")
    assert attempt(forms["mnist-resnet", "fp16"], ["7.5"]).size


def widths(sizes: list[int]) -> dict[str, Any]:
    parameters = {"name": "x", "height": 48, "sizes": sizes, "seed": 2}
    return {"evaluate": {"source": "flow_samples.py:widths", "parameters": parameters}}


@pytest.mark.parametrize(
    ("name", "width", "sizes", "options"),
    [
        ("rec", "160..640/32", [160, 320, 640], {"opt": "x[3]=320"}),
        ("cls", [96, 192], [96, 192], {"buckets": "profiles"}),
    ],
)
def test_one_engine_serves_all_widths(
    name: str, width: Any, sizes: list[int], options: dict[str, Any], tmp_path: Path
) -> None:
    """A range as one optimisation profile, buckets as one each."""
    model = {
        "source": MODELS[name]["source"],
        "inputs": {"x": {"shape": [1, 3, 48, width]}},
        "data": widths(sizes),
    }
    targets = {TARGETS[1]: {"options": options}}
    profile = write_profile(tmp_path, "widths", {name: model}, quantize="none", targets=targets)
    run = edgedeploy("build", profile, "-o", tmp_path / "build", "--no-bench")
    assert run.code == 0, run.err
    ((key, said),) = targets_of(tmp_path / "build/widths").items()
    assert key == (name, TARGETS[1]) and said["verdict"] == "accepted"
    assert said["evaluation"]["n"] == 3 * len(sizes) and min(cosines(said).values()) > 0.9999


def test_the_command_line_builds_equal_engines_anywhere(tmp_path: Path) -> None:
    """For two generations; for one of them again in another folder, store and environment."""
    digests: list[dict[str, str]] = []
    for folder, targets in (("one", TARGETS[1:]), ("another folder", TARGETS[1:2])):
        model = {"magika": MODELS["magika"]}
        place = tmp_path / folder
        words = {"quantize": PLAINLY, "targets": list(targets)}
        profile = write_profile(place, "engines", model, **words)
        environment = {"PYTHONHASHSEED": str(len(digests)), "LANG": "C"}
        store = tmp_path / f"store{len(digests)}"
        run = edgedeploy(
            "build", profile, "-o", place / "build", "--store", store, "--no-bench", **environment
        )
        assert run.code == 0, run.err
        found = {}
        for (_, target), said in targets_of(place / "build/engines").items():
            assert said["verdict"] == "accepted" and said["chosen"] == "w8a8"
            assert said["arithmetic"]["stated"] and not said["arithmetic"]["float_layers"]
            engine = (place / "build/engines/magika" / target / "model.engine").read_bytes()
            assert engine[:4] == b"vtrt"
            found[target] = hashlib.sha256(engine).hexdigest()
        assert sorted(found) == sorted(targets) and len(set(found.values())) == len(targets)
        digests.append(found)
    assert digests[0].items() >= digests[1].items()


def test_an_option_without_a_place_here_is_refused_with_the_reason(tmp_path: Path) -> None:
    targets = {TARGETS[0]: {"options": {"refit": True}}}
    profile = write_profile(tmp_path, "options", {"magika": MODELS["magika"]}, targets=targets)
    run = edgedeploy("check", profile, "--json")
    (found,) = json.loads(run.out)["diagnostics"]
    assert (run.code, found["code"]) == (2, "E162") and "needs a GPU" in found["message"]


def test_each_setting_that_is_refused_for_want_of_effect_has_none(
    forms: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    """What targets/runtimes/tensorrt-rtx.yaml says: equal engines, asked of the builder itself."""
    import tensorrt_rtx_bindings as trt

    path = forms["mnist-resnet", "fp16"]
    settings = {
        "plain": lambda config: None,
        "level": lambda config: setattr(config, "builder_optimization_level", 5),
        "sparsity": lambda config: config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS),
        "tiling": lambda config: setattr(
            config, "tiling_optimization_level", trt.TilingOptimizationLevel.FULL
        ),
        "cache": lambda config: config.set_flag(trt.BuilderFlag.DISABLE_TIMING_CACHE),
    }
    engines = {}
    for name, setting in settings.items():
        logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
        builder = trt.Builder(logger)
        network = builder.create_network(1)
        parser = trt.OnnxParser(network, logger)
        assert parser.parse_from_file(str(path))
        config = builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.SM89, 0)
        setting(config)
        engines[name] = bytes(builder.build_serialized_network(network, config))
    assert set(engines.values()) == {engines["plain"]}
    report = compiled(path, tmp_path, ["8.9"])
    assert (tmp_path / report.entry).stat().st_size == len(engines["plain"])
