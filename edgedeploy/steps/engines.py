"""Stage ``engines``: join the engines of a program, one per platform, to a target's artifact.

An engine lies in ``engines/<platform>/model.engine``, its provenance beside it.
"""

from __future__ import annotations

import json
import shutil

from edgedeploy.gpu import GpuPlatform
from edgedeploy.stage import Made, StageKind, Work

ENGINE = "model.engine"
PROVENANCE = "engine.json"


def run(work: Work) -> Made:
    """Copy ``inputs.<platform>``, and the reports of ``inputs.compiled`` with what they say."""
    loaded, made = [], {}
    notes = list(work.params["notes"])
    for data in work.params["platforms"]:
        platform = GpuPlatform.from_json(data)
        place = work.outputs["artifact"] / "engines" / platform.id
        place.mkdir(parents=True)
        for name in (ENGINE, PROVENANCE):
            shutil.copyfile(work.inputs[platform.id] / name, place / name)
            loaded.append(f"engines/{platform.id}/{name}")
        made[platform.id] = {"entry": loaded[-2], "platform": data}
        if platform.simulated:
            notes.append(f"the engine for {platform.in_words()} is simulated: no GPU made it")
    for file in work.inputs["report"].iterdir():
        shutil.copyfile(file, work.outputs["report"] / file.name)
    text = json.dumps(made, sort_keys=True, ensure_ascii=False, indent=1)
    (work.outputs["report"] / "engines.json").write_text(text + "\n", encoding="utf-8")
    first = next(iter(made.values()))
    return Made(
        summary={
            "entry": first["entry"],
            "loaded": loaded,
            "notes": notes,
            "engines": made,
            "simulated": any(item["platform"]["simulated"] for item in made.values()),
        }
    )


STAGE = StageKind(kind="engines", run=run, outputs=("artifact", "report"), code=("gpu",))
