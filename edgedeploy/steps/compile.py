"""Stage ``compile``: turn a typed ONNX model into the artifact of one target."""

from __future__ import annotations

import json
from collections.abc import Sequence

from edgedeploy import backends
from edgedeploy.artifact import SEGMENT_BYTES
from edgedeploy.backends.base import Words
from edgedeploy.stage import Made, StageKind, Work

_LOADED = ("model", "weights", "interface")
"""Roles of the files that must lie on the machine that runs an artifact."""


def run(work: Work) -> Made:
    """Compile ``inputs.model``; where each node would run goes to ``outputs.report``."""
    backend = backends.load(work.params["runtime"])
    model = work.inputs["model"] / "model.onnx"
    placement = backend.preflight(model, work.fields)
    report = backend.compile(
        model,
        work.outputs["artifact"],
        work.params["options"],
        work.fields,
        ranges={name: (low, high) for name, (low, high) in work.params["ranges"].items()},
        words=_words(work),
    )
    for name, data in (("compile", report.to_json()), ("placement", placement.to_json())):
        text = json.dumps(data, sort_keys=True, ensure_ascii=False, indent=1)
        (work.outputs["report"] / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    loaded = [file.path for file in report.files if file.role in _LOADED]
    return Made(
        summary={
            "entry": report.entry,
            "loaded": loaded,
            "notes": list(report.notes),
            **report.metadata,
        },
        segments={f"artifact/{file.path}": _cuts(file.tensors) for file in report.files},
    )


def _words(work: Work) -> Words | None:
    """Return what the profile says of the model, where the backend asked for it."""
    from edgedeploy.profile.classes import read_classes
    from edgedeploy.profile.dims import parse_dim
    from edgedeploy.profile.types import ImagePreprocess

    told = work.params.get("words")
    if told is None:
        return None
    facts = json.loads((work.inputs["facts"] / "facts.json").read_text(encoding="utf-8"))
    return Words(
        author=told["author"],
        licence=told["licence"],
        version=told["version"],
        source=facts["sha256"],
        images={name: ImagePreprocess(**given) for name, given in told["images"].items()},
        dims={name: parse_dim(text) for name, text in told["dims"].items()},
        state=tuple((given, made) for given, made in told["state"]),
        classes=read_classes(work.inputs.get("classes")),
        samples=work.inputs.get("samples"),
    )


def _cuts(tensors: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the tensors that are worth a digest of their own; small ones join their neighbours."""
    return [(offset, length) for offset, length in tensors if length >= SEGMENT_BYTES]


STAGE = StageKind(
    kind="compile",
    run=run,
    outputs=("artifact", "report"),
    code=("profile/classes", "profile/dims", "profile/types"),
)
