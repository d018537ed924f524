"""Trains a small convolutional net on scikit-learn's handwritten digits and writes it as ONNX.

Writes `model.onnx`, 32 x 32 pixel images into `images/calibrate` and `images/evaluate`, and
`labels.csv` for the latter, all beside this file. Seconds on one core, the same bytes each time
on the same machine. Needs scikit-learn; the build does not.
"""

import csv
import shutil
import warnings
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

HERE = Path(__file__).parent
FILTERS, SIDE = 16, 5
CALIBRATION_IMAGES, EVALUATION_IMAGES = 100, 500


def enlarged(digits: np.ndarray, factor: int) -> np.ndarray:
    """Return 8 x 8 digits of 0 to 16 as pixels of 0 to 255, each repeated ``factor`` times."""
    pixels = np.round(digits * 255 / 16).astype(np.uint8)
    return pixels.repeat(factor, axis=1).repeat(factor, axis=2)


def windows(tensors: np.ndarray) -> np.ndarray:
    """Return all windows of ``[n, 16, 16]`` as ``[n, 12, 12, SIDE * SIDE]``."""
    found = np.lib.stride_tricks.sliding_window_view(tensors, (SIDE, SIDE), axis=(1, 2))
    return found.reshape(*found.shape[:3], SIDE * SIDE)


def filters(tensors: np.ndarray) -> np.ndarray:
    """Return the centres of the windows' clusters, each of mean 0 and length 1.

    Source: Coates and Ng, Learning Feature Representations with K-means, 2012.
    """
    found = windows(tensors[:400]).reshape(-1, SIDE * SIDE)
    found = found - found.mean(axis=1, keepdims=True)
    length = np.linalg.norm(found, axis=1)
    found = found[length > 0.5] / length[length > 0.5, None]
    centres = KMeans(FILTERS, n_init=1, random_state=0).fit(found[::4]).cluster_centers_
    centres -= centres.mean(axis=1, keepdims=True)
    return centres / np.linalg.norm(centres, axis=1, keepdims=True)


def pooled(tensors: np.ndarray, kernels: np.ndarray) -> np.ndarray:
    """Return convolution, ReLU and 2 x 2 average pooling, flat: ``[n, FILTERS * 36]``."""
    maps = np.maximum(windows(tensors) @ kernels.T, 0)
    return (
        maps.reshape(-1, 6, 2, 6, 2, FILTERS)
        .mean(axis=(2, 4))
        .transpose(0, 3, 1, 2)
        .reshape(len(tensors), -1)
    )


def write_model(kernels: np.ndarray, head: MLPClassifier) -> None:
    """Write the net as ONNX."""
    weights = {
        "kernels": kernels.reshape(FILTERS, 1, SIDE, SIDE),
        "hidden_weight": head.coefs_[0],
        "hidden_bias": head.intercepts_[0],
        "class_weight": head.coefs_[1],
        "class_bias": head.intercepts_[1],
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernels"], ["maps"], name="conv"),
        helper.make_node("Relu", ["maps"], ["positive"], name="conv_relu"),
        helper.make_node(
            "AveragePool",
            ["positive"],
            ["pooled"],
            name="pool",
            kernel_shape=[2, 2],
            strides=[2, 2],
        ),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        helper.make_node(
            "Gemm", ["flat", "hidden_weight", "hidden_bias"], ["hidden"], name="hidden"
        ),
        helper.make_node("Relu", ["hidden"], ["active"], name="hidden_relu"),
        helper.make_node(
            "Gemm", ["active", "class_weight", "class_bias"], ["scores"], name="classes"
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 16, 16])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 10])],
        [
            numpy_helper.from_array(value.astype(np.float32), name)
            for name, value in weights.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, HERE / "model.onnx")


def write_images(folder: Path, digits: np.ndarray, first: int) -> list[str]:
    """Write 32 x 32 pixel images and return their names."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names = [f"{first + number:04}.png" for number in range(len(digits))]
    for name, pixels in zip(names, enlarged(digits, 4), strict=True):
        Image.fromarray(pixels).save(folder / name)
    return names


def main() -> None:
    """Train on what is left when the images of both roles are set apart."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    digits, truth = data.images[order], data.target[order]
    apart = CALIBRATION_IMAGES + EVALUATION_IMAGES
    # What `image:` in the profile declares: scale 1/255, then mean and std 0.5.
    tensors = (enlarged(digits[apart:], 2) / 255 - 0.5) / 0.5
    kernels = filters(tensors)
    head = MLPClassifier((64,), alpha=1e-2, max_iter=30, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 30 rounds are enough here
        head.fit(pooled(tensors, kernels), truth[apart:])
    write_model(kernels, head)
    write_images(HERE / "images/calibrate", digits[:CALIBRATION_IMAGES], 0)
    names = write_images(
        HERE / "images/evaluate", digits[CALIBRATION_IMAGES:apart], CALIBRATION_IMAGES
    )
    with open(HERE / "labels.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "label"])
        writer.writerows(zip(names, truth[CALIBRATION_IMAGES:apart].tolist(), strict=True))


if __name__ == "__main__":
    main()
