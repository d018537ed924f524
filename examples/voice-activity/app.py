"""How an application uses the artifacts: `python app.py MODEL WAV...` prints where speech is.

MODEL is a `model.ort` for ONNX Runtime or a `model.xml` for OpenVINO.
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from framing import FRAME, RATE_HZ, frames, read

THRESHOLD = 0.5
Network = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def load(model: Path) -> Network:
    """Return what maps frame ``[1, 576]`` and state to probability and the next state."""
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

    def network(frame: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        output, state = session.run(["output", "stateN"], {"input": frame, "state": state})
        return output, state

    return network


def load_openvino(model: Path) -> Network:
    """Load with OpenVINO, in float32 where the artifact is not int8."""
    sys.modules.setdefault("openvino_telemetry", None)  # it would send an event at the import
    import openvino

    compiled = openvino.Core().compile_model(
        model, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    )

    def network(frame: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outputs = compiled({"input": frame, "state": state})
        return outputs["output"], outputs["stateN"]

    return network


def speech(network: Network, sound: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield where speech starts and ends, in frames; a stream would feed one frame at a time."""
    state, start, number = np.zeros((2, 1, 128), np.float32), None, 0
    for number, frame in enumerate(frames(sound)):
        output, state = network(frame, state)
        if output[0, 0] >= THRESHOLD and start is None:
            start = number
        elif output[0, 0] < THRESHOLD and start is not None:
            yield start, number
            start = None
    if start is not None:
        yield start, number + 1


def main() -> None:
    """Print one line for each stretch of speech, in seconds."""
    network = load(Path(sys.argv[1]))
    for name in sys.argv[2:]:
        for start, end in speech(network, read(Path(name))):
            print(f"{name}: {start * FRAME / RATE_HZ:.3f} {end * FRAME / RATE_HZ:.3f}")


if __name__ == "__main__":
    main()
