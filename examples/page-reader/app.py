"""How an application uses both artifacts: `python app.py FOLDER TARGET PICTURE...` reads pages.

FOLDER holds the build's results, such as `build/page-reader`; TARGET is `linux-x86-64/ort` or
`linux-x86-64/openvino`. One line is printed for each line of a page.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from reading import Arrays, read


class Network:
    """A model as `read` calls it: by its input's name, the outputs by theirs."""

    def __init__(self, run: Callable[[Arrays], Arrays], metadata: dict[str, str]) -> None:
        self._run = run
        self.metadata = metadata

    def __call__(self, **inputs: np.ndarray) -> Arrays:
        """Return the outputs by name."""
        return self._run(inputs)


class Models:
    """The models of a target, as attributes."""

    def __init__(self, folder: Path, target: str) -> None:
        self.detector = load(folder / "detector" / target)
        self.recogniser = load(folder / "recogniser" / target)


def load(artifact: Path) -> Network:
    """Return what runs an artifact, by the file that is there."""
    model = artifact / "model.ort"
    return load_ort(model) if model.exists() else load_openvino(artifact / "model.xml")


def load_ort(model: Path) -> Network:
    """Load with ONNX Runtime; what the model's file said beside its graph is still in it."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # acts only before onnxruntime is imported
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Arrays) -> Arrays:
        return dict(zip(names, session.run(names, inputs), strict=True))

    return Network(run, session.get_modelmeta().custom_metadata_map)


def load_openvino(model: Path) -> Network:
    """Load with OpenVINO, which keeps the model's metadata under `framework`."""
    sys.modules.setdefault("openvino_telemetry", None)  # it would send an event at the import
    import openvino

    read_model = openvino.Core().read_model(model)
    compiled = openvino.Core().compile_model(
        read_model, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    )
    names = [output.any_name for output in compiled.outputs]
    metadata = {}
    if read_model.has_rt_info(["framework", "character"]):
        metadata["character"] = read_model.get_rt_info(["framework", "character"]).astype(str)

    def run(inputs: Arrays) -> Arrays:
        return dict(zip(names, compiled(inputs).values(), strict=True))

    return Network(run, metadata)


def main() -> None:
    """Print the lines of each page."""
    models = Models(Path(sys.argv[1]), sys.argv[2])
    for name in sys.argv[3:]:
        with Image.open(name) as image:
            page = np.asarray(image.convert("RGB"))
        for line in str(read({"image": page}, models)["text"]).split("\n"):
            print(f"{name}: {line}")


if __name__ == "__main__":
    main()
