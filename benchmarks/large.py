"""What a model larger than memory should be costs: peak memory and time of the steps that stream.

    python benchmarks/large.py [--gib 4] [--width 5120] [--folder FOLDER]

Writes a model of seeded random matrix products with external data, then brings it to the normal
form, stores its weights as int8 and as int4, and compares each form layer by layer with the float
model; beside that a plain NumPy loop over the same mapped weights, which takes the maxima of
blocks of 32 rows and writes int8. Every step is a process of its own. Memory is the highest
``RssAnon`` of ``/proc/self/status`` (pages of mapped files are not in it), sampled every 2 ms; the
limit is 512 MiB and three times the largest tensor. Times are of the step alone, without imports;
what is written may still be in the page cache. On a busy machine compare CPU seconds. The folder is
removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

STEPS = ("numpy", "normal", "w8", "w4", "parity-w8", "parity-w4")
LIMIT_MIB = 512
BLOCK = 32
ROWS = 16
"""Rows of the activation in the comparison."""


def write_model(path: Path, gib: float, width: int) -> int:
    """Write ``path`` and ``weights.bin`` beside it; return the number of layers.

    Every layer has a scale of its own, and so has every column in it, so that no two layers, and
    no two channels, quantize alike. On the whole a layer neither grows nor shrinks its input.
    """
    import onnx
    from onnx import TensorProto, helper

    layers = max(1, round(gib * 2**30 / (4 * width * width)))
    nodes, tensors = [], []
    with (path.parent / "weights.bin").open("wb") as data:
        for layer in range(layers):
            generator = np.random.default_rng(layer)
            columns = generator.lognormal(0.0, 0.7, width)
            columns *= generator.uniform(0.8, 1.2) / np.sqrt(width * np.mean(columns**2))
            unit = columns.astype(np.float32)
            offset = data.tell()
            for rows in range(0, width, 512):
                size = (min(512, width - rows), width)
                (generator.standard_normal(size, np.float32) * unit).tofile(data)
            tensor = onnx.TensorProto(name=f"w{layer}", data_type=TensorProto.FLOAT)
            tensor.dims.extend((width, width))
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (
                ("location", "weights.bin"),
                ("offset", str(offset)),
                ("length", str(data.tell() - offset)),
            ):
                tensor.external_data.add(key=key, value=value)
            tensors.append(tensor)
            given = f"x{layer}" if layer else "x"
            nodes += [
                helper.make_node("MatMul", [given, f"w{layer}"], [f"p{layer}"], f"product{layer}"),
                helper.make_node("Softsign", [f"p{layer}"], [f"x{layer + 1}"], f"softsign{layer}"),
            ]
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info(f"x{layers}", TensorProto.FLOAT, ["n", width])],
        tensors,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return layers


class Peak:
    """Samples the anonymous memory of this process while it is entered."""

    def __init__(self) -> None:
        self.mib = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._done.wait(0.002):
            self._sample()

    def _sample(self) -> None:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                self.mib = max(self.mib, int(line.split()[1]) / 1024)

    def __enter__(self) -> Peak:
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._sample()


def plain_loop(model: Path, out: Path) -> None:
    """Quantize every weight in blocks of rows, one scale per block and column; keep no scales."""
    import onnx

    graph = onnx.load(model, load_external_data=False).graph
    with (out / "integers.bin").open("wb") as file:
        for tensor in graph.initializer:
            offset = next(int(item.value) for item in tensor.external_data if item.key == "offset")
            place = model.parent / "weights.bin"
            weight = np.memmap(place, np.float32, "r", offset, tuple(tensor.dims))
            for row in range(0, len(weight), BLOCK):
                block = weight[row : row + BLOCK]
                scale = np.abs(block).max(axis=0) / 127
                np.rint(block / scale).astype(np.int8).tofile(file)


def prepare(step: str, folder: Path) -> Callable[[], object]:
    """Import what a step needs and return the function to time."""
    source, normal = folder / "source" / "model.onnx", folder / "normal" / "model.onnx"
    kind, _, form = step.partition("-")
    out = folder / step
    out.mkdir(exist_ok=True)
    if kind == "numpy":
        return lambda: plain_loop(source, out)
    if kind == "normal":
        from edgedeploy.passes.normalise import NormaliseOptions, normalise

        return lambda: normalise(source, out, NormaliseOptions())
    if kind == "parity":
        from edgedeploy.quant.compare import compare_streaming

        quantized, pack = folder / form / "model.onnx", folder / "pack"
        return lambda: compare_streaming(normal, quantized, pack, isolated=True)
    from edgedeploy.quant.scheme import MODES, Scheme
    from edgedeploy.quant.weight_only import write

    return lambda: write(normal, Scheme(**MODES[step]), out)


def work(step: str, folder: Path) -> None:
    """Do one step in this process and print its cost as JSON."""
    function = prepare(step, folder)
    with Peak() as peak:
        started, cpu = time.perf_counter(), time.process_time()
        found = function()
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    cost = {"peak_mib": peak.mib, "seconds": seconds, "cpu_s": cpu}
    if step.startswith("parity"):
        cost["rows"] = [row.to_json() for row in found]
    print(json.dumps(cost))


def measure(step: str, folder: Path) -> dict[str, Any]:
    """Return what :func:`work` prints in a process of its own."""
    command = [sys.executable, __file__, "--work", step, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return dict(json.loads(done.stdout))


def make(folder: Path, gib: float, width: int) -> int:
    """Write the model and one sample; return the number of layers."""
    from edgedeploy.data.pack import PackWriter

    (folder / "source").mkdir(parents=True)
    (folder / "pack").mkdir()
    activation = np.random.default_rng(0).standard_normal((ROWS, width), np.float32)
    with PackWriter(folder / "pack") as writer:
        writer.add("activation", {"x": activation})
    return write_model(folder / "source" / "model.onnx", gib, width)


def layers_in_words(rows: list[dict[str, Any]]) -> str:
    """Return the ratios of the first, the worst and the last layer."""
    by_number = {int(row["node"].removeprefix("product")): row["sqnr_db"] for row in rows}
    worst = min(by_number, key=lambda number: by_number[number])
    last = max(by_number)
    return (
        f"{len(rows)} layers; first {by_number[0]:.1f} dB, last {by_number[last]:.1f} dB, "
        f"worst {by_number[worst]:.1f} dB (layer {worst})"
    )


def main() -> int:
    """Print a table of the steps."""
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2], Path(sys.argv[3]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gib", type=float, default=4.0)
    parser.add_argument("--width", type=int, default=5120)
    parser.add_argument("--folder", type=Path, help="where to write; default: the temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="large-", dir=options.folder) as name:
        folder = Path(name)
        count = make(folder, options.gib, options.width)
        tensor_mib = 4 * options.width**2 / 2**20
        limit = LIMIT_MIB + 3 * tensor_mib
        print(
            f"{count} products of {options.width} x {options.width}, {count * tensor_mib:.0f} MiB; "
            f"limit {limit:.0f} MiB; load {os.getloadavg()[0]:.1f} at the start"
        )
        print("step       peak MiB of limit   wall s x loop    CPU s x loop")
        costs: dict[str, dict[str, Any]] = {}
        for step in STEPS:
            cost = costs[step] = measure(step, folder)
            print(f"{step:10} {cost['peak_mib']:8.0f} {cost['peak_mib'] / limit:8.0%}", end="")
            for key in ("seconds", "cpu_s"):
                print(f" {cost[key]:8.1f} {cost[key] / costs['numpy'][key]:6.2f}", end="")
            print()
            if "rows" in cost:
                print(f"           {layers_in_words(cost['rows'])}")
        print(f"load {os.getloadavg()[0]:.1f} at the end")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
