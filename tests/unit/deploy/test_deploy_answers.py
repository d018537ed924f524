"""What a device answered is scored by the model's decoder, as here."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgedeploy.data.pack import PackWriter
from edgedeploy.decode import make_decoder
from edgedeploy.deploy.parity import evaluate_answers
from edgedeploy.measuring import Reference
from edgedeploy.parity.evaluate import record_reference
from edgedeploy.profile.types import DecodeSpec, MetricSpec
from edgedeploy.runner import Closing
from edgedeploy.signature import Signature, TensorSpec

WORDS = ("ab", "ba", "a")
SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", dtype="float32", dims=(1, 3, 3)),),
    outputs=(TensorSpec(name="y", dtype="float32", dims=(1, 3, 3)),),
)


def scores(word: str) -> np.ndarray:
    found = np.zeros((1, 3, 3), np.float32)
    for step in range(3):
        found[0, step, "-ab".index(word[step]) if step < len(word) else 0] = 1
    return found


class Echo(Closing):
    """A model that answers its input."""

    signature = SIGNATURE
    evidence = "host-runtime"

    def run(self, inputs):
        return {"y": inputs["x"]}

    def close(self):
        pass


def pack(folder: Path, name: str, tensor: str, words, truths=None) -> Path:
    folder = folder / name
    folder.mkdir()
    with PackWriter(folder) as writer:
        for number, word in enumerate(words):
            truth = truths[number] if truths else None
            writer.add(str(number), {tensor: scores(word)}, truth=truth)
    return folder


@pytest.mark.parametrize(
    ("decode", "classes"),
    [
        (DecodeSpec(name="ctc", parameters={"characters": "metadata:letters"}), ()),
        (DecodeSpec(name="ctc", output="y"), ("a", "b")),
    ],
)
def test_a_devices_answers_are_decoded(tmp_path: Path, decode: DecodeSpec, classes) -> None:

    samples = pack(tmp_path, "samples", "x", WORDS, WORDS)
    metadata, metric = {"letters": "a\nb"}, MetricSpec(name="cer")
    (tmp_path / "float").mkdir()
    decoder = make_decoder(decode, outputs=("y",), metadata=metadata, classes=classes)
    whole = record_reference(Echo(), samples, tmp_path / "float", metric, decoder=decoder)
    (tmp_path / "evaluation.json").write_text(json.dumps(whole.to_json()))
    session = SimpleNamespace(
        samples=samples,
        signature=SIGNATURE,
        state=(),
        reference=Reference(
            outputs=tmp_path / "float",
            score=tmp_path,
            metric=metric,
            metadata=metadata,
            folder=tmp_path,
            decode=decode,
            classes=classes,
        ),
    )
    answers = pack(tmp_path, "answers", "y", ("ab", "b", "a"))
    found = evaluate_answers(session, answers, None, "device")
    assert found.metric.value == pytest.approx(1 / 5)  # of five letters the second "a" is missing
    assert (found.paired.float_value, found.paired.lost) == (0, ("1",))
