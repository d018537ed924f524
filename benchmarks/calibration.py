"""What calibration costs over the plain inferences that it must do.

    python benchmarks/calibration.py [--samples 32 128 512] [--rounds 3]

Plain: onnxruntime with all optimisations, no spinning, one thread, the same samples one by one.
Each measurement is a process of its own; kinds take turns within a round, and a ratio is taken
within its round. CPU seconds of the work alone, without imports; peak resident memory of the
process. Last, the ranges are compared with exact percentiles of all elements on a few samples.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from networks import NETWORKS

from edgedeploy.data.pack import PackReader, PackWriter

KINDS = ("plain", "minmax", "histograms")
# Enough for exact percentiles of every tensor to fit into memory.
EXACT_SAMPLES = 8


def write_pack(folder: Path, samples: int) -> Path:
    """Write a pack of seeded random images."""
    folder.mkdir()
    with PackWriter(folder) as writer:
        for number in range(samples):
            image = np.random.default_rng(number).random((1, 3, 224, 224), np.float32)
            writer.add(str(number), {"image": image})
    return folder


def work(kind: str, model: Path, pack: Path) -> None:
    """Do one measurement in this process and print it as JSON."""
    import onnx_ir as ir

    from edgedeploy.quant.calibrate import calibrate
    from edgedeploy.quant.session import open_session

    started = time.process_time()
    if kind == "plain":
        session = open_session(ir.load(model), model.parent)
        for sample in PackReader(pack):
            session.run(None, sample.tensors())
    else:
        calibrate(model, pack, pack / "table.json", histograms=kind == "histograms")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"cpu_s": time.process_time() - started, "peak_mib": peak}))


def measure(kind: str, model: Path, pack: Path) -> dict[str, float]:
    """Return what :func:`work` prints in a process of its own."""
    command = [sys.executable, __file__, "--work", kind, str(model), str(pack)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def deviations(model: Path, pack: Path) -> list[float]:
    """Return, for each tensor, how far the 99.99 % range is from the exact one, by its width."""
    import onnx_ir as ir

    from edgedeploy.quant.calibrate import calibrate
    from edgedeploy.quant.session import open_session

    table = calibrate(model, pack, pack / "table.json")
    loaded = ir.load(model)
    values = {str(value.name): value for node in loaded.graph for value in node.outputs}
    names = [name for name in table.tensors if name in values]
    for name in names:
        if values[name] not in loaded.graph.outputs:
            values[name].type = ir.TensorType(ir.DataType.FLOAT)
            loaded.graph.outputs.append(values[name])
    session = open_session(loaded, model.parent)
    found = []
    for name in names:  # one at a time: all elements of all tensors would not fit
        parts = [session.run([name], s.tensors())[0].reshape(-1) for s in PackReader(pack)]
        exact = np.quantile(np.concatenate(parts), [0.0001, 0.9999])
        low, high = table.range_of(name, "percentile-99.99", symmetric=False)
        width = max(float(exact[1] - exact[0]), 1e-12)
        found.append(max(abs(low - exact[0]), abs(high - exact[1])) / width)
    return found


def main() -> int:
    """Print a table for each network."""
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="calibration-") as name:
        folder = Path(name)
        packs = {count: write_pack(folder / f"{count}", count) for count in options.samples}
        few = write_pack(folder / "few", EXACT_SAMPLES)
        for network, write in NETWORKS.items():
            model = folder / f"{network}.onnx"
            write(model)
            print(f"{network}: samples, kind, CPU s (median), over plain (median), peak MiB")
            for count, pack in packs.items():
                rounds = [
                    {kind: measure(kind, model, pack) for kind in KINDS}
                    for _ in range(options.rounds)
                ]
                for kind in KINDS:
                    seconds = statistics.median(item[kind]["cpu_s"] for item in rounds)
                    ratio = statistics.median(
                        item[kind]["cpu_s"] / item["plain"]["cpu_s"] for item in rounds
                    )
                    peak = max(item[kind]["peak_mib"] for item in rounds)
                    print(f"{count:6} {kind:10} {seconds:8.2f} {ratio:6.2f} {peak:8.0f}")
            off = deviations(model, few)
            print(
                f"99.99 % ranges against exact percentiles of {EXACT_SAMPLES} samples: "
                f"median {statistics.median(off):.3%}, greatest {max(off):.3%} of the width"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
