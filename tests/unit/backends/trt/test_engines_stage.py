"""Stage ``engines``: what its report says of engines that tell of their layers, and of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
from onboard_jobs import OPTIONS, recipe, small_model

from edgedeploy.backends.trt.inspector import EngineLayers, read_layers
from edgedeploy.gpu import GpuPlatform
from edgedeploy.stage import Work
from edgedeploy.steps import engines

ORIN = GpuPlatform(
    system="linux", arch="arm64", gpu="Orin", compute_capability="8.7", tensorrt="10.3.0"
)
T4 = GpuPlatform(
    system="linux", arch="x86-64", gpu="T4", compute_capability="7.5", tensorrt="11.4.0"
)
_PROMISED = {"providers": [{"provider": "TensorRT", "judged": False}], "diagnostics": []}


def told(words: str) -> EngineLayers:
    """Return the layers of an engine whose convolution computes in a type."""

    def layer(name: str, *nodes: str) -> dict[str, Any]:
        tensor = {"Name": "t", "Dimensions": [1], "Format/Datatype": words}
        metadata = "".join(f"[ONNX Layer: {node}]" for node in nodes)
        given = {"Name": name, "LayerType": "CaskConvolution", "Metadata": metadata}
        return {**given, "Inputs": [tensor], "Outputs": [tensor]}

    layers = [layer("conv + odd", "conv", "odd"), layer("pool", "pool"), layer("fc", "fc")]
    return read_layers(json.dumps({"Layers": layers}).encode())


def joined(folder: Path, layers: dict[GpuPlatform, EngineLayers]) -> Path:
    """Run the stage over engines with these layers; return the folder of its report."""
    program = folder / "artifact" / "program"
    program.mkdir(parents=True)
    onnx.save(small_model(), str(program / "model.onnx"))
    (program / "recipe.json").write_text(json.dumps(recipe()))
    compiled, goals = folder / "compiled", {"artifact": folder / "made", "report": folder / "said"}
    for place in (compiled, *goals.values()):
        place.mkdir()
    (compiled / "placement.json").write_text(json.dumps(_PROMISED))
    inputs = {"program": program.parent, "report": compiled}
    for platform, found in layers.items():
        for name, files in (
            (platform.id, {"model.engine": "x", "engine.json": "{}"}),
            (f"layers.{platform.id}", {"layers.json": json.dumps(found.to_json())}),
        ):
            inputs[name] = folder / name
            inputs[name].mkdir()
            for file, text in files.items():
                (inputs[name] / file).write_text(text)
    engines.run(
        Work(
            params={
                "platforms": [item.to_json() for item in layers],
                "options": OPTIONS,
                "notes": [],
            },
            inputs=inputs,
            outputs=goals,
            fields={},
            project=folder,
            progress=lambda done, total, what: None,
            observe=lambda: None,
        )
    )
    return goals["report"]


def test_engines_that_tell_stand_in_place_of_the_programs_promise(tmp_path: Path) -> None:
    report = joined(tmp_path, {ORIN: told("Int8"), T4: told("Half")})
    placement = json.loads((report / "placement.json").read_text())
    names = [item["provider"] for item in placement["providers"]]
    assert names == ["TensorRT 10.3.0 for Orin (SM87)", "TensorRT 11.4.0 for T4 (SM75)"]
    assert {item["supported"] for item in placement["providers"]} == {5}
    counted = json.loads((report / "arithmetic.json").read_text())
    assert (counted["layers"], counted["integer_layers"], counted["stated"]) == (2, 2, False)
    assert counted["macs"] == 4 * (14 * 14 * 8 * 27 + 8 * 4)


def test_engines_that_tell_nothing_leave_what_the_program_says(tmp_path: Path) -> None:
    report = joined(tmp_path, {ORIN: EngineLayers(detail="none", layers=())})
    assert json.loads((report / "placement.json").read_text()) == _PROMISED
    assert not (report / "arithmetic.json").exists()
