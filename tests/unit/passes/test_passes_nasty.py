"""Nasty models become the normal form with equal outputs, or end with their code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import nasty
import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from edgedeploy.errors import ModelError
from edgedeploy.model import adopt
from edgedeploy.passes.equality import open_session, verify_equal
from edgedeploy.passes.normalise import NormaliseOptions, NormaliseReport, normalise


def build(name: str, folder: Path, **options: Any) -> tuple[Path, NormaliseReport]:
    """Return the normal form's path and report of a nasty model."""
    for part in ("user", "adopted", "normal"):
        (folder / part).mkdir()
    adopt(nasty.NASTY[name](folder / "user"), folder / "adopted")
    report = normalise(
        folder / "adopted" / "model.onnx", folder / "normal", NormaliseOptions(**options)
    )
    return folder / "normal" / "model.onnx", report


BUILDS = sorted(name for name, about in nasty.ABOUT.items() if about.code is None)


@pytest.mark.parametrize("name", [name for name in BUILDS if nasty.ABOUT[name].raw])
def test_outputs_are_kept(name: str, tmp_path: Path) -> None:
    path, _ = build(name, tmp_path)
    count = len(nasty.ABOUT[name].feeds)
    found = verify_equal(
        tmp_path / "user" / "model.onnx",
        path,
        [nasty.feed(name, index) for index in range(count)],
        rtol=1e-6,
        atol=1e-6,
    )
    assert found.equal and found.samples == count


@pytest.mark.parametrize("name", ["duplicate_node_names", "if_with_outer_weight", "negative_dims"])
def test_outputs_of_what_the_runtime_refuses_raw(name: str, tmp_path: Path) -> None:
    path, _ = build(name, tmp_path)
    feed = nasty.feed(name)
    with pytest.raises(ModelError):
        verify_equal(tmp_path / "user" / "model.onnx", path, [feed])
    wanted = ReferenceEvaluator(onnx.load(tmp_path / "user" / "model.onnx")).run(None, feed)
    found = open_session(path).run(None, feed)
    for left, right in zip(wanted, found, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name", sorted(key for key, about in nasty.ABOUT.items() if about.code is not None)
)
def test_bad_models_end_with_their_code(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        build(name, tmp_path)
    found = caught.value.diagnostics[0]
    assert found.code == nasty.ABOUT[name].code
    assert found.hint


@pytest.mark.parametrize(
    ("name", "subject"),
    [("unknown_operator", "typo"), ("unknown_domain", "wand"), ("missing_input", "layer")],
)
def test_refusal_names_the_node(name: str, subject: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        build(name, tmp_path)
    assert caught.value.diagnostics[0].subject == subject


@pytest.mark.parametrize("name", [n for n in BUILDS if nasty.ABOUT[n].openvino])
def test_openvino_takes_the_normal_form(name: str, tmp_path: Path) -> None:
    if name == "long_chain":
        return  # minutes in a recursive pass of that library; the chain is for ours
    import openvino as ov

    path, report = build(name, tmp_path)
    model = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    feed = nasty.feed(name)
    results = model([feed[spec.name] for spec in report.facts.signature.inputs])
    wanted = open_session(path).run(None, feed)
    for output, array in zip(model.outputs, wanted, strict=True):
        np.testing.assert_allclose(results[output], array, rtol=2e-3, atol=2e-3)


def test_huge_constant_of_shape_is_folded_through_its_shape_only(tmp_path: Path) -> None:
    path, report = build("huge_constant_of_shape", tmp_path)
    assert report.facts.weight_bytes < 100
    feed = nasty.feed("huge_constant_of_shape")
    np.testing.assert_array_equal(
        open_session(path).run(None, feed)[0], feed["x"] + np.float32(1 << 20)
    )


def test_needed_terabytes_stay_in_the_graph_and_end_typed(tmp_path: Path) -> None:
    (tmp_path / "normal").mkdir()
    source = nasty.huge_expand(tmp_path)
    report = normalise(source, tmp_path / "normal", NormaliseOptions())
    assert {"Expand", "ConstantOfShape", "Tile"} <= set(report.facts.ops)
    path = tmp_path / "normal" / "model.onnx"
    with pytest.raises(ModelError) as caught:
        verify_equal(path, path, [{"x": np.zeros((1, 4), np.float32)}])
    assert caught.value.diagnostics[0].code == "E225"


def test_nameless_nodes_are_mapped_to_what_the_user_has(tmp_path: Path) -> None:
    _, report = build("no_node_names_opset_9", tmp_path)
    assert report.origins["Conv_0"] == "#0 Conv"
    assert report.origins["Upsample_0"] == "#5 Upsample"


def test_contrib_operators_are_reported(tmp_path: Path) -> None:
    _, report = build("com_microsoft_op", tmp_path)
    assert report.foreign == {"com.microsoft::Gelu": ("gelu",)}
    assert NormaliseReport.from_json(report.to_json()) == report


def test_functions_and_branches_are_gone(tmp_path: Path) -> None:
    _, report = build("local_functions", tmp_path)
    assert report.facts.functions == ()
    assert set(report.facts.opsets) == {""}
    (tmp_path / "other").mkdir()
    _, report = build("if_on_constant_nested", tmp_path / "other")
    assert report.facts.ops == {"Add": 2}


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"dims": {"z": (1, 4)}}, "E220"),
        ({"dims": {"x": (1, 4, 4)}}, "E220"),
        ({"dims": {"x": (1, 5)}}, "E220"),
        ({"constants": {"z": 1}}, "E221"),
        ({"constants": {"x": "text"}}, "E221"),
        ({"constants": {"x": [[1.0, 2.0]]}}, "E221"),
        ({"outputs": ("nothing",)}, "E222"),
        ({"opset": 6}, "E223"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], code: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        build("local_functions", tmp_path, **options)
    assert caught.value.diagnostics[0].code == code


def test_outputs_are_chosen_and_ordered(tmp_path: Path) -> None:
    _, report = build("softmax_opset_11_matrix", tmp_path, outputs=("s", "y"))
    assert [spec.name for spec in report.facts.signature.outputs] == ["s", "y"]
    assert "TopK" not in report.facts.ops


def test_named_dim_is_bound_wherever_it_occurs(tmp_path: Path) -> None:
    _, report = build("tied_weights", tmp_path, dims={"ids": (2, "tokens")})
    assert report.facts.signature.inputs[0].dims == (2, "tokens")
    assert report.facts.signature.outputs[0].dims == (2, "tokens", 8)


_NORMALISE = """
import sys
from pathlib import Path
from edgedeploy.passes.normalise import NormaliseOptions, normalise
from edgedeploy.passes.float16 import to_float16
source, folder = map(Path, sys.argv[1:])
normalise(source, folder, NormaliseOptions())
(folder / "half").mkdir()
to_float16(folder / "model.onnx", folder / "half")
"""


@pytest.mark.parametrize("name", ["no_node_names_opset_9", "if_with_outer_weight"])
def test_bytes_do_not_depend_on_folder_or_hash_seed(name: str, tmp_path: Path) -> None:
    source = nasty.NASTY[name](tmp_path)
    found = []
    for seed in ("1", "77"):
        folder = tmp_path / f"run-{seed}"
        folder.mkdir()
        subprocess.run(
            [sys.executable, "-c", _NORMALISE, str(source), str(folder)],
            env={"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1", "PATH": "/usr/bin"},
            check=True,
        )
        found.append([(folder / part).read_bytes() for part in ("model.onnx", "half/model.onnx")])
    assert found[0] == found[1]


_BIG = """
import resource, sys, time
from pathlib import Path
from edgedeploy.model import adopt
from edgedeploy.passes.float16 import to_float16
from edgedeploy.passes.normalise import NormaliseOptions, normalise
folder = Path(sys.argv[1])
started = time.monotonic()
adopt(folder / "model.onnx", folder / "adopted")
adopted = time.monotonic()
normalise(folder / "adopted" / "model.onnx", folder / "normal", NormaliseOptions())
status = Path("/proc/self/status").read_text()
anonymous = sum(
    int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")
)
print(adopted - started, time.monotonic() - adopted)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, anonymous // 1024)
"""


@pytest.mark.slow
def test_more_than_two_gigabytes(tmp_path: Path) -> None:
    for part in ("adopted", "normal"):
        (tmp_path / part).mkdir()
    nasty.sparse_weights(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", _BIG, str(tmp_path)], check=True, capture_output=True, text=True
    )
    times, memory = done.stdout.strip().split("\n")
    print(times, memory)
    # The peak counts mapped pages of the data file too; what is allocated must stay small.
    assert int(memory.split()[1]) < 500
    assert (tmp_path / "normal" / "model.onnx.data").stat().st_size > 1 << 31
    onnx.checker.check_model(str(tmp_path / "normal" / "model.onnx"))
