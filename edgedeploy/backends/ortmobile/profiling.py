"""The executed nodes of an artifact, from ONNX Runtime's profiler."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgedeploy.backends.inputs import Inputs
from edgedeploy.backends.ortmobile.runner import OrtRunner, open_artifact

_SUFFIX = "_kernel_time"

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One execution of one node.

    Attributes:
        name: Node name in the graph that is executed.
        op: Operator type.
        provider: Execution provider.
        duration_us: Microseconds.
        inputs, outputs: Shapes of the tensors that are there; an absent optional one is left out.
    """

    name: str
    op: str
    provider: str
    duration_us: int
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]


def executions(
    folder: Path,
    inputs: Inputs,
    *,
    warmups: int = 0,
    repeats: int = 1,
    threads: int = 1,
    optimization_style: str = "fixed",
    prepack: bool = True,
) -> list[Execution]:
    """Return every execution of a node in the counted inferences, bodies included.

    Source: the ``Node`` events of the profiler.

    Args:
        folder: What a compile wrote.
        inputs: One set of inputs.
        warmups: Inferences before the first counted one.
        repeats: Counted inferences, at least 1.
        threads: Intra-op threads.
        optimization_style: As it was compiled.
        prepack: See :func:`edgedeploy.backends.ortmobile.runner.open_artifact`.

    Raises:
        BuildError: The artifact does not load (E317) or run (E330-E333).
    """
    with (
        tempfile.TemporaryDirectory(prefix="edgedeploy-profile-") as private,
        open_artifact(
            folder,
            threads=threads,
            optimization_style=optimization_style,
            profile_prefix=Path(private) / "profile",
            prepack=prepack,
        ) as runner,
    ):
        for _ in range(warmups + repeats):
            runner.run(inputs)
        return executed_nodes(runner, warmups)


def executed_nodes(runner: OrtRunner, warmups: int = 0) -> list[Execution]:
    """Return every execution of a node in the inferences of a session; its profile ends.

    Args:
        runner: A session that records a profile.
        warmups: Inferences before the first counted one.
    """
    events = json.loads(runner.end_profiling().read_text(encoding="utf-8"))
    ends = sorted(
        event["ts"] + event["dur"] for event in events if event.get("name") == "model_run"
    )
    counted_from = ends[warmups - 1] if warmups else 0
    return [
        Execution(
            name=event["name"].removesuffix(_SUFFIX),
            op=event["args"]["op_name"],
            provider=event["args"]["provider"],
            duration_us=event["dur"],
            inputs=_shapes(event["args"]["input_type_shape"]),
            outputs=_shapes(event["args"]["output_type_shape"]),
        )
        for event in events
        if event.get("cat") == "Node"
        and event["name"].endswith(_SUFFIX)
        and event["ts"] >= counted_from
    ]


def _shapes(told: list[dict[str, list[int]]]) -> tuple[Shape, ...]:
    """Return shapes from entries of the form ``{element type: dims}``."""
    return tuple(tuple(dims) for entry in told for dims in entry.values())
