"""Whether a device answers golden samples as the machine did that built the artifact.

The same artifact on another processor is not the same to the bit: sums of floats are added in
another order (about 1e-6 of the value), a runtime may compute in fp16 where the processor is made
for it (about 1e-3), and where such a difference meets a rounding to 8 bits, one step of it. Wrong
kernels, a wrong processor model or damaged weights give something else altogether. The limit lies
between the two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgedeploy.errors import Diagnostic

if TYPE_CHECKING:
    import numpy as np

    Tensors = Mapping[str, np.ndarray]

LEAST_COSINE = 0.99
"""What is asked where the profile sets no `gates: {cosine: ...}`: an error of 14 % of the norm."""

ATOL = 1e-3
"""Differences up to this are none, as for parity: an output may be next to nothing throughout."""

_HINT = (
    "see which runtime the device has (`edgedeploy devices probe`) and provision the version that "
    "built it"
)
_ENGINE_HINT = (
    "see how far off it is (`edgedeploy bench -d`); keep in float what loses it (`keep_float`), or "
    "say what is acceptable (`gates: {cosine: ...}`)"
)


def largest_error(cosine: float) -> float:
    """Return the error, as a part of the norm, that two answers of such a cosine have at least.

    An answer with a smaller error has a larger cosine; it also has the right scale, which a cosine
    does not see. (For a small angle a, cos a = 1 - a^2 / 2.)
    """
    return math.sqrt(2 * (1 - cosine))


def disagreements(
    model: str,
    found: Sequence[Tensors],
    golden: Sequence[Tensors],
    cosine: float | None = None,
    *,
    engine: bool = False,
) -> tuple[str, tuple[Diagnostic, ...]]:
    """Return how near a device's answers are to the golden ones, and what is wrong with them.

    Names, dtypes and shapes must be the same, values finite where the golden ones are. Floats may
    differ by :func:`largest_error` of the norm over all samples, other values in as small a part
    of the elements as ``cosine`` leaves.

    Args:
        model: Name of the model.
        found: Outputs by name for each sample, from the device.
        golden: The same from the machine that built it.
        cosine: What is asked; None takes ``LEAST_COSINE``.
        engine: Whether the artifact is an engine: the golden answers are then those of the graph
            that it was built from, run node by node.

    Returns:
        The largest error in words, and a diagnostic for each output that does not agree (E444).
    """
    if len(found) != len(golden):
        text = f"{len(found)} answers to {len(golden)} samples"
        return text, (_wrong(model, text, engine),)
    least = LEAST_COSINE if cosine is None else cosine
    names = sorted({name for sample in (*found, *golden) for name in sample})
    worst, faults = 0.0, []
    for name in names:
        pairs = [(sample.get(name), wanted.get(name)) for sample, wanted in zip(found, golden)]  # noqa: B905 - as long, see above
        error, fault = _output(pairs, least)
        worst = max(worst, error)
        if fault:
            faults.append(_wrong(f"{model}.{name}", fault, engine))
    return f"{len(golden)} samples, error {worst:.2g}", tuple(faults)


def _output(
    pairs: Sequence[tuple[np.ndarray | None, np.ndarray | None]], least: float
) -> tuple[float, str | None]:
    """Return the error of one output over all samples, and what is wrong with it."""
    import numpy as np

    squares = reference = largest = 0.0
    other = elements = 0
    for found, wanted in pairs:
        if found is None or wanted is None:
            return math.inf, "it is missing" if found is None else "there should be none"
        if (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
            return math.inf, (
                f"it is {found.dtype}{list(found.shape)}, not {wanted.dtype}{list(wanted.shape)}"
            )
        elements += wanted.size
        if wanted.dtype.kind != "f":
            other += int((found != wanted).sum())
            continue
        kept = np.isfinite(wanted)
        a, b = found[kept].astype(np.float64), wanted[kept].astype(np.float64)
        broken = int(a.size - np.isfinite(a).sum())
        if broken:
            return math.inf, f"{broken} of {wanted.size} values are NaN or infinite"
        squares += float(((a - b) ** 2).sum())
        reference += float((b**2).sum())
        largest = max(largest, float(np.abs(a - b).max(initial=0.0)))
    if other:
        part = other / elements
        return part, f"{other} of {elements} values differ" if part > 1 - least else None
    if largest <= ATOL:
        return largest, None
    error = math.sqrt(squares / reference) if reference else math.inf
    limit = largest_error(least)
    return error, f"its error is {error:.2g}, over {limit:.2g}" if error > limit else None


def _wrong(subject: str, text: str, engine: bool) -> Diagnostic:
    one = "the graph answered that the engine was built from"
    if not engine:
        one = "the same artifact answered where it was built"
    return Diagnostic(
        code="E444",
        message=f"{subject} is not what {one}: {text}",
        subject=subject,
        hint=_ENGINE_HINT if engine else _HINT,
    )
