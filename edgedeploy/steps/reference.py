"""Stage ``reference``: what the float model answers, unoptimised, and what that is worth.

Preprocessing that is baked into the artifacts is done here as it is declared, outside the model: so
what is compared with these answers is compared with the model as its author has it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from edgedeploy.stage import Made, StageKind, Work
from edgedeploy.steps.samples import model_signature

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from edgedeploy.decode import Decoder
    from edgedeploy.signature import Signature


def run(work: Work) -> Made:
    """Write the outputs for ``inputs.samples`` as a pack, and their evaluation."""
    from edgedeploy.backends.ortmobile.reference import reference_runner
    from edgedeploy.data.unbaked import Unbaked
    from edgedeploy.parity.evaluate import record_reference
    from edgedeploy.profile.expand import baked_images, metric_from_data

    metric = metric_from_data(work.params["metric"])
    if metric is not None and metric.runs_user_code:
        work.observe()
    state = [(given, made) for given, made in work.params["state"]]
    images = baked_images(work.params["inputs"])
    with Unbaked(reference_runner(work.inputs["model"] / "model.onnx"), images) as runner:
        evaluation = record_reference(
            runner,
            work.inputs["samples"],
            work.outputs["outputs"],
            metric,
            state=state,
            zeros=state_zeros(model_signature(work.inputs["model"]), state),
            metadata=model_metadata(work.inputs["facts"]),
            folder=work.project,
            decoder=model_decoder(work, runner.signature),
            progress=lambda done, total: work.progress(done, total or 0, "samples"),
        )
    text = json.dumps(evaluation.to_json(), sort_keys=True, ensure_ascii=False)
    (work.outputs["score"] / "evaluation.json").write_text(text + "\n", encoding="utf-8")
    found = evaluation.metric
    return Made(summary={"samples": evaluation.samples, "metric": found and found.value})


def model_decoder(work: Work, signature: Signature) -> Decoder | None:
    """Return the decoder that ``params.decode`` names; None where the profile names none.

    Raises:
        DataError: It cannot be made (E874, E875), or the classes cannot be read (E877).
    """
    from edgedeploy.decode import make_decoder
    from edgedeploy.profile.classes import read_classes
    from edgedeploy.profile.expand import decode_from_data

    spec = decode_from_data(work.params["decode"])
    if spec is None:
        return None
    return make_decoder(
        spec,
        outputs=[output.name for output in signature.outputs],
        metadata=model_metadata(work.inputs["facts"]),
        classes=read_classes(work.inputs.get("classes")),
    )


def state_zeros(signature: Signature, state: list[tuple[str, str]]) -> dict[str, np.ndarray]:
    """Return the state at the start of a sequence: zeros, open axes of size 1."""
    import numpy as np

    specs = {spec.name: spec for spec in signature.inputs}
    return {
        given: np.zeros(
            [size if isinstance(size, int) else 1 for size in specs[given].dims or ()],
            specs[given].dtype,
        )
        for given, _ in state
    }


def model_metadata(facts: Path) -> dict[str, str]:
    """Return the model's metadata properties from the facts of the intake stage."""
    data = json.loads((facts / "facts.json").read_text(encoding="utf-8"))
    found: dict[str, str] = data["metadata"]
    return found


STAGE = StageKind(
    kind="reference",
    run=run,
    outputs=("outputs", "score"),
    tools=("onnxruntime", "numpy"),
    code=(
        "backends/ortmobile",
        "data/pack",
        "data/pixels",
        "data/preprocess",
        "data/unbaked",
        "decode",
        "parameters",
        "parity",
        "profile/classes",
        "profile/types",
        "runner",
        "steps/samples",
    ),
)
