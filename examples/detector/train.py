"""Trains the detector and writes everything that the profile names, all beside this file.

`weights.npz` comes with the example; `python train.py --again` trains anew, some minutes on one
core. Without it only `model.onnx`, the pictures in `images/` and `truth.json` (COCO's form) are
written, in seconds. Needs scikit-learn; the build does not.
"""

import argparse
import json
import shutil
from pathlib import Path

import net
import numpy as np
import onnx
import scenes
from PIL import Image

HERE = Path(__file__).parent
HEIGHT, WIDTH = 448, 640
CROP, BATCH, STEPS, RATE = 128, 16, 3600, 4e-3
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def crops(rng: np.random.Generator, photographs: list, digits: tuple) -> tuple[np.ndarray, list]:
    """Return a batch of pictures `[BATCH, CROP, CROP, 3]` in 0..1, and the digits of each."""
    images, truths = [], []
    for _ in range(BATCH):
        photograph = photographs[rng.integers(len(photographs))]
        y = int(rng.integers(photograph.shape[0] - CROP + 1))
        x = int(rng.integers(photograph.shape[1] - CROP + 1))
        cut = photograph[y : y + CROP, x : x + CROP]
        image, truth = scenes.scene(cut, digits, int(rng.integers(1, 5)), rng)
        images.append(image)
        truths.append(truth)
    return np.stack(images).astype(np.float32) / 255, truths


def targets(truths: list) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what the net should say of a batch.

    The cells in the middle of a digit claim it (centre sampling: Tian et al., FCOS, 2019).

    Returns:
        Edges `[n, h, w, 4]` as logarithms of distances in cells, scores `[n, h, w, classes]`, and
        which cells claim a digit, bool `[n, h, w]`.
    """
    middles = net.cells(CROP, CROP)
    edges = np.zeros((len(truths), *middles.shape[:2], 4), np.float32)
    scores = np.zeros((len(truths), *middles.shape[:2], net.CLASSES), np.float32)
    for number, truth in enumerate(truths):
        for label, box in truth:
            low, high = np.array(box[:2]) / net.STRIDE, np.array(box[2:]) / net.STRIDE
            near = np.maximum(0.51, (high - low) / 4)
            claims = (abs(middles - (low + high) / 2) < near).all(axis=-1)
            claims &= ((middles > low) & (middles < high)).all(axis=-1)
            far = np.concatenate([middles - low, high - middles], axis=-1)[claims]
            edges[number, claims] = np.log(np.maximum(far, 0.05))
            scores[number, claims, label] = 1
    return edges, scores, scores.any(axis=-1)


def train() -> net.Weights:
    """Return trained weights.

    Scores: cross-entropy, weighted by the error, so that the many easy cells count for little
    (after Lin et al., focal loss, 2017). Edges: Huber's loss. Steps: Adam.
    """
    rng = np.random.default_rng(1)
    photographs, digits = scenes.photographs(), scenes.handwriting("train")
    weights = net.start(rng)
    first = {name: np.zeros_like(value) for name, value in weights.items()}
    second = {name: np.zeros_like(value) for name, value in weights.items()}
    for step in range(1, STEPS + 1):
        images, truths = crops(rng, photographs, digits)
        edges, scores, claimed = targets(truths)
        found_edges, logits, kept = net.forward(weights, images)
        sure = 1 / (1 + np.exp(-logits))
        each = 1 / max(1, int(claimed.sum()))
        of_scores = (sure - scores) * abs(sure - scores) * (1 + 2 * scores) * each
        of_edges = np.clip(4 * (found_edges - edges), -1, 1) * claimed[..., None] * each
        gradients = net.backward(weights, kept, of_edges, of_scores)
        rate = RATE * min(step / 100, 0.5 + 0.5 * np.cos(np.pi * step / STEPS))
        for name, gradient in gradients.items():
            first[name] += 0.1 * (gradient - first[name])
            second[name] += 0.001 * (gradient**2 - second[name])
            mean, square = first[name] / (1 - 0.9**step), second[name] / (1 - 0.999**step)
            weights[name] -= (rate * mean / (np.sqrt(square) + 1e-8)).astype(np.float32)
        if step % 100 == 0:
            error = abs(sure - scores)[scores > 0].mean()
            print(f"step {step} of {STEPS}: scores are off by {error:.3f}", flush=True)
    return weights


def write_images(part: scenes.Part, count: int, seed: int) -> dict:
    """Write pictures of a part of the data; return their truth in COCO's form."""
    folder = HERE / "images" / part
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    photographs, digits = scenes.photographs(), scenes.handwriting(part)
    images, boxes = [], []
    for number in range(1, count + 1):
        picture, truth = scenes.scene(photographs[number % len(photographs)], digits, 12, rng)
        name = f"{number:03}.png"
        Image.fromarray(picture).save(folder / name)
        height, width = picture.shape[:2]
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for label, (x1, y1, x2, y2) in truth:
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            place = {"id": len(boxes) + 1, "image_id": number, "category_id": label}
            boxes.append({**place, **box, "iscrowd": 0})
    names = [{"id": number, "name": name} for number, name in enumerate(NAMES)]
    return {"images": images, "annotations": boxes, "categories": names}


def main() -> None:
    """Train if asked to, then write the model and its data."""
    parser = argparse.ArgumentParser(description="Make the detector and its data.")
    parser.add_argument("--again", action="store_true", help="train instead of reading the weights")
    parser.add_argument("--calibrate", type=int, default=16, help="number of pictures")
    parser.add_argument("--evaluate", type=int, default=48, help="number of pictures")
    chosen = parser.parse_args()
    if chosen.again:
        small = {name: value.astype(np.float16) for name, value in train().items()}
        np.savez_compressed(HERE / "weights.npz", **small)
    with np.load(HERE / "weights.npz") as file:
        weights = {name: file[name].astype(np.float32) for name in file.files}
    onnx.save(net.onnx_model(weights, HEIGHT, WIDTH), HERE / "model.onnx")
    write_images("calibrate", chosen.calibrate, 2)
    truth = write_images("evaluate", chosen.evaluate, 3)
    (HERE / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    (HERE / "names.txt").write_text("\n".join(NAMES) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
