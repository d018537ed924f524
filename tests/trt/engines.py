"""Real models as TensorRT-RTX engines: every number representation for every GPU generation.

``python -m tests.trt.engines [NAME ...]`` builds engines and prints what became of them, with
``--table`` it writes docs/tensorrt-rtx-models.md. EfficientNet-lite0 and MiniLM are exported from
torch, so the table is made in the environment of ``make test-torch``.
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedeploy.backends import load
from edgedeploy.backends.base import CompileReport
from edgedeploy.errors import BuildError
from edgedeploy.model import adopt
from edgedeploy.passes.float16 import to_float16
from edgedeploy.passes.normalise import NormaliseOptions, normalise, upgrade
from edgedeploy.passes.optimise import optimise
from edgedeploy.profile.types import QuantizeSpec
from edgedeploy.quant.qdq import quantize
from edgedeploy.quant.scheme import RUNTIME_DEFAULTS, scheme_for
from edgedeploy.quant.table import CalibrationTable
from edgedeploy.quant.weight_only import write as quantize_weights

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests/flow"), str(ROOT / "profiles"), str(ROOT / "tests/with_torch")]

from forms import calibrated  # noqa: E402

from tests.trt import mnist  # noqa: E402

RUNTIME = "tensorrt-rtx"
OPSET = 20
INT4_OPSET = 21
FORMS = ("fp32", "fp16", "w8a8", "w8", "w4")
GENERATIONS = ("7.5", "8.6", "8.9", "12.0")
PORTABLE = ("8.6", "8.9", "12.0")
ZOO = ("rec", "det", "cls", "magika", "silero", "pnet", "rnet", "onet", "squeezenet")
EXPORTED = ("efficientnet", "minilm")
SAMPLES = 4

Samples = Iterable[Mapping[str, np.ndarray]]
Dims = Mapping[str, Sequence[int | str]]


@dataclass(frozen=True, kw_only=True)
class Built:
    """What became of a form of a model for some compute capabilities.

    Attributes:
        size: Bytes of the engine; None where it is refused.
        seconds: Processor time of the compile, parsing and checks within.
        refusal: Code and message of the first refusal; empty where there is an engine.
    """

    size: int | None
    seconds: float
    refusal: str = ""


def prepare(name: str, folder: Path) -> tuple[Path, CalibrationTable]:
    """Return the optimised normal form of a model and its calibration, in an empty folder."""
    if name in ZOO:
        made = calibrated(name, folder, count=SAMPLES, opset=OPSET)
        return made.model, made.table
    if name in mnist.NETS:
        source = mnist.write(name, folder / "source.onnx")
        return own_form(source, folder, {}, mnist.samples(SAMPLES))
    import exported

    source, dims, samples = exported.MODELS[name](folder)
    return own_form(source, folder, dims, samples)


def own_form(
    source: Path, folder: Path, dims: Dims, samples: Samples
) -> tuple[Path, CalibrationTable]:
    """Return the optimised normal form of a model and its calibration.

    Args:
        source: The model.
        folder: Where to leave them.
        dims: Sizes of inputs.
        samples: To calibrate on.
    """
    from edgedeploy.data.pack import PackWriter
    from edgedeploy.quant.calibrate import calibrate

    for step in ("adopted", "normal", "optimised", "samples"):
        (folder / step).mkdir()
    adopt(source, folder / "adopted")
    options = NormaliseOptions(dims={key: tuple(it) for key, it in dims.items()}, opset=OPSET)
    normalise(folder / "adopted/model.onnx", folder / "normal", options)
    optimise(folder / "normal/model.onnx", folder / "optimised")
    with PackWriter(folder / "samples") as writer:
        for number, sample in enumerate(samples):
            writer.add(str(number), dict(sample))
    model = folder / "optimised/model.onnx"
    return model, calibrate(model, folder / "samples", folder / "table.json")


def write_form(model: Path, table: CalibrationTable, form: str, folder: Path) -> Path:
    """Return a model in another number representation, as the stages of a build make it."""
    folder.mkdir()
    if form == "fp32":
        return model
    if form == "fp16":
        to_float16(model, folder)
    elif form == "w8a8":
        spec = QuantizeSpec(mode="w8a8", rounding="nearest", bias_correction=False, smooth=False)
        quantize(model, table, scheme_for(spec, RUNTIME_DEFAULTS[RUNTIME]), folder)
    else:
        if form == "w4":
            raised = folder.with_name("opset21")
            raised.mkdir()
            upgrade(model, raised, opset=INT4_OPSET)
            model = raised / "model.onnx"
        scheme = scheme_for(QuantizeSpec(mode=form), RUNTIME_DEFAULTS[RUNTIME])
        quantize_weights(model, scheme, folder)
    return folder / "model.onnx"


def compiled(model: Path, folder: Path, capabilities: Sequence[str], **words: Any) -> CompileReport:
    """Return what the backend makes of a model in an empty folder.

    Args:
        model: The typed model.
        folder: Where to write.
        capabilities: Such as ``8.9``.
        words: ``options`` and ``ranges`` of the compile.
    """
    gpu = {"compute_capabilities": list(capabilities)}
    options = words.pop("options", {})
    return load(RUNTIME).compile(model, folder, options, {"board.gpu": gpu}, **words)


def attempt(model: Path, capabilities: Sequence[str]) -> Built:
    """Return what becomes of a typed model."""
    with tempfile.TemporaryDirectory() as scratch:
        begin = _processor_s()
        try:
            report = compiled(model, Path(scratch), capabilities)
        except BuildError as error:
            first = error.diagnostics[0]
            more = len(error.diagnostics) - 1
            told = f"{first.code}: {first.message}" + (f" (and {more} more)" if more else "")
            return Built(size=None, seconds=_processor_s() - begin, refusal=told)
        size = (Path(scratch) / report.entry).stat().st_size
        return Built(size=size, seconds=_processor_s() - begin)


def _processor_s() -> float:
    """Return the processor time of this process and of those that it ran, in seconds."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(item.ru_utime + item.ru_stime for item in both)


def matrix(names: Sequence[str], forms: Sequence[str]) -> Iterator[tuple[str, str, str, Built]]:
    """Yield model, form, compute capabilities and result of every combination."""
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            model, table = prepare(name, Path(scratch))
            for form in forms:
                try:
                    typed = write_form(model, table, form, Path(scratch) / form)
                except Exception as error:
                    yield name, form, "", Built(size=None, seconds=0, refusal=str(error))
                    continue
                for group in (*((item,) for item in GENERATIONS), PORTABLE):
                    yield name, form, " + ".join(group), attempt(typed, group)


def available() -> tuple[str, ...]:
    """Return the models that can be had in this environment."""
    found = (*ZOO, *mnist.NETS)
    return (*found, *EXPORTED) if importlib.util.find_spec("torch") else found


def main() -> None:
    """Print the matrix, or write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    rows = []
    for row in matrix(given.names or available(), given.forms.split(",")):
        rows.append(row)
        name, form, group, built = row
        size = f"{built.size / 1e6:.2f} MB" if built.size else built.refusal
        print(f"{name} {form} {group}: {size}, {built.seconds:.1f} s of processor", flush=True)
    if given.table:
        from tests.trt.engine_table import write

        write(rows)


if __name__ == "__main__":
    main()
