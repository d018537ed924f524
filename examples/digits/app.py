"""How an application uses the artifacts: `python app.py MODEL IMAGE...` names each image's digit.

MODEL is a `model.ort` for ONNX Runtime or a `model.xml` for OpenVINO.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Network = Callable[[np.ndarray], np.ndarray]


def load(model: Path) -> Network:
    """Return what maps an image ``[1, 1, 16, 16]`` to scores ``[1, 10]``."""
    return load_ort(model) if model.suffix == ".ort" else load_openvino(model)


def load_ort(model: Path) -> Network:
    """Load with ONNX Runtime, the weights used in place in the mapped file."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # acts only before onnxruntime is imported
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # The two keys work together only.
    options.add_session_config_entry("session.use_memory_mapped_ort_model", "1")
    options.add_session_config_entry("session.use_ort_model_bytes_for_initializers", "1")
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})[0]


def load_openvino(model: Path) -> Network:
    """Load with OpenVINO, in float32 where the artifact is not int8."""
    sys.modules.setdefault("openvino_telemetry", None)  # it would send an event at the import
    import openvino

    compiled = openvino.Core().compile_model(
        model, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    )
    return lambda image: compiled({"image": image})[0]


def preprocess(file: Path) -> np.ndarray:
    """Return an image as `image:` in the profile declares it, float32 ``[1, 1, 16, 16]``."""
    with Image.open(file) as image:
        small = image.convert("L").resize((16, 16), Image.Resampling.BOX)
    return ((np.asarray(small, np.float32) / 255 - 0.5) / 0.5)[None, None]


def main() -> None:
    """Print one line for each image."""
    network = load(Path(sys.argv[1]))
    for name in sys.argv[2:]:
        print(f"{name}: {network(preprocess(Path(name))).argmax()}")


if __name__ == "__main__":
    main()
