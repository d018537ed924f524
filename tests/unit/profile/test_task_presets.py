"""``task:``: what presets stand for, who wins, where faults point."""

from pathlib import Path

import pytest

import edgedeploy.tasks
from edgedeploy.config.read import read_text
from edgedeploy.errors import DataError, ExitCode, ProfileError
from edgedeploy.profile.load import load_profile
from edgedeploy.profile.preset import apply_tasks
from edgedeploy.profile.starter import starter_profile
from edgedeploy.profile.types import DecodeSpec, Delta, MetricSpec, QuantizeSpec, TaskSpec
from edgedeploy.signature import Signature, TensorSpec
from edgedeploy.tasks import (
    MODEL_KEYS,
    PROFILE_KEYS,
    Preset,
    guess_tasks,
    preset_words,
    presets,
)

TARGETS = "targets: [linux-x86-64/ort]\n"
EVALUATED = "  data: {evaluate: e}\n"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("EDGEDEPLOY_TARGET_PATH", raising=False)


def load(text, *sets):
    Path("p.yaml").write_text(f"edgedeploy: 1\nname: p\n{text}{TARGETS}")
    return load_profile(Path("p.yaml"), sets=sets)


def one(model, *sets, top="", data=EVALUATED):
    profile = load(f"{top}model:\n  source: m.onnx\n{data}{model}", *sets)
    return profile.models["main"], profile.targets[0]


def faults(text):
    with pytest.raises(ProfileError) as caught:
        load(text)
    assert caught.value.exit_code is ExitCode.USAGE
    return [(item.code, str(item.place)) for item in caught.value.diagnostics]


# --- what the presets stand for -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "metric", "decode", "gate"),
    [
        ("classify", "top1", ("classes", {"top": 5}), (-1, "pt")),
        ("kws", "top1", ("classes", {"top": 1, "threshold": 0.5}), (-1, "pt")),
        ("vad", "f1", ("speech", {"threshold": 0.5}), (-1, "pt")),
        ("ocr/ctc", "cer", ("ctc", {"characters": "metadata:character"}), (1, "pt")),
        ("embed", "cosine", ("vector", {"normalise": True}), (-1, "pt")),
        (
            "detect/yolo",
            "map",
            ("yolo", {"objectness": False, "score": 0.25, "iou": 0.7, "nms": "app"}),
            (-1, "pt"),
        ),
    ],
)
def test_what_a_task_stands_for(task, metric, decode, gate):
    model, use = one(f"  task: {task}\n")
    assert model.task == TaskSpec(name=task)
    assert model.metric == MetricSpec(name=metric)
    assert model.decode == DecodeSpec(name=decode[0], parameters=decode[1])
    assert use.gates.metric == Delta(amount=gate[0], unit=gate[1])


def test_every_preset_is_tried_here():
    assert sorted(presets()) == ["classify", "detect/yolo", "embed", "kws", "ocr/ctc", "vad"]


def test_presets_know_the_inputs():
    model, _ = one("  task: detect/yolo\n  inputs: {x: {image: [64, 96]}, y: {shape: [1]}}\n")
    image = model.inputs["x"].image
    assert (image.height, image.width, image.fit, image.pad_value) == (64, 96, "letterbox", 114)
    assert image.scale == 1 / 255
    assert model.inputs["y"].image is None
    model, _ = one("  task: ocr/ctc\n  inputs: {x: {image: {size: [48, keep], mean: 0.5}}}\n")
    assert (model.inputs["x"].image.fit, model.inputs["x"].image.mean) == ("pad", (0.5,))
    audio = "  inputs: {x: {audio: {rate: 16000, frame: 576, hop: 512}}}\n"
    assert one(f"  task: vad\n{audio}")[0].decode.parameters["step"] == 0.032
    model, _ = one("  task: ocr/ctc\n  classes: letters.txt\n")
    assert model.decode.parameters == {"characters": "classes"}


def test_a_task_takes_parameters():
    model, _ = one("  task: {name: kws, threshold: 0.8, softmax: true}\n")
    assert model.task == TaskSpec(name="kws", parameters={"threshold": 0.8, "softmax": True})
    assert model.decode.parameters == {"top": 1, "softmax": True, "threshold": 0.8}
    model, use = one("  task: {name: embed, scored_pairs: true}\n")
    assert (model.metric.name, use.gates.metric) == ("pearson", Delta(amount=-0.01, unit="abs"))


def test_nothing_is_judged_without_data_to_judge_it_on():
    for data in ("", "  data: {calibrate: c}\n"):
        model, use = one("  task: classify\n", data=data)
        assert (model.metric, use.gates.metric) == (None, None)
        assert model.decode is not None


# --- who wins -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "decode"),
    [
        ("{parameters: {top: 1}}", {"top": 1}),
        ("classes", {"top": 5}),
        ("{name: classes, parameters: {softmax: true}}", {"softmax": True, "top": 5}),
        ("{output: z}", {"top": 5}),
    ],
)
def test_the_profile_wins_key_by_key(written, decode):
    model, _ = one(f"  task: classify\n  decode: {written}\n")
    assert (model.decode.name, model.decode.parameters) == ("classes", decode)


def test_null_takes_away_what_a_task_adds():
    model, use = one("  task: classify\n  decode: null\n", top="gates: {metric: null}\n")
    assert (model.decode, use.gates.metric, model.metric.name) == (None, None, "top1")
    model, use = one("  task: classify\n  metric: null\n")
    assert (model.metric, use.gates.metric) == (None, None)


def test_another_name_replaces_the_whole():
    model, use = one("  task: kws\n  decode: vector\n  metric: {name: cosine}\n")
    assert model.decode == DecodeSpec(name="vector")
    assert model.metric == MetricSpec(name="cosine")
    assert use.gates.metric is None  # its points were meant for the other metric


@pytest.mark.parametrize("place", ["  metric:", "metric:"])
def test_a_metric_may_be_written_in_part(place):
    written = f"{place} {{parameters: {{average: macro}}}}\n"
    inside = place.startswith(" ")
    model, use = one(f"  task: vad\n{written if inside else ''}", top="" if inside else written)
    assert model.metric == MetricSpec(name="f1", parameters={"average": "macro"})
    assert use.gates.metric == Delta(amount=-1, unit="pt")


def test_settings_of_the_command_line_win_as_well():
    model, use = one("  task: classify\n", "model.decode.parameters.top=3", "gates.metric=-2 pt")
    assert (model.decode.parameters, use.gates.metric.amount) == ({"top": 3}, -2)
    model, _ = one("  task: classify\n", "model.task=vad")
    assert model.metric.name == "f1"


def leaves(words, path=()):
    for key, value in words.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


@pytest.mark.parametrize("task", list(presets()))
def test_every_expanded_key_can_be_overridden(task):
    """Whatever a preset writes, a value of the user's at the same place stays as it is."""
    inputs = "inputs: {x: {image: [4, 4]}}"
    base = f"model: {{source: m, task: {task}, data: {{evaluate: e}}, {inputs}}}\n"
    model = read_text(base, label="p").data["model"]
    words = preset_words(task, {}, model)
    assert set(words) <= {*MODEL_KEYS, *PROFILE_KEYS}
    for path in leaves(words):
        if path[-1] == "name":
            continue  # another name replaces the whole, see above
        document = read_text(base, label="p")
        container = document.data if path[0] in PROFILE_KEYS else document.data["model"]
        for key in path[:-1]:
            given = container.get(key)
            container[key] = {"size": given} if isinstance(given, list) else (given or {})
            container = container[key]
        container[path[-1]] = "mine"
        assert apply_tasks(document) == []
        assert container[path[-1]] == "mine"


# --- several models, pipelines ------------------------------------------------------------------


def test_models_with_tasks_of_their_own():
    profile = load(
        "gates: {metric: -2 pt}\n"
        "models:\n"
        "  a: {source: a.onnx, task: classify, data: {evaluate: e}}\n"
        "  b: {source: b.onnx, task: ocr/ctc, data: {evaluate: e}}\n"
    )
    assert [model.metric.name for model in profile.models.values()] == ["top1", "cer"]
    assert profile.targets[0].gates.metric == Delta(amount=-2, unit="pt")


def test_tasks_that_contradict_each_other_are_refused():
    text = (
        "models:\n"
        "  a: {source: a.onnx, task: classify, data: {evaluate: e}}\n"
        "  b: {source: b.onnx, task: ocr/ctc, data: {evaluate: e}}\n"
    )
    assert faults(text) == [("E872", "p.yaml:5:29")]
    assert load(text.replace("ocr/ctc", "kws")).targets[0].gates.metric.amount == -1


def test_what_tasks_hold_in_float_adds_up(monkeypatch):
    def preset(name, ops):
        words = {"metric": {"name": "top1"}, "quantize": {"keep_float_ops": ops}}
        return Preset(
            name=name, summary="", parameters={}, answer="classes", expand=lambda *_: words
        )

    known = {"one": preset("one", ["Concat", "Exp"]), "two": preset("two", ["Exp", "Sub"])}
    monkeypatch.setattr(edgedeploy.tasks, "presets", lambda: known)
    models = "models:\n  a: {source: a.onnx, task: one}\n  b: {source: b.onnx, task: two}\n"
    expected = QuantizeSpec(mode="w8a8", keep_float_ops=("Concat", "Exp", "Sub"))
    assert load(models + "quantize: w8a8\n").targets[0].quantize == expected
    own = load(models + "quantize: {keep_float_ops: [Mul]}\n").targets[0].quantize
    assert own == QuantizeSpec(keep_float_ops=("Mul",))


def test_a_pipeline_keeps_data_metric_and_gates_for_itself():
    document = read_text(
        "pipeline: p.py:f\ndata: {evaluate: e}\nmetric: cer\n"
        "models: {a: {source: a, task: detect/yolo},"
        " b: {source: b, task: ocr/ctc, data: {evaluate: f}}}\n",
        label="p",
    )
    assert apply_tasks(document) == []
    a, b = document.data["models"].values()
    assert "metric" not in a
    assert b["metric"] == {"name": "cer"}
    assert "gates" not in document.data
    assert document.data["metric"] == "cer"


# --- a new preset is one file -------------------------------------------------------------------


def test_a_new_preset_is_one_file(tmp_path, monkeypatch):
    (tmp_path / "depth.py").write_text(
        "from edgedeploy.tasks import Preset\n"
        "PRESET = Preset(name='depth', summary='', parameters={}, answer='values',\n"
        "    expand=lambda given, model: {'metric': {'name': 'mse'}})\n"
    )
    monkeypatch.setattr(edgedeploy.tasks, "__path__", [str(tmp_path)])
    assert one("  task: depth\n")[0].metric == MetricSpec(name="mse")


# --- faults -------------------------------------------------------------------------------------


def test_an_unknown_task_or_parameter_is_refused_at_its_place():
    head = "model:\n  source: m.onnx\n  task: "
    assert faults(head + "clasify\n") == [("E870", "p.yaml:5:9")]
    assert faults(head + "{name: vad, treshold: 0.5}\n") == [("E871", "p.yaml:5:9")]
    assert faults(head + "{name: vad, threshold: 5}\n") == [("E871", "p.yaml:5:9")]
    assert faults(head + "{name: vad, threshold: high}\n") == [("E871", "p.yaml:5:9")]
    assert faults(head + "{threshold: 0.5}\n")[0][0] == "E105"
    assert faults(head + "3\n") == [("E106", "p.yaml:5:9")]


def test_every_parameter_of_every_preset_is_read():
    """A parameter that is promised refuses a value of a wrong kind: it is looked at."""
    for name, preset in presets().items():
        for parameter in preset.parameters:
            with pytest.raises(DataError) as caught:
                preset_words(name, {parameter: {"a": 1}}, {})
            assert caught.value.diagnostics[0].code == "E871"


def test_a_fault_in_merged_words_points_at_the_task(monkeypatch):
    words = {"metric": {"name": "top1"}, "decode": {"name": "clases", "parameters": {"top": 5}}}
    bad = Preset(name="bad", summary="", parameters={}, answer="classes", expand=lambda *_: words)
    monkeypatch.setattr(edgedeploy.tasks, "presets", lambda: {"bad": bad})
    assert faults("model:\n  source: m.onnx\n  task: bad\n") == [("E873", "p.yaml:5:9")]


def test_a_metric_that_cannot_read_the_answer_is_refused():
    head = "model:\n  source: m.onnx\n  decode: "
    assert faults(head + "classes\n  metric: cer\n") == [("E876", "p.yaml:6:11")]
    assert faults("metric: map\n" + head + "ctc\n") == [("E876", "p.yaml:3:9")]
    assert faults(head + "clases\n") == [("E873", "p.yaml:5:11")]
    for free in ("cosine", "mine.py:score"):
        load(head + f"classes\n  metric: {free}\n")


@pytest.mark.parametrize(
    ("decode", "metric", "key"),
    [
        ("speech", "{name: f1, parameters: {threshold: 0.4}}", "parameters"),
        ("ctc", "{name: cer, parameters: {decode: ctc}}", "parameters"),
        ("boxes", "{name: map, parameters: {format: xywh}}", "parameters"),
        ("classes", "{name: top1, output: z}", "output"),
    ],
)
def test_who_reads_an_output_is_said_once(decode, metric, key):
    text = f"model:\n  source: m.onnx\n  decode: {decode}\n  metric: {metric}\n"
    assert [code for code, _ in faults(text)] == ["E876"]
    load(text.replace(f"decode: {decode}", "outputs: []"))


# --- starter profiles ---------------------------------------------------------------------------


def signature(given, made):
    return Signature(
        inputs=(TensorSpec(name="x", dtype="float32", dims=given),),
        outputs=(TensorSpec(name="y", dtype="float32", dims=made),),
    )


@pytest.mark.parametrize(
    ("given", "made", "metadata", "sure", "perhaps"),
    [
        ((1, 3, 48, "W"), (1, "T", 97), {"character": "a\nb"}, "ocr/ctc", ""),
        ((1, 3, 640, 640), (1, 84, 8400), {"task": "detect"}, "detect/yolo", ""),
        ((1, 3, 224, 224), (1, 1000), {"task": "classify"}, "classify", "embed"),
        ((1, 3, 640, 640), (1, 25200, 85), {}, "", "detect/yolo"),
        ((1, 1, 28, 28), (1, 10), {}, "", "classify"),
        ((1, 112, 112, 3), ("N", 512), {}, "", "classify embed"),
        (("N", 576), ("N", 1), {}, "", "vad"),
        ((1, 2048), (1, 10), {}, "", ""),
        (None, None, {}, "", ""),
    ],
)
def test_a_starter_names_the_task_that_the_model_tells(given, made, metadata, sure, perhaps):
    model = signature(given, made)
    found = guess_tasks(model, metadata)
    assert found == {"sure": tuple(sure.split()), "perhaps": tuple(perhaps.split())}
    text = starter_profile("m.onnx", model, metadata)
    Path("p.yaml").write_text(text)
    task = load_profile(Path("p.yaml")).models["main"].task
    assert (task.name if task else "") == sure
    proposed = text.replace("  # task:", "  task:")
    Path("p.yaml").write_text(proposed)
    task = load_profile(Path("p.yaml")).models["main"].task
    assert task.name == (sure or perhaps or "classify").split()[0]
