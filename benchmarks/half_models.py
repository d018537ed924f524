"""What real models keep in fp16 for TensorRT: each one's own metric, and what stays in float32.

    python benchmarks/half_models.py [NAME...] [--write docs/half-precision.md]

Needs the environment of `make test-torch` (.venv-torch): two of the models are exported from torch.
Where TensorRT for RTX can be imported too, every graph is also parsed and built as a strongly typed
network, for compute capability 8.6, without a GPU.

Every graph is run by ONNX Runtime with each float16 value rounded (evidence `interpreted`), in
three forms: all in float16 that operators allow, with the list that a build finds from its
calibration table, and with the list that it finds without calibration data.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import auto
from coreml_models import CASES as APPLE_CASES
from coreml_models import Case, drawn

from edgedeploy.backends.trt.program import FOLDER
from edgedeploy.events import EventLog
from edgedeploy.executor import Builder
from edgedeploy.opening import Request, open_profile
from edgedeploy.parity.evaluation import Evaluation
from edgedeploy.passes.base import run
from edgedeploy.passes.float16 import ToFloat16, to_float16
from edgedeploy.passes.half_types import kept_nodes
from edgedeploy.passes.infer_shapes import InferShapes
from edgedeploy.passes.model_file import load, save
from edgedeploy.passes.remove_unused import RemoveUnused
from edgedeploy.passes.sort_nodes import SortNodes
from edgedeploy.passes.unique_names import UniqueNames
from edgedeploy.quant.table import CalibrationTable
from edgedeploy.stage import Work
from edgedeploy.steps import evaluate
from edgedeploy.store import Store

TARGET = "rtx-40/tensorrt-rtx"
LARGEST_LOSS = 0.003
"""0.3 points: how much worse a metric may get."""
CROPS = 200
"""Crops of each photograph: one that flips at a tie is 0.17 points of them all."""


def crops(folder: Path) -> Path:
    """Write the project of the photographs with more crops to evaluate on; return its profile."""
    case = auto.CASES["photos"]
    script = case.prepare[0]
    code = f"import sys, pathlib; sys.path.insert(0, {str(Path(script).parent)!r}); import export; "
    code += f"export.crops(pathlib.Path('evaluate'), export.EVALUATE, {CROPS})"
    project = auto.prepared(case, folder)
    subprocess.run([sys.executable, "-c", code], cwd=project, check=True)
    return project / case.profile


DRAWN = ("det", "cls", "pnet", "rnet", "onet")
CASES: dict[str, Case] = {
    **{
        name: replace(case, words=("models.main.data.evaluate.parameters.count=24",))
        if name in DRAWN
        else case
        for name, case in APPLE_CASES.items()
    },
    "efficientnet": replace(APPLE_CASES["efficientnet"], project=crops, words=()),
    "squeezenet": Case(
        title="onnx's light SqueezeNet, constant weights, cosine", project=drawn("squeezenet")
    ),
}


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A model with all that judges it.

    Attributes:
        folders: Trees of its stages by name.
        params: What the stage `evaluate` is told.
        project: Folder of the profile.
        dims: Low and high size of each open dim, by name.
    """

    folders: Mapping[str, Path]
    params: Mapping[str, Any]
    project: Path
    dims: Mapping[str, tuple[int, int]]

    @property
    def model(self) -> Path:
        """The optimised normal form."""
        return self.folders["model"] / "model.onnx"

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Return what calibration saw, by value name."""
        table = CalibrationTable.read(self.folders["table"] / "table.json")
        return {name: (seen.low, seen.high) for name, seen in table.tensors.items() if seen.count}

    def evaluation(self, graph: Path, scratch: Path) -> Evaluation:
        """Return what a typed graph, in a folder of its own, is worth."""
        with tempfile.TemporaryDirectory(dir=scratch) as place:
            artifact, made = Path(place) / "artifact", Path(place) / "made"
            artifact.mkdir()
            made.mkdir()
            (artifact / FOLDER).symlink_to(graph)
            evaluate.run(
                Work(
                    params=self.params,
                    inputs={**self.folders, "artifact": artifact},
                    outputs={"evaluation": made},
                    fields={},
                    project=self.project,
                    progress=lambda done, total, what: None,
                    observe=lambda: None,
                )
            )
            return Evaluation.from_json(json.loads((made / "evaluation.json").read_text()))


def prepared(case: Case, folder: Path) -> Prepared:
    """Run a model's stages up to its calibration table and its reference."""
    sets = ("gates={}", "quantize=fp16", f"targets=[{TARGET}]", *case.words)
    plan, _ = open_profile(Request(profile=case.project(folder), sets=sets))
    (item,) = plan.items
    shared = item.shared
    if shared.table is None:
        raise SystemExit(f"{case.title}: no calibration data")
    outputs = {
        "model": shared.optimised.output("model"),
        "table": shared.table.output("table"),
        "samples": shared.evaluate.output("samples"),
        "reference": shared.reference.output("outputs"),
        "score": shared.reference.output("score"),
        "facts": shared.intake.output("facts"),
    }
    events = EventLog()
    project = plan.profile.folder.absolute()
    with Builder(Store(folder / "store", events), project, events=events) as builder:
        for output in outputs.values():
            builder.build(output.node)
        folders = {name: builder.folder(output)[1] for name, output in outputs.items()}
    nodes = item.candidates[0]
    return Prepared(
        folders=folders,
        params=nodes.evaluated.params,
        project=project,
        dims={name: (low, high) for name, (low, high) in nodes.compiled.params["ranges"].items()},
    )


def all_half(source: Path, folder: Path) -> None:
    """Write a model with only those nodes in float32 that must be, by type or weight."""
    model = load(source)
    run((UniqueNames(), InferShapes()), model)
    kept, _ = kept_nodes(model, (), ())
    run((ToFloat16(kept, keep_io=True), RemoveUnused(), UniqueNames(), SortNodes()), model)
    save(model, folder)


def engine_bytes(graph: Path, ranges: Mapping[str, tuple[int, int]]) -> int | None:
    """Return the size of a strongly typed engine, None where TensorRT for RTX is not there.

    Args:
        graph: The typed model.
        ranges: Low and high size of each named dim.
    """
    try:
        import tensorrt_rtx_bindings as trt
    except ImportError:
        return None
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        raise SystemExit(f"{graph}: {parser.get_error(0).desc()}")
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        given = network.get_input(index)
        if -1 in given.shape:
            sizes = [
                (size, size) if size >= 0 else ranges[given.get_dimension_name(axis)]
                for axis, size in enumerate(given.shape)
            ]
            low, high = [low for low, _ in sizes], [high for _, high in sizes]
            profile.set_shape(given.name, low, high, high)
    if any(-1 in network.get_input(index).shape for index in range(network.num_inputs)):
        config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise SystemExit(f"{graph}: TensorRT for RTX makes no engine")
    return len(bytes(plan))


HEAD = (
    "model, metric",
    "n",
    "float",
    "all fp16",
    "fp16 as built",
    "within 0.3 points",
    "dB",
    "nodes in float32",
    "fp16 without calibration data",
    "nodes in float32",
    "engine for SM86, without and with the list",
)


def row(case: Case, scratch: Path) -> list[str]:
    """Return the cells of one model."""
    model = prepared(case, scratch)
    folders = {name: scratch / name for name in ("all", "built", "blind")}
    for folder in folders.values():
        folder.mkdir()
    all_half(model.model, folders["all"])
    built = to_float16(model.model, folders["built"], ranges=model.ranges())
    blind = to_float16(model.model, folders["blind"])
    sizes = [engine_bytes(folders[name] / "model.onnx", model.dims) for name in ("all", "built")]
    found = {name: model.evaluation(place, scratch) for name, place in folders.items()}
    metrics = {name: one.metric for name, one in found.items()}
    paired = found["built"].paired
    if paired is None or metrics["built"] is None:
        raise SystemExit(f"{case.title}: no metric")
    sign = 1 if metrics["built"].higher_is_better else -1
    loss = sign * (paired.float_value - metrics["built"].value)
    noise = found["built"].outputs[0].sqnr_db
    count = sum(1 for _ in _nodes(model.model))
    return [
        case.title,
        str(found["built"].samples),
        f"{paired.float_value:.4f}",
        *(f"{metrics[name].value:.4f}" for name in ("all", "built")),
        "yes" if loss <= LARGEST_LOSS else "**no**",
        "-" if noise is None else f"{noise:.0f}",
        f"{len(built.kept)} of {count}",
        f"{metrics['blind'].value:.4f}",
        f"{len(blind.kept)} of {count}",
        ", ".join("-" if size is None else f"{size / 1e6:.1f} MB" for size in sizes),
    ]


def _nodes(model: Path) -> Iterator[Any]:
    for graph in load(model).graphs():
        yield from graph


def main() -> int:
    """Measure what was named, print the table, and write it if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*CASES, []], help="default: all")
    parser.add_argument("--write", type=Path, help="Markdown file, between its two markers")
    options = parser.parse_args()
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    for name in options.names or CASES:
        with tempfile.TemporaryDirectory(prefix=f"half-{name}-") as folder:
            lines.append(f"| {' | '.join(row(CASES[name], Path(folder)))} |")
        print(lines[-1], flush=True)
    if options.write:
        auto.write_between(options.write, "\n".join(lines))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
