"""Stage ``answers``: what outputs say, side by side with the float model's, and boxes drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgedeploy.errors import DataError
from edgedeploy.stage import Made, StageKind, Work
from edgedeploy.steps.reference import model_metadata
from edgedeploy.steps.samples import model_signature

if TYPE_CHECKING:
    import numpy as np

    from edgedeploy.decode import Decoder
    from edgedeploy.parity.answers import Call


def run(work: Work) -> Made:
    """Write the answer of each of ``inputs.outputs.0``, the float model's, ``.1`` and so on.

    ``answers.json`` is a list of ``{"answer", "difference", "diagnostics", "picture"}``: what
    cannot be decoded has no answer and says why, and takes no other along.
    """
    from edgedeploy.data.pack import PackReader
    from edgedeploy.parity.answers import difference

    decoder = _decoder(work)
    samples = list(PackReader(work.inputs["samples"]))
    geometries = [sample.geometry for sample in samples]
    state = {made for _, made in work.params["state"]}
    packs = [
        [
            {name: value for name, value in sample.tensors().items() if name not in state}
            for sample in PackReader(work.inputs[f"outputs.{number}"])
        ]
        for number in range(work.params["count"])
    ]
    said = []
    reference: list[Call] = []
    for number, outputs in enumerate(packs):
        found: dict[str, Any] = {}
        try:
            calls = _calls(decoder, outputs, geometries)
            found["answer"] = decoder.join([call.answer for call in calls]).to_json()
            if number == 0:
                reference = calls
            elif reference:
                found["difference"] = difference(calls, reference)
        except DataError as error:
            found["diagnostics"] = [item.to_json() for item in error.diagnostics]
        found["picture"] = _picture(work, number, found.get("answer"))
        said.append(found)
    text = json.dumps(said, ensure_ascii=False, allow_nan=False)
    (work.outputs["answers"] / "answers.json").write_text(text + "\n", encoding="utf-8")
    return Made()


def _decoder(work: Work) -> Decoder:
    """Return what reads the outputs; without words on it, what describes them."""
    from edgedeploy.decode import make_decoder
    from edgedeploy.profile.classes import read_classes
    from edgedeploy.profile.expand import decode_from_data

    spec = decode_from_data(work.params["decode"])
    if spec is None:
        return make_decoder(None, outputs=(), metadata={}, classes=())
    return make_decoder(
        spec,
        outputs=[output.name for output in model_signature(work.inputs["model"]).outputs],
        metadata=model_metadata(work.inputs["facts"]),
        classes=read_classes(work.inputs.get("classes")),
    )


def _calls(
    decoder: Decoder,
    outputs: Sequence[Mapping[str, np.ndarray]],
    geometries: Sequence[Mapping[str, Any] | None],
) -> list[Call]:
    """Return every call as the decoder reads it."""
    from edgedeploy.parity.answers import Call

    return [
        Call(
            outputs=made,
            arrays=decoder.arrays(made, geometry),
            answer=decoder.answer(made, geometry),
        )
        for made, geometry in zip(outputs, geometries, strict=True)
    ]


def _picture(work: Work, number: int, answer: Mapping[str, Any] | None) -> str | None:
    """Draw the boxes of an answer to a picture; return the file's name, None without any."""
    if not work.params["draw"] or answer is None or answer["kind"] != "boxes":
        return None
    from edgedeploy.data.drawing import draw_boxes

    name = f"{number}.png"
    draw_boxes(work.inputs["file"], answer["value"], work.outputs["answers"] / name)
    return name


STAGE = StageKind(kind="answers", run=run, outputs=("answers",), tools=("numpy", "pillow"))
