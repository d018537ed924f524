"""Time per executed node from ONNX Runtime's profiler."""

from __future__ import annotations

from pathlib import Path

from edgedeploy.backends.base import LayerTime
from edgedeploy.backends.inputs import Inputs
from edgedeploy.backends.ortmobile.profiling import executions


def layer_times(
    folder: Path,
    inputs: Inputs,
    *,
    threads: int = 1,
    repeats: int = 10,
    optimization_style: str = "fixed",
) -> list[LayerTime]:
    """Return the mean time of every executed node in order of execution.

    One inference before the first counted one is left out: it pays for memory that later ones
    reuse.

    Args:
        folder: What a compile wrote.
        inputs: One set of inputs.
        threads: Intra-op threads.
        repeats: Counted inferences, at least 1.
        optimization_style: As it was compiled.

    Raises:
        BuildError: The artifact does not load (E317) or run (E330-E333).
    """
    totals: dict[tuple[str, str, str], float] = {}
    for item in executions(
        folder,
        inputs,
        warmups=1,
        repeats=repeats,
        threads=threads,
        optimization_style=optimization_style,
    ):
        key = (item.name, item.op, item.provider)
        totals[key] = totals.get(key, 0.0) + item.duration_us
    return [
        LayerTime(name=name, op=op, provider=provider, mean_ms=total / repeats / 1000.0)
        for (name, op, provider), total in totals.items()
    ]
