"""Finding what must stay in float32 of a program that is to compute in float16.

The program that computes in float32 is the judge: it runs on samples in the interpreter, and what
float16 would cost each operation is noted (:mod:`edgedeploy.mil.half`). Operations that lose far
more than rounding stay in float32. Where the outputs still drift, those that lose most follow,
until they no longer do.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from edgedeploy.backends.apple.runner import CoreMlRunner
from edgedeploy.backends.inputs import Inputs
from edgedeploy.data.pack import PackReader
from edgedeploy.errors import BuildError
from edgedeploy.mil.half import HalfTrial, Loss, noise, producers
from edgedeploy.mil.interpreter import operations
from edgedeploy.mil.rounding import to_half
from edgedeploy.signature import TensorSpec

SENSITIVE = 2.0**-7
"""Noise beyond which an operation stays in float32; that of a sound one is 2^-11 to 2^-9."""

LARGEST_DRIFT = 0.01
"""Noise of an output, as a share of it, that needs no further operation in float32: 40 dB."""

DECIDED = 2.0
"""How many times as far as by rounded inputs a program with integers may drift: 6 dB."""

FIRST_STEP = 8
"""How many further operations are kept at first; each step takes four times as many."""

Build = Callable[[Path, str, Collection[str]], None]
"""Writes the package and its interface into a folder: precision, operations kept in float32."""


OTHER_SIZES = frozenset({"E331", "E332", "E333"})
"""Codes of inputs that do not fit."""

TRIED = 2
"""How many samples a program is tried on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refinement:
    """What was found.

    Attributes:
        kept: Names of the operations that stay in float32.
        drift: Noise of the worst output of the package that was written, as a share of it; None
            where it was not tried.
        unfit: Whether there were samples, but none of the sizes that the model takes.
    """

    kept: tuple[str, ...] = ()
    drift: float | None = None
    unfit: bool = False

    def notes(self) -> Iterator[str]:
        """Yield what a user should know."""
        if self.unfit:
            yield "float16 was not tried on samples: none has the sizes that this artifact takes"
        if self.kept:
            shown = ", ".join(self.kept[:3]) + (" ..." if len(self.kept) > 3 else "")
            yield f"{len(self.kept)} operations stay in float32, or outputs would drift: {shown}"


def build_precise(build: Build, folder: Path, precision: str, samples: Path | None) -> Refinement:
    """Write a package in a precision; refine it where that is float16 and there are samples.

    Args:
        build: Makes packages of the model.
        folder: Where the package goes; empty.
        precision: ``float32`` or ``float16``.
        samples: A pack of typical inputs.

    Raises:
        BuildError: A package cannot be made or run.
    """
    if precision == "float32" or samples is None:
        build(folder, precision, ())
        return Refinement()
    with tempfile.TemporaryDirectory() as scratch:
        given = (sample.tensors() for sample in PackReader(samples))
        return refine(build, folder, Path(scratch), given)


def refine(build: Build, folder: Path, scratch: Path, samples: Iterable[Inputs]) -> Refinement:
    """Write a package in float16, with as much in float32 as its outputs need.

    Args:
        build: Makes packages of the model.
        folder: Where the package goes; empty.
        scratch: An empty folder for the packages that are tried.
        samples: What they are tried on: the first :data:`TRIED` whose sizes the model takes.

    Raises:
        BuildError: A package cannot be made or run.
    """
    exact = scratch / "float32"
    exact.mkdir()
    build(exact, "float32", ())
    trial = HalfTrial()
    with CoreMlRunner(exact, observe=trial) as runner:
        pairs = list(islice(_fitting(runner, samples), TRIED))
        makers = producers(runner.program)
        integers = any(item.kind == "quantize" for item in operations(runner.program.body))
    if not pairs:
        build(folder, "float16", ())
        return Refinement(unfit=True)
    allowed = LARGEST_DRIFT
    given, wanted = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if integers:
        nudged = [{name: _rounded(value) for name, value in item.items()} for item in given]
        allowed = max(allowed, DECIDED * _drift(exact, nudged, wanted))
    for number, kept in enumerate(_attempts(trial.losses, makers)):
        place = scratch / str(number)
        place.mkdir()
        build(place, "float16", kept)
        drift = _drift(place, given, wanted)
        if drift <= allowed:
            break
    for item in place.iterdir():
        shutil.move(item, folder / item.name)
    return Refinement(kept=kept, drift=drift)


def _fitting(
    runner: CoreMlRunner, samples: Iterable[Inputs]
) -> Iterator[tuple[Inputs, dict[str, np.ndarray]]]:
    """Yield samples that the model takes, and its outputs: a pack may hold other sizes as well."""
    inputs = runner.signature.inputs
    for sample in samples:
        given = {item.name: sample[item.name] for item in inputs if item.name in sample}
        given.update(_zeros(inputs, given))
        try:
            yield given, runner.run(given)
        except BuildError as error:
            if {item.code for item in error.diagnostics} - OTHER_SIZES:
                raise


def _zeros(inputs: Sequence[TensorSpec], sample: Inputs) -> dict[str, np.ndarray]:
    """Return zeros for inputs that a sample leaves out: the states at their start."""
    return {
        item.name: np.zeros(
            [dim if isinstance(dim, int) else 1 for dim in item.dims or ()], item.dtype
        )
        for item in inputs
        if item.name not in sample
    }


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


def _rounded(array: np.ndarray) -> np.ndarray:
    return to_half(array) if array.dtype == np.float32 else array


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
