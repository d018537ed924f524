"""Whole evaluations with ONNX Runtime: float against itself, a damaged model, state, texts."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedeploy.data.pack import PackReader, PackWriter
from edgedeploy.errors import DataError
from edgedeploy.parity.evaluate import evaluate, record_reference
from edgedeploy.parity.evaluation import Evaluation
from edgedeploy.profile.types import MetricSpec
from edgedeploy.signature import Signature, TensorSpec

TOP1 = MetricSpec(name="top1")


class OnnxRunner:
    """The least runner: one ONNX Runtime session."""

    evidence = "host-runtime"

    def __init__(self, model):
        self._session = onnxruntime.InferenceSession(model.SerializeToString())
        self._names = [output.name for output in self._session.get_outputs()]
        self.signature = Signature(
            inputs=(),
            outputs=tuple(
                TensorSpec(name=name, dtype="float32", dims=None) for name in self._names
            ),
        )

    def run(self, inputs):
        return dict(zip(self._names, self._session.run(None, dict(inputs)), strict=True))


def model(nodes, inputs, outputs, weights=None):
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
            for name, dims in inputs.items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def linear(weight):
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return OnnxRunner(model([node], {"x": [1, 4]}, ["y"], {"w": weight.astype(np.float32)}))


def write(folder, samples):
    folder.mkdir()
    with PackWriter(folder) as writer:
        for name, tensors, truth, sequence in samples:
            writer.add(name, tensors, truth=truth, sequence=sequence)
    return folder


@pytest.fixture
def digits(tmp_path):
    """A linear model that is right on most of 60 samples of 3 classes."""
    random = np.random.default_rng(0)
    weight = random.standard_normal((4, 3))
    samples = []
    for i in range(60):
        x = random.standard_normal((1, 4)).astype(np.float32)
        truth = int((x @ weight).argmax()) if i % 10 else i % 3
        samples.append((f"s{i:02}", {"x": x}, truth, None))
    (tmp_path / "out").mkdir()
    return linear(weight), weight, write(tmp_path / "pack", samples), tmp_path / "out"


def test_float_against_itself_changes_nothing(digits):
    runner, _, pack, out = digits
    base = record_reference(runner, pack, out, TOP1)
    assert len(PackReader(out)) == 60
    found = evaluate(runner, pack, out, TOP1, scores_reference=base)
    assert found.metric == base.metric
    assert found.metric.value >= 0.9
    assert found.paired.delta == 0
    assert found.paired.interval.low < 0 < found.paired.interval.high
    assert (found.paired.lost, found.paired.gained, found.paired.worst_class) == ((), (), None)
    assert found.findings == ()
    assert (found.outputs[0].max_abs, found.outputs[0].cosine) == (0, 1)


def test_a_damaged_model_shows_flips_and_its_worst_class(digits):
    runner, weight, pack, out = digits
    base = record_reference(runner, pack, out, TOP1)
    damaged = weight.copy()
    damaged[:, 1] = -5  # class 1 rarely wins any more
    found = evaluate(linear(damaged), pack, out, TOP1, scores_reference=base)
    before = {item.id: item.record[0] for item in base.scores}
    after = {item.id: item.record[0] for item in found.scores}
    assert found.paired.lost == tuple(i for i in before if before[i] > after[i])
    assert found.paired.gained == tuple(i for i in before if before[i] < after[i])
    expected = (len(found.paired.gained) - len(found.paired.lost)) / 60
    assert found.paired.delta == pytest.approx(expected)
    assert found.paired.interval.low < expected < found.paired.interval.high
    changes = {
        label: found.metric.by_class[label][1] - base.metric.by_class[label][1]
        for label in base.metric.by_class
    }
    assert found.paired.worst_class.label == min(changes, key=changes.get)


@pytest.mark.parametrize("name", ["top1", "cosine", "mse", "agreement"])
def test_records_survive_json(digits, name):
    runner, weight, pack, out = digits
    spec = MetricSpec(name=name)
    base = record_reference(runner, pack, out, spec)
    found = evaluate(linear(weight * 1.1 + 0.1), pack, out, spec, scores_reference=base)
    again = Evaluation.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False)))
    assert again == found
    assert again.to_json() == found.to_json()
    assert found.to_json()["schema"] == 1


def test_nan_is_a_finding(digits):
    runner, weight, pack, out = digits
    record_reference(runner, pack, out)
    found = evaluate(linear(weight * np.nan), pack, out, None)
    assert [item.code for item in found.findings] == ["E292"]
    assert found.metric is None


def test_packs_and_scores_of_other_samples_are_refused(digits, tmp_path):
    runner, _, pack, out = digits
    base = record_reference(runner, pack, out, TOP1)
    other = write(tmp_path / "other", [("z", {"x": np.zeros((1, 4), np.float32)}, 0, None)])
    for reference in (out, None):
        with pytest.raises(DataError) as caught:
            evaluate(runner, other, reference, TOP1, scores_reference=base)
        assert caught.value.diagnostics[0].code == "E290"


def test_state_is_carried_along_sequences_and_starts_anew(tmp_path):
    add = helper.make_node("Add", ["x", "before"], ["y"])
    keep = helper.make_node("Identity", ["y"], ["after"])
    runner = OnnxRunner(model([add, keep], {"x": [1], "before": [1]}, ["y", "after"]))
    one = {"x": np.ones(1, np.float32)}
    pack = write(
        tmp_path / "pack",
        [(f"{name}{i}", one, None, name) for name in ("a", "b") for i in range(3)]
        + [("lone", one, None, None)],
    )
    (tmp_path / "out").mkdir()
    state = {"state": [("before", "after")], "zeros": {"before": np.zeros(1, np.float32)}}
    record_reference(runner, pack, tmp_path / "out", **state)
    values = [float(sample.tensors()["y"][0]) for sample in PackReader(tmp_path / "out")]
    assert values == [1, 2, 3, 1, 2, 3, 1]
    found = evaluate(runner, pack, tmp_path / "out", None, **state)
    assert [output.max_abs for output in found.outputs] == [0, 0]


def test_user_metric_runs_in_the_profile_folder(digits, tmp_path):
    runner, _, pack, out = digits
    (tmp_path / "mine.py").write_text("def score(outputs, truth):\n    return outputs['y'].max()\n")
    spec = MetricSpec(name="mine.py:score")
    found = record_reference(runner, pack, out, spec, folder=tmp_path)
    assert found.metric.n == 60
    assert found.metric.interval.method == "bootstrap"


def test_an_output_that_is_no_tensor_is_refused(tmp_path):
    class Maps:
        def run(self, inputs):
            return {"probabilities": [{0: 0.5, 1: 0.5}]}

    pack = write(tmp_path / "pack", [("a", {"x": np.zeros(1)}, None, None)])
    with pytest.raises(DataError) as caught:
        evaluate(Maps(), pack, None, None)
    assert caught.value.diagnostics[0].subject == "probabilities"


def test_recognised_lines_of_a_real_model_have_a_low_cer(tmp_path):
    """PP-OCRv4 on lines that Pillow renders: images, labels, preprocessing, CTC and CER in one."""
    import importlib.metadata

    import onnx
    from PIL import Image, ImageDraw, ImageFont

    from edgedeploy.data.write import write_pack
    from edgedeploy.profile.types import DataRole, ImagePreprocess, InputSpec

    package = importlib.metadata.distribution("rapidocr-onnxruntime")
    file = Path(package.locate_file("rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"))
    recogniser = onnx.load(file)
    lines = [
        "Edge deployment",
        "ships 42 models",
        "to real boards,",
        "quick & safe.",
        "int8 or fp16?",
    ]
    (tmp_path / "lines").mkdir()
    font = ImageFont.load_default(size=32)
    for number, text in enumerate(lines):
        picture = Image.new("RGB", (int(font.getlength(text)) + 16, 48), "white")
        ImageDraw.Draw(picture).text((8, 4), text, fill="black", font=font)
        picture.save(tmp_path / "lines" / f"{number}.png")
    table = "".join(f'{number}.png,"{text}"\n' for number, text in enumerate(lines))
    (tmp_path / "lines.csv").write_text("file,label\n" + table)
    words = ImagePreprocess(height=48, width=None, colour="bgr", scale=1 / 127.5, mean=(1.0,))
    (tmp_path / "pack").mkdir()
    write_pack(
        DataRole(name="evaluate", source="lines", labels="lines.csv"),
        (TensorSpec(name="x", dtype="float32", dims=("N", 3, 48, "W")),),
        {"x": InputSpec(name="x", image=words)},
        tmp_path,
        tmp_path / "pack",
    )
    found = record_reference(
        OnnxRunner(recogniser),
        tmp_path / "pack",
        None,
        MetricSpec(name="cer", parameters={"decode": "ctc", "characters": "metadata:character"}),
        metadata={item.key: item.value for item in recogniser.metadata_props},
    )
    assert found.metric.n == 5
    assert found.metric.value < 0.05
    assert found.metric.interval is None  # 5 lines say too little
