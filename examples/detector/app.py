"""How an application uses the artifacts: `python app.py [--score X] MODEL IMAGE...` finds digits.

MODEL is a `model.ort` for ONNX Runtime or a `model.xml` for OpenVINO. One line for each digit that
is found: the file, then class, score and box (x1 y1 x2 y2 in pixels of the image), best first.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH, GRAY = 448, 640, 114
IOU, MOST = 0.45, 100

Network = Callable[[np.ndarray], np.ndarray]
Digit = tuple[int, float, np.ndarray]


def load(model: Path) -> Network:
    """Return what maps a picture ``[1, 3, HEIGHT, WIDTH]`` to boxes and scores ``[1, 14, n]``."""
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
    return lambda image: session.run(None, {"images": image})[0]


def load_openvino(model: Path) -> Network:
    """Load with OpenVINO, in float32 where the artifact is not int8."""
    sys.modules.setdefault("openvino_telemetry", None)  # it would send an event at the import
    import openvino

    compiled = openvino.Core().compile_model(
        model, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    )
    return lambda image: compiled({"images": image})[0]


def letterbox(file: Path) -> tuple[np.ndarray, float, np.ndarray]:
    """Return an image as the profile declares it, its scale, and its offset x y x y.

    The example's pictures are as wide as the input and are not resized; Pillow's bilinear filter
    stands for the one of the profile where others are.
    """
    with Image.open(file) as image:
        scale = min(WIDTH / image.width, HEIGHT / image.height)
        size = round(image.width * scale), round(image.height * scale)
        pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))
    left, top = (WIDTH - size[0]) // 2, (HEIGHT - size[1]) // 2
    canvas = np.full((HEIGHT, WIDTH, 3), GRAY, np.uint8)
    canvas[top : top + size[1], left : left + size[0]] = pixels
    tensor = canvas.transpose(2, 0, 1)[None] * np.float32(1 / 255)
    return tensor, scale, np.array([left, top, left, top])


def digits(output: np.ndarray, score: float) -> Iterator[Digit]:
    """Yield (class, score, box in pixels of the input) of what is left of each class."""
    table = output[0].astype(np.float64)
    corners = np.concatenate([table[:2] - table[2:4] / 2, table[:2] + table[2:4] / 2]).T
    for label, scores in enumerate(table[4:]):
        left = np.argsort(-scores, kind="stable")[: int((scores >= score).sum())]
        for _ in range(MOST):
            if not len(left):
                break
            best, left = left[0], left[1:]
            yield label, float(scores[best]), corners[best]
            left = left[overlaps(corners[best], corners[left]) <= IOU]


def overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the intersections of a box with others ``[n, 4]`` over their unions."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    both = np.maximum(sides, 0).prod(axis=1)
    area = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1)
    return both / (area - both)


def main() -> None:
    """Print one line for each digit of each image."""
    parser = argparse.ArgumentParser(description="Find digits.")
    parser.add_argument("--score", type=float, default=0.5, help="least score of a digit")
    parser.add_argument("model", type=Path)
    parser.add_argument("images", nargs="+")
    chosen = parser.parse_args()
    network = load(chosen.model)
    for name in chosen.images:
        tensor, scale, offset = letterbox(Path(name))
        found = digits(network(tensor), chosen.score)
        for label, score, box in sorted(found, key=lambda digit: -digit[1]):
            x1, y1, x2, y2 = (box - offset) / scale
            print(f"{name}: {label} {score:.6f} {x1:.3f} {y1:.3f} {x2:.3f} {y2:.3f}")


if __name__ == "__main__":
    main()
