"""What stays in float32 of a float16 program, and what coremltools makes smaller."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedeploy.backends.apple.compress import FORMS
from edgedeploy.backends.apple.package import save
from edgedeploy.backends.apple.precision import survives
from edgedeploy.backends.apple.refine import LARGEST_DRIFT, Refinement, refine
from edgedeploy.backends.apple.runner import CoreMlRunner
from edgedeploy.backends.apple.translate import translate
from edgedeploy.errors import BuildError
from edgedeploy.mil.half import HalfTrial, noise
from edgedeploy.mil.interpreter import operations
from tests.coreml.harness import Converted

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(3)


def chain(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], shape: tuple[int, ...]
) -> onnx.ModelProto:
    """Return a model from ``x`` to ``y`` of one shape."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        ([1e-12], False),
        ([1e-5], True),
        ([70000.0], False),
        ([np.finfo(np.float32).min], False),
        ([np.inf, 1.0], True),
        ([0.0], True),
        ([1e-9, 1.0], True),  # lost beside a large one, as in any sum
        ([0.1, 0.2], True),
    ],
)
def test_which_constants_survive(array: list[float], expected: bool) -> None:
    assert survives(np.array(array, np.float32)) is expected


def test_an_epsilon_that_float16_loses_stays() -> None:
    """1 / sqrt(x + 1e-10) of zeros: with the epsilon gone the result is infinite."""
    source = chain(
        [
            helper.make_node("Add", ["x", "epsilon"], ["a"]),
            helper.make_node("Sqrt", ["a"], ["b"]),
            helper.make_node("Mul", ["b", "large"], ["y"]),
        ],
        {"epsilon": np.float32([1e-10]), "large": np.float32([100])},
        (4,),
    )
    x = np.float32([0, 1e-3, 1, 4])
    exact = Converted(source).run({"x": x})["y"]
    half = Converted(source, precision="float16").run({"x": x})["y"]
    np.testing.assert_allclose(exact, np.sqrt(x + 1e-10) * 100, rtol=1e-6)
    assert noise(exact, half) < 1e-3


def refined(
    source: onnx.ModelProto, folder: Path, samples: list[np.ndarray]
) -> tuple[Refinement, CoreMlRunner]:
    """Refine a model on samples; return what was kept and a runner of the package."""
    folder.mkdir(exist_ok=True)
    path = folder / "model.onnx"
    onnx.save(source, path)

    def build(place: Path, precision: str, keep: Collection[str]) -> None:
        translation = translate(ir.load(path), ios=17)
        save(translation, place, precision=precision, keep=keep)
        translation.interface.write(place)

    for name in ("made", "scratch"):
        (folder / name).mkdir()
    given = [{"x": sample} for sample in samples]
    found = refine(build, folder / "made", folder / "scratch", given)
    return found, CoreMlRunner(folder / "made")


def test_what_overflows_stays_in_float32(tmp_path: Path) -> None:
    """Squares of 1000 are beyond 65504; their root and the rest of the program are not."""
    source = chain(
        [
            helper.make_node("Mul", ["x", "x"], ["square"]),
            helper.make_node("ReduceMean", ["square"], ["mean"], axes=[1], keepdims=1),
            helper.make_node("Sqrt", ["mean"], ["root"]),
            helper.make_node("Div", ["x", "root"], ["ratio"]),
            helper.make_node("Sigmoid", ["ratio"], ["s"]),
            helper.make_node("MatMul", ["s", "w"], ["y"]),
        ],
        {"w": RNG.normal(size=(32, 16)).astype(np.float32)},
        (2, 32),
    )
    x = RNG.normal(size=(2, 32)).astype(np.float32) * 1000
    plain = Converted(source, precision="float16").run({"x": x})["y"]
    exact = Converted(source).run({"x": x})["y"]
    assert not noise(exact, plain) < LARGEST_DRIFT
    found, runner = refined(source, tmp_path, [x])
    assert "square" in found.kept and not {"s", "y"} & set(found.kept)
    assert found.drift is not None and found.drift < 2e-3
    assert noise(exact, runner.run({"x": x})["y"]) == pytest.approx(found.drift)
    types = {
        operation.name: operation.outputs[0].type.dtype
        for operation in operations(runner.program.body)
        if operation.kind in ("mul", "sigmoid", "linear")
    }
    assert "float16" in types.values()
    assert next(iter(found.notes())).startswith(f"{len(found.kept)} operations stay in float32")


def test_a_layer_in_float32_keeps_its_integer_weight(tmp_path: Path) -> None:
    """Both that read the weight stay with it: a cast may not stand behind a compressed weight."""
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale"], ["w_dq"], axis=0),
        helper.make_node("MatMul", ["x", "w_dq"], ["a"]),
        helper.make_node("MatMul", ["a", "w_dq"], ["b"]),
        helper.make_node("Tanh", ["b"], ["y"]),
    ]
    weights = RNG.integers(-127, 128, (16, 16)).astype(np.int8)
    scale = RNG.uniform(1e-3, 1e-2, 16).astype(np.float32)
    path = tmp_path / "model.onnx"
    onnx.save(chain(nodes, {"w": weights, "scale": scale}, (2, 16)), path)
    x = RNG.normal(size=(2, 16)).astype(np.float32)
    for ios in (17, 18):
        place = tmp_path / str(ios)
        place.mkdir()
        translation = translate(ir.load(path), ios=ios)
        save(translation, place, precision="float16", keep=("a",))
        translation.interface.write(place)
        runner = CoreMlRunner(place)
        body = list(operations(runner.program.body))
        (weight,) = (item for item in body if item.kind.startswith("constexpr_"))
        assert weight.outputs[0].type.dtype == "float32"
        true = weights.astype(np.float32) * scale[:, None]
        assert noise(np.tanh(x @ true @ true), runner.run({"x": x})["y"]) < 1e-3


def test_a_sound_program_keeps_nothing(tmp_path: Path) -> None:
    source = chain(
        [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Tanh", ["a"], ["y"])],
        {"w": RNG.normal(size=(32, 16)).astype(np.float32)},
        (2, 32),
    )
    found, _ = refined(source, tmp_path, [RNG.normal(size=(2, 32)).astype(np.float32)])
    assert found.kept == () and not list(found.notes())


def test_samples_of_other_sizes_are_passed_over(tmp_path: Path) -> None:
    """Where no other is there, nothing was tried, and the build says so."""
    source = chain([helper.make_node("Tanh", ["x"], ["y"])], {}, (2, 3))
    other, fitting = np.zeros((9, 9), np.float32), np.full((2, 3), 0.3, np.float32)
    found, _ = refined(source, tmp_path / "unfit", [other])
    assert found.kept == () and found.drift is None
    assert "not tried" in next(iter(found.notes()))
    found, _ = refined(source, tmp_path / "fit", [other, fitting])
    assert found.drift is not None and 0 < found.drift < LARGEST_DRIFT
    assert not list(found.notes())


def test_losses_tell_operands_from_results(tmp_path: Path) -> None:
    """x - 1000 of values around 1000: the operands must not be rounded, the result may be."""
    source = chain(
        [helper.make_node("Sub", ["x", "c"], ["y"])], {"c": np.float32([1000.25])}, (64,)
    )
    trial = HalfTrial()
    path = tmp_path / "model.onnx"
    onnx.save(source, path)
    translation = translate(ir.load(path), ios=17)
    save(translation, tmp_path, precision="float32")
    translation.interface.write(tmp_path)
    CoreMlRunner(tmp_path, observe=trial).run(
        {"x": (1000 + RNG.normal(size=64)).astype(np.float32)}
    )
    (loss,) = (item for name, item in trial.losses.items() if "y" in name or "sub" in name)
    assert loss.result < 2**-11 < 0.05 < loss.operands


@pytest.mark.parametrize("form", [form for form in FORMS if form != "palette-6"])
def test_compressed_weights_are_small_and_close(tmp_path: Path, form: str) -> None:
    weights = RNG.normal(size=(128, 128)).astype(np.float32)
    source = chain([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weights}, (4, 128))
    path = tmp_path / "model.onnx"
    onnx.save(source, path)
    translation = translate(ir.load(path), ios=18)
    save(translation, tmp_path, precision="float16", compress=form)
    translation.interface.write(tmp_path)
    bits = FORMS[form][1]
    size = sum(item.stat().st_size for item in tmp_path.glob("*.mlpackage/**/*.bin"))
    assert bits / 8 * weights.size < size < 1.15 * bits / 8 * weights.size + 2000
    x = RNG.normal(size=(4, 128)).astype(np.float32)
    made = CoreMlRunner(tmp_path).run({"x": x})["y"]
    assert noise(x @ weights, made) < {8: 0.02, 4: 0.15, 2: 0.5}[bits]


def test_four_bit_integers_need_ios_18(tmp_path: Path) -> None:
    source = chain([helper.make_node("Tanh", ["x"], ["y"])], {}, (2,))
    path = tmp_path / "model.onnx"
    onnx.save(source, path)
    with pytest.raises(BuildError) as caught:
        save(translate(ir.load(path), ios=17), tmp_path, compress="int4")
    (found,) = caught.value.diagnostics
    assert found.code == "E310" and "palette-4" in str(found.hint)
