"""The interpreted runner rounds what a graph has in float16, as NumPy's float16 does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto as T
from onnx import helper as h

from edgedeploy.backends.trt.program import MODEL, InterpretedRunner
from edgedeploy.passes.float16 import to_float16
from edgedeploy.passes.normalise import NormaliseOptions, normalise


def ran(folder: Path, model: onnx.ModelProto, **feed: np.ndarray) -> dict[str, np.ndarray]:
    """Return what the interpreted runner says of a model that states no types in between."""
    (folder / MODEL).parent.mkdir(exist_ok=True)
    onnx.save(model, folder / MODEL)
    with InterpretedRunner(folder) as runner:
        assert runner.evidence == "interpreted"
        return runner.run(feed)


def model(body: str, given: str, made: str) -> onnx.ModelProto:
    head = '<ir_version: 8, opset_import: ["" : 17]>'
    return onnx.parser.parse_model(f"{head} g ({given}) => ({made}) {{ {body} }}")


def test_the_root_of_a_square_that_overflows(tmp_path: Path) -> None:
    """300 squared is beyond 65504, whatever the machine that interprets it has in registers."""
    body = "a = Cast <to = 10> (x)\nb = Mul (a, a)\nc = Sqrt (b)\ny = Cast <to = 1> (c)"
    x = np.array([300, 200, 2.0009, 1e-9], np.float32)
    found = ran(tmp_path, model(body, "float[4] x", "float[4] y"), x=x)["y"]
    with np.errstate(over="ignore"):
        half = x.astype(np.float16)
        wanted = np.sqrt(half * half).astype(np.float32)
    assert np.isinf(wanted[0]) and wanted[3] == 0
    np.testing.assert_array_equal(found, wanted)


@settings(max_examples=40)
@given(
    values=st.lists(st.floats(-500, 500, width=32), min_size=3, max_size=3),
    steps=st.lists(st.sampled_from(("Add", "Mul", "Sub", "Div")), min_size=1, max_size=6),
)
def test_every_step_is_rounded(
    values: list[float], steps: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Sums, differences, products and quotients are NumPy's in float16, bit for bit.

    Both round the exact result once: float32 has more than twice the digits, plus two.
    """
    names, body = "x", ""
    half = np.array(values, np.float32).astype(np.float16)
    wanted, other = half, half[::-1].copy()
    functions = {"Add": np.add, "Mul": np.multiply, "Sub": np.subtract, "Div": np.divide}
    for number, step in enumerate(steps):
        body += f"h{number} = {step} ({names}, z)\n"
        names = f"h{number}"
        with np.errstate(all="ignore"):
            wanted = functions[step](wanted, other)
    body += f"y = Identity ({names})"
    folder = tmp_path_factory.mktemp("steps")
    graph = model(body, "float16[3] x, float16[3] z", "float16[3] y")
    found = ran(folder, graph, x=half, z=other)["y"]
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, wanted)


def test_weights_outputs_in_between_and_branches(tmp_path: Path) -> None:
    """Weights in float16, a value that is read and given out, an If with a weight of its own."""
    body = """
        a = Mul (x, w)
        b = Mul (a, a)
        y = If (f) <
            then_branch = t () => (float16[2] p) { q = Mul (b, v) p = Sqrt (q) },
            else_branch = e () => (float16[2] r) { r = Identity (b) }
        >
    """
    parts = ("float16[2] x, bool f", "float16[2] y, float16[2] b")
    graph = model(body, *parts)
    graph.graph.initializer.append(h.make_tensor("w", T.FLOAT16, [2], np.float16([100, 0.1])))
    (branch,) = (item.g for item in graph.graph.node[-1].attribute if item.name == "then_branch")
    branch.initializer.append(h.make_tensor("v", T.FLOAT16, [2], np.float16([2, 3])))
    x = np.float16([1.5, 1.5])
    with np.errstate(over="ignore"):
        a = x * np.float16([100, 0.1])
        square = a * a
        root = np.sqrt(square * np.float16([2, 3]))
    for flag, wanted in ((True, root), (False, square)):
        found = ran(tmp_path, graph, x=x, f=np.array(flag))
        np.testing.assert_array_equal(found["y"], wanted)
        np.testing.assert_array_equal(found["b"], square)


def test_a_float_graph_runs_as_it_is(tmp_path: Path) -> None:
    x = np.array([300.0, 1e-9], np.float32)
    graph = model("a = Mul (x, x)\ny = Sqrt (a)", "float[2] x", "float[2] y")
    np.testing.assert_allclose(ran(tmp_path, graph, x=x)["y"], x, rtol=1e-6)


def test_weights_in_a_file_of_their_own(tmp_path: Path) -> None:
    """Nothing is copied: the rounding graph reads them where they lie."""
    rng = np.random.default_rng(3)
    weight = rng.normal(0, 1, (64, 64)).astype(np.float32)
    graph = model("y = MatMul (x, w)", "float[1,64] x", "float[1,64] y")
    graph.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    for name in ("normal", "program"):
        (tmp_path / name).mkdir()
    onnx.save(graph, tmp_path / "source.onnx")
    normalise(tmp_path / "source.onnx", tmp_path / "normal", NormaliseOptions())
    to_float16(tmp_path / "normal/model.onnx", tmp_path / "program")
    onnx.save(
        onnx.load(tmp_path / MODEL),
        tmp_path / MODEL,
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=0,
    )
    x = rng.normal(0, 1, (1, 64)).astype(np.float32)
    with InterpretedRunner(tmp_path) as runner:
        found = runner.run({"x": x})["y"]
    halves = x.astype(np.float16).astype(np.float64) @ weight.astype(np.float16).astype(np.float64)
    np.testing.assert_allclose(found, halves, rtol=2**-11, atol=2**-11)
