"""What the measuring loop adds to the time that the runtime itself sees.

    python benchmarks/overhead.py [--runs N]

Each inference of a network of MobileNetV2's size is timed by the loop's own call and clock
(edgedeploy/bench/runtimes.py) and by the runtime: ONNX Runtime's profiler (`model_run`,
microseconds), OpenVINO's `latency` of the request (milliseconds). Shown are the medians and the
median of the ratios of the same inferences. Exit status 1 when the loop adds over 2 %.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
from networks import mobilenet

from edgedeploy.bench import loop, runtimes

LIMIT_RATIO = 1.02
WARM_UP = 20


def timed(session: runtimes.Session, runs: int, seen: Callable[[], float]) -> np.ndarray:
    """Return ``[runs, 2]``: ns by the loop's clock, and what ``seen`` says after each inference."""
    feed = {"image": np.random.default_rng(0).random((1, 3, 224, 224), dtype=np.float32)}
    (feed,) = session.bind([feed])
    found = np.zeros((runs, 2))
    for number in range(runs + WARM_UP):
        start = loop.now_ns()
        session.run(feed)
        spent = loop.now_ns() - start
        if number >= WARM_UP:
            found[number - WARM_UP] = spent, seen()
    return found


def onnxruntime(path: Path, runs: int) -> np.ndarray:
    """Return the two times of each inference in ONNX Runtime, ns."""
    artifact = {"threads": 1, "options": {}}
    session = runtimes.OrtSession(artifact, str(path), str(path.with_suffix("")))
    found = timed(session, runs, lambda: 0.0)
    events = json.loads(Path(session._session.end_profiling()).read_text())
    inside = [event["dur"] * 1e3 for event in events if event["name"] == "model_run"]
    found[:, 1] = inside[WARM_UP:]
    return found


def openvino(path: Path, runs: int) -> np.ndarray:
    """Return the two times of each inference in OpenVINO, ns."""
    session = runtimes.OpenVinoSession({"threads": 1, "options": {}}, str(path))
    return timed(session, runs, lambda: session._request.latency * 1e6)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    runs = parser.parse_args().runs
    worst = 0.0
    print(f"{'runtime':<14} {'loop':>10} {'runtime':>10} {'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.onnx")
        mobilenet(path)
        for measure in (onnxruntime, openvino):
            found = measure(path, runs)
            ratio = float(np.median(found[:, 0] / found[:, 1]))
            worst = max(worst, ratio)
            ours, theirs = np.median(found, axis=0) / 1e6
            print(f"{measure.__name__:<14} {ours:7.2f} ms {theirs:7.2f} ms {ratio:8.4f}")
    sys.exit(worst > LIMIT_RATIO)


if __name__ == "__main__":
    main()
