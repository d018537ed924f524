"""Stage ``engines``: join the engines of a program, one per platform, to a target's artifact.

An engine lies in ``engines/<platform>/model.engine``, its provenance beside it.
"""

from __future__ import annotations

import json
import shutil

from edgedeploy.gpu import GpuPlatform, engine_needs
from edgedeploy.stage import Made, StageKind, Work

ENGINE = "model.engine"
PROVENANCE = "engine.json"


_TOLD = ("way", "build_s", "power_mode", "clocks")
"""What the summary repeats of an engine's provenance."""


def run(work: Work) -> Made:
    """Copy ``inputs.<platform>``, and ``inputs.report`` with what became of each platform.

    Params: ``platforms``; ``options``, those of the program's backend; ``notes`` on the program.
    """
    loaded, made = [], {}
    notes = list(work.params["notes"])
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
        if platform.simulated:
            notes.append(f"the engine for {platform.in_words()} is simulated: no GPU made it")
    for file in work.inputs["report"].iterdir():
        shutil.copyfile(file, work.outputs["report"] / file.name)
    text = json.dumps(made, sort_keys=True, ensure_ascii=False, indent=1)
    (work.outputs["report"] / "engines.json").write_text(text + "\n", encoding="utf-8")
    return Made(
        summary={
            "entry": next(iter(made.values()))["entry"],
            "loaded": loaded,
            "notes": notes,
            "engines": made,
            "simulated": any(item["platform"]["simulated"] for item in made.values()),
        }
    )


STAGE = StageKind(kind="engines", run=run, outputs=("artifact", "report"), code=("gpu",))
