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

Outputs = Sequence[Mapping[str, "np.ndarray"]]


def run(work: Work) -> Made:
    """Write the answer of each of ``inputs.outputs.0``, the float model's, ``.1`` and so on.

    ``answers.json`` is a list of ``{"answer", "difference", "diagnostics", "picture"}``: what
    cannot be decoded has no answer and says why, and takes no other along.
    """
    from edgedeploy.data.pack import PackReader

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
    for number, outputs in enumerate(packs):
        try:
            found = _said(decoder, outputs, packs[0] if number else None, geometries)
        except DataError as error:
            found = {"diagnostics": [item.to_json() for item in error.diagnostics]}
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


def _said(
    decoder: Decoder,
    outputs: Outputs,
    reference: Outputs | None,
    geometries: Sequence[Mapping[str, Any] | None],
) -> dict[str, Any]:
    """Return one answer to all calls, and how it differs from the float model's."""
    from edgedeploy.parity.answers import difference

    pairs = list(zip(outputs, geometries, strict=True))
    answer = decoder.join([decoder.answer(made, place) for made, place in pairs])
    found: dict[str, Any] = {"answer": answer.to_json()}
    if reference is not None:
        arrays = [decoder.arrays(made, place) for made, place in pairs]
        wanted = [
            decoder.arrays(made, place) for made, place in zip(reference, geometries, strict=True)
        ]
        found["difference"] = difference(decoder.kind, arrays, wanted, outputs, reference)
    return found


def _picture(work: Work, number: int, answer: Mapping[str, Any] | None) -> str | None:
    """Draw the boxes of an answer to a picture; return the file's name, None without any."""
    if not work.params["draw"] or answer is None or answer["kind"] != "boxes":
        return None
    from edgedeploy.data.drawing import draw_boxes

    name = f"{number}.png"
    draw_boxes(work.inputs["file"], answer["value"], work.outputs["answers"] / name)
    return name


STAGE = StageKind(kind="answers", run=run, outputs=("answers",), tools=("numpy", "pillow"))
