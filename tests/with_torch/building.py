"""Exporting as users do, and the command line as they run it."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import torch

TARGETS = ("linux-x86-64/ort", "linux-x86-64/openvino")


def export(
    model: torch.nn.Module,
    inputs: dict[str, torch.Tensor],
    output: str,
    axes: dict[int, str],
    file: Path,
    dynamo: bool,
    opset: int | None = None,
) -> Path:
    """Export with one of torch's two exporters; ``axes`` names the dynamic axes of every input."""
    names = dict.fromkeys(inputs, axes)
    if dynamo:
        dims = {axis: torch.export.Dim(name, max=512) for axis, name in axes.items()}
        dynamic = {"dynamic_shapes": (dims,) * len(inputs)}
    else:
        dynamic = {"dynamic_axes": {**names, output: {0: axes[0]}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters warn about themselves at length
        torch.onnx.export(
            model,
            tuple(inputs.values()),
            file,
            dynamo=dynamo,
            opset_version=opset,
            input_names=list(inputs),
            output_names=[output],
            verbose=False,
            **dynamic,
        )
    return file


def command(profile: Path, *words: str) -> subprocess.CompletedProcess:
    """Run ``edgedeploy build`` in the profile's folder."""
    line = [sys.executable, "-m", "edgedeploy", "build", profile.name, *words]
    return subprocess.run(line, cwd=profile.parent, capture_output=True, text=True)


def build(profile: Path, *sets: str, output: str = "build") -> dict[str, dict]:
    """Build a profile that all targets accept.

    Returns:
        By ``model -> target``, what build.json says of it, and ``folder``, where it lies.
    """
    words = [word for item in sets for word in ("--set", item)]
    done = command(profile, "-q", "-o", output, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    made = profile.parent / output / profile.stem
    report = json.loads((made / "build.json").read_text())
    found = {}
    for model in report["models"]:
        for target in model["targets"]:
            target["folder"] = made / model["name"] / target["target"]
            found[f"{model['name']} -> {target['target']}"] = target
            stats = target["evaluation"]
            print(output, model["name"], target["target"], target["chosen"], cosine(target))
            print("  ", stats["metric"], stats["float_value"], target["size_bytes"])
    return found


def cosine(target: dict) -> float:
    """Return the mean cosine similarity of the first output with the float model's."""
    return target["evaluation"]["parity"][0]["stats"]["cosine_mean"]
