"""Two artifacts on the same samples: the metric of both by group, and a paired test of each.

* Where every sample is right or wrong and independent of the others: McNemar's test in its exact
  form (McNemar, Psychometrika 12, 1947; the binomial distribution of the losses among the flips).
* All else: a randomization test (Fisher, The Design of Experiments, 1935, section 21). Were both
  artifacts worth the same, each sample's two results (of a sequence: all of them together) could
  as well be exchanged; the share of exchanges that make a difference at least as large is p. Its
  level is exact for any metric and any number of samples, which the ends of a bootstrap interval
  are not at levels as small as those of many groups. The intervals are bootstrapped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgedeploy.errors import DataError
from edgedeploy.parity.confidence import SEED, blocks
from edgedeploy.parity.evaluation import Evaluation, SampleScore
from edgedeploy.parity.metrics import Metric
from edgedeploy.parity.paired import (
    ALPHA,
    LEAST_SAMPLES,
    Flip,
    FlipKind,
    Group,
    GroupKind,
    Paired,
    Test,
)
from edgedeploy.parity.scoring import (
    ClassPart,
    Values,
    class_part,
    defined,
    difference,
    independent,
)

EXCEEDANCES = 20
"""A randomization test ends after so many exchanges that differ as much (Besag & Clifford,
Biometrika 78, 1991: p is then their share of those drawn, and as exact)."""

LEAST_EXCHANGES = 2_000
MOST_EXCHANGES = 100_000
_CHUNK_NUMBERS = 500_000


def mcnemar(lost: int, gained: int) -> float:
    """Return the exact two-sided p-value of so many flips each way; 1 without any."""
    flips, fewer = lost + gained, min(lost, gained)
    tail = sum(math.comb(flips, k) for k in range(fewer + 1))
    return float(min(1.0, 2 * tail / 2**flips))


def randomization(
    values: Callable[[np.ndarray], np.ndarray], block_of: np.ndarray, exchanges: int
) -> float | None:
    """Return the two-sided p-value of a difference between two artifacts.

    Args:
        values: Weights ``[b, 2 n]`` of the new artifact's records and the old one's -> ``[b]``.
        block_of: Block number of each sample ``[n]``; a block is exchanged as a whole.
        exchanges: How many are drawn at most.

    Returns:
        None where the difference is not defined.
    """
    none = np.zeros((1, len(block_of)))
    observed = abs(float(_difference(values, none)[0]))
    if math.isnan(observed):
        return None
    if observed == 0:
        return 1.0
    drawn = reached = 0
    for swapped in _exchanges(block_of, exchanges):
        found = np.abs(_difference(values, swapped))
        # What is not defined counts against a difference. 1e-9: equal up to rounding of sums.
        hits = np.flatnonzero(~(found < observed * (1 - 1e-9)))
        if reached + len(hits) >= EXCEEDANCES:
            last = int(hits[EXCEEDANCES - reached - 1])
            return EXCEEDANCES / (drawn + last + 1)
        drawn, reached = drawn + len(swapped), reached + len(hits)
    return (reached + 1) / (drawn + 1)


def _difference(values: Callable[[np.ndarray], np.ndarray], swapped: np.ndarray) -> np.ndarray:
    """Return new minus old ``[b]`` where ``swapped`` ``[b, n]`` (0 or 1) samples are exchanged."""
    kept = 1 - swapped
    new = values(np.concatenate([kept, swapped], axis=1))
    return np.asarray(new - values(np.concatenate([swapped, kept], axis=1)))


def _exchanges(block_of: np.ndarray, exchanges: int) -> Iterator[np.ndarray]:
    """Yield which samples are exchanged, float64 0 or 1 ``[chunk, n]``, in growing chunks."""
    random = np.random.default_rng(SEED)
    count = int(block_of.max(initial=-1)) + 1
    most = max(1, _CHUNK_NUMBERS // max(1, len(block_of)))
    done, rows = 0, 64
    while done < exchanges:
        rows = min(rows, most, exchanges - done)
        yield random.integers(0, 2, (rows, count))[:, block_of].astype(np.float64)
        done, rows = done + rows, 2 * rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Slicing:
    """The samples by one column of the labels, or one function of their names.

    Attributes:
        name: What is shown before the value.
        value: The value by sample; samples that it has none for are in no slice.
    """

    name: str
    value: Mapping[str, str]


def pair_artifacts(
    name: str,
    metric: Metric,
    before: Evaluation,
    after: Evaluation,
    slicings: Sequence[Slicing] = (),
    comparisons: int = 1,
) -> Paired:
    """Return how two artifacts compare on the samples that both were scored on.

    Args:
        name: The metric's, as the profile writes it.
        metric: What both were scored with.
        before: The old artifact's evaluation.
        after: The new one's.
        slicings: Further groups.
        comparisons: How many such pairs are judged together; a randomization test then resolves
            p-values as small as that needs.

    Raises:
        DataError: They are scores of other samples (E290).
    """
    if [item.id for item in before.scores] != [item.id for item in after.scores]:
        raise DataError(
            "the two artifacts were scored on other samples",
            code="E290",
            hint="Run the build again, so that both come from the same data.",
        )
    groups = list(_memberships(metric, before.scores, after.scores, slicings))
    wanted = math.ceil(2 * comparisons * len(groups) / ALPHA)
    exchanges = min(max(wanted, LEAST_EXCHANGES), MOST_EXCHANGES)
    return Paired(
        metric=name,
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        before_evidence=before.evidence,
        after_evidence=after.evidence,
        groups=tuple(_group(metric, item, exchanges) for item in groups),
        flips=tuple(_flips(metric, before.scores, after.scores)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Membership:
    """The scores that a group is judged on.

    Attributes:
        n: What is counted in the group.
        whole: Whether each score belongs to the group as a whole, or in part (boxes of a class).
        values: The metric within the group.
    """

    kind: GroupKind
    name: str
    n: int
    before: Sequence[SampleScore]
    after: Sequence[SampleScore]
    whole: bool
    values: Values


def _memberships(
    metric: Metric,
    before: Sequence[SampleScore],
    after: Sequence[SampleScore],
    slicings: Sequence[Slicing],
) -> Iterator[_Membership]:
    def part(
        kind: GroupKind, name: str, places: Sequence[int], n: int, cut: ClassPart | None = None
    ) -> _Membership:
        return _Membership(
            kind=kind,
            name=name,
            n=n,
            before=[before[place] for place in places],
            after=[after[place] for place in places],
            whole=cut is None or cut.whole,
            values=metric.values if cut is None else cut.values,
        )

    yield part("all", "", range(len(after)), len(after))
    for label, (n, _) in metric.by_class([item.record for item in after]).items():
        cut = class_part(metric, after, label)
        yield part("class", label, cut.places, n, cut)
    for slicing in slicings:
        for value in sorted(set(slicing.value.values())):
            places = [
                place for place, item in enumerate(after) if slicing.value.get(item.id) == value
            ]
            if places:
                yield part("slice", f"{slicing.name}={value}", places, len(places))


def _group(metric: Metric, group: _Membership, exchanges: int) -> Group:
    ours = [item.record for item in group.after]
    theirs = [item.record for item in group.before]
    ones = np.ones((1, len(ours)))
    before, after = (float(group.values(records, ones)[0]) for records in (theirs, ours))
    flips = _counted_flips(metric, theirs, ours) if group.whole else None
    exact = metric.proportion and flips is not None and independent(group.after)
    test, p = _tested(group, flips if exact else None, exchanges)
    return Group(
        kind=group.kind,
        name=group.name,
        n=group.n,
        before=defined(before),
        after=defined(after),
        interval=difference(metric, group.values, group.after, group.before),
        lost=None if flips is None else flips.lost,
        gained=None if flips is None else flips.gained,
        test=test,
        p=p,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    lost: int
    gained: int


def _counted_flips(metric: Metric, before: Sequence[Any], after: Sequence[Any]) -> _Counted | None:
    """Return how many records flipped each way; None where they are not simply right or wrong."""
    lost = gained = 0
    for old, new in zip(before, after, strict=True):
        was, now = metric.correct(old), metric.correct(new)
        if was is None or now is None:
            return None
        lost, gained = lost + (was and not now), gained + (now and not was)
    return _Counted(lost=lost, gained=gained)


def _tested(
    group: _Membership, flips: _Counted | None, exchanges: int
) -> tuple[Test, float | None]:
    """Return which test a group takes, and its p-value."""
    if group.n < LEAST_SAMPLES:
        return "too few samples", None
    if flips is not None:
        return "mcnemar", mcnemar(flips.lost, flips.gained)
    records = [item.record for item in (*group.after, *group.before)]
    block_of = blocks([item.sequence for item in group.after])
    p = randomization(lambda weights: group.values(records, weights), block_of, exchanges)
    return ("not defined" if p is None else "randomization"), p


def _flips(
    metric: Metric, before: Sequence[SampleScore], after: Sequence[SampleScore]
) -> list[Flip]:
    """Return the samples that became right or wrong; without such a thing those that changed."""
    flips: list[Flip] = []
    changed: list[Flip] = []
    for old, new in zip(before, after, strict=True):
        was, now = metric.correct(old.record), metric.correct(new.record)
        if was is not None and now is not None:
            if was != now:
                flips.append(_flip(old, new, "gained" if now else "lost"))
        elif old.value is not None and new.value is not None and old.value != new.value:
            better = (new.value > old.value) == metric.higher_is_better
            changed.append(_flip(old, new, "better" if better else "worse"))
    flips.sort(key=lambda flip: flip.what == "gained")
    changed.sort(key=lambda flip: -abs((flip.after or 0.0) - (flip.before or 0.0)))
    return flips or changed


def _flip(old: SampleScore, new: SampleScore, what: FlipKind) -> Flip:
    return Flip(sample=new.id, what=what, before=old.value, after=new.value)
