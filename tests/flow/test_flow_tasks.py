"""A task from the profile's line to the figure of the build: who decodes, what is hashed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save
from running import edgedeploy, targets_of

from edgedeploy.release.keys import new_key, read_public_key
from edgedeploy.release.opening import open_bundle
from edgedeploy.release.signing import key_id

pytestmark = pytest.mark.slow

LETTERS = "abc\u0085"  # the last of them ends a line for str.splitlines, and is a character here
WORDS = ["ab", "cab", "aa", "b", "c\u0085a"]
READ = ["ab", "cab", "a", "b", "c\u0085a"]  # repeats without a blank between them merge

PROFILE = """\
edgedeploy: 1
name: lines
version: "1.0.0"
model:
  source: model.onnx
  licence: MIT
  task: ocr/ctc
  classes: letters.txt
  data: {evaluate: "lines.py:samples"}
quantize: none
targets: [linux-x86-64/ort]
"""

LINES = f"""
import numpy as np

def samples():
    for number, word in enumerate({WORDS!r}):
        x = np.zeros((1, 4, 5), np.float32)
        for step, letter in enumerate(word):
            x[0, step, {LETTERS!r}.index(letter) + 1] = 1
        x[0, len(word):, 0] = 1
        yield {{"x": x}}, word, str(number)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a recogniser whose scores are its input."""
    weight = numpy_helper.from_array(np.eye(5, dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "lines",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 5])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, str(tmp_path / "model.onnx"))
    (tmp_path / "lines.yaml").write_text(PROFILE)
    (tmp_path / "lines.py").write_text(LINES, encoding="utf-8")
    (tmp_path / "letters.txt").write_bytes("\n".join(LETTERS).encode() + b"\n")
    return tmp_path


def test_a_task_is_expanded_decoded_scored_and_hashed(project: Path) -> None:
    store = {"cwd": project, "EDGEDEPLOY_STORE": str(project / "store")}
    expanded = edgedeploy("plan", "lines.yaml", "--expand", "--json", **store).document["expanded"]
    assert expanded["models"]["main"]["metric"]["name"] == "cer"
    assert expanded["models"]["main"]["decode"]["parameters"] == {"characters": "classes"}
    assert expanded["targets"][0]["gates"]["metric"] == {"amount": 1.0, "unit": "pt"}

    built = edgedeploy("build", "lines.yaml", "--no-bench", **store)
    assert built.code == 0, built.err
    (target,) = targets_of(project / "build" / "lines").values()
    letters = sum(len(word) for word in WORDS)
    wrong = sum(word != read for word, read in zip(WORDS, READ, strict=True))
    assert target["evaluation"]["metric"]["value"] == pytest.approx(wrong / letters)

    new_key(project / "key")
    made = edgedeploy("release", "lines.yaml", "--key", "key", "-o", "build", **store)
    assert made.code == 0, made.err
    public = read_public_key(project / "key.pub")
    (bundle,) = project.rglob("*.edpkg")
    with open_bundle(bundle, {key_id(public): public}) as opened:
        (model,) = opened.release.target("linux-x86-64/ort").models
        assert model.task == "ocr/ctc"
        assert model.decode is not None and model.decode.output == "y"
        assert (model.decode.answer, model.decode.parameters) == ("text", {})
        assert "the blank" in " ".join(model.decode.steps)
        assert model.labels is not None
        assert opened.read(model.labels).decode() == "".join(f"{c}\n" for c in LETTERS)

    def missed(*sets: str) -> set[str]:
        plan = edgedeploy("plan", "lines.yaml", "--json", *sets, **store).document["stages"]
        return {stage["kind"] for stage in plan if stage["why"] != "hit"}

    assert missed("--set", "model.decode.parameters.characters=[d, e, f, g]") == {
        "reference",
        "evaluate",
    }
    (project / "letters.txt").write_text("d\ne\nf\ng\n")
    assert missed() == {"reference", "evaluate"}


def test_what_cannot_be_decoded_ends_the_build_with_a_reason(project: Path) -> None:
    store = {"cwd": project, "EDGEDEPLOY_STORE": str(project / "store")}
    (project / "letters.txt").write_text("a\n")
    built = edgedeploy("build", "lines.yaml", "--no-bench", **store)
    assert (built.code, "E874" in built.err) == (2, True)
    (project / "letters.txt").write_bytes(b"\xff\xfe")
    built = edgedeploy("build", "lines.yaml", "--no-bench", **store)
    assert (built.code, "E877" in built.err) == (2, True)
