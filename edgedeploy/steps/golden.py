"""Stage ``golden``: a few samples and what an artifact answers to them on this machine.

They travel with a version, so that a device can show that it computes the same. They have numbers
for names: a sample's own name may be a file name that is nobody's business there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedeploy import backends
from edgedeploy.stage import Made, StageKind, Work
from edgedeploy.steps.reference import state_zeros

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

MOST_SAMPLES = 2
"""Two see an artifact that answers the same to everything; more would only travel longer."""

MOST_BYTES = 8 << 20
"""What the inputs and outputs of all golden samples may hold together."""


def run(work: Work) -> Made:
    """Write the first samples of ``inputs.samples`` and what ``inputs.artifact`` answers.

    Every sample stands alone: state inputs are zero, and stand among its inputs. Without any
    sample that is small enough both packs are empty, and the summary says why.
    """
    from edgedeploy.data.pack import PackReader, PackWriter

    samples = PackReader(work.inputs["samples"])
    backend = backends.load(work.params["runtime"])
    state = [(given, made) for given, made in work.params["state"]]
    count = used_bytes = 0
    reason = None if len(samples) else "there are no samples"
    with (
        backend.runner(work.inputs["artifact"], options=work.params["options"]) as runner,
        PackWriter(work.outputs["inputs"]) as inputs,
        PackWriter(work.outputs["outputs"]) as outputs,
    ):
        zeros = state_zeros(runner.signature, state)
        for sample in list(samples)[:MOST_SAMPLES]:
            given = {**sample.tensors(), **zeros}
            made = runner.run(given)
            size_bytes = _size_bytes(given) + _size_bytes(made)
            if used_bytes + size_bytes > MOST_BYTES:
                if not count:
                    reason = f"a sample with its outputs has {size_bytes} bytes, over {MOST_BYTES}"
                break
            inputs.add(str(count), given)
            outputs.add(str(count), made)
            used_bytes += size_bytes
            count += 1
    return Made(summary={"samples": count, "bytes": used_bytes, "reason": reason})


def _size_bytes(tensors: Mapping[str, np.ndarray]) -> int:
    """Return the bytes of all tensors; a string counts as its UTF-8 text."""
    return sum(
        sum(len(str(text).encode()) for text in value.reshape(-1))
        if value.dtype.kind in "OUS"
        else value.nbytes
        for value in tensors.values()
    )


STAGE = StageKind(
    kind="golden",
    run=run,
    outputs=("inputs", "outputs"),
    tools=("numpy",),
    code=("data/pack", "runner", "steps/reference"),
)
