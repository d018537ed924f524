"""Quantization against the stock tools: time, memory, size, and how close the result is.

    python benchmarks/quantize.py [--samples 32 128 512] [--rounds 3 1 1] [--networks mobilenet]

*Collection* is what a tool does up to the ranges, *whole* up to the written model; both are held
against the plain inferences of the same samples (onnxruntime, all optimisations, batches of one).
Every process has one thread that does not spin. Each measurement is a process of its own; kinds
take turns within a round, a ratio is taken within its round, medians are shown (of peak memory the
greatest). The stock histogram calibrators keep every activation: they run under a memory limit, and
not at all on more than 128 samples. They watch more tensors than ours does, so that they are also
told to collect the same ones.

The networks have random weights and the images are noise. So of the closeness (mean cosine of the
logits and share of equal top classes, over images that nobody calibrated on) only differences
between the tools mean something.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgedeploy.data.pack import PackWriter

KINDS = (
    "plain",
    "ours min-max",
    "ours entropy",
    "ours percentile",
    "nncf",
    "stock min-max",
    "stock entropy",
    "stock percentile",
    "stock min-max, our tensors",
    "stock entropy, our tensors",
    "stock percentile, our tensors",
)
WITHOUT_COLLECTION = ("nncf",)
WITHOUT_MODEL = ("plain", *(kind for kind in KINDS if kind.endswith("our tensors")))
# Ours collects once for all methods that need a histogram.
SHARED = {"ours percentile": "ours entropy"}
KEEP_EVERYTHING = ("stock entropy", "stock percentile")
MOST_SAMPLES = 128
HELD_OUT = 64
# Few enough for all elements of a tensor to fit into memory.
EXACT_SAMPLES = 8


@dataclass
class Result:
    """What was measured of one kind on one number of samples, a dict per round."""

    collect: list[dict[str, Any]] = field(default_factory=list)
    whole: list[dict[str, Any]] = field(default_factory=list)
    closeness: dict[str, float] = field(default_factory=dict)


def write_pack(folder: Path, seeds: Sequence[int]) -> Path:
    """Write a pack of seeded random images."""
    folder.mkdir()
    with PackWriter(folder) as writer:
        for seed in seeds:
            image = np.random.default_rng(seed).random((1, 3, 224, 224), np.float32)
            writer.add(str(seed), {"image": image})
    return folder


def child(*words: str | Path) -> Any:
    """Return what :func:`work` prints in a process of its own."""
    command = [sys.executable, __file__, "--work", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def work(what: str, *words: str) -> None:
    """Do one measurement in this process and print it as JSON."""
    import networks
    import quantizers

    if what == "write":
        networks.NETWORKS[words[0]](Path(words[1]))
        found: Any = None
    elif what == "closeness":
        found = quantizers.closeness(*map(Path, words))
    elif what == "deviations":
        found = quantizers.deviations(*map(Path, words))
    else:
        found = quantizers.measured(what, words[0], *map(Path, words[1:]))
    print("\n" + json.dumps(found))


def measure(model: Path, pack: Path, held_out: Path, count: int, rounds: int) -> dict[str, Result]:
    """Return what every kind takes on one pack."""
    results = {kind: Result() for kind in KINDS}
    kinds = [k for k in KINDS if count <= MOST_SAMPLES or not k.startswith(KEEP_EVERYTHING)]
    for number in range(rounds):
        for kind in kinds:
            made = pack / f"{kind.replace(' ', '-')}"
            result = results[kind]
            if kind not in WITHOUT_COLLECTION and kind not in SHARED:
                result.collect.append(child("collect", kind, model, pack, made))
            if kind not in WITHOUT_MODEL and number == 0:
                result.whole.append(child("whole", kind, model, pack, made))
                if "failed" not in result.whole[0]:
                    quantized = made / "model.onnx"
                    result.closeness = child("closeness", model, quantized, held_out)
    for kind, source in SHARED.items():
        results[kind].collect = results[source].collect
    return results


def median(runs: list[dict[str, Any]], take: Callable[[int, dict[str, Any]], float]) -> float:
    """Return the median over the rounds."""
    return statistics.median(take(number, run) for number, run in enumerate(runs))


def cells(result: Result, plain: list[dict[str, Any]]) -> list[str]:
    """Return the cells of a row of the table."""
    found: list[str] = []
    for runs in (result.collect, result.whole):
        if not runs:
            found += [""] * 4
        elif "failed" in runs[0]:
            found += [runs[0]["failed"], "", "", ""]
        else:
            found += [
                f"{median(runs, lambda _, run: run['cpu_s']):.2f}",
                f"{median(runs, lambda n, run: run['cpu_s'] / plain[n]['cpu_s']):.2f}",
                f"{median(runs, lambda n, run: run['wall_s'] / plain[n]['wall_s']):.2f}",
                f"{max(run['peak_mib'] for run in runs):.0f}",
            ]
    watched = str(result.collect[0].get("tensors") or "") if result.collect else ""
    close = result.closeness
    if close:
        found += [
            watched,
            f"{close['size_bytes'] / 1e6:.2f}",
            f"{close['cosine']:.4f}",
            f"{close['agreement']:.2f}",
        ]
    else:
        found += [watched, "", "", ""]
    return found


HEAD = (
    "| samples | kind | collection: CPU s | x plain | wall x plain | peak MiB | whole: CPU s "
    "| x plain | wall x plain | peak MiB | tensors | MB | cosine | equal top |"
)


def show(network: str, found: dict[int, dict[str, Result]]) -> None:
    """Print the table of a network, and what is asked of it."""
    print(f"\n{network}\n\n{HEAD}\n|{'---|' * HEAD[2:].count('|')}")
    for count, results in found.items():
        plain = results["plain"].collect
        for kind, result in results.items():
            row = cells(result, plain)
            if not result.collect and not result.whole:
                row = ["not run", *[""] * (len(row) - 1)]
            print(f"| {count} | {kind} | {' | '.join(row)} |")
    print()
    fewest, most = min(found), max(found)
    for kind in ("ours min-max", "ours entropy"):
        peaks = [max(run["peak_mib"] for run in found[n][kind].collect) for n in (fewest, most)]
        ratio = peaks[1] / peaks[0]
        print(f"{kind}: peak memory of collection at {most} samples / at {fewest}: {ratio:.2f}")
    for count, results in found.items():
        for kind in KINDS:
            if not kind.startswith("stock"):
                continue
            method = kind.removeprefix("stock ").partition(",")[0]
            ours, stock = results[f"ours {method}"].collect, results[kind].collect
            if stock and "failed" not in stock[0]:
                parts = [f"{_ratio(stock, ours, key):.1f} {key}" for key in KEYS]
                print(f"collection, {kind} / ours, {count} samples: {', '.join(parts)}")


KEYS = ("cpu_s", "wall_s", "peak_mib")


def _ratio(over: list[dict[str, Any]], under: list[dict[str, Any]], key: str) -> float:
    return median(over, lambda number, run: run[key] / under[number][key])


def main() -> int:
    """Measure and print a table for each network."""
    if sys.argv[1:2] == ["--work"]:
        work(*sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("--rounds", type=int, nargs="+", default=[3, 1, 1], help="per count")
    parser.add_argument("--networks", nargs="+", default=["mobilenet", "resnet"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="quantize-") as name:
        folder = Path(name)
        held_out = write_pack(folder / "held-out", range(10**6, 10**6 + HELD_OUT))
        few = write_pack(folder / "few", range(EXACT_SAMPLES))
        for network in options.networks:
            model = folder / f"{network}.onnx"
            child("write", network, model)
            found = {}
            for count, rounds in zip(options.samples, options.rounds, strict=True):
                pack = write_pack(folder / f"{network}-{count}", range(count))
                found[count] = measure(model, pack, held_out, count, rounds)
            show(network, found)
            off = child("deviations", model, few)
            print(
                f"99.99 % ranges against exact percentiles of {EXACT_SAMPLES} samples: "
                f"median {statistics.median(off):.3%}, greatest {max(off):.3%} of the width"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
