"""The search of ``quantize: auto``: the fastest, then smallest candidate that passes the gates.

A generator that proposes one candidate after the other and is sent what became of each. It runs
nothing itself, reads no clock and draws no random number: the same verdicts, the same search.

Where all layers in 8 bits are too inaccurate, layers are put back to float in the order of
:meth:`Survey.ranked`, as few as the gates bear: first in steps that each halve the noise that the
survey expects, then by bisection. Layers in integers count as faster than in float as far as the
target's table says so; no clock of this machine ranks candidates for another.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace

from edgedeploy.quant.candidates import WEIGHT_ONLY, Candidate
from edgedeploy.quant.survey import LayerSensitivity, Survey

ACCURACY = frozenset({"cosine", "metric", "parity", "together", "worst_class"})
"""Gates that layers in float help with."""

MOST_FLOAT = 0.5
"""The largest share of multiply-adds in float of a mixture that is tried."""

LEAST_PRODUCTS = 0.5
"""Weight-only kernels speed up matrix products alone: their least share in the multiply-adds."""

SMALLER_NOISE = 0.9
"""Another range method is tried where it leaves less than this share of the noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a candidate.

    Attributes:
        passed: Whether it was built and no gate refused it.
        refused: The gates that did; empty where it could not be built.
        noise: Squared error of its outputs on the evaluation data over the squares of the float
            model's, of the worst output; infinite where that is not known.
    """

    passed: bool
    refused: frozenset[str] = frozenset()
    noise: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """What is not even tried, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Settled:
    """The last candidate that passed is the choice: measure it, and say what became of it."""


Step = Candidate | LeftOut | Settled
Search = Generator[Step, Verdict, None]
"""Yields steps and is sent a verdict for each; that on a ``LeftOut`` means nothing. Of the
candidates of a family each one that passes is faster than the one that passed before."""


def search(
    options: Sequence[Candidate], survey: Callable[[], Survey | None], trials: int
) -> Search:
    """Return the search over the candidates of a target.

    Args:
        options: From :func:`edgedeploy.quant.candidates.candidates`; the last always passes.
        survey: Gives the sensitivity of the layers under the ``w8a8`` candidate, None where that
            cannot be had; called once at most, and only when it is needed.
        trials: At most this many mixtures are built.
    """
    found: Survey | None = None
    for candidate in options:
        if candidate.kind in WEIGHT_ONLY and found and found.products_share < LEAST_PRODUCTS:
            yield LeftOut(name=candidate.name, reason=_few_products(found))
            continue
        verdict = yield candidate
        passed = verdict.passed
        too_large = "size" in verdict.refused  # with layers in float it is larger still
        if candidate.kind == "w8a8" and verdict.refused & ACCURACY and not too_large:
            found = survey()
            if found is not None:
                passed = yield from _mixtures(candidate, verdict, found, trials)
        if passed and (yield Settled()).passed:
            return


def _few_products(survey: Survey) -> str:
    return (
        f"only {survey.products_share:.0%} of the multiply-adds are matrix products, which its "
        "kernels are for"
    )


def _mixtures(
    base: Candidate, verdict: Verdict, survey: Survey, trials: int
) -> Generator[Step, Verdict, bool]:
    """Search over range methods and over the layers kept in float; return whether one passed.

    Args:
        base: The candidate with all layers in integers.
        verdict: What became of it.
        survey: The sensitivity of its layers.
        trials: At most this many mixtures are built.
    """
    mixer = _Mixer(base, survey)
    quieter = mixer.quieter()
    if quieter is not None:
        other = yield quieter
        if other.passed:
            return True
        if other.noise < verdict.noise:  # on the evaluation data too
            mixer = _Mixer(quieter, survey)
    low, high = 0, None
    for count in mixer.steps():
        if not trials:
            yield LeftOut(name=mixer.name(count), reason="as many trials were made as allowed")
            return False
        verdict = yield mixer.mixture(count)
        trials -= 1
        if verdict.passed:
            high = count
            break
        if "size" in verdict.refused:
            return False
        low = count
    while high is not None and high - low > 1 and trials:
        middle = (low + high) // 2
        passed = (yield mixer.mixture(middle)).passed
        trials -= 1
        low, high = (low, middle) if passed else (middle, high)
    return high is not None


class _Mixer:
    """Makes the mixtures of one ``w8a8`` candidate."""

    def __init__(self, base: Candidate, survey: Survey) -> None:
        if base.scheme is None:
            raise ValueError(f"{base.name} has no scheme")
        self._base, self._scheme = base, base.scheme
        self._survey = survey
        self._ranked = survey.ranked()
        self._work = max(survey.multiply_adds(survey.layers), 1)
        self._noise = sum(layer.noise for layer in survey.layers)

    def quieter(self) -> Candidate | None:
        """Return the candidate with the survey's range method, None if that is not worth a trial.

        The survey sees calibration samples alone; only the trial can tell whether it holds.
        """
        methods, scheme = self._survey.methods, self._scheme
        if methods[self._survey.ranges] > SMALLER_NOISE * methods[scheme.ranges]:
            return None
        return replace(
            self._base,
            name=f"{self._base.name}-{self._survey.ranges}",
            scheme=replace(scheme, ranges=self._survey.ranges),
            reason=f"Ranges by `{self._survey.ranges}` add the least noise to the outputs.",
        )

    def name(self, count: int) -> str:
        """Return the name of a mixture."""
        return f"{self._base.name}-keep-{count}"

    def mixture(self, count: int) -> Candidate:
        """Return the candidate with the first ``count`` of the ranking in float."""
        kept = self._ranked[:count]
        noise = sum(layer.noise for layer in kept) / (self._noise or 1.0)
        reason = (
            f"{count} of {len(self._ranked)} layers in float, {self._share(kept):.1%} of the "
            f"multiply-adds; alone they make {noise:.0%} of the noise."
        )
        names = tuple(glob.escape(layer.node) for layer in kept)
        scheme = replace(self._scheme, keep_float=(*self._scheme.keep_float, *names))
        return replace(self._base, name=self.name(count), scheme=scheme, reason=reason)

    def _share(self, layers: Sequence[LayerSensitivity]) -> float:
        return self._survey.multiply_adds(list(layers)) / self._work

    def steps(self) -> Iterator[int]:
        """Yield how many layers are kept, each time so many that half of the noise goes away."""
        left, wanted = self._noise, self._noise / 2
        last = len(self._ranked) - 1  # with all of them in float there is nothing to quantize
        if last < 1:
            return
        for count, layer in enumerate(self._ranked, start=1):
            left -= layer.noise
            beyond = count < last and self._share(self._ranked[: count + 1]) > MOST_FLOAT
            if left <= wanted or beyond:
                yield count
                while left <= wanted and wanted > 0.0:
                    wanted /= 2
            if beyond or count == last:
                return
