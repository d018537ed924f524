"""Stage ``synthetic``: seeded random samples for a model without data, for parity alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgedeploy.stage import Made, StageKind, Work
from edgedeploy.steps.samples import model_signature

if TYPE_CHECKING:
    import numpy as np

    from edgedeploy.signature import TensorSpec

SEED = 20240229
# Size of an axis behind the first that neither model nor profile fixes; the first is 1.
OPEN_SIZE = 32


def run(work: Work) -> Made:
    """Write ``params.samples`` samples that fit the signature of ``inputs.model``."""
    import numpy as np

    from edgedeploy.data.pack import PackWriter

    signature = model_signature(work.inputs["model"])
    state = {given for given, _ in work.params["state"]}
    carried = {dim for spec in signature.inputs if spec.name in state for dim in spec.dims or ()}
    # State starts with its open axes at 1, so what it shares with other inputs keeps one size.
    sizes = {
        name: turn[:1] if name in carried else turn for name, turn in work.params["sizes"].items()
    }
    generator = np.random.Generator(np.random.PCG64(SEED))
    with PackWriter(work.outputs["samples"]) as writer:
        for number in range(work.params["samples"]):
            tensors = {
                spec.name: _random(
                    spec,
                    _shape(spec, sizes, number),
                    generator,
                    pixels=spec.name in work.params["pixels"],
                )
                for spec in signature.inputs
                if spec.name not in state
            }
            writer.add(f"synthetic-{number}", tensors)
    return Made(summary={"samples": work.params["samples"]})


def _shape(spec: TensorSpec, sizes: Mapping[str, Sequence[int]], number: int) -> tuple[int, ...]:
    """Return a shape that fits the spec; a dim with a range takes its sizes in turn."""
    found = []
    for axis, size in enumerate(spec.dims or ()):
        if not isinstance(size, int):
            turn = sizes.get(str(size), (OPEN_SIZE if axis else 1,))
            size = turn[number % len(turn)]
        found.append(size)
    return tuple(found)


def _random(
    spec: TensorSpec, shape: tuple[int, ...], generator: np.random.Generator, *, pixels: bool
) -> np.ndarray:
    """Return values of a plausible range: floats in [0, 1), integers 0 or 1, text digits.

    Pixels are whole numbers from 0 to 255 of whatever type.
    """
    import numpy as np

    if pixels:
        return generator.integers(0, 256, shape).astype(spec.dtype)
    if spec.dtype == "string":
        digits = generator.integers(0, 10, shape)
        return np.asarray(digits.astype(str), dtype=object)
    if spec.dtype.startswith(("int", "uint")):
        return generator.integers(0, 2, shape).astype(spec.dtype)
    if spec.dtype == "bool":
        return generator.integers(0, 2, shape).astype(bool)
    return generator.random(shape).astype(spec.dtype)


STAGE = StageKind(
    kind="synthetic",
    run=run,
    outputs=("samples",),
    tools=("numpy",),
    code=("data/pack", "signature", "steps/samples"),
)
