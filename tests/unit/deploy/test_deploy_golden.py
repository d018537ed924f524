"""Golden samples: the artifact's own answers, few and small, and only when they are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgedeploy.data.pack import PackReader, PackWriter
from edgedeploy.deploy.golden import golden_trees
from edgedeploy.executor import Builder
from edgedeploy.opening import Request, open_profile
from edgedeploy.stage import Work
from edgedeploy.steps import golden
from edgedeploy.store import Store

PROFILE = """
edgedeploy: 1
name: sums
model:
  source: sums.onnx
  state: [{input: held, output: kept}]
quantize: none
gates: {cosine: 0.97}
targets: [linux-x86-64/ort]
"""


def write_model(path: Path) -> None:
    """Write ``kept = held + x``, ``y = 2 * kept``: what an answer depends on is plain to see."""
    sizes = [1, 4]
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["held", "x"], ["kept"], name="add"),
            helper.make_node("Mul", ["kept", "two"], ["y"], name="double"),
        ],
        "sums",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name in ("x", "held")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name in ("y", "kept")],
        [helper.make_tensor("two", TensorProto.FLOAT, [1], [2.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory):
    """A build as `edgedeploy build` runs it, and the golden samples that a push then asks for."""
    folder = tmp_path_factory.mktemp("golden")
    write_model(folder / "sums.onnx")
    (folder / "sums.yaml").write_text(PROFILE, encoding="utf-8")
    plan, _ = open_profile(Request(profile=folder / "sums.yaml"))
    (item,) = plan.items
    with Builder(Store(folder / "store"), folder) as builder:
        for node in plan.nodes():
            builder.build(node)
        before = set(builder.states)
        found, why = golden_trees(builder, item, item.baseline)
        yield builder, item, before, found, why


@pytest.mark.slow
def test_a_build_makes_none_and_a_push_gets_the_artifacts_answers(built):
    _, item, before, found, why = built
    assert not [name for name in before if "golden" in name]
    assert found is not None and why == ""
    assert found.cosine == 0.97
    inputs, outputs = PackReader(found.inputs_folder), PackReader(found.outputs_folder)
    assert [sample.id for sample in inputs] == [sample.id for sample in outputs] == ["0", "1"]
    for given, made in zip(inputs, outputs, strict=True):
        x, held = given.tensors()["x"], given.tensors()["held"]
        assert not held.any() and x.any()
        np.testing.assert_array_equal(made.tensors()["y"], 2 * x)
        np.testing.assert_array_equal(made.tensors()["kept"], x)
    assert item.baseline.golden.inputs["artifact"].node is item.baseline.compiled


@pytest.mark.slow
@pytest.mark.parametrize(("values", "kept"), [(4, 2), (400_000, 1), (600_000, 0), (None, 0)])
def test_samples_stop_before_eight_mebibytes(built, tmp_path, monkeypatch, values, kept):
    """With x, held, y and kept a sample of n values has 16 n bytes."""
    builder, item, *_ = built
    artifact = builder.folder(item.baseline.compiled.output("artifact"))[1]
    outputs = {name: tmp_path / name for name in ("samples", "inputs", "outputs")}
    for path in outputs.values():
        path.mkdir()
    with PackWriter(outputs["samples"]) as writer:
        for number in range(0 if values is None else 5):
            writer.add(f"private-{number}.png", {"x": np.full([1, 4], number, np.float32)})
    if values:  # the artifact takes four values; what counts as eight MiB is scaled instead
        monkeypatch.setattr(golden, "MOST_BYTES", (8 << 20) * 4 // values)
    work = Work(
        params=item.baseline.golden.params,
        inputs={"artifact": artifact, "samples": outputs["samples"]},
        outputs={name: outputs[name] for name in ("inputs", "outputs")},
        fields={},
        project=tmp_path,
        progress=lambda *_: None,
        observe=lambda: None,
    )
    summary = golden.run(work).summary
    assert summary["samples"] == kept == len(PackReader(outputs["inputs"]))
    assert (summary["reason"] is None) == bool(kept)
    assert b"private" not in (outputs["inputs"] / "index.json").read_bytes()
