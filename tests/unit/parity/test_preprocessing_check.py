"""The stages of a profile's plan, run here: is a wrong declaration found, and a right one left?"""

import csv
import wave
from pathlib import Path

import inked
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save
from PIL import Image

from edgedeploy.errors import DataError
from edgedeploy.node import FileRef, FilesRef
from edgedeploy.opening import Request, open_profile
from edgedeploy.stage import Work, stage_kind

IMAGENET = "scale: 1/255, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]"

PICTURES = """\
edgedeploy: 1
name: inked
model:
  task: classify
  source: model.onnx
  inputs: {{x: {{image: {{size: [8, 8], {words}}}}}}}
  data: {{evaluate: {source}}}
quantize: none
targets: [linux-x86-64/ort]
"""
FILES = "{source: images, labels: labels.csv}"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder with a classifier of digits in red ink and the pictures that it is tested on."""
    folder = tmp_path_factory.mktemp("inked")
    inked.write_model(folder / "model.onnx")
    (folder / "images").mkdir()
    pixels, truth = inked.pictures()
    rows = []
    for number in range(inked.EVALUATED):
        Image.fromarray(pixels[number]).save(folder / "images" / f"{number:03}.png")
        rows.append((f"{number:03}.png", int(truth[number])))
    write_labels(folder, rows)
    return folder


def write_labels(folder, rows):
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "label"), *rows])


class Stages:
    """Runs the stages of a plan in this process, each once."""

    def __init__(self, folder: Path, profile: str) -> None:
        (folder / "profile.yaml").write_text(profile)
        self._plan, _ = open_profile(Request(profile=folder / "profile.yaml"))
        self._project = folder
        self._folder = folder / "stages"
        self._made = {}

    def node(self, kind):
        """Return the first node of a kind, None without one."""
        return next((node for node in self._plan.nodes() if node.kind == kind), None)

    def run(self, node):
        """Return what the stage of a node made, and the folders of its outputs."""
        if node.id not in self._made:
            inputs = {}
            for name, ref in node.inputs.items():
                if isinstance(ref, FileRef):
                    inputs[name] = ref.path
                elif isinstance(ref, FilesRef):
                    inputs[name] = ref.folder
                else:
                    inputs[name] = self.run(ref.node)[1][ref.output]
            stage = stage_kind(node.kind)
            place = self._folder / str(len(list(self._folder.glob("*")))) / node.id
            outputs = {name: place / name for name in stage.outputs}
            for output in outputs.values():
                output.mkdir(parents=True)
            work = Work(
                params=node.params,
                inputs=inputs,
                outputs=outputs,
                fields={},
                project=self._project,
                progress=lambda *_: None,
                observe=lambda: None,
            )
            self._made[node.id] = stage.run(work), outputs
        return self._made[node.id]

    def tried(self):
        """Return what became of the alternatives, by what they do."""
        made, _ = self.run(self.node("preprocessing"))
        return {item["what"]: item for item in made.summary["tried"]}

    def refusal(self):
        """Return the diagnostic by which the check refuses the declaration."""
        with pytest.raises(DataError) as caught:
            self.tried()
        (found,) = caught.value.diagnostics
        return found


def declared(folder, words, source=FILES):
    return Stages(folder, PICTURES.format(words=words, source=source))


def test_the_right_preprocessing_is_left_alone(pictures):
    tried = declared(pictures, IMAGENET).tried()
    assert set(tried) == {
        "with `colour: bgr`",
        "without `mean` and `std`",
        "on pixels of 0 to 255",
        "on pixels of -1 to 1",
    }  # not by the samples' own std: there is no green in them
    assert all(item["p"] > 0.01 for item in tried.values())
    swapped = tried["with `colour: bgr`"]
    assert swapped["samples"] == 8 and swapped["value"] < 0.4 < 0.9 < swapped["declared"]


@pytest.mark.parametrize(
    ("words", "what", "written"),
    [
        (f"{IMAGENET}, colour: bgr", "colour: rgb", "`colour: rgb`"),
        ("scale: 1/255", "top1", "mean: "),
        (IMAGENET.replace("1/255", "1"), "top1", "scale: 1/255"),
        ("scale: 1/127.5, mean: 1, std: 8", "top1", "scale: 1/255"),
    ],
    ids=["colour", "mean missing", "scale missing", "another std"],
)
def test_a_wrong_preprocessing_is_refused_with_what_to_write(pictures, words, what, written):
    found = declared(pictures, words).refusal()
    assert (found.code, found.subject) == ("E840", "x")
    assert what in found.message and "128 samples" in found.message
    assert written in found.hint and "checked: false" in found.hint


def test_the_check_can_be_turned_off_and_changes_no_other_stage(pictures):
    on, off = declared(pictures, IMAGENET), declared(pictures, f"{IMAGENET}, checked: false")
    assert off.node("preprocessing") is None
    for kind in ("normalise", "samples", "reference", "compile"):
        assert on.node(kind).params == off.node(kind).params


def test_without_truth_nothing_is_checked(pictures):
    text = PICTURES.format(words="colour: bgr", source="images").replace(
        "  task: classify\n", "  metric: agreement\n"
    )
    assert Stages(pictures, text).node("preprocessing") is None


FUNCTION = """
import csv
import numpy as np
from PIL import Image

def samples(scale=1.0, order=1):
    for row in csv.DictReader(open("{folder}/labels.csv")):
        pixels = np.asarray(Image.open("{folder}/images/" + row["file"]), np.float32)
        tensor = ((pixels / 255 - {mean}) / {std}) * scale
        yield {{"x": tensor[..., ::order].transpose(2, 0, 1)[None].astype(np.float32)}}, int(
            row["label"]
        ), row["file"]
"""


@pytest.fixture
def function(pictures):
    text = FUNCTION.format(folder=pictures, mean=list(inked.MEAN), std=list(inked.STD))
    (pictures / "made.py").write_text(text)
    return pictures


def test_what_a_data_function_makes_is_checked_too(function):
    right = declared(function, IMAGENET, "'made.py:samples'")
    assert all(item["p"] > 0.01 for item in right.tried().values())
    source = "{source: 'made.py:samples', parameters: {order: -1}}"
    found = declared(function, IMAGENET, source).refusal()
    assert (found.code, "`colour: bgr`" in found.hint) == ("E840", True)


@pytest.mark.parametrize(
    ("words", "scale", "why"),
    [
        (f"{IMAGENET}", 255, "not 0 to 255"),
        ("scale: 1", 1 / 255, "pixels of at most"),
        (f"{IMAGENET}, layout: nhwc", 1, "3 channels"),
    ],
)
def test_samples_that_are_not_what_is_declared_are_refused(function, words, scale, why):
    if words == "scale: 1":  # a function that gives pixels of 0 to 1, without saying so
        (function / "made.py").write_text(FUNCTION.format(folder=function, mean=0, std="(1 / 255)"))
    source = f"{{source: 'made.py:samples', parameters: {{scale: {scale}}}}}"
    found = declared(function, words, source).refusal()
    assert (found.code, found.subject, why in found.message) == ("E842", "x", True)


def test_axes_in_another_order_are_refused_before_anything_runs(pictures):
    stages = declared(pictures, f"{IMAGENET}, layout: nhwc")
    with pytest.raises(DataError) as caught:
        stages.run(stages.node("samples"))
    (found,) = caught.value.diagnostics
    assert (found.code, "`layout: nchw`" in found.hint) == ("E843", True)
    assert "[1, 8, 8, 3]" in found.message and "[1, 3, 8, 8]" in found.message


SOUNDS = """\
edgedeploy: 1
name: loud
model:
  task: classify
  source: model.onnx
  inputs: {{x: {{audio: {{rate: 8000, {words}}}}}}}
  data: {{evaluate: {{source: sounds, labels: labels.csv}}}}
quantize: none
targets: [linux-x86-64/ort]
"""


@pytest.fixture
def sounds(tmp_path):
    """A model that tells loud from soft, of 16-bit samples, with noises of both kinds."""
    rng = np.random.default_rng(0)
    (tmp_path / "sounds").mkdir()
    rows = []
    for number in range(40):
        loud = number % 2
        values = rng.normal(0, 3000 if loud else 300, 64).clip(-32768, 32767).astype("<i2")
        rows.append((f"{number:02}.wav", loud))
        with wave.open(str(tmp_path / "sounds" / f"{number:02}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(values.tobytes())
    write_labels(tmp_path, rows)
    weight = np.array([[-1.0, 1.0]], np.float32)
    bias = np.array([1000.0, -1000.0], np.float32)
    nodes = [
        helper.make_node("Abs", ["x"], ["size"]),
        helper.make_node("ReduceMean", ["size"], ["level"], axes=[1], keepdims=1),
        helper.make_node("Gemm", ["level", "w", "b"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "loud",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, str(tmp_path / "model.onnx"))
    return tmp_path


def test_the_scale_of_sound_is_checked(sounds):
    found = Stages(sounds, SOUNDS.format(words="scale: 1")).refusal()
    assert (found.code, "`scale: 32768`" in found.hint) == ("E841", True)
    (other,) = Stages(sounds, SOUNDS.format(words="scale: 32768")).tried().values()
    assert (other["declared"], other["p"]) == (1.0, 1.0) and other["value"] < 0.7


@pytest.mark.parametrize(("declared_scale", "given"), [(1, 32768), (32768, 1)])
def test_sound_of_another_scale_than_declared_is_refused(sounds, declared_scale, given):
    (sounds / "made.py").write_text(
        "import numpy as np\n"
        "def samples():\n"
        "    for k in range(20):\n"
        "        x = np.random.default_rng(k).uniform(-0.5, 0.5, (1, 64)).astype(np.float32)\n"
        f"        yield {{'x': x * {given}}}, k % 2\n"
    )
    text = SOUNDS.format(words=f"scale: {declared_scale}").replace(
        "{source: sounds, labels: labels.csv}", "'made.py:samples'"
    )
    found = Stages(sounds, text).refusal()
    assert (found.code, found.subject, "`scale`" in found.hint) == ("E842", "x", True)
