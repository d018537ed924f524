"""The examples of the pages do what the pages say."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper

from edgedeploy.data.pack import PackWriter
from edgedeploy.data.readers import Request
from edgedeploy.data.sources import select
from edgedeploy.devices.inventory import load_inventory
from edgedeploy.errors import DataError
from edgedeploy.executor import Builder, FilesRef, Node
from edgedeploy.parity.metrics import Case, Options
from edgedeploy.profile.load import load_profile
from edgedeploy.profile.types import DataRole, MetricSpec
from edgedeploy.signature import TensorSpec
from edgedeploy.store import Store
from edgedeploy.target.library import TargetLibrary

ROOT = Path(__file__).parents[3]


def blocks(page: str, kind: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.M | re.S)


def example(title: str) -> str:
    """Return the Python example of docs/extending.md whose first line holds ``title``."""
    [found] = [text for text in blocks("docs/extending.md", "python") if title in text[:80]]
    return found


def module(title: str) -> ModuleType:
    made = ModuleType("example")
    exec(compile(example(title), "docs/extending.md", "exec"), made.__dict__)
    return made


def test_the_pass(tmp_path: Path) -> None:
    """It removes what it says, and the runtime computes the same as before."""
    nodes = [
        helper.make_node("Neg", ["x"], ["a"]),
        helper.make_node("Neg", ["a"], ["b"]),
        helper.make_node("Exp", ["b"], ["y"]),
    ]
    shape = (onnx.TensorProto.FLOAT, [3])
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", *shape)],
        [helper.make_tensor_value_info("y", *shape)],
    )
    before = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = ir.serde.deserialize_model(before)
    step = module("Neg of Neg").RemoveDoubleNeg()
    assert step(model) and not step(model)
    after = ir.serde.serialize_model(model)
    assert [node.op_type for node in after.graph.node if node.op_type == "Exp"] == ["Exp"]
    x = np.array([-1, 0, 2], np.float32)
    results = [
        onnxruntime.InferenceSession(one.SerializeToString()).run(None, {"x": x})[0]
        for one in (before, after)
    ]
    assert np.array_equal(*results)


def test_the_metric() -> None:
    [(name, factory)] = module("Mean absolute error").METRICS.items()
    metric = factory(Options(spec=MetricSpec(name=name), default_output="y"))
    cases = [
        Case(id=str(truth), outputs={"y": np.array([value])}, truth=truth)
        for value, truth in ((1.0, 2.0), (5.0, 2.0))
    ]
    assert metric.value([metric.score(case) for case in cases]) == 2.0
    with pytest.raises(DataError):
        metric.score(Case(id="0", outputs={"y": np.array([1.0])}))


def test_the_reader(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2\n3,4\n")
    (tmp_path / "b.csv").write_text("no number")
    np.save(tmp_path / "x.npy", np.zeros(1))  # what `select` finds; the names are put in below
    role = DataRole(name="calibrate", source=str(tmp_path), reader="numpy")
    selection = select(role, tmp_path)
    read = module("CSV files").read

    def request(*names: str) -> Request:
        chosen = {field: getattr(selection, field) for field in selection.__dataclass_fields__}
        return Request(
            role=role,
            selection=type(selection)(**{**chosen, "names": names}),
            inputs=[TensorSpec(name="x", dtype="float32", dims=(1, 2, 2))],
            folder=tmp_path,
        )

    [sample] = read(request("a.csv"))
    assert sample.tensors["x"].tolist() == [[[1, 2], [3, 4]]]
    with pytest.raises(DataError):
        list(read(request("b.csv")))


def test_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts, is a hit the second time, and runs again when its input changed."""
    project = tmp_path / "project"
    package = project / "plugin"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "count.py").write_text(example("Stage ``count``"))
    monkeypatch.syspath_prepend(str(project))
    for samples, states in ((2, ["ran", "hit"]), (3, ["ran"])):
        pack = project / f"pack{samples}"
        pack.mkdir()
        with PackWriter(pack) as writer:
            for number in range(samples):
                writer.add(str(number), {"x": np.full(2, number, np.float32)})
        names = tuple(sorted(path.name for path in pack.iterdir()))
        node = Node(
            id="count",
            kind="plugin.count",
            inputs={"samples": FilesRef(folder=pack, names=names)},
        )
        for state in states:
            with Builder(Store(tmp_path / "store"), project) as builder:
                _, folder = builder.folder(node.output("count"))
                assert (folder / "count.txt").read_text() == f"{samples}\n"
                assert builder.states["count"].state == state


def test_the_data_function() -> None:
    [text] = blocks("docs/data.md", "python")
    made: dict[str, Any] = {}
    exec(compile(text, "docs/data.md", "exec"), made)
    first, second = (list(made["samples"](seed=3)) for _ in range(2))
    assert len(first) == 10
    for (one, label), (other, again) in zip(first, second, strict=True):
        assert isinstance(one, Mapping) and np.array_equal(one["x"], other["x"])
        assert one["x"].dtype == np.float32 and label == again


def test_the_board(tmp_path: Path) -> None:
    [text] = [text for text in blocks("docs/targets.md", "yaml") if text.startswith("id:")]
    (tmp_path / "boards").mkdir()
    (tmp_path / "boards" / "my-box.yaml").write_text(text)
    target = TargetLibrary(option=[tmp_path]).load("my-box/ort")
    assert target.get("board.arch") == "arm64" and target.get("board.clock_hz") == 1_800_000_000


def test_the_profile_of_the_readme(tmp_path: Path) -> None:
    [text] = [text for text in blocks("README.md", "yaml") if "edgedeploy: 1" in text]
    (tmp_path / "profile.yaml").write_text(text)
    profile = load_profile(tmp_path / "profile.yaml")
    assert profile.name == "doorbell" and len(profile.targets) == 3


FRAME = """\
edgedeploy: 1
name: part
model: {source: m.onnx}
targets: [linux-x86-64/ort]
"""


@pytest.mark.parametrize("page", ["docs/data.md", "docs/quantization.md"])
def test_parts_of_profiles(page: str, tmp_path: Path) -> None:
    """Each fragment is legal where it belongs (data.yaml, which has no such keys, apart)."""
    found = 0
    for number, text in enumerate(blocks(page, "yaml")):
        if "main.evaluate" in text:
            continue
        frame = FRAME
        if text.startswith("targets:"):
            frame = "".join(line + "\n" for line in FRAME.splitlines() if "targets" not in line)
        path = tmp_path / f"{number}.yaml"
        path.write_text(frame + text)
        load_profile(path)
        found += 1
    assert found


@pytest.mark.parametrize("page", ["docs/devices.md", "docs/activating.md"])
def test_the_inventories_are_good(page: str, tmp_path: Path) -> None:
    """Every devices.yaml that a page shows is read without a complaint."""
    tmp_path.chmod(0o755)
    (tmp_path / "ssh").mkdir(mode=0o755)
    (tmp_path / "ssh" / "config").write_text("")
    shown = [text for text in blocks(page, "yaml") if "devices:" in text.split("\n")]
    assert shown
    for text in shown:
        file = tmp_path / "devices.yaml"
        file.write_text(text)
        assert load_inventory(file, tmp_path).select(["*"])
