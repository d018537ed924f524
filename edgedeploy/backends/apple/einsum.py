"""Einstein sums as transposes, sums and one matrix product per pair of operands.

MIL's own ``einsum`` knows two equations. Source of the notation: ONNX Einsum-12, which is NumPy's
without spaces' meaning: repeated subscripts of an operand are its diagonal, those that the output
lacks are summed, an ellipsis stands for axes that broadcast.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from edgedeploy.backends.apple.mil_api import Var, mb
from edgedeploy.backends.apple.node import Refusal
from edgedeploy.backends.apple.shapes import (
    MAX_RANK,
    Size,
    check_rank,
    known,
    product,
    reshape,
    sizes,
)


@dataclass(frozen=True, slots=True)
class Equation:
    """A parsed equation.

    Attributes:
        operands: Labels of each operand's axes; those of an ellipsis are digits, numbered from
            the last.
        output: Labels of the output's axes.
    """

    operands: tuple[tuple[str, ...], ...]
    output: tuple[str, ...]


def parse(equation: str, ranks: Sequence[int]) -> Equation:
    """Return an equation for operands of these ranks.

    Raises:
        Refusal: It does not fit the operands.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise Refusal(f"{len(terms)} terms for {len(ranks)} operands", "repair the model")
    operands = tuple(_labels(term, rank) for term, rank in zip(terms, ranks, strict=True))
    dots = sorted(
        {label for labels in operands for label in labels if label.isdigit()}, key=int, reverse=True
    )
    if arrow:
        before, found, after = right.partition("...")
        output = (*before, *(dots if found else ()), *after)
    else:
        counts = Counter(letter for letter in left if letter in string.ascii_letters)
        output = (*dots, *sorted(letter for letter, count in counts.items() if count == 1))
    return Equation(operands, output)


def _labels(term: str, rank: int) -> tuple[str, ...]:
    before, dots, after = term.partition("...")
    count = rank - len(before) - len(after)
    if count < 0 or (count and not dots):
        raise Refusal(f"the term {term!r} for an operand of rank {rank}", "repair the model")
    return (*before, *(str(place) for place in reversed(range(count))), *after)


@dataclass(frozen=True, slots=True)
class Term:
    """A value with a label per axis, all different."""

    var: Var
    labels: tuple[str, ...]

    def size(self, label: str) -> Size:
        """Return the size of an axis."""
        return sizes(self.var)[self.labels.index(label)]


def einsum(equation: Equation, operands: Sequence[Var]) -> Var:
    """Return the sum that an equation describes, taking the operands from left to right.

    Raises:
        Refusal: It needs a tensor of more than five axes, or the diagonal of open sizes.
    """
    terms = [
        _diagonal(var, labels) for var, labels in zip(operands, equation.operands, strict=True)
    ]
    found = terms[0]
    for place, term in enumerate(terms[1:], start=1):
        later = {*equation.output, *(label for item in terms[place + 1 :] for label in item.labels)}
        found = _pair(
            _summed(found, {*later, *term.labels}), _summed(term, {*later, *found.labels}), later
        )
    return _arranged(_summed(found, equation.output), equation.output)


def _diagonal(var: Var, labels: tuple[str, ...]) -> Term:
    """Return a term without repeated labels.

    Both axes of n become one of n * n, of which every (n + 1)th element is on the diagonal.
    """
    repeated = [label for label, count in Counter(labels).items() if count > 1]
    if not repeated:
        return Term(var, labels)
    label = repeated[0]
    first = labels.index(label)
    second = labels.index(label, first + 1)
    order = [axis for axis in range(len(labels)) if axis not in (first, second)]
    moved = mb.transpose(x=var, perm=[*order, first, second])
    shape = sizes(moved)
    if not known(shape[-1]) or shape[-1] != shape[-2]:
        raise Refusal("the diagonal of open or different sizes", "bind the model's dims")
    flat = reshape(moved, [*shape[:-2], shape[-1] ** 2])
    whole = [True] * (flat.rank - 1)
    picked = mb.slice_by_index(
        x=flat,
        begin=[0] * flat.rank,
        end=[0] * flat.rank,
        stride=[1] * (flat.rank - 1) + [shape[-1] + 1],
        begin_mask=[*whole, True],
        end_mask=[*whole, True],
    )
    return _diagonal(picked, (*(labels[axis] for axis in order), label))


def _summed(term: Term, kept: Collection[str]) -> Term:
    """Return a term summed over the axes that are not kept."""
    axes = [axis for axis, label in enumerate(term.labels) if label not in kept]
    if not axes:
        return term
    left = tuple(label for label in term.labels if label in kept)
    return Term(mb.reduce_sum(x=term.var, axes=axes, keep_dims=False), left)


def _arranged(term: Term, labels: Sequence[str]) -> Var:
    """Return a term's value with its axes in this order, and new axes of size 1."""
    order = [term.labels.index(label) for label in labels if label in term.labels]
    var = term.var
    if order != sorted(order):
        var = mb.transpose(x=var, perm=order)
    new = [axis for axis, label in enumerate(labels) if label not in term.labels]
    check_rank(len(labels))
    return mb.expand_dims(x=var, axes=new) if new else var


def _pair(first: Term, second: Term, later: Collection[str]) -> Term:
    """Return the product of two terms, summed over what both have and nothing later needs."""
    both = [label for label in first.labels if label in second.labels]
    summed = [label for label in both if label not in later]
    batch = [label for label in both if label in later]
    rows = [label for label in first.labels if label not in both]
    columns = [label for label in second.labels if label not in both]
    if not summed:
        labels = (*batch, *rows, *columns)
        made = mb.mul(x=_arranged(first, labels), y=_arranged(second, labels))
        return Term(made, labels)
    _check_sums(first, second, summed)
    together = [[label] for label in batch]
    if len(batch) + 2 > MAX_RANK and _mergeable(first, second, batch):
        together = [batch]
    check_rank(len(together) + 2)
    x = _grouped(first, [*together, rows, summed])
    y = _grouped(second, [*together, summed, columns])
    made = mb.matmul(x=x, y=y)
    shape = [
        *(_broadcast(first, second, label) for label in batch),
        *(first.size(label) for label in rows),
        *(second.size(label) for label in columns),
    ]
    plain = [len(group) for group in (*together, rows, columns)] == [1] * made.rank
    return Term(made if plain else reshape(made, shape), (*batch, *rows, *columns))


def _check_sums(first: Term, second: Term, summed: Sequence[str]) -> None:
    for label in summed:
        sides = first.size(label), second.size(label)
        if all(map(known, sides)) and sides[0] != sides[1]:
            raise Refusal(
                f"a sum over {label!r}, which broadcasts from {sides[0]} to {sides[1]}",
                "expand the operand first",
            )


def _mergeable(first: Term, second: Term, batch: Sequence[str]) -> bool:
    """Return whether no axis of the batch broadcasts, so that all may become one."""
    return all(
        known(first.size(label)) and first.size(label) == second.size(label) for label in batch
    )


def _broadcast(first: Term, second: Term, label: str) -> Size:
    size = first.size(label)
    return second.size(label) if known(size) and size == 1 else size


def _grouped(term: Term, groups: Sequence[Sequence[str]]) -> Var:
    """Return a term's value with one axis per group of labels."""
    labels = [label for group in groups for label in group]
    order = [term.labels.index(label) for label in labels]
    var = term.var if order == sorted(order) else mb.transpose(x=term.var, perm=order)
    if all(len(group) == 1 for group in groups):
        return var
    shape = [product(term.size(label) for label in group) for group in groups]
    return reshape(var, shape)
