"""Time per executed node from ONNX Runtime's profiler."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from edgedeploy.backends.base import LayerTime
from edgedeploy.backends.inputs import Inputs
from edgedeploy.backends.ortmobile.runner import open_artifact

_SUFFIX = "_kernel_time"


def layer_times(
    folder: Path,
    inputs: Inputs,
    *,
    threads: int = 1,
    repeats: int = 10,
    optimization_style: str = "fixed",
) -> list[LayerTime]:
    """Return the mean time of every executed node in order of execution.

    Source: the ``Node`` events of the profiler (microseconds). One inference before the first
    counted one is left out: it pays for memory that later ones reuse.

    Args:
        folder: What a compile wrote.
        inputs: One set of inputs.
        threads: Intra-op threads.
        repeats: Counted inferences, at least 1.
        optimization_style: As it was compiled.

    Raises:
        BuildError: The artifact does not load (E317) or run (E330-E333).
    """
    with (
        tempfile.TemporaryDirectory(prefix="edgedeploy-layers-") as private,
        open_artifact(
            folder,
            threads=threads,
            optimization_style=optimization_style,
            profile_prefix=Path(private) / "profile",
        ) as runner,
    ):
        for _ in range(repeats + 1):
            runner.run(inputs)
        events = json.loads(runner.end_profiling().read_text(encoding="utf-8"))
    runs = [event for event in events if event.get("name") == "model_run"]
    counted_from = min(event["ts"] + event["dur"] for event in runs)
    totals: dict[tuple[str, str, str], float] = {}
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith(_SUFFIX):
            continue
        if event["ts"] < counted_from:
            continue
        args = event["args"]
        key = (event["name"].removesuffix(_SUFFIX), args["op_name"], args["provider"])
        totals[key] = totals.get(key, 0.0) + event["dur"]
    return [
        LayerTime(name=name, op=op, provider=provider, mean_ms=total / repeats / 1000.0)
        for (name, op, provider), total in totals.items()
    ]
