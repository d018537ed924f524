"""Finding what must stay in float32 of a program that is to compute in float16.

The program that computes in float32 is the judge: it runs on samples in the interpreter, and what
float16 would cost each operation is noted (:mod:`edgedeploy.mil.half`). Operations that lose far
more than rounding stay in float32. Where the outputs still drift, those that lose most follow,
until they no longer do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgedeploy.backends.apple.runner import CoreMlRunner
from edgedeploy.backends.inputs import Inputs
from edgedeploy.mil.half import HalfTrial, Loss, noise, producers

SENSITIVE = 2.0**-7
"""Noise beyond which an operation stays in float32; that of a sound one is 2^-11 to 2^-9."""

LARGEST_DRIFT = 0.01
"""Noise of an output, as a share of it, that needs no further operation in float32: 40 dB."""

FIRST_STEP = 8
"""How many further operations are kept at first; each step takes four times as many."""

Build = Callable[[Path, str, Collection[str]], None]
"""Writes the package and its interface into a folder: precision, operations kept in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refinement:
    """What was found.

    Attributes:
        kept: Names of the operations that stay in float32.
        drift: Noise of the worst output of the package that was written, as a share of it.
    """

    kept: tuple[str, ...]
    drift: float


def refine(build: Build, folder: Path, scratch: Path, samples: Sequence[Inputs]) -> Refinement:
    """Write a package in float16, with as much in float32 as its outputs need.

    Args:
        build: Makes packages of the model.
        folder: Where the package goes; empty.
        scratch: An empty folder for the packages that are tried.
        samples: What they are tried on; at least one.

    Raises:
        BuildError: A package cannot be made or run.
    """
    exact = scratch / "float32"
    exact.mkdir()
    build(exact, "float32", ())
    trial = HalfTrial()
    with CoreMlRunner(exact, observe=trial) as runner:
        wanted = [runner.run(sample) for sample in samples]
        makers = producers(runner.program)
    for number, kept in enumerate(_attempts(trial.losses, makers)):
        place = scratch / str(number)
        place.mkdir()
        build(place, "float16", kept)
        drift = _drift(place, samples, wanted)
        if drift <= LARGEST_DRIFT:
            break
    for item in place.iterdir():
        item.rename(folder / item.name)
    return Refinement(kept=kept, drift=drift)


def _attempts(
    losses: Mapping[str, Loss], makers: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[str, ...]]:
    """Yield what to keep in float32, more each time, in the end everything."""
    sensitive: dict[str, None] = {}
    for name, loss in losses.items():
        if loss.operands > SENSITIVE:
            sensitive[name] = None
            if loss.operands > 2 * loss.result:  # its operands are what must not be rounded
                sensitive.update(dict.fromkeys(makers.get(name, ())))
    yield tuple(sensitive)
    rest = sorted(losses.keys() - sensitive, key=lambda name: (-losses[name].operands, name))
    count = FIRST_STEP
    while count < len(rest):
        yield (*sensitive, *rest[:count])
        count *= 4
    yield (*sensitive, *rest)


def _drift(
    folder: Path, samples: Sequence[Inputs], wanted: Sequence[dict[str, np.ndarray]]
) -> float:
    """Return the noise of the worst output over all samples."""
    with CoreMlRunner(folder) as runner:
        made = [runner.run(sample) for sample in samples]
    worst = 0.0
    for name, first in wanted[0].items():
        if first.dtype.kind != "f":
            continue
        exact = np.concatenate([item[name].ravel() for item in wanted])
        rounded = np.concatenate([item[name].ravel() for item in made])
        worst = max(worst, noise(exact, rounded))
    return worst if math.isfinite(worst) else math.inf
