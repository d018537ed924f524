"""EfficientNet-lite0 with its ImageNet weights: from torch to artifacts, on crops of photos."""

from pathlib import Path

import numpy as np
import pytest
import torch
from building import TARGETS, build, cosine, export
from PIL import Image
from trained import packaged

from edgedeploy import backends

PROFILE = """\
edgedeploy: 1
name: efficientnet
model:
  source: model.onnx
  inputs:
    image:
      shape: [1..8, 3, 224, 224]
      image: {size: [224, 224], mean: 127, std: 128}
  data: {calibrate: calibrate, evaluate: evaluate}
  metric: agreement
targets: [linux-x86-64/ort, linux-x86-64/openvino]
"""
DAISY = 985


def crops(folder: Path, left: int, count: int) -> None:
    """Save random square crops of half of each photograph, so that no pixel is in two roles."""
    generator = np.random.default_rng(left)
    folder.mkdir()
    for name in ("china", "flower"):
        photo = Image.open(packaged("scikit-learn", f"{name}.jpg")).convert("RGB")
        half = photo.crop((left, 0, left + 320, 427))
        for number in range(count):
            side = int(generator.integers(150, 321))
            x, y = (int(generator.integers(0, most - side + 1)) for most in half.size)
            half.crop((x, y, x + side, y + side)).save(folder / f"{name}-{number:02d}.png")


def pixels(file: Path) -> np.ndarray:
    """Return an image as the weights were trained on it, [1, 3, 224, 224] float32."""
    image = Image.open(file).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
    scaled = (np.asarray(image, np.float32) - 127) / 128
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


def classify(model: torch.nn.Module, array: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(array)).numpy()


def project(folder: Path, model: torch.nn.Module, dynamo: bool) -> Path:
    """Return a profile in ``folder`` with an export of the model and its images."""
    crops(folder / "calibrate", 0, 12)
    crops(folder / "evaluate", 320, 18)
    example = {"image": torch.zeros(2, 3, 224, 224)}
    file = export(model, example, "logits", {0: "n"}, folder / "model.onnx", dynamo)
    assert file.with_suffix(".onnx.data").exists() == dynamo
    profile = folder / "efficientnet.yaml"
    profile.write_text(PROFILE)
    return profile


@pytest.fixture(scope="module")
def dynamo(efficientnet: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default exporter's, at its default opset, weights in a file beside it."""
    return project(tmp_path_factory.mktemp("dynamo"), efficientnet, True)


def judge(
    profile: Path, model: torch.nn.Module, least: tuple[float, float], most_bytes: int, *sets: str
) -> dict[str, dict]:
    """Build, and hold every artifact against the float model and against torch.

    Args:
        profile: The profile.
        model: What was exported.
        least: Top-1 agreement, and mean cosine of the logits, with the float model.
        most_bytes: Size of an artifact.
        sets: Changes of the profile.
    """
    found = build(profile, *sets, output="-".join(sets).replace("=", "-"))
    files = sorted((profile.parent / "evaluate").iterdir())
    batch = np.concatenate([pixels(file) for file in files[::9]])
    wanted = classify(model, batch)
    for name in TARGETS:
        target = found[f"main -> {name}"]
        assert target["evaluation"]["n"] == len(files) == 36
        assert target["evaluation"]["metric"]["value"] >= least[0]
        assert cosine(target) >= least[1]
        assert target["size_bytes"] <= most_bytes
        with backends.load(name.split("/")[1]).runner(target["folder"]) as runner:
            (got,) = runner.run({"image": batch}).values()
        lengths = np.linalg.norm(got, axis=-1) * np.linalg.norm(wanted, axis=-1)
        assert ((got * wanted).sum(-1) / lengths).min() >= 1 - 4 * (1 - least[1])
    return found


def test_the_weights_are_the_trained_ones(efficientnet: torch.nn.Module) -> None:
    flower = pixels(packaged("scikit-learn", "flower.jpg"))
    assert int(classify(efficientnet, flower).argmax()) == DAISY


@pytest.mark.parametrize(
    ("quantize", "least", "most_bytes"),
    [
        ("none", (1.0, 0.999999), 18_800_000),
        ("fp16", (0.97, 0.9999), 9_600_000),
        # Stock static int8 on these crops: 0.31, 0.776 per tensor; 0.78, 0.988 per channel.
        ("w8a8", (0.65, 0.98), 5_500_000),
    ],
)
def test_the_default_export_builds_and_agrees_with_torch(
    dynamo: Path,
    efficientnet: torch.nn.Module,
    quantize: str,
    least: tuple[float, float],
    most_bytes: int,
) -> None:
    judge(dynamo, efficientnet, least, most_bytes, f"quantize={quantize}")


def test_auto_takes_int8_of_the_older_export(efficientnet: torch.nn.Module, tmp_path: Path) -> None:
    profile = project(tmp_path, efficientnet, False)
    sets = ("quantize=auto", "gates.cosine=0.97")
    found = judge(profile, efficientnet, (0.65, 0.98), 5_500_000, *sets)
    assert {target["chosen"] for target in found.values()} == {"w8a8"}
