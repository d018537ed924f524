"""Quantized forms of the real models, made by the same functions as in a build, in this process."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from zoo import MODELS, ROOT

from edgedeploy.data.pack import PackWriter
from edgedeploy.model import adopt
from edgedeploy.passes.normalise import NormaliseOptions, normalise
from edgedeploy.passes.optimise import optimise
from edgedeploy.quant.calibrate import calibrate
from edgedeploy.quant.qdq import QuantizeReport, quantize
from edgedeploy.quant.scheme import RUNTIME_DEFAULTS, Scheme
from edgedeploy.quant.table import CalibrationTable

FOLDERS = (ROOT / "profiles", Path(__file__).parent)
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """A model in normal form, optimised, with what calibration saw."""

    model: Path
    table: CalibrationTable


@dataclass(frozen=True, kw_only=True)
class Form:
    """A quantized model."""

    path: Path
    report: QuantizeReport
    proto: onnx.ModelProto

    def nodes(self, *ops: str) -> list[onnx.NodeProto]:
        """Return the nodes of these operators, in order."""
        return [node for node in self.proto.graph.node if node.op_type in ops]

    def constants(self) -> dict[str, np.ndarray]:
        """Return the initialisers by name."""
        return {it.name: onnx.numpy_helper.to_array(it) for it in self.proto.graph.initializer}


def source_of(name: str) -> Path:
    """Return where the model lies in its installed package."""
    source = MODELS[name]["source"]
    package = metadata.distribution(source["package"].partition("==")[0])
    return Path(str(package.locate_file(source["file"])))


def samples_of(name: str, role: str = "calibrate") -> Iterator[tuple[Any, ...]]:
    """Yield a model's samples: inputs, truth, id and, of sequences, the sequence's name."""
    data = MODELS[name]["data"][role]
    file, _, function = data["source"].partition(":")
    path = next(folder / file for folder in FOLDERS if (folder / file).is_file())
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield from getattr(module, function)(**data.get("parameters", {}))


def calibrated(
    name: str,
    folder: Path,
    *,
    count: int = 4,
    opset: int = 17,
    source: Path | None = None,
    samples: Iterable[Mapping[str, np.ndarray]] | None = None,
) -> Calibrated:
    """Return a model brought to the normal form, optimised and calibrated.

    Args:
        name: Of the zoo.
        folder: Empty folder to work in.
        count: Samples of the zoo to calibrate on.
        opset: Of the normal form.
        source: The file, where it is not the installed one.
        samples: What to calibrate on instead, with histograms; the input sizes stay open then.
    """
    steps = {step: folder / step for step in ("adopted", "normal", "optimised", "samples")}
    for step in steps.values():
        step.mkdir(parents=True)
    adopt(source or source_of(name), steps["adopted"])
    words: Mapping[str, Any] = MODELS[name].get("inputs", {})
    shapes = {key: tuple(it["shape"]) for key, it in words.items() if "shape" in it}
    if name == "silero":
        shapes["state"] = (2, 1, 128)
    options = NormaliseOptions(
        dims=shapes if samples is None else {},
        constants={key: it["value"] for key, it in words.items() if "value" in it},
        opset=opset,
    )
    normalise(steps["adopted"] / "model.onnx", steps["normal"], options)
    optimise(steps["normal"] / "model.onnx", steps["optimised"])
    given = ((it,) for it in samples) if samples is not None else islice(samples_of(name), count)
    with PackWriter(steps["samples"]) as writer:
        for number, sample in enumerate(given):
            sequence = sample[3] if len(sample) > 3 else None
            writer.add(f"sample-{number}", sample[0], sequence=sequence)
    model = steps["optimised"] / "model.onnx"
    table = calibrate(
        model,
        steps["samples"],
        folder / "table.json",
        state=[(pair["input"], pair["output"]) for pair in MODELS[name].get("state", [])],
        histograms=samples is not None,
    )
    return Calibrated(model=model, table=table)


def quantized(made: Calibrated, runtime: str, folder: Path, **words: Any) -> Form:
    """Return the QDQ form for a runtime; ``words`` are fields of the scheme that differ."""
    folder.mkdir()
    scheme = Scheme(**{**RUNTIME_DEFAULTS[runtime], **words})
    report = quantize(made.model, made.table, scheme, folder)
    path = folder / "model.onnx"
    return Form(path=path, report=report, proto=onnx.load(str(path)))
