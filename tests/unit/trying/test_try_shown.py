"""What the command prints of answers, and which files it takes for what."""

from pathlib import Path

import pytest

from edgedeploy.cli.try_ import only_profile, tried_text
from edgedeploy.errors import Diagnostic, ExitCode, UsageError
from edgedeploy.profile.types import (
    AudioPreprocess,
    DecodeSpec,
    ImagePreprocess,
    InputSpec,
    ModelSource,
    ModelSpec,
)
from edgedeploy.trying import Answered, Tried
from edgedeploy.trying.kinds import answers_boxes, kind_of, kinds_of

TOLD = {"kind": "text", "value": {"text": "ab"}, "words": "ab"}
WHY = Diagnostic(code="E330", message="the runtime failed", hint="-")
ROWS = (
    Answered(model="main", evidence="host-runtime", answer=TOLD),
    Answered(
        model="main",
        target="rpi4/ort",
        candidate="w8a8",
        verdict="refused",
        device="pi",
        evidence="device",
        answer=TOLD,
        difference={"same": True, "words": "same text", "outputs": {}},
        picture=Path("out/a.png"),
    ),
    Answered(
        model="main",
        target="rpi5/ort",
        candidate="fp16",
        verdict="accepted",
        diagnostics=(WHY,),
        exit_code=ExitCode.BUILD,
    ),
)
TRIED = Tried(file=Path("a.png"), kind="picture", app="reader", rows=ROWS)


def test_rows_say_where_answers_come_from_and_why_there_is_none():
    lines = tried_text(TRIED).splitlines()
    assert lines[0] == "a.png (picture), asked of reader"
    (pi,) = [number for number, line in enumerate(lines) if line.startswith("rpi4/ort w8a8")]
    assert "same text" in lines[pi] and "device" in lines[pi]
    assert lines[pi + 1].strip() == "on pi" and lines[pi + 2].strip() == "refused by a gate"
    (failed,) = [line for line in lines if line.startswith("rpi5/ort fp16")]
    assert "the runtime failed" in failed and "none" in failed
    assert "The models ran on pi; reading and decoding ran here." in lines
    assert "drawn: out/a.png" in lines


def test_a_model_that_the_file_does_not_fit_was_not_asked():
    row = Answered(model="other", diagnostics=(WHY,))
    text = tried_text(Tried(file=Path("a"), kind="text", app="b", rows=(*ROWS[:1], row)))
    (line,) = [line for line in text.splitlines() if line.startswith("not asked")]
    assert "the runtime failed" in line


def test_long_answers_break_between_items():
    words = ", ".join(f"class{number} 0.{number:03}" for number in range(12))
    answer = {"kind": "classes", "value": [], "words": words}
    row = Answered(model="main", evidence="host-runtime", answer=answer)
    lines = tried_text(Tried(file=Path("a"), kind="text", app="b", rows=(row,))).splitlines()
    assert all(len(line) <= 110 for line in lines)
    said = " ".join(line[len("float model") :].split("  -  ")[0].strip() for line in lines[6:])
    assert said == words
    assert not any(line.strip().startswith("0.") for line in lines)


def test_one_failure_gives_the_exit_status():
    assert TRIED.exit_code == ExitCode.BUILD
    assert Tried(file=Path("a"), kind="text", app="b", rows=ROWS[:2]).exit_code == ExitCode.DONE
    rows = TRIED.to_json()["rows"]
    assert [row["evidence"] for row in rows] == ["host-runtime", "device", "none"]
    assert rows[1]["picture"] == "out/a.png" and rows[2]["diagnostics"][0]["code"] == "E330"


def test_no_answer_of_the_model_moves_the_cursor():
    evil = {"kind": "text", "value": {}, "words": "a\x1b[2Jb"}
    row = Answered(model="main", evidence="host-runtime", answer=evil)
    assert "\x1b" not in tried_text(Tried(file=Path("a"), kind="text", app="b", rows=(row,)))


def test_the_one_profile_of_a_folder_is_taken(tmp_path):
    def refused():
        with pytest.raises(UsageError) as error:
            only_profile(tmp_path)
        (found,) = error.value.diagnostics
        assert found.code == "E854"
        return found.message

    (tmp_path / "devices.yaml").write_text("devices: {}\n")
    (tmp_path / "broken.yaml").write_bytes(b"\xff")
    assert "no profile" in refused()
    (tmp_path / "a.yaml").write_text("# mine\nedgedeploy: 1\n")
    assert only_profile(tmp_path) == tmp_path / "a.yaml"
    (tmp_path / "b.yml").write_text("edgedeploy: 1\n")
    assert "a.yaml, b.yml" in refused()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.JPG", "picture"), ("a.wav", "sound"), ("a.npz", "arrays"), ("a.txt", "text")],
)
def test_the_end_of_a_name_tells_its_kind(tmp_path, name, kind):
    (tmp_path / name).touch()
    assert kind_of(tmp_path / name) == kind


@pytest.mark.parametrize("name", ["a.mp4", "a"])
def test_other_files_are_refused_with_what_there_is(tmp_path, name):
    for made in (False, True):
        if made:
            (tmp_path / name).touch()
        with pytest.raises(UsageError) as error:
            kind_of(tmp_path / name)
        (found,) = error.value.diagnostics
        assert found.code == "E850"
        assert (".wav" in str(found.hint)) == made


def model(inputs=(), decode=None):
    source = ModelSource(path="m.onnx")
    named = {spec.name: spec for spec in inputs}
    return ModelSpec(name="m", source=source, inputs=named, decode=decode)


def test_models_take_what_their_inputs_declare():
    image = InputSpec(name="x", image=ImagePreprocess(height=1, width=1))
    audio = InputSpec(name="x", audio=AudioPreprocess(rate_hz=8000))
    tensor = [{"name": "x", "dtype": "float32"}]
    text = [{"name": "t", "dtype": "string"}, {"name": "rate", "dtype": "int64"}]
    assert kinds_of(model([image]), tensor) == ("picture", "arrays")
    assert kinds_of(model([audio]), tensor) == ("sound", "arrays")
    assert kinds_of(model(), text) == ("arrays",)
    assert kinds_of(model([InputSpec(name="rate", value=1)]), text) == ("text", "arrays")


def test_boxes_are_what_their_decoders_say():
    assert answers_boxes(model(decode=DecodeSpec(name="yolo")))
    assert not answers_boxes(model(decode=DecodeSpec(name="ctc"))) and not answers_boxes(model())
