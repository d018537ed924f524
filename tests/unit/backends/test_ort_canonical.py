"""The reproducible form of .ort files: same content, one byte sequence, still loadable."""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from backend_models import SIZES, feed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgedeploy.backends.ortmobile import convert, runner, tables
from edgedeploy.backends.ortmobile.schema import TABLES
from edgedeploy.errors import BuildError

STYLES = {"fixed": None, "runtime": "save"}


def shipped_readers():
    import onnxruntime.tools.ort_format_model  # noqa: F401 - makes the readers importable

    return importlib.import_module("ort_flatbuffers_py.fbs")


def test_schema_agrees_with_the_readers_that_the_runtime_ships():
    folder = Path(shipped_readers().__file__).parent
    for name, fields in TABLES.items():
        text = (folder / f"{name}.py").read_text()
        slots = int(re.search(r"StartObject\((\d+)\)", text)[1])
        assert len(fields) == slots, name
        for kind, slot in re.findall(r"Prepend(\w+?)Slot\((\d+),", text):
            field = fields[int(slot)]
            assert field is not None, (name, slot)
            is_reference = kind == "UOffsetTRelative"
            assert (field.kind != "scalar") == is_reference, (name, slot)
            if not is_reference:
                bits = int(re.sub(r"\D", "", kind) or 8)
                assert field.size == bits // 8, (name, slot)


@pytest.fixture(scope="module")
def written(real_model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("written") / "written.ort"
    convert.save_optimised(real_model("cls"), path, arm=True, minimal="save")
    return path


def rewrite(root: tables.Table, source: memoryview) -> bytes:
    out = io.BytesIO()
    tables.Layout(root).write(source, out)
    return out.getvalue()


def operators(root: tables.Table) -> list[tables.Table]:
    return root.values[1].values[7].values[2]


def shuffled(table: tables.Table, order: random.Random) -> tables.Table:
    """Return the table with every list whose order has no meaning in another order."""
    values = []
    for field, item in zip(TABLES[table.type], table.values, strict=True):
        if isinstance(item, tables.Table):
            item = shuffled(item, order)
        elif isinstance(item, list) and item and isinstance(item[0], tables.Table):
            item = [shuffled(entry, order) for entry in item]
            if field is not None and field.key is not None:
                order.shuffle(item)
        values.append(item)
    return tables.Table(table.type, values)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_any_order_of_the_unordered_lists_gives_the_same_bytes(written, seed):
    source = memoryview(written.read_bytes())
    tree = tables.read_tree(source)
    expected = rewrite(tree, source)
    other = memoryview(rewrite(shuffled(tree, random.Random(seed)), source))
    assert bytes(other) != expected
    assert rewrite(tables.read_tree(other), other) == expected


def test_the_runtimes_own_readers_find_the_same_graph(written, tmp_path):
    convert.canonicalise(written, tmp_path / "model.ort", tmp_path / "bare.ort")
    session = importlib.import_module("ort_flatbuffers_py.fbs.InferenceSession").InferenceSession

    def described(path: Path) -> dict[str, object]:
        model = session.GetRootAs(bytearray(path.read_bytes()), 0).Model()
        graph = model.Graph()
        tensors = [graph.Initializers(i) for i in range(graph.InitializersLength())]
        nodes = [graph.Nodes(i) for i in range(graph.NodesLength())]
        records = graph.RuntimeOptimizations()
        return {
            "tensors": {
                item.Name(): (item.DataType(), item.RawDataAsNumpy().tobytes()) for item in tensors
            },
            "nodes": [
                (
                    node.Name(),
                    node.OpType(),
                    [node.Inputs(i) for i in range(node.InputsLength())],
                    [node.Outputs(i) for i in range(node.OutputsLength())],
                    sorted(node.Attributes(i).Name() for i in range(node.AttributesLength())),
                )
                for node in nodes
            ],
            "opsets": {
                (model.OpsetImport(i).Domain(), model.OpsetImport(i).Version())
                for i in range(model.OpsetImportLength())
            },
            "optimisations": {
                records.Records(i).OptimizerName() for i in range(records.RecordsLength())
            },
        }

    assert described(tmp_path / "model.ort") == described(written)


def test_large_tensors_are_aligned_for_use_in_place(written, tmp_path):
    made = convert.canonicalise(written, tmp_path / "model.ort", tmp_path / "bare.ort")
    data = (tmp_path / "model.ort").read_bytes()
    assert len(made.tensors) > 50
    assert all(start % 64 == 0 for start, size in made.tensors if size >= 1024)
    ends = [start + size for start, size in made.tensors]
    assert all(end < start for end, (start, _) in zip(ends, made.tensors[1:], strict=False))
    assert ends[-1] <= len(data) < ends[-1] + 8


def test_a_skeleton_without_tensors_is_small(written, tmp_path):
    convert.canonicalise(written, tmp_path / "model.ort", tmp_path / "bare.ort")
    assert (tmp_path / "bare.ort").stat().st_size < written.stat().st_size / 3
    whole, bare = (
        tables.read_tree(memoryview((tmp_path / name).read_bytes()))
        for name in ("model.ort", "bare.ort")
    )
    assert [node.values for node in operators(whole)] == [node.values for node in operators(bare)]


def test_other_files_are_refused(tmp_path):
    (tmp_path / "written.ort").write_bytes(b"\x08\0\0\0NOPE" + bytes(64))
    with pytest.raises(BuildError) as caught:
        convert.canonicalise(tmp_path / "written.ort", tmp_path / "a.ort", tmp_path / "b.ort")
    assert caught.value.diagnostics[0].code == "E316"


def test_a_field_that_is_not_known_is_refused(written, monkeypatch, tmp_path):
    monkeypatch.setitem(TABLES, "Model", TABLES["Model"][:7])
    with pytest.raises(BuildError, match="is not known here") as caught:
        convert.canonicalise(written, tmp_path / "model.ort", tmp_path / "bare.ort")
    assert caught.value.diagnostics[0].code == "E316"


def test_more_than_two_gib_is_refused_before_anything_is_written():
    tensor = tables.Table("Tensor", [b"w", None, None, None, tables.Blob(0, 2**31), None, None])
    graph = tables.Table("Graph", [[tensor], *[None] * 8])
    model = tables.Table("Model", [*[None] * 7, graph, None, None])
    root = tables.Table("InferenceSession", [b"6", model, None, None])
    out = io.BytesIO()
    with pytest.raises(BuildError) as caught:
        tables.Layout(root).write(memoryview(b""), out)
    assert caught.value.diagnostics[0].code == "E314"
    assert out.getvalue() == b""


_CONVERT = """
import hashlib, json, shutil, sys
from pathlib import Path
from edgedeploy.backends.ortmobile import convert
found = {}
for name, path in json.loads(sys.argv[1]).items():
    shutil.copy(path, "model.onnx")
    for style, minimal in {"fixed": None, "runtime": "save"}.items():
        written, made = Path("written.ort"), Path("made.ort")
        convert.save_optimised(Path("model.onnx").resolve(), written, arm=True, minimal=minimal)
        convert.canonicalise(written, made, Path("bare.ort"))
        digests = [hashlib.sha256(item.read_bytes()).hexdigest() for item in (written, made)]
        found[f"{name} {style}"] = digests
print(json.dumps(found))
"""


def test_four_processes_write_the_same_bytes(real_model, quantized_model, half_model, tmp_path):
    models = {name: str(real_model(name)) for name in ("rec", "det", "cls", "magika")}
    models |= {"qdq": str(quantized_model), "half": str(half_model)}
    answers = []
    for seed in ("0", "1", "77", "random"):
        folder = tmp_path / f"folder-{seed}"
        folder.mkdir()
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        done = subprocess.run(
            [sys.executable, "-c", _CONVERT, json.dumps(models)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        answers.append(json.loads(done.stdout))
    for case in answers[0]:
        assert len({answer[case][1] for answer in answers}) == 1, case
    # The runtime itself does not: otherwise nothing would need to be rewritten.
    assert any(len({answer[case][0] for answer in answers}) > 1 for case in answers[0])


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", ["rec", "det", "cls", "magika", "qdq", "half"])
def test_outputs_are_bit_equal_to_the_runtimes_own_file(
    name, style, real_model, quantized_model, half_model, tmp_path
):
    own = {"qdq": quantized_model, "half": half_model}
    model = own[name] if name in own else real_model(name)
    written = tmp_path / "written.ort"
    convert.save_optimised(model, written, arm=True, minimal=STYLES[style])
    convert.canonicalise(written, tmp_path / runner.ENTRY, tmp_path / "bare.ort")
    inputs = feed(model, SIZES[name if name in SIZES else "cls"])
    # Records of a quantized MatMul that the runtime saves cannot be replayed by the runtime itself.
    keys = runner.REPLAY_KEYS if style == "runtime" and name != "qdq" else {}
    with runner.OrtRunner(written, runner.session_options(1, keys)) as plain:
        expected = plain.run(inputs)
    with runner.open_artifact(tmp_path, optimization_style=style) as mapped:
        found = mapped.run(inputs)
    assert expected.keys() == found.keys()
    for key in expected:
        if keys or style == "fixed":
            np.testing.assert_array_equal(found[key], expected[key])
        else:
            np.testing.assert_allclose(found[key], expected[key], atol=0.05)


def test_digest_of_the_layout_is_pinned(tmp_path):
    """A known answer: the layout is part of the backend's version."""
    root = tables.Table(
        "InferenceSession",
        [b"6", tables.Table("Model", [b"\x08" + bytes(7), None, b"x", *[None] * 7]), None, None],
    )
    out = io.BytesIO()
    tables.Layout(root).write(memoryview(b""), out)
    digest = hashlib.sha256(out.getvalue()).hexdigest()
    assert tables.read_tree(memoryview(out.getvalue())) == root
    assert digest.startswith("edb23df66aa7")
