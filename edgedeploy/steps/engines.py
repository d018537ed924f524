"""Stage ``engines``: join the engines of a program, one per platform, to a target's artifact.

An engine lies in ``engines/<platform>/model.engine``, its provenance beside it. The report is that
of ``compile``, with what the engines tell of their layers in place of what the program promised:
``placement.json``, and ``arithmetic.json`` where they tell the types they compute in.
"""

from __future__ import annotations

import json
import shutil
from typing import Any

from edgedeploy.gpu import GpuPlatform, engine_needs
from edgedeploy.stage import Made, StageKind, Work

ENGINE = "model.engine"
PROVENANCE = "engine.json"
LAYERS = "layers.json"


_TOLD = ("way", "build_s", "power_mode", "clocks")
"""What the summary repeats of an engine's provenance."""


def run(work: Work) -> Made:
    """Copy the engines and ``inputs.report``, and tell of ``inputs.layers.<platform>``.

    Params: ``platforms``; ``options``, those of the program's backend; ``notes`` on the program.
    """
    loaded, made = [], {}
    for data in work.params["platforms"]:
        platform = GpuPlatform.from_json(data)
        place = work.outputs["artifact"] / "engines" / platform.id
        place.mkdir(parents=True)
        for name in (ENGINE, PROVENANCE):
            shutil.copyfile(work.inputs[platform.id] / name, place / name)
            loaded.append(f"engines/{platform.id}/{name}")
        told = json.loads((place / PROVENANCE).read_text(encoding="utf-8"))
        made[platform.id] = {
            "entry": f"engines/{platform.id}/{ENGINE}",
            "platform": data,
            "needs": engine_needs(platform, work.params["options"]).to_json(),
            **{name: told.get(name) for name in _TOLD},
        }
    for file in work.inputs["report"].iterdir():
        shutil.copyfile(file, work.outputs["report"] / file.name)
    _write(work, "engines.json", made)
    _tell(work)
    return Made(
        summary={
            "entry": next(iter(made.values()))["entry"],
            "loaded": loaded,
            "notes": list(work.params["notes"]),
            "engines": made,
            "simulated": any(item["platform"]["simulated"] for item in made.values()),
        }
    )


def _tell(work: Work) -> None:
    """Write what the engines tell of the program's nodes, if one of them tells anything."""
    from edgedeploy.backends.trt.placed import report

    told = []
    for data in work.params["platforms"]:
        platform = GpuPlatform.from_json(data)
        text = (work.inputs[f"layers.{platform.id}"] / LAYERS).read_text(encoding="utf-8")
        layers = json.loads(text)
        if layers["detail"] != "none":
            told.append(report(work.inputs["program"], layers, platform.in_words()))
    if told:
        providers = [item for found in told for item in found["placement"]["providers"]]
        _write(work, "placement.json", {"providers": providers, "diagnostics": []})
    # Engines of one program differ little; the first one stands for all, as its entry does.
    counted = [found["arithmetic"] for found in told if found["arithmetic"] is not None]
    if counted:
        _write(work, "arithmetic.json", counted[0])


def _write(work: Work, name: str, data: Any) -> None:
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, indent=1)
    (work.outputs["report"] / name).write_text(text + "\n", encoding="utf-8")


STAGE = StageKind(
    kind="engines",
    run=run,
    outputs=("artifact", "report"),
    tools=("onnx",),
    code=("gpu", "backends/base", "backends/ortmobile", "backends/trt"),
)
